//! One HTTP/1.1 connection to a port, moved along by whoever waits for its answer.
//!
//! A connection with a task of its own would cost two switches between tasks for each request.
//! Here the request's future, and then the answer's body, poll it. Nobody polls an idle one: that
//! its other end has gone shows when it is taken out again.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use warren_core::runtime::Duplex;

use super::pool::Home;

/// How large the head of an answer may be, in bytes.
const HEAD_BYTES: usize = 256 << 10;

type Driven = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// An open connection. Dropping it closes it, whatever is under way.
pub(super) struct Link {
    sender: SendRequest<Body>,
    /// None once it has ended.
    connection: Option<Driven>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("ended", &self.connection.is_none()).finish_non_exhaustive()
    }
}

/// Why a request got no answer.
#[derive(Debug)]
pub(super) enum SendError {
    /// Nothing of it was sent: another connection may take it.
    Unsent(Box<Request<Body>>),
    /// The connection broke, or what came was no HTTP.
    Broken(hyper::Error),
}

impl Link {
    /// Opens HTTP/1.1 on a stream.
    pub(super) async fn open(stream: Box<dyn Duplex>) -> Result<Self, hyper::Error> {
        let mut builder = http1::Builder::new();
        builder.max_header_size(HEAD_BYTES);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, connection: Some(Box::pin(connection.with_upgrades())) })
    }

    /// Whether another request may be sent now. Finds out whether the other end has gone.
    pub(super) fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, SendError> {
        let answer = self.sender.try_send_request(request);
        let mut answer = std::pin::pin!(answer);
        let answered = poll_fn(|cx| {
            self.drive(cx);
            answer.as_mut().poll(cx)
        });
        answered.await.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::Unsent(Box::new(request)),
            None => SendError::Broken(error.into_error()),
        })
    }

    /// Waits until the connection has ended as HTTP, which it has when it becomes another protocol.
    pub(super) async fn end(mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.await); // the stream that was made of it says what went wrong
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            self.connection = None;
        }
    }
}

/// The body of an answer, which moves its connection and gives it back at the end.
pub(super) struct Answer {
    incoming: Incoming,
    link: Option<Link>,
    home: Arc<Home>,
}

impl Answer {
    /// The body of an answer that came over `link`.
    pub(super) fn body(incoming: Incoming, link: Link, home: Arc<Home>) -> Body {
        let answer = Self { incoming, link: Some(link), home };
        if answer.incoming.is_end_stream() {
            // Dropping it gives the connection back at once.
            drop(answer);
            return Body::empty();
        }
        Body::new(answer)
    }

    fn give_back(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        // Whoever takes it out again polls it anew.
        if link.is_ready(&mut Context::from_waker(Waker::noop())) {
            self.home.give_back(link);
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let mut next = Pin::new(&mut this.incoming).poll_frame(cx);
        if next.is_pending()
            && let Some(link) = &mut this.link
        {
            // Now that somebody wants more, the connection reads it.
            link.drive(cx);
            next = Pin::new(&mut this.incoming).poll_frame(cx);
        }
        if let Poll::Ready(None) = next {
            this.give_back();
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Servers stop reading where the length says that all has come.
        if self.incoming.is_end_stream() {
            self.give_back();
        }
    }
}
