//! Where a request is to go: to the API, to a port of a sandbox, or nowhere.
//!
//! In this order: routing headers where the host is a loopback name, an address or
//! `sandbox.DOMAIN`; there too, the signature of a file's address; a `PORT-ID` label below the domain; everything else below the domain is
//! nowhere but `api.DOMAIN`; a domain that a caller has shown to be its own. So nothing of the API is ever served under the name of a port, where a
//! page of a guest could reach it as its own, and no port under a name of the API.

use std::net::IpAddr;

use axum::http::{HeaderMap, Uri, header};
use warren_core::{exposure::AGENT_PORT, id::SandboxId};

use super::{agent, answer::Refusal};

/// Headers that name a sandbox and its port, ours and those that E2B's clients send.
pub(super) const ROUTING: [(&str, &str, Dialect); 2] = [
    ("warren-sandbox", "warren-port", Dialect::Native),
    ("e2b-sandbox-id", "e2b-sandbox-port", Dialect::E2b),
];

/// Where E2B's control API is. Some of its clients send the headers of their last sandbox there too,
/// and the agent has no such path.
const CONTROL: &str = "/e2b/";

/// In which form answers of the edge itself are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Ours.
    Native,
    /// That of E2B's proxy.
    E2b,
}

/// Where a request is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The routes of the API.
    Api,
    /// The same, with those of E2B's clients at the root.
    E2b,
    /// A port of a sandbox.
    Port(Destination),
    /// A file of the sandbox whose token has signed the request.
    Signed,
}

/// A port of a sandbox, as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) id: SandboxId,
    pub(crate) port: u16,
    /// Whether the host names it: nobody else's pages have that name then.
    pub(crate) by_host: bool,
    /// Whether the name by which it was asked for needs no token.
    pub(crate) open: bool,
    pub(crate) dialect: Dialect,
}

/// Where a domain of a caller's leads: a sandbox, its port, and whether visitors need no token.
pub(crate) type Lead = (SandboxId, u16, bool);

/// What names lead to ports.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    /// The domain that the names of all ports are below.
    pub(crate) domain: &'a str,
    /// Where a domain of a caller's leads that is written in small letters and without a dot at its
    /// end.
    pub(crate) others: &'a dyn Fn(&str) -> Option<Lead>,
}

/// Looks where a request is to go.
pub(crate) fn place(names: Names<'_>, uri: &Uri, headers: &HeaderMap) -> Result<Place, Refusal> {
    let host = host(uri, headers)?;
    let Some(host) = host else { return Ok(Place::Api) };
    let name = name_of(&host);
    let below = name.strip_suffix(names.domain).and_then(|rest| rest.strip_suffix('.'));
    let local = is_local(name);
    if (below == Some("sandbox") || local)
        && let Some(destination) = by_headers(headers)?
        && !(destination.port == AGENT_PORT && uri.path().starts_with(CONTROL))
    {
        return Ok(Place::Port(destination));
    }
    if (below == Some("sandbox") || local) && agent::is_signed(uri) {
        return Ok(Place::Signed);
    }
    match below {
        None if local || name == names.domain => Ok(Place::Api),
        None => match (names.others)(name) {
            Some((id, port, open)) => {
                let (by_host, dialect) = (true, Dialect::Native);
                Ok(Place::Port(Destination { id, port, by_host, open, dialect }))
            }
            None if looks_like_a_port(name) => Err(Refusal::Misdirected),
            None => Ok(Place::Api),
        },
        Some("api") => Ok(Place::E2b),
        Some("sandbox") => Err(Refusal::Malformed("this host needs headers that name a sandbox")),
        Some(label) => match by_label(label) {
            Some((port, id)) => {
                let (by_host, open, dialect) = (true, false, Dialect::Native);
                Ok(Place::Port(Destination { id, port, by_host, open, dialect }))
            }
            None => Err(Refusal::Unknown),
        },
    }
}

/// The one host that a request names, in small letters; none where it names none.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let named = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::Malformed("expected one Host header"));
    }
    let named = match named {
        Some(host) => {
            let text = host.to_str().ok().map(str::to_ascii_lowercase);
            Some(text.ok_or(Refusal::Malformed("the Host header is no host"))?)
        }
        None => None,
    };
    let target = uri.authority().map(|authority| authority.as_str().to_ascii_lowercase());
    match (named, target) {
        // Whoever believes the one must not be told of the other.
        (Some(named), Some(target)) if named != target => {
            Err(Refusal::Malformed("the Host header is not the host of the request's target"))
        }
        (named, target) => Ok(target.or(named)),
    }
}

/// A host without its port and without the dot of a full name.
fn name_of(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(address, _port)| address);
    }
    let name = host.split_once(':').map_or(host, |(name, _port)| name);
    name.strip_suffix('.').unwrap_or(name)
}

