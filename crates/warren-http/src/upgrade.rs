//! What a connection may become.

use http::{HeaderMap, HeaderValue, header};

/// The protocols that a message wants to change to, or has changed to, as one field. `None` where
/// `Connection` does not say so, or nothing is left.
///
/// Another HTTP (`h2c`, `HTTP/2.0`) and TLS are left out, wherever in the list they are: requests
/// would follow that nobody looks at.
#[must_use]
pub fn upgrade_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let says = elements(headers, &header::CONNECTION).any(|it| it.eq_ignore_ascii_case(b"upgrade"));
    let left: Vec<_> =
        elements(headers, &header::UPGRADE).filter(|it| says && !carries_requests(it)).collect();
    if left.is_empty() { None } else { HeaderValue::from_bytes(&left.join(&b", "[..])).ok() }
}

/// What is in a list, over all of its lines.
fn elements<'a>(
    headers: &'a HeaderMap,
    name: &'a header::HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter();
    let all = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    all.map(<[u8]>::trim_ascii).filter(|it| !it.is_empty())
}

/// Whether requests can follow in a protocol: every name of HTTP/2 begins alike.
fn carries_requests(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
    let name = name.trim_ascii().to_ascii_lowercase();
    name.starts_with(b"h2") || name.starts_with(b"http") || name == b"tls"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(connection: &[&'static str], upgrade: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        let lines = connection.iter().map(|it| (header::CONNECTION, it));
        for (name, value) in lines.chain(upgrade.iter().map(|it| (header::UPGRADE, it))) {
            headers.append(name, HeaderValue::from_static(value));
        }
        upgrade_protocol(&headers).map(|it| it.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_what_connection_speaks_of_is_asked_for() {
        let some = |it: &str| Some(it.to_owned());
        assert_eq!(check(&["Upgrade"], &["websocket"]), some("websocket"));
        assert_eq!(check(&["keep-alive", "x, upgrade"], &["tcp", "a/1"]), some("tcp, a/1"));
        assert_eq!(check(&["keep-alive"], &["websocket"]), None);
        assert_eq!(check(&[], &["websocket"]), None);
        assert_eq!(check(&["upgrade"], &[]), None);
    }

    #[test]
    fn what_carries_requests_is_left_out_wherever_it_stands() {
        let some = |it: &str| Some(it.to_owned());
        assert_eq!(check(&["upgrade"], &["h2c"]), None);
        assert_eq!(check(&["upgrade"], &["websocket, H2C"]), some("websocket"));
        assert_eq!(check(&["upgrade"], &["websocket", " h2c-14 , HTTP/2.0"]), some("websocket"));
        assert_eq!(check(&["upgrade"], &["TLS/1.2, HTTP/1.1", "h2"]), None);
    }
}
