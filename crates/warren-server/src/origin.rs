//! Requests that a browser makes for a page: only pages of ours or of the operator's choice.
//!
//! A page of a stranger can make its visitor's browser send requests to any address. Browsers say
//! for which page they do in `Origin`; and a page that has its own name point to our address (DNS
//! rebinding) shows in `Host`.

use std::net::IpAddr;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{self, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY},
    response::Parts,
};
use warren_api::Code;

use crate::error::ApiError;

/// What a page may send beyond what every page may; the second half is what E2B's JavaScript client
/// sends from a browser.
const HEADERS: &str = "authorization, content-type, x-api-key, idempotency-key, last-event-id, \
                       range, warren-project, x-team-id, browser, lang, lang_version, \
                       package_version, publisher, sdk_runtime, system";

/// What a page may ask with.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// The page of another origin that a request is made for.
#[derive(Clone, Debug)]
pub(crate) struct Page(HeaderValue);

/// For whom a request is made: none for a program, or for a page of this very server.
///
/// # Errors
///
/// `permission_denied` for a page of somebody who is not in `allowed`.
pub(crate) fn page(headers: &HeaderMap, allowed: &[String]) -> Result<Option<Page>, ApiError> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(None) };
    let refuse = || {
        let message = "pages of this origin may not use this server; the setting `origins` \
                       names those that may";
        ApiError::new(Code::PermissionDenied, message)
    };
    let text = origin.to_str().ok().filter(|_| origins.next().is_none()).ok_or_else(refuse)?;
    if allowed.iter().any(|it| it.eq_ignore_ascii_case(text)) {
        return Ok(Some(Page(origin.clone())));
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if host.is_some_and(|host| is_ours(text, host)) { Ok(None) } else { Err(refuse()) }
}

/// Whether a page comes from the host that it asks. Whether it came encrypted we cannot know where
/// a proxy is between.
fn is_ours(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let usual = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let plain = |text: &str| text.strip_suffix(usual).unwrap_or(text).to_ascii_lowercase();
    plain(authority) == plain(host)
}

impl Page {
    /// Whether the browser asks what the page may, before it asks for the page.
    pub(crate) fn asks_first(method: &Method, headers: &HeaderMap) -> bool {
        method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Lets the page read the answer.
    pub(crate) fn allow(self, response: &mut Parts) {
        response.headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.0);
        response.headers.append(VARY, HeaderValue::from_static("origin"));
    }

    /// The answer to a browser that asks first.
    pub(crate) fn permission() -> (StatusCode, [(HeaderName, HeaderValue); 3]) {
        let fields = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS)),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS)),
            (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")),
        ];
        (StatusCode::NO_CONTENT, fields)
    }
}

/// Refuses requests that were sent to a name which is not this machine's own.
///
/// # Errors
///
/// `permission_denied`.
pub(crate) fn require_loopback(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let good = hosts.next().is_none()
        && host.is_some_and(is_loopback)
        && uri.authority().is_none_or(|authority| is_loopback(authority.as_str()));
    if good {
        return Ok(());
    }
    let message = "a server without keys answers to `localhost` and loopback addresses alone, \
                   whatever else the Host header says";
    Err(ApiError::new(Code::PermissionDenied, message))
}

/// Whether `host`, with or without a port, is a name of the loopback.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if is_port(port) => address,
            _ => return false,
        },
        None => match host.find(':') {
            Some(at) if is_port(host.split_at(at).1) => host.split_at(at).0,
            Some(_) => return false,
            None => host,
        },
    };
    let address = name.parse::<IpAddr>().is_ok_and(|it| it.to_canonical().is_loopback());
    address || name.eq_ignore_ascii_case("localhost")
}

/// Whether this is empty, or a colon and a number.
fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(HeaderName, &'static str)| {
            (name.clone(), HeaderValue::from_static(value))
        };
        // Unlike `collect`, this keeps repeated ones.
        let mut map = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn only_our_own_and_chosen_pages_pass() {
        let allowed = ["https://console.example".to_owned()];
        let check = |origin, host, passes: bool| {
            let found = page(&headers(&[(ORIGIN, origin), (HOST, host)]), &allowed);
            assert_eq!(found.is_ok(), passes, "{origin} {host}");
        };
        check("http://box:7423", "box:7423", true);
        check("https://box", "box", true);
        check("https://box:443", "box", true);
        check("https://Box", "box:443", true);
        check("https://console.example", "box", true);
        check("https://console.example.evil", "box", false);
        check("http://console.example", "box", false);
        check("https://evil.example", "box", false);
        check("http://box:80", "box:8080", false);
        check("null", "box", false);
        check("", "box", false);
        check("file://box", "box", false);
        let twice = [(ORIGIN, "https://box"), (ORIGIN, "https://evil"), (HOST, "box")];
        assert!(page(&headers(&twice), &allowed).is_err());
        assert!(page(&headers(&[(HOST, "evil")]), &[]).unwrap().is_none());
        assert!(page(&headers(&[(ORIGIN, "https://box")]), &[]).is_err(), "without a host");
    }

    #[test]
    fn only_names_of_the_loopback_are_answered() {
        let check = |host, passes: bool| {
            let found = require_loopback(&Uri::from_static("/"), &headers(&[(HOST, host)]));
            assert_eq!(found.is_ok(), passes, "{host}");
        };
        for host in ["localhost", "LocalHost:7423", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:7"]
        {
            check(host, true);
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "::1",
            "[::1",
            "[::1]x",
            "localhost:",
            "localhost:x",
            "[::1]:",
            "localhost:1:2",
        ] {
            check(host, false);
        }
        let twice = headers(&[(HOST, "localhost"), (HOST, "evil")]);
        assert!(require_loopback(&Uri::from_static("/"), &twice).is_err());
        assert!(require_loopback(&Uri::from_static("/"), &HeaderMap::new()).is_err());
        let elsewhere = Uri::from_static("http://evil/v1/sandboxes");
        assert!(require_loopback(&elsewhere, &headers(&[(HOST, "localhost")])).is_err());
    }
}