fn is_local(name: &str) -> bool {
    name == "localhost" || name.parse::<IpAddr>().is_ok()
}

/// What the routing headers name; none where there are none.
fn by_headers(headers: &HeaderMap) -> Result<Option<Destination>, Refusal> {
    for (id, port, dialect) in ROUTING {
        let one = |name| {
            let mut values = headers.get_all(name).iter();
            let first = values.next();
            match values.next() {
                None => Ok(first),
                Some(_) => Err(Refusal::Malformed("expected each routing header once")),
            }
        };
        let missing = match dialect {
            Dialect::Native => "Warren-Sandbox and Warren-Port go together, and one is missing",
            Dialect::E2b => "E2b-Sandbox-Id and E2b-Sandbox-Port go together, and one is missing",
        };
        let (id, port) = match (one(id)?, one(port)?) {
            (None, None) => continue,
            (Some(id), Some(port)) => (id, port),
            _ => return Err(Refusal::Malformed(missing)),
        };
        let port = port.to_str().ok().and_then(port_number);
        let port = port.ok_or(Refusal::Malformed("expected a port, 1 to 65535"))?;
        let id = id.to_str().ok().and_then(|id| SandboxId::parse_label(id).ok());
        let id = id.ok_or(Refusal::Unknown)?;
        return Ok(Some(Destination { id, port, by_host: false, open: false, dialect }));
    }
    Ok(None)
}

/// What a label names: `PORT-ID`, and anything behind another hyphen.
fn by_label(label: &str) -> Option<(u16, SandboxId)> {
    let (port, id) = label.split_once('-')?;
    if label.contains('.') {
        return None;
    }
    Some((port_number(port)?, SandboxId::parse_label(id).ok()?))
}

/// Whether the first label of a name is that of a port, under whatever domain.
fn looks_like_a_port(name: &str) -> bool {
    name.split_once('.').is_some_and(|(label, _)| by_label(label).is_some())
}

/// A port as everybody writes it: one port has one name.
fn port_number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain)
}

