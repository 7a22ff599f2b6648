//! What of a message's head is about one connection, and does not pass.

use http::{
    HeaderMap, HeaderValue,
    header::{self, HeaderName},
};

/// Fields about one connection, beside those that `Connection` names.
///
/// # Source
///
/// RFC 9110, section 7.6.1, and what older proxies send.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Removes what is about one connection: the fields known for it, and those that `Connection`
/// names. `TE: trailers` stays: trailers are passed on.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| !is_needed(name))
        .collect();
    let trailers = headers.get_all(header::TE).iter().any(|value| {
        value.to_str().is_ok_and(|it| it.split(',').any(|it| it.trim() == "trailers"))
    });
    for name in HOP_BY_HOP.into_iter().chain([header::TE]).chain(named) {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Whether a field is not for `Connection` to take out: without it the message is another one.
fn is_needed(name: &HeaderName) -> bool {
    *name == header::HOST || *name == header::CONTENT_LENGTH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_one_connection_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-One, host"),
            ("connection", "te, content-length"),
            ("x-one", "1"),
            ("host", "h"),
            ("content-length", "3"),
            ("te", "gzip, trailers"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "secret"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAA"),
            ("transfer-encoding", "chunked"),
            ("x-two", "2"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [("content-length", "3"), ("host", "h"), ("te", "trailers"), ("x-two", "2")]
        );
    }
}
