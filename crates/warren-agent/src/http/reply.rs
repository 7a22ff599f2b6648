//! Building answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::arriving::Arriving;

/// What can go wrong while a body is sent.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Any body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A refusal of a plain HTTP request: a status and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<warren_proto::Status> for Refusal {
    fn from(status: warren_proto::Status) -> Self {
        let code = StatusCode::from_u16(status.code.http_status());
        Self::new(code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), status.message)
    }
}

impl From<Refusal> for Response<Body> {
    fn from(refusal: Refusal) -> Self {
        let body = json!({ "code": refusal.status.as_u16(), "message": refusal.message });
        json(refusal.status, &body)
    }
}

/// A body that is already there.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that knows with its last frame that it is the last.
///
/// Without this HTTP/2 ends a stream by an empty frame, and clients exist that close a connection
/// after a hundred of those. It looks one frame ahead.
pub(crate) struct Ending<B> {
    body: B,
    next: Option<Bytes>,
    ended: bool,
}

impl<B> Ending<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body, next: None, ended: false }
    }
}

impl<B: HttpBody<Data = Bytes, Error = Infallible> + Unpin> Ending<B> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
            match frame.map(|Ok(frame)| frame.into_data()) {
                Some(Ok(bytes)) if !bytes.is_empty() => return Poll::Ready(Some(bytes)),
                // Nobody here sends trailers.
                Some(_) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<B: HttpBody<Data = Bytes, Error = Infallible> + Unpin> HttpBody for Ending<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended && self.next.is_none() {
            return Poll::Ready(None);
        }
        let bytes = match self.next.take() {
            Some(bytes) => bytes,
            None => match std::task::ready!(self.poll_data(cx)) {
                Some(bytes) => bytes,
                None => return Poll::Ready(None),
            },
        };
        if !self.ended
            && let Poll::Ready(next) = self.poll_data(cx)
        {
            self.ended = next.is_none();
            self.next = next;
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && (self.ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.next.as_ref().map_or(0, Bytes::len) as u64;
        match self.body.size_hint().exact() {
            Some(length) => SizeHint::with_exact(length + held),
            None => SizeHint::default(),
        }
    }
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
///
/// 413 for a longer one, 400 for one that breaks off.
pub(crate) async fn read_body(mut body: Arriving, limit: usize) -> Result<Bytes, Refusal> {
    let too_long = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long");
    if body.least() > limit as u64 {
        return Err(too_long());
    }
    let mut read = Vec::new();
    while let Some(piece) = body.next().await? {
        if read.len() + piece.len() > limit {
            return Err(too_long());
        }
        read.extend_from_slice(&piece);
    }
    Ok(read.into())
}
