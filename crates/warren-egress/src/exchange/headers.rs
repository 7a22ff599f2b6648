//! Heads of messages, as they are passed on.

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use warren_http::strip_hop_by_hop;

use super::Outside;

/// Makes a client's request one that can be sent, and that asks to change to `protocol`, if any.
///
/// # Errors
///
/// What is wrong with it, for the client.
pub(super) fn outgoing<B>(
    request: Request<B>,
    outside: &Outside,
    protocol: Option<HeaderValue>,
) -> Result<Request<B>, &'static str> {
    rewritten(request, outside.h2, outside.tls.is_some(), protocol)
}

fn rewritten<B>(
    request: Request<B>,
    h2: bool,
    tls: bool,
    protocol: Option<HeaderValue>,
) -> Result<Request<B>, &'static str> {
    if request.method() == Method::CONNECT {
        return Err("CONNECT is not passed on");
    }
    let (mut parts, body) = request.into_parts();
    strip_hop_by_hop(&mut parts.headers);
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

/// Makes the other side's response one that can be given to the client; one that changes to
/// `protocol`, if any.
pub(super) fn incoming<B>(response: &mut Response<B>, h2: bool, protocol: Option<HeaderValue>) {
    let headers = response.headers_mut();
    strip_hop_by_hop(headers);
    if let Some(protocol) = protocol {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    *response.version_mut() = if h2 { Version::HTTP_2 } else { Version::HTTP_11 };
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
        let sent = rewritten(request, false, false, None).unwrap();
        assert_eq!(sent.uri(), "/x?y");
        let names: Vec<_> = sent.headers().keys().map(http::HeaderName::as_str).collect();
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
        let protocol = Some(HeaderValue::from_static("websocket"));
        let sent = rewritten(request(), false, false, protocol).unwrap();
        assert_eq!(sent.headers()["upgrade"], "websocket");
        let sent = rewritten(request(), false, false, None).unwrap();
        assert!(!sent.headers().contains_key("upgrade"));
    }

    #[test]
    fn http2_has_its_host_in_the_target() {
        let request = Request::builder().uri("/x").header("host", "a.example").body(()).unwrap();
        let sent = rewritten(request, true, true, None).unwrap();
        assert_eq!(sent.uri(), "https://a.example/x");
        assert!(sent.headers().is_empty());
    }
}
