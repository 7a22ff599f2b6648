//! What of a message's head belongs to one connection, and does not pass.

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Uri, Version,
    header::{self, HeaderName},
    uri::{Authority, PathAndQuery, Scheme},
};

use super::Outside;

/// Fields about one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Makes a client's request one that can be sent.
///
/// # Errors
///
/// What is wrong with it, for the client.
pub(super) fn outgoing<B>(
    request: Request<B>,
    outside: &Outside,
    upgrade: bool,
) -> Result<Request<B>, &'static str> {
    rewritten(request, outside.h2, outside.tls.is_some(), upgrade)
}

fn rewritten<B>(
    request: Request<B>,
    h2: bool,
    tls: bool,
    upgrade: bool,
) -> Result<Request<B>, &'static str> {
    if request.method() == Method::CONNECT
        && request.extensions().get::<hyper::ext::Protocol>().is_none()
    {
        return Err("CONNECT is not passed on");
    }
    let (mut parts, body) = request.into_parts();
    let protocol = parts.headers.get(header::UPGRADE).cloned().filter(|_| upgrade);
    strip(&mut parts.headers);
    // Nothing waits for it: bodies are passed on as they come, and the client was told to go on.
    parts.headers.remove(header::EXPECT);
    let host = parts.uri.authority().cloned();
    let host = match host {
        Some(host) => Some(host),
        None => authority(&parts.headers),
    };
    let target = parts.uri.path_and_query().cloned();
    if h2 {
        parts.headers.remove(header::HOST);
        parts.uri = absolute(host.ok_or("a request needs a host")?, target, tls)?;
        parts.version = Version::HTTP_2;
    } else {
        if let Some(host) = host {
            let host = HeaderValue::from_str(host.as_str());
            parts.headers.insert(header::HOST, host.map_err(|_odd| "the host is none")?);
        }
        parts.uri = Uri::from(target.unwrap_or_else(|| PathAndQuery::from_static("/")));
        parts.version = Version::HTTP_11;
    }
    if let Some(protocol) = protocol {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
    }
    Ok(Request::from_parts(parts, body))
}

/// Makes the other side's response one that can be given to the client.
pub(super) fn incoming<B>(response: &mut Response<B>, h2: bool) {
    let switching = response.status() == http::StatusCode::SWITCHING_PROTOCOLS;
    let protocol = response.headers().get(header::UPGRADE).cloned().filter(|_| switching);
    strip(response.headers_mut());
    if let Some(protocol) = protocol {
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    *response.version_mut() = if h2 { Version::HTTP_2 } else { Version::HTTP_11 };
}

/// Removes what is about one connection: the fields known for it, and those that `Connection`
/// names.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
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

fn authority(headers: &HeaderMap) -> Option<Authority> {
    headers.get(header::HOST)?.to_str().ok()?.parse().ok()
}

fn absolute(host: Authority, target: Option<PathAndQuery>, tls: bool) -> Result<Uri, &'static str> {
    let scheme = if tls { Scheme::HTTPS } else { Scheme::HTTP };
    let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(target);
    uri.build().map_err(|_odd| "the target is none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_one_connection_do_not_pass() {
        let request = Request::builder()
            .uri("http://a.example/x?y")
            .header("connection", "close, X-Mine, host")
            .header("x-mine", "1")
            .header("x-other", "2")
            .header("te", "gzip, trailers")
            .header("expect", "100-continue")
            .header("host", "a.example")
            .body(())
            .unwrap();
        let sent = rewritten(request, false, false, false).unwrap();
        assert_eq!(sent.uri(), "/x?y");
        let names: Vec<_> = sent.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!(sent.headers()["host"], "a.example");
        assert_eq!(sent.headers()["te"], "trailers");
        assert_eq!(sent.headers()["x-other"], "2");
    }

    #[test]
    fn only_an_upgrade_that_was_asked_for_is() {
        let request = || {
            let request = Request::builder().uri("/").header("connection", "Upgrade");
            request.header("upgrade", "websocket").header("host", "a").body(()).unwrap()
        };
        let sent = rewritten(request(), false, false, true).unwrap();
        assert_eq!(sent.headers()["upgrade"], "websocket");
        let sent = rewritten(request(), false, false, false).unwrap();
        assert!(!sent.headers().contains_key("upgrade"));
    }

    #[test]
    fn http2_has_its_host_in_the_target() {
        let request = Request::builder().uri("/x").header("host", "a.example").body(()).unwrap();
        let sent = rewritten(request, true, true, false).unwrap();
        assert_eq!(sent.uri(), "https://a.example/x");
        assert!(sent.headers().is_empty());
    }
}
