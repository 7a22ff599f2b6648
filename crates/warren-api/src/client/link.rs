//! One HTTP/1.1 connection, and one answer that is read from it.

use std::{
    io,
    pin::Pin,
    task::{self, Poll},
};

use bytes::Bytes;
use futures::Stream;
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::{ClientError, connect::Connection};

/// An open connection. Dropping it closes the connection, whatever is under way on it.
#[derive(Debug)]
pub(super) struct Link {
    sender: SendRequest<Body>,
    /// Whether it is a unix socket.
    is_unix: bool,
    /// Moves the connection's bytes; one task, ended when this is dropped.
    _driver: JoinSet<()>,
}

impl Link {
    pub(super) async fn open(
        connection: Box<dyn Connection>,
        is_unix: bool,
    ) -> Result<Self, ClientError> {
        let (sender, connection) = http1::handshake(TokioIo::new(connection))
            .await
            .map_err(ClientError::transport("open a connection"))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // How it ended reaches the request or the body that was under way.
            drop(connection.with_upgrades().await);
        });
        Ok(Self { sender, is_unix, _driver: driver })
    }

    /// Waits until a request may be sent; false when the server has closed the connection.
    pub(super) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: http::Request<Body>) -> Result<Head, SendError> {
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(Head(response)),
            Err(mut error) => {
                let kept = error.take_message().is_some();
                let error = error.into_error();
                Err(SendError {
                    unsent: kept || self.is_unix && is_reset(&error),
                    error: ClientError::transport("get an answer from the server")(error),
                })
            }
        }
    }
}

/// Whether the other side closed a connection without having read all of it.
fn is_reset(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let kind = error.kind();
            return matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
        }
        cause = error.source();
    }
    false
}

/// A request that got no answer.
#[derive(Debug)]
pub(super) struct SendError {
    /// Whether nothing of it can have reached the server.
    pub(super) unsent: bool,
    pub(super) error: ClientError,
}

impl SendError {
    pub(super) fn unsent(error: ClientError) -> Self {
        Self { unsent: true, error }
    }
}

/// The head of an answer that is not yet tied to its connection.
#[derive(Debug)]
pub(super) struct Head(http::Response<Incoming>);

impl Head {
    /// Ties the answer to the connection that its body comes from.
    pub(super) fn over(self, link: Link) -> Reply {
        let status = self.0.status();
        let done = self.0.body().is_end_stream();
        Reply { status, response: self.0, link, done }
    }
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: http::StatusCode,
    response: http::Response<Incoming>,
    link: Link,
    /// Whether the body was read to its end.
    done: bool,
}

impl Reply {
    /// The next piece of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.response.body_mut().frame().await {
            let frame = frame.map_err(ClientError::transport("read the server's answer"))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        self.done = true;
        Ok(None)
    }

    pub(super) fn headers(&self) -> &http::HeaderMap {
        self.response.headers()
    }

    /// The connection, where the body was read to its end and another request may follow.
    pub(super) fn into_link(self) -> Option<Link> {
        (self.done && !self.link.sender.is_closed()).then_some(self.link)
    }

    /// The raw stream behind an answer with status 101, and what keeps it alive.
    pub(super) async fn upgrade(self) -> Result<(hyper::upgrade::Upgraded, Link), ClientError> {
        let upgraded = hyper::upgrade::on(self.response)
            .await
            .map_err(ClientError::transport("switch the connection to a WebSocket"))?;
        Ok((upgraded, self.link))
    }
}

/// The body of a request: bytes at hand, or a stream of them.
pub(super) enum Body {
    Full(Option<Bytes>),
    Stream(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>),
}

impl Body {
    pub(super) fn full(bytes: Bytes) -> Self {
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Body::Full",
            Self::Stream(_) => "Body::Stream",
        })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => {
                stream.as_mut().poll_next(cx).map(|next| next.map(|it| it.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
