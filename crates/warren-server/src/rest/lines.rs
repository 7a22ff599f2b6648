//! Streams of JSON lines: what every one of them shares.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body as ResponseBody,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde::Serialize;
use warren_api::NDJSON;

use crate::streams::StreamSlot;

/// After so much silence a stream says that it is alive.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

/// Whether the client asks for lines.
pub(super) fn wanted(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|value| value.to_str().is_ok_and(|value| value.contains(NDJSON)))
}

/// A response of lines, which holds its place among the streams until it ends.
pub(super) fn response(
    lines: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
    slot: StreamSlot,
) -> Response {
    let lines = lines.inspect(move |_| {
        // The slot is the stream's: it goes when the stream does.
        let _held = &slot;
    });
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    ([content_type], ResponseBody::from_stream(lines)).into_response()
}

/// A value as a line of JSON.
pub(super) fn line(value: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_given_to_those_who_ask() {
        let mut headers = HeaderMap::new();
        assert!(!wanted(&headers));
        headers.append(header::ACCEPT, HeaderValue::from_static("application/json"));
        assert!(!wanted(&headers));
        headers.append(header::ACCEPT, HeaderValue::from_static(NDJSON));
        assert!(wanted(&headers));
    }
}
