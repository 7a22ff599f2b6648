//! The connection to the other side, on which requests are sent.

use std::pin::Pin;

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::Body;
use crate::io::Stream;

/// How many bytes of a response of HTTP/2, and of all on a connection, may come before they are
/// passed on. They wait here: small ones would be slow over long ways, large ones cost memory.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How many bytes of a request of HTTP/2 wait here for the other side.
const SEND_BUFFER: usize = 64 * 1024;

/// What drives a connection, as long as it is polled.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Half of a connection to the other side; the other half is a future that drives it.
#[derive(Debug)]
pub(super) enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// Why a request was not answered.
pub(super) enum Unsent {
    /// Nothing of it was sent: another connection may do.
    Untouched(Box<Request<Body>>),
    /// Something was.
    Failed(hyper::Error),
}

impl Sender {
    /// Speaks HTTP on a connection. What comes second must be polled.
    pub(super) async fn over(
        stream: impl Stream,
        h2: bool,
    ) -> Result<(Self, Driver), hyper::Error> {
        let io = TokioIo::new(stream);
        // How a connection ends is seen by the request that is on it.
        if h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_send_buf_size(SEND_BUFFER);
            let (sender, connection) = builder.handshake(io).await?;
            Ok((Self::Http2(sender), Box::pin(async move { drop(connection.await) })))
        } else {
            let mut builder = http1::Builder::new();
            builder.preserve_header_case(true).max_buf_size(super::LONGEST_HEAD);
            let (sender, connection) = builder.handshake(io).await?;
            let connection = connection.with_upgrades();
            Ok((Self::Http1(sender), Box::pin(async move { drop(connection.await) })))
        }
    }

    /// The same connection once more, where several requests may be on it.
    pub(super) fn another(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(sender) => Some(Self::Http2(sender.clone())),
        }
    }

    /// Sends a request and waits for the head of the response.
    pub(super) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Unsent> {
        let ready = match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        };
        if ready.is_err() {
            return Err(Unsent::Untouched(Box::new(request)));
        }
        let sent = match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut failed: TrySendError<_>| match failed.take_message() {
            Some(request) => Unsent::Untouched(Box::new(request)),
            None => Unsent::Failed(failed.into_error()),
        })
    }
}
