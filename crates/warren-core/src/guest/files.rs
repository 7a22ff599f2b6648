//! Contents of files: plain HTTP at `/files` of the agent.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Request, StatusCode, body::Frame, header};
use warren_proto::{Code, Status};

use super::{
    CALL, Guest, GuestError,
    connection::{self, Answer},
    text, within,
};
use crate::sandboxes::{Upload, Written};

/// The largest answer to an upload, and the largest account of a refusal.
const ANSWER_BYTES: usize = 64 << 10;

/// A part of a file: the `Range` of HTTP, with one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// From this byte on, to this one (inclusive) or to the end.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Last(u64),
}

/// A file that is being read.
#[derive(Debug)]
pub struct Download {
    /// How many bytes will come, where the guest said so.
    pub length: Option<u64>,
    /// The `Content-Range` of the answer, where it is a part of the file.
    pub range: Option<String>,
    answer: Answer,
}

impl Download {
    /// A body of a length that nobody knows.
    pub(super) fn whole(answer: Answer) -> Self {
        Self { length: None, range: None, answer }
    }
}

impl Stream for Download {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.answer
            .poll_piece(cx)
            .map(|piece| piece.map(|piece| piece.map_err(std::io::Error::other)))
    }
}

impl Guest {
    pub(crate) async fn read_file(
        &self,
        user: Option<&str>,
        path: &str,
        range: Option<Range>,
    ) -> Result<Download, GuestError> {
        let opened = async {
            let mut request = Request::get(target(user, path, None))
                .header(header::HOST, "envd")
                // The bytes are wanted as they are.
                .header(header::ACCEPT_ENCODING, "identity");
            if let Some(range) = range {
                request = request.header(header::RANGE, range_header(range));
            }
            let request = request.body(connection::full("")).map_err(GuestError::Request)?;
            let mut answer = self.send(request).await?;
            let part = answer.status() == StatusCode::PARTIAL_CONTENT;
            if !part && answer.status() != StatusCode::OK {
                return Err(refusal(&mut answer).await?);
            }
            let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
            let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
            let range = text(header::CONTENT_RANGE).filter(|_| part).map(str::to_owned);
            Ok(Download { length, range, answer })
        };
        within(CALL, opened).await
    }

    pub(crate) async fn write_file(
        &self,
        user: Option<&str>,
        path: &str,
        upload: Upload,
    ) -> Result<Written, GuestError> {
        let size = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&size);
        let contents = upload.contents.map(move |piece| {
            piece.map(|bytes| {
                counted.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Frame::data(bytes)
            })
        });
        let mut request = Request::post(target(user, path, upload.mode))
            .header(header::HOST, "envd")
            .header(header::CONTENT_TYPE, "application/octet-stream");
        if let Some(length) = upload.length {
            request = request.header(header::CONTENT_LENGTH, length);
        }
        let request =
            request.body(StreamBody::new(contents).boxed_unsync()).map_err(GuestError::Request)?;
        let mut answer = self.send(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(refusal(&mut answer).await?);
        }
        let body = answer.collect(ANSWER_BYTES).await?;
        self.keep(answer);
        let path = written_path(&body).ok_or(GuestError::Missing("path"))?;
        Ok(Written { path, size: size.load(Ordering::Relaxed) })
    }
}

/// The path that the agent says it wrote: `[{"path": ...}]`.
fn written_path(body: &[u8]) -> Option<String> {
    let written: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(written.get(0)?.get("path")?.as_str()?.to_owned())
}

fn target(user: Option<&str>, path: &str, mode: Option<u32>) -> String {
    let mut target = format!("/files?path={}", text::escaped(path));
    if let Some(user) = user {
        target.push_str("&username=");
        target.push_str(&text::escaped(user));
    }
    if let Some(mode) = mode {
        target.push_str(&format!("&mode={mode:o}"));
    }
    target
}

fn range_header(range: Range) -> String {
    match range {
        Range::From(first, Some(last)) => format!("bytes={first}-{last}"),
        Range::From(first, None) => format!("bytes={first}-"),
        Range::Last(count) => format!("bytes=-{count}"),
    }
}

/// The agent's refusal.
pub(super) async fn refusal(answer: &mut Answer) -> Result<GuestError, GuestError> {
    let body = answer.collect(ANSWER_BYTES).await?;
    Ok(GuestError::Refused(refused(answer.status(), &body)))
}

/// What a refusal means. Here the agent speaks in HTTP statuses and not in codes.
fn refused(status: StatusCode, body: &[u8]) -> Status {
    let code = match status.as_u16() {
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        405 | 501 => Code::Unimplemented,
        409 => Code::AlreadyExists,
        416 => Code::OutOfRange,
        507 | 429 => Code::ResourceExhausted,
        400..=499 => Code::InvalidArgument,
        _ => Code::Internal,
    };
    let message = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|body| Some(body.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| format!("the agent answered HTTP {}", status.as_u16()));
    // Agents of earlier versions do not know the paths that came later.
    if code == Code::NotFound && message == "no such path" {
        let message = "the sandbox's agent is of an earlier version; a new sandbox can do this";
        return Status::new(Code::Unimplemented, message);
    }
    Status::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_carries_any_path() {
        assert_eq!(target(None, "/a b", None), "/files?path=/a%20b");
        assert_eq!(
            target(Some("root"), "x&y", Some(0o755)),
            "/files?path=x%26y&username=root&mode=755"
        );
    }

    #[test]
    fn ranges_are_written_as_http_has_them() {
        assert_eq!(range_header(Range::From(0, Some(9))), "bytes=0-9");
        assert_eq!(range_header(Range::From(5, None)), "bytes=5-");
        assert_eq!(range_header(Range::Last(3)), "bytes=-3");
    }

    #[test]
    fn an_older_agent_says_that_it_cannot() {
        let code = |status: u16, body: &str| {
            refused(StatusCode::from_u16(status).unwrap(), body.as_bytes()).code
        };
        assert_eq!(code(404, r#"{"code":404,"message":"no such path"}"#), Code::Unimplemented);
        assert_eq!(code(404, r#"{"message":"path '/x' does not exist"}"#), Code::NotFound);
        assert_eq!(code(400, "nonsense"), Code::InvalidArgument);
        assert_eq!(code(507, "{}"), Code::ResourceExhausted);
    }

    #[test]
    fn only_a_path_is_taken_from_the_agents_word() {
        assert_eq!(written_path(br#"[{"path":"/x","name":"x"}]"#).as_deref(), Some("/x"));
        for bad in [&b"[]"[..], b"{}", b"[1]", b"nonsense", br#"[{"path":1}]"#] {
            assert_eq!(written_path(bad), None);
        }
    }
}
