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

type Connection = http2::Connection<TokioIo<Box<dyn Duplex>>, Body, TokioExecutor>;

/// How long a port may take to show that it speaks HTTP/2.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of one answer may be in memory before its visitor takes it, in bytes.
const STREAM_BYTES: u32 = 64 << 10;

/// How much of all answers of one port may be, in bytes: so much that visitors who take nothing of
/// theirs, as many as a neighbourhood may have, do not hold up those of the others.
const CONNECTION_BYTES: u32 = 16 << 20;

/// How much of one request may be in memory before the port takes it, in bytes.
const SEND_BYTES: usize = 32 << 10;

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
        // Another server may listen there by now than the one whose connection has ended.
        Known::Http2(_) | Known::Nothing => {
            match found_out(dial(visit, port).await?, PATIENCE).await {
                Some(true) => {}
                Some(false) => {
                    room.learn_h2(port, Known::Http1);
                    return Ok(None);
                }
                None => return Ok(None),
            }
        }
    }
    let opened = open(dial(visit, port).await?).await;
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

/// Opens HTTP/2 on a stream.
async fn open(stream: Box<dyn Duplex>) -> hyper::Result<(SendRequest<Body>, Connection)> {
    http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_BYTES)
        .initial_connection_window_size(CONNECTION_BYTES)
        .max_send_buf_size(SEND_BYTES)
        .handshake(TokioIo::new(stream))
        .await
}

/// Whether the other end speaks HTTP/2; none where it says nothing for so long: it may be busy, and
/// that is nothing to remember.
async fn found_out(stream: Box<dyn Duplex>, patience: Duration) -> Option<bool> {
    tokio::time::timeout(patience, speaks(stream)).await.ok()
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

    #[tokio::test]
    async fn who_is_slow_is_not_found_out() {
        let (near, _far) = tokio::io::duplex(1024);
        assert_eq!(found_out(Box::new(near), Duration::from_millis(1)).await, None);
    }

    #[tokio::test]
    async fn a_port_is_told_how_much_is_taken_of_its_answers() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (_sender, connection) = open(Box::new(near)).await.unwrap();
        let mut sent = vec![0; PREFACE.len() - 9];
        let (mut settings, mut window) = (Vec::new(), 0);
        let told = async {
            far.read_exact(&mut sent).await.unwrap();
            while window == 0 {
                let mut head = [0; 9];
                far.read_exact(&mut head).await.unwrap();
                let [a, b, c, kind, ..] = head;
                let mut body = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
                far.read_exact(&mut body).await.unwrap();
                match kind {
                    4 => settings = body,
                    8 => window = u32::from_be_bytes(body.try_into().unwrap()),
                    _ => {}
                }
            }
        };
        tokio::select! {
            _ = connection => panic!("it has ended"),
            () = told => {}
        }
        let of_one = settings.chunks(6).find(|it| it.starts_with(&[0, 4])).unwrap();
        assert_eq!(of_one[2..], STREAM_BYTES.to_be_bytes());
        assert_eq!(window, CONNECTION_BYTES - 65_535);
    }
}
