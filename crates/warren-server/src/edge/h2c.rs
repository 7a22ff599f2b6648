//! HTTP/2 to a port, for gRPC: its services speak nothing else, and need trailers.

use std::time::Duration;

use axum::body::Body;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    header,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::task::TaskTracker;
use warren_core::{SandboxError, runtime::Duplex, sandboxes::Visit};

use super::{answer::Refusal, pool::Room};

/// How a client of HTTP/2 begins, with settings that say nothing.
///
/// # Source
///
/// RFC 9113, sections 3.4 and 6.5.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// How long a port may take to show that it speaks HTTP/2.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of a port's HTTP/2.
#[derive(Clone, Debug, Default)]
pub(super) enum Known {
    /// Nobody has asked.
    #[default]
    Nothing,
    /// It speaks HTTP/1.1 alone.
    Http1,
    /// It speaks it, on this connection.
    Http2(SendRequest<Body>),
}

impl Known {
    /// Whether there is a connection that must be kept.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Http2(sender) if !sender.is_closed())
    }
}

/// Whether a request is one of gRPC, which is for HTTP/2 unless it says otherwise.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind.and_then(|kind| kind.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// A connection of HTTP/2 to the port; none where the port speaks HTTP/1.1 alone.
pub(super) async fn connection(
    visit: &Visit,
    room: &Room,
    port: u16,
    tasks: &TaskTracker,
) -> Result<Option<SendRequest<Body>>, Refusal> {
    match room.h2(port) {
        Known::Http1 => return Ok(None),
        Known::Http2(sender) if !sender.is_closed() => return Ok(Some(sender)),
        // What spoke it once does so again.
        Known::Http2(_) => {}
        Known::Nothing => {
            let answers = tokio::time::timeout(PATIENCE, speaks(dial(visit, port).await?));
            if !answers.await.unwrap_or(false) {
                room.learn_h2(port, Known::Http1);
                return Ok(None);
            }
        }
    }
    let stream = TokioIo::new(dial(visit, port).await?);
    let opened = http2::Builder::new(TokioExecutor::new()).handshake(stream).await;
    let (sender, connection) = opened.map_err(|_error| Refusal::Broken)?;
    let closed = room.closed().clone();
    tasks.spawn(async move {
        // How it ended reaches the requests that were under way.
        tokio::select! {
            _ = connection => {}
            () = closed.cancelled() => {}
        }
    });
    room.learn_h2(port, Known::Http2(sender.clone()));
    Ok(Some(sender))
}

async fn dial(visit: &Visit, port: u16) -> Result<Box<dyn Duplex>, Refusal> {
    visit.dial(port).await.map_err(|error| refusal(&error))
}

/// What a failed connection means to the visitor.
pub(super) fn refusal(error: &SandboxError) -> Refusal {
    match error {
        SandboxError::Unsupported { .. } => Refusal::Unsupported,
        SandboxError::NotRunning { .. } => Refusal::Stopped,
        _ => Refusal::Closed,
    }
}

/// Whether what is at the other end begins as a server of HTTP/2 does: with settings.
async fn speaks(mut stream: Box<dyn Duplex>) -> bool {
    const SETTINGS: u8 = 4;
    let mut head = [0; 9];
    if stream.write_all(PREFACE).await.is_err() || stream.read_exact(&mut head).await.is_err() {
        return false;
    }
    let [_, _, _, kind, _, stream @ ..] = head;
    kind == SETTINGS && stream == [0; 4]
}

/// Sends a request and waits for the head of its answer.
pub(super) async fn send(
    mut sender: SendRequest<Body>,
    request: Request<Body>,
) -> Result<Response<Incoming>, hyper::Error> {
    sender.ready().await?;
    sender.send_request(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_from_what_is_called_like_it() {
        let check = |kind: &str, expected: bool| {
            let request = Request::post("/").header("content-type", kind).body(()).unwrap();
            assert_eq!(is_grpc(&request), expected, "{kind}");
        };
        check("application/grpc", true);
        check("application/grpc+proto", true);
        check("application/grpc;x=y", true);
        check("application/grpc-web", false);
        check("application/json", false);
    }

    #[tokio::test]
    async fn a_server_of_http_1_is_found_out() {
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        assert!(!speaks(Box::new(near)).await);
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        assert!(speaks(Box::new(near)).await);
    }
}
