//! The body of a push: its head is read and decided about before any of it is sent on.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use warren_git::wire::{PushReader, Rights};

use super::answer::Refusal;

/// A body whose beginning was read already.
#[derive(Debug)]
pub(super) struct Body {
    read: Option<Bytes>,
    rest: Incoming,
}

/// What became of reading a push.
pub(super) enum Checked {
    /// It may be sent on.
    Good(Body),
    /// It may not.
    Denied(String),
}

impl Checked {
    /// The body, or a refusal about this path.
    pub(super) fn at(self, path: &str) -> Result<Body, Refusal> {
        match self {
            Self::Good(body) => Ok(body),
            Self::Denied(reason) => Err(Refusal::Denied { repository: path.to_owned(), reason }),
        }
    }
}

impl Body {
    /// A body of which nothing was read.
    pub(super) fn whole(rest: Incoming) -> Self {
        Self { read: None, rest }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(read) = self.read.take() {
            return Poll::Ready(Some(Ok(Frame::data(read))));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.as_ref().map_or(0, |it| it.len() as u64);
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint
    }
}

/// Reads the head of a push, and says whether it may be sent on.
pub(super) async fn checked(
    headers: &HeaderMap,
    mut body: Incoming,
    rights: &Rights,
) -> Result<Checked, Refusal> {
    let coding = headers.get(header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes);
    if coding.is_some_and(|it| it != b"identity") {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let reason = "a push is sent as it is, without Content-Encoding".to_owned();
        return Err(Refusal::Failed { status, reason });
    }
    let mut reader = PushReader::default();
    let push = loop {
        let Some(frame) = body.frame().await else {
            // What changes nothing is an empty list.
            return Ok(Checked::Denied("the list of refs of this push does not end".to_owned()));
        };
        let frame = frame.map_err(|_gone| Refusal::failed("the push was not sent to its end"))?;
        let Ok(piece) = frame.into_data() else { continue };
        match reader.feed(&piece) {
            Ok(Some(push)) => break push,
            Ok(None) => {}
            Err(error) => return Ok(Checked::Denied(error.to_string())),
        }
    };
    if let Err(denied) = rights.allow_push(&push.updates) {
        return Ok(Checked::Denied(denied.to_string()));
    }
    let read = Bytes::from(reader.into_bytes());
    let head = read.get(..push.head_bytes).unwrap_or(&read);
    if has_options(head) {
        let reason = "options of a push may have the remote change more than this session's branch";
        return Ok(Checked::Denied(reason.to_owned()));
    }
    Ok(Checked::Good(Body { read: Some(read), rest: body }))
}

/// Whether the client says that options follow the list of refs. What it can do stands behind a NUL,
/// word by word; no name of a ref has a space.
fn has_options(head: &[u8]) -> bool {
    let words = head.split(|byte| matches!(byte, 0 | b' ' | b'\n'));
    words.into_iter().any(|word| word.starts_with(b"push-options"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_seen_wherever_they_are_said() {
        let line = |name: &str, can: &str| format!("00zz0 1 refs/heads/{name}\0{can}0000");
        for can in ["push-options", " report-status push-options agent=git", "a\0push-options\n"] {
            assert!(has_options(line("work", can).as_bytes()), "{can}");
        }
        assert!(!has_options(line("push-options", " report-status side-band-64k").as_bytes()));
    }
}
