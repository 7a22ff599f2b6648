//! One HTTP/1.1 connection to an agent, driven by whoever reads from it.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Request, StatusCode,
    body::{Body as _, Incoming},
    client::conn::http1,
    http::response,
};
use hyper_util::rt::TokioIo;

use super::GuestError;
use crate::runtime::{Duplex, Service};

/// Why the body of a request ended early: its source failed.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request to an agent.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// How many unwanted pieces of an answer are worth reading to use its connection again.
const LEFT_OVER: usize = 4;

type Wire = http1::Connection<TokioIo<Box<dyn Duplex>>, Body>;

/// A body that is there already.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A connection on which no request is under way.
pub(crate) struct Connection {
    sender: http1::SendRequest<Body>,
    /// Moves the bytes, when polled; none once the stream is closed.
    wire: Option<Wire>,
    service: Service,
}

/// A request that got no answer.
pub(super) struct Failed {
    pub(super) error: GuestError,
    /// The request, where nothing of it was sent.
    pub(super) unsent: Option<Box<Request<Body>>>,
}

/// The head of an answer, and its body as it arrives.
pub(crate) struct Answer {
    head: response::Parts,
    body: Incoming,
    /// Whether the body was read to its end.
    complete: bool,
    connection: Connection,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("service", &self.service).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.head.status).finish_non_exhaustive()
    }
}

impl Connection {
    /// Begins a conversation on a stream.
    pub(super) async fn open(
        stream: Box<dyn Duplex>,
        service: Service,
    ) -> Result<Self, hyper::Error> {
        let (sender, wire) = http1::Builder::new().handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, wire: Some(wire), service })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(mut self, request: Request<Body>) -> Result<Answer, Failed> {
        // One that was idle is ready once it has seen that, or learns here that the agent left.
        let ready = poll_fn(|cx| {
            self.drive(cx);
            self.sender.poll_ready(cx)
        });
        if let Err(error) = ready.await {
            let unsent = Some(Box::new(request));
            return Err(Failed { error: GuestError::Http(error), unsent });
        }
        let mut answered = pin!(self.sender.try_send_request(request));
        let answered = poll_fn(|cx| {
            self.drive(cx);
            answered.as_mut().poll(cx)
        });
        match answered.await {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                Ok(Answer { head, body, complete: false, connection: self })
            }
            Err(mut failed) => {
                let unsent = failed.take_message().map(Box::new);
                Err(Failed { error: GuestError::Http(failed.into_error()), unsent })
            }
        }
    }

    /// Moves what bytes can be moved. Failures reach whoever waits for the answer.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(wire) = &mut self.wire
            && Pin::new(wire).poll(cx).is_ready()
        {
            self.wire = None;
        }
    }
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.head.status
    }

    pub(super) fn service(&self) -> Service {
        self.connection.service
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The next piece of the body; none at its end.
    pub(crate) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, GuestError>>> {
        loop {
            let mut frame = Pin::new(&mut self.body).poll_frame(cx);
            if frame.is_pending() {
                self.connection.drive(cx);
                frame = Pin::new(&mut self.body).poll_frame(cx);
            }
            return Poll::Ready(match std::task::ready!(frame) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => Some(Ok(piece)),
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => Some(Err(GuestError::Http(error))),
                None => {
                    self.complete = true;
                    None
                }
            });
        }
    }

    /// The next piece of the body; none at its end. Dropping the future loses nothing.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, GuestError>> {
        poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// The whole body, if it has at most `limit_bytes`.
    pub(crate) async fn collect(&mut self, limit_bytes: usize) -> Result<Bytes, GuestError> {
        let Some(first) = self.piece().await.transpose()? else { return Ok(Bytes::new()) };
        let mut whole = BytesMut::new();
        let mut piece = Some(first.clone());
        while let Some(next) = piece {
            if whole.len() + next.len() > limit_bytes {
                return Err(GuestError::TooLarge);
            }
            whole.extend_from_slice(&next);
            piece = self.piece().await.transpose()?;
        }
        // The usual answer is one piece: it needs no copy.
        Ok(if whole.len() == first.len() { first } else { whole.freeze() })
    }

    /// The connection, where the next request can be sent on it at once.
    pub(super) fn into_idle(mut self) -> Option<Connection> {
        let mut cx = Context::from_waker(Waker::noop());
        // What nobody wanted to read, such as the end of a stream behind its last event.
        for _ in 0..LEFT_OVER {
            if self.complete {
                break;
            }
            if let Poll::Pending | Poll::Ready(Some(Err(_))) = self.poll_piece(&mut cx) {
                return None;
            }
        }
        let mut connection = self.connection;
        // An answer may overtake the end of its request: such a connection is not free yet.
        connection.drive(&mut cx);
        (self.complete && connection.sender.is_ready()).then_some(connection)
    }
}
