//! Whose name a request gives.

use http::{Request, header, uri::Authority};

use crate::name::HostName;

/// The names in a request contradict each other, or one of them is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contradiction;

/// The name of the host that a request is for: that of its target (absolute form, `:authority`)
/// and that of its `Host`, which must be the same. `None` where it gives none, or an address.
///
/// # Errors
///
/// [`Contradiction`], for two `Host` fields as well, even if they are equal: who reads the first
/// and who reads the last would not agree on everything that follows.
pub(crate) fn name<B>(request: &Request<B>) -> Result<Option<HostName>, Contradiction> {
    let target = request.uri().authority().cloned();
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Contradiction);
    }
    // HTTP/1 has an empty `Host` where the target has no authority.
    let host = match host.map(|it| it.to_str()) {
        None | Some(Ok("")) => None,
        Some(Ok(text)) => Some(text.parse::<Authority>().map_err(|_none| Contradiction)?),
        Some(Err(_binary)) => return Err(Contradiction),
    };
    if [&target, &host].into_iter().flatten().any(|it| it.as_str().contains('@')) {
        return Err(Contradiction);
    }
    let (target, host) = (target.as_ref().map(part), host.as_ref().map(part));
    match (target, host) {
        (Some(target), Some(host)) if target != host => Err(Contradiction),
        (target, host) => target.or(host).map_or(Ok(None), |it| it.known()),
    }
}

/// The host of an authority, as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Name(HostName),
    Address(std::net::IpAddr),
    Nothing,
}

impl Part {
    fn known(self) -> Result<Option<HostName>, Contradiction> {
        match self {
            Self::Name(name) => Ok(Some(name)),
            Self::Address(_) => Ok(None),
            Self::Nothing => Err(Contradiction),
        }
    }
}

fn part(authority: &Authority) -> Part {
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    match (bare.parse(), HostName::parse(host)) {
        (Ok(address), _) => Part::Address(address),
        (Err(_), Some(name)) => Part::Name(name),
        (Err(_), None) => Part::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, hosts: &[&str]) -> Result<Option<String>, Contradiction> {
        let mut request = Request::builder().uri(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        name(&request.body(()).unwrap()).map(|name| name.map(|it| it.to_string()))
    }

    #[test]
    fn the_name_is_in_the_target_or_in_the_host() {
        let some = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(check("/", &["A.example:8080"]), some("a.example"));
        assert_eq!(check("http://a.example/", &[]), some("a.example"));
        assert_eq!(check("http://a.example:80/", &["A.EXAMPLE."]), some("a.example"));
        assert_eq!(check("/", &["192.0.2.1"]), Ok(None));
        assert_eq!(check("/", &["[2001:db8::1]:80"]), Ok(None));
        assert_eq!(check("/", &[]), Ok(None));
        assert_eq!(check("/", &[""]), Ok(None));
    }

    #[test]
    fn contradictions_are_refused() {
        let cases: [(&str, &[&str]); 7] = [
            ("http://a.example/", &["b.example"]),
            ("/", &["a.example", "a.example"]),
            ("/", &["a.example", "b.example"]),
            ("/", &["user@a.example"]),
            ("http://a.example/", &["192.0.2.1"]),
            ("/", &["127.1"]),
            ("/", &["a..b"]),
        ];
        for (target, hosts) in cases {
            assert_eq!(check(target, hosts), Err(Contradiction), "{target} {hosts:?}");
        }
    }
}
