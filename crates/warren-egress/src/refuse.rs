//! How a client is told that it may not, in the protocol that it speaks.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};

use crate::exchange::Body;

/// The alert of TLS that says that the server does not want to: fatal, `access_denied`.
pub(crate) const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// An answer of the gate itself.
pub(crate) fn answer(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("warren: {text}\n")));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
