//! What a proxy changes in the headers of what it passes on.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use warren_http::{strip_hop_by_hop, upgrade_protocol};

use super::pass;

/// Who asks, and by which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// From where the connection comes.
    pub(crate) address: IpAddr,
    /// Whether it is encrypted.
    pub(crate) tls: bool,
}

/// What says where a request came from: made anew, for anybody can write anything there.
const FORWARDED: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-real-ip",
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The protocol that a request wants to change to, where it does on a connection that can.
pub(super) fn upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    (version == Version::HTTP_11).then(|| upgrade_protocol(headers)).flatten()
}

/// The elements of a field that is a list, of all of its lines.
fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    lines(headers, name).flat_map(|line| line.split(',')).map(str::trim).filter(|it| !it.is_empty())
}

/// The lines of a field, in their order.
fn lines<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl DoubleEndedIterator<Item = &'a str> + use<'a> {
    headers.get_all(name).iter().filter_map(|line| line.to_str().ok())
}

/// What the nearest of several proxies says: the last of what is there.
fn nearest<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    lines(headers, name).next_back()?.rsplit(',').next().map(str::trim)
}

/// Says from whom and for which name a request came. A proxy that is trusted is believed: each has
/// added itself to what came before it, as an element or as a line, so the order is kept.
pub(super) fn forward(
    headers: &mut HeaderMap,
    (visitor, trusted): (Visitor, bool),
    host: &HeaderValue,
) {
    let said = |name: &HeaderName| {
        let said = nearest(headers, name).filter(|_| trusted)?;
        HeaderValue::try_from(said).ok()
    };
    let (named, scheme) = (said(&FORWARDED_HOST), said(&FORWARDED_PROTO));
    let address = visitor.address.to_canonical().to_string();
    let before = elements(headers, &FORWARDED_FOR).filter(|_| trusted);
    let all: Vec<&str> = before.chain([address.as_str()]).collect();
    let all = HeaderValue::try_from(all.join(", "));
    for name in FORWARDED {
        headers.remove(name);
    }
    let named = named.unwrap_or_else(|| host.clone());
    let scheme = scheme.unwrap_or_else(|| scheme_of(visitor.tls));
    if let Ok(all) = all {
        headers.insert(FORWARDED_FOR, all);
    }
    headers.insert(FORWARDED_HOST, named);
    headers.insert(FORWARDED_PROTO, scheme);
}

/// From where a visitor comes: behind proxies that are trusted the last address that is none of
/// theirs, as far as they say one.
pub(super) fn comes_from(
    headers: &HeaderMap,
    address: IpAddr,
    trusts: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let said: Vec<&str> = elements(headers, &FORWARDED_FOR).collect();
    let mut from = address;
    for before in said.into_iter().rev() {
        match before.parse() {
            Ok(before) if trusts(from) => from = before,
            _ => break,
        }
    }
    from
}

/// Whether the visitor's own connection is encrypted, as far as we or a trusted proxy know.
pub(super) fn is_secure(headers: &HeaderMap, visitor: Visitor, trusted: bool) -> bool {
    match nearest(headers, &FORWARDED_PROTO).filter(|_| trusted) {
        Some(scheme) => scheme.eq_ignore_ascii_case("https"),
        None => visitor.tls,
    }
}

fn scheme_of(tls: bool) -> HeaderValue {
    HeaderValue::from_static(if tls { "https" } else { "http" })
}

/// Takes out of an answer what is of one connection alone, and what only the edge may say.
pub(super) fn strip_answer(headers: &mut HeaderMap) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // As chunks it was read; a length beside them says something else to whoever believes it.
        headers.remove(header::CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
    headers.remove(super::answer::MARK);
    // The name is the edge's: no guest says where else it is served.
    headers.remove(header::ALT_SVC);
    let ours = |value: &HeaderValue| {
        let name = value.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default();
        std::str::from_utf8(name).is_ok_and(|name| pass::is_our_cookie(name.trim()))
    };
    if headers.get_all(header::SET_COOKIE).iter().any(ours) {
        let left: Vec<HeaderValue> =
            headers.get_all(header::SET_COOKIE).iter().filter(|it| !ours(it)).cloned().collect();
        headers.remove(header::SET_COOKIE);
        for value in left {
            headers.append(header::SET_COOKIE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_http_1_changes_to_another_protocol_and_never_to_http_2() {
        let asks = |to: &'static str| map(&[("connection", "Upgrade"), ("upgrade", to)]);
        assert_eq!(upgrade(Version::HTTP_11, &asks("websocket")).unwrap(), "websocket");
        assert_eq!(upgrade(Version::HTTP_11, &asks("h2c")), None);
        assert_eq!(upgrade(Version::HTTP_11, &asks("websocket, h2c")).unwrap(), "websocket");
        assert_eq!(upgrade(Version::HTTP_2, &asks("websocket")), None);
        assert_eq!(upgrade(Version::HTTP_11, &map(&[("upgrade", "websocket")])), None);
    }

    #[test]
    fn nobody_says_where_a_request_came_from_but_trusted_proxies() {
        let visitor = Visitor { address: [192, 0, 2, 1].into(), tls: false };
        let lies = map(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2, 10.0.0.3"),
            ("x-forwarded-proto", "ftp, http"),
            ("x-forwarded-proto", "http, https"),
            ("x-forwarded-host", "inner.example"),
            ("x-forwarded-host", "public.example"),
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "10.0.0.1"),
        ]);
        let check = |trusted, expected: [&'static str; 3]| {
            let mut headers = lies.clone();
            assert_eq!(is_secure(&headers, visitor, trusted), trusted);
            forward(&mut headers, (visitor, trusted), &HeaderValue::from_static("own"));
            let names = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
            assert_eq!(names.map(|name| headers[name].to_str().unwrap()), expected);
            assert_eq!(headers.len(), 3);
        };
        check(false, ["192.0.2.1", "own", "http"]);
        check(true, ["10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.1", "public.example", "https"]);
    }

    #[test]
    fn proxies_that_are_trusted_say_from_where_a_visitor_comes() {
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        let headers =
            map(&[("x-forwarded-for", "10.0.0.1, 192.0.2.7"), ("x-forwarded-for", "10.0.0.2")]);
        let trusts = |it: IpAddr| it == of("10.0.0.2") || it == of("10.0.0.3");
        assert_eq!(comes_from(&headers, of("10.0.0.3"), trusts), of("192.0.2.7"));
        assert_eq!(comes_from(&headers, of("10.0.0.9"), trusts), of("10.0.0.9"));
        let unknown = map(&[("x-forwarded-for", "unknown")]);
        assert_eq!(comes_from(&unknown, of("10.0.0.3"), trusts), of("10.0.0.3"));
    }

    #[test]
    fn a_length_beside_chunks_is_not_told() {
        let mut headers = map(&[("transfer-encoding", "chunked"), ("content-length", "3")]);
        strip_answer(&mut headers);
        assert_eq!(headers, map(&[]));
        let mut headers = map(&[("content-length", "3")]);
        strip_answer(&mut headers);
        assert_eq!(headers, map(&[("content-length", "3")]));
    }

    #[test]
    fn a_guest_neither_sets_our_cookie_nor_speaks_as_the_edge() {
        let mut headers = map(&[
            ("set-cookie", "warren_token=x; Path=/"),
            ("set-cookie", "a=b"),
            ("warren-edge", "not-found"),
            ("alt-svc", "h2=\"evil:443\""),
        ]);
        strip_answer(&mut headers);
        assert_eq!(headers, map(&[("set-cookie", "a=b")]));
    }
}