/// The sandbox that an origin such as `https://3000-sb-....DOMAIN` names, or a domain of a caller's.
pub(super) fn of_origin(names: Names<'_>, origin: &str) -> Option<SandboxId> {
    let (_scheme, authority) = origin.split_once("://")?;
    let authority = authority.to_ascii_lowercase();
    let name = name_of(&authority);
    match name.strip_suffix(names.domain).and_then(|rest| rest.strip_suffix('.')) {
        Some(label) => by_label(label).map(|(_port, id)| id),
        // As where a request goes: these are the API's, whatever anybody has shown.
        None if is_local(name) || name == names.domain => None,
        None => (names.others)(name).map(|(id, _port, _open)| id),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const ID: &str = "sb-aaaaaaaaaaaaaaaa";

    /// One domain of a caller's, and names that no caller can have.
    const NAMES: Names<'_> = Names {
        domain: "localhost",
        others: &|name| {
            let known = ["app.example.com", "localhost", "127.0.0.1", "3000.localhost"];
            known.contains(&name).then(|| (ID.parse().unwrap(), 8000, true))
        },
    };

    fn find(target: &str, pairs: &[(&'static str, &str)]) -> Result<Place, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        place(NAMES, &target.parse().unwrap(), &headers)
    }

    #[track_caller]
    fn check_host(host: &str, expected: Result<Option<u16>, Refusal>) {
        let found = find("/", &[("host", host)]);
        let found = found.map(|place| match place {
            Place::Api | Place::E2b | Place::Signed => None,
            Place::Port(it) => Some(it.port),
        });
        assert_eq!(found, expected, "{host}");
    }

    #[test]
    fn a_label_names_a_port_and_everything_else_below_the_domain_is_nowhere() {
        for host in [
            format!("3000-{ID}.localhost"),
            format!("3000-{ID}.localhost:7423"),
            format!("3000-{ID}.LOCALHOST."),
            format!("3000-{ID}-00000000.localhost"),
        ] {
            check_host(&host, Ok(Some(3000)));
        }
        for host in [
            format!("0-{ID}.localhost"),
            format!("03000-{ID}.localhost"),
            format!("+3000-{ID}.localhost"),
            format!("70000-{ID}.localhost"),
            format!("3000-{ID}a.localhost"),
            format!("3000-{ID}.x.localhost"),
            format!("{ID}.localhost"),
            "3000.localhost".to_owned(),
            "console.localhost".to_owned(),
            ".localhost".to_owned(),
        ] {
            check_host(&host, Err(Refusal::Unknown));
        }
        for host in ["localhost", "localhost:7423", "127.0.0.1:1", "[::1]:1", "box.example", ""] {
            check_host(host, Ok(None));
        }
        assert_eq!(find("/", &[("host", "api.localhost:1")]).unwrap(), Place::E2b);
        check_host("notlocalhost", Ok(None));
        check_host(&format!("3000-{ID}.other.example"), Err(Refusal::Misdirected));
    }

    #[test]
    fn a_domain_of_a_callers_leads_to_its_port_and_to_nothing_else() {
        for host in ["app.example.com", "APP.Example.com:8443", "app.example.com."] {
            check_host(host, Ok(Some(8000)));
        }
        for host in ["www.app.example.com", "example.com", "xapp.example.com"] {
            check_host(host, Ok(None));
        }
        let found = find("/v1/sandboxes", &[("host", "app.example.com")]).unwrap();
        let Place::Port(found) = found else { panic!("the API under the name of a page") };
        assert!(found.open && found.by_host);
        // Headers that a page may send name nothing there.
        let headers = [("host", "app.example.com"), ("warren-sandbox", ID), ("warren-port", "80")];
        assert!(matches!(find("/", &headers).unwrap(), Place::Port(it) if it.port == 8000));
        let lies = find("https://app.example.com/", &[("host", "localhost")]).unwrap_err();
        assert!(matches!(lies, Refusal::Malformed(_)));
    }

    #[test]
    fn headers_name_a_port_where_the_host_names_nothing() {
        let ours = [("warren-sandbox", ID), ("warren-port", "80")];
        let theirs = [("e2b-sandbox-id", ID), ("e2b-sandbox-port", "49983")];
        for host in ["localhost:1", "127.0.0.1", "[::1]:7", "192.0.2.1", "sandbox.localhost"] {
            for (pair, dialect) in [(ours, Dialect::Native), (theirs, Dialect::E2b)] {
                let found = find("/v1/sandboxes", &[("host", host), pair[0], pair[1]]).unwrap();
                let Place::Port(found) = found else { panic!("{host}") };
                assert_eq!((found.by_host, found.dialect), (false, dialect), "{host}");
            }
        }
        // Elsewhere they mean nothing: a page that is somebody's may send them there.
        let found = find("/", &[("host", "box.example"), ours[0], ours[1]]).unwrap();
        assert_eq!(found, Place::Api);
        // But for the API's own paths, which the agent has not.
        let found = find("/e2b/sandboxes", &[("host", "localhost"), theirs[0], theirs[1]]);
        assert_eq!(found, Ok(Place::Api));
        let one = find("/", &[("host", "localhost"), ours[0]]).unwrap_err();
        assert!(matches!(one, Refusal::Malformed(text) if text.contains("Warren-Port")));
        let bad = [("host", "localhost"), ("warren-sandbox", ID), ("warren-port", "0")];
        assert!(matches!(find("/", &bad).unwrap_err(), Refusal::Malformed(_)));
        let twice = [("host", "localhost"), ours[0], ours[0], ours[1]];
        assert!(matches!(find("/", &twice).unwrap_err(), Refusal::Malformed(_)));
        assert!(matches!(find("/", &[("host", "sandbox.localhost")]), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn a_signed_address_of_a_file_needs_no_name() {
        for host in ["localhost:1", "127.0.0.1", "sandbox.localhost"] {
            let target = "/files?path=a&signature=v1_x";
            assert_eq!(find(target, &[("host", host)]), Ok(Place::Signed), "{host}");
            let named = [("host", host), ("e2b-sandbox-id", ID), ("e2b-sandbox-port", "49983")];
            assert!(matches!(find(target, &named), Ok(Place::Port(_))), "{host}");
        }
        let elsewhere = find("/files?signature=x", &[("host", "api.localhost")]);
        assert_eq!(elsewhere, Ok(Place::E2b));
    }

    #[test]
    fn a_request_has_one_host() {
        let host = format!("3000-{ID}.localhost");
        let absolute = format!("http://{host}/x");
        assert!(find(&absolute, &[("host", &host)]).is_ok());
        assert!(find(&absolute, &[]).is_ok(), "as HTTP/2 has it");
        let lies = find(&absolute, &[("host", "localhost")]).unwrap_err();
        assert!(matches!(lies, Refusal::Malformed(_)));
        let lies = find("http://localhost/v1/sandboxes", &[("host", &host)]).unwrap_err();
        assert!(matches!(lies, Refusal::Malformed(_)));
        assert!(find("/", &[("host", &host), ("host", &host)]).is_err());
    }

    #[test]
    fn an_origin_names_a_sandbox() {
        let check = |origin: &str, found: bool| {
            assert_eq!(of_origin(NAMES, origin).is_some(), found, "{origin}");
        };
        check(&format!("http://3000-{ID}.localhost:7423"), true);
        check(&format!("https://8000-{ID}.localhost"), true);
        check("http://localhost", false);
        check("null", false);
        check(&format!("http://3000-{ID}.localhost.evil"), false);
        check("https://app.example.com:8443", true);
        check("https://xapp.example.com", false);
    }
}
