//! One HTTP/1.1 connection to a port, moved along by whoever waits for its answer.
//!
//! A connection with a task of its own would cost two switches between tasks for each request.
//! Here the request's future, and then the answer's body, poll it. Nobody polls an idle one: that
//! its other end has gone shows when it is taken out again. One whose answer begins before its
//! request has ended gets a task all the same: the rest of the request must not wait for somebody
//! who reads the answer.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use warren_core::runtime::Duplex;

use super::pool::Home;

/// How large the head of an answer may be, and the buffer that answers are read into, in bytes.
const HEAD_BYTES: usize = 256 << 10;

type Driven = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// An open connection. Dropping it closes it, whatever is under way.
pub(super) struct Link {
    sender: SendRequest<Body>,
    /// None once it has ended, or goes on by itself.
    connection: Option<Driven>,
    /// What ends it where it goes on by itself.
    alone: Option<DropGuard>,
    /// Whether anything was read since the last request.
    heard: Arc<AtomicBool>,
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
    /// The connection broke before there was a byte of an answer.
    Silent(hyper::Error),
    /// It broke later, or what came was no HTTP.
    Broken(hyper::Error),
}

impl Link {
    /// Opens HTTP/1.1 on a stream.
    pub(super) async fn open(stream: Box<dyn Duplex>) -> Result<Self, hyper::Error> {
        let mut builder = http1::Builder::new();
        builder.max_header_size(HEAD_BYTES).max_buf_size(HEAD_BYTES);
        let heard = Arc::default();
        let stream = Heard { stream, heard: Arc::clone(&heard) };
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let connection: Driven = Box::pin(connection.with_upgrades());
        Ok(Self { sender, connection: Some(connection), alone: None, heard })
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
        self.heard.store(false, Ordering::Relaxed);
        let answer = self.sender.try_send_request(request);
        let mut answer = std::pin::pin!(answer);
        let answered = poll_fn(|cx| {
            self.drive(cx);
            answer.as_mut().poll(cx)
        });
        answered.await.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::Unsent(Box::new(request)),
            None if self.heard.load(Ordering::Relaxed) => SendError::Broken(error.into_error()),
            None => SendError::Silent(error.into_error()),
        })
    }

    /// Lets it go on by itself from here on, to its end or until it is dropped. It is not used
    /// again.
    pub(super) fn go_on(&mut self, tasks: &TaskTracker) {
        let Some(connection) = self.connection.take() else { return };
        let dropped = CancellationToken::new();
        self.alone = Some(dropped.clone().drop_guard());
        // How it ended reaches the answer.
        tasks.spawn(async move { drop(dropped.run_until_cancelled(connection).await) });
    }

    /// Waits until the connection has ended as HTTP, which it has when it becomes another protocol.
    pub(super) async fn end(mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.await); // the stream that was made of it says what went wrong
        }
        if let Some(alone) = self.alone.take() {
            drop(alone.disarm());
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

/// A stream that notes whether anything was read of it.
struct Heard {
    stream: Box<dyn Duplex>,
    heard: Arc<AtomicBool>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
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

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn an_answer_is_read_in_pieces_that_have_a_bound() {
        const ALL: usize = 8 << 20;
        let (near, mut far) = tokio::io::duplex(4 << 20);
        let mut link = Link::open(Box::new(near)).await.unwrap();
        let port = async {
            let mut head = [0; 4];
            far.read_exact(&mut head).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {ALL}\r\n\r\n");
            far.write_all(head.as_bytes()).await.unwrap();
            far.write_all(&vec![b'x'; ALL]).await.unwrap();
        };
        let visitor = async {
            let answer = link.send(Request::new(Body::empty())).await.unwrap();
            let home = Arc::new(super::super::pool::Room::default()).home(1);
            let mut body = Answer::body(answer.into_body(), link, home);
            let (mut all, mut most) = (0, 0);
            while let Some(frame) = body.frame().await {
                let length = frame.unwrap().data_ref().map_or(0, Bytes::len);
                (all, most) = (all + length, most.max(length));
            }
            (all, most)
        };
        let ((), (all, most)) = tokio::join!(port, visitor);
        assert_eq!(all, ALL);
        // The buffer may have grown to twice of it.
        assert!(most <= 2 * HEAD_BYTES, "{most} bytes at once");
    }
}
