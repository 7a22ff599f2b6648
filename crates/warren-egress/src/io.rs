//! Streams that begin with bytes already read, and that count.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::{io::Errno, net::Shutdown};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};
use warren_http::Begun;

use crate::passport::Passport;

/// A byte stream in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// The sandbox's side of a connection: first the bytes that were looked at, then the rest. What
/// passes is counted.
pub(crate) fn inside(
    first: Vec<u8>,
    stream: Arc<TcpStream>,
    passport: Arc<dyn Passport>,
) -> impl Stream {
    let stream = Begun::new(first, Shared(stream));
    Counted::new(stream, move |read, written| passport.count(read, written))
}

/// Returns when whoever is on the other end of a socket has closed its side: has said that it sends
/// no more, or has gone. The two look alike until something is sent to it.
pub(crate) async fn closed(stream: Arc<TcpStream>) {
    // What is readable is of no interest here, and is not waited for; that nothing more comes goes
    // with every interest in reading.
    let _closed = stream.ready(Interest::PRIORITY).await;
}

/// Says to the other end of a socket that no more is sent. One that has gone needs not be told.
pub(crate) fn end(stream: &TcpStream) -> io::Result<()> {
    match rustix::net::shutdown(stream, Shutdown::Write) {
        Ok(()) | Err(Errno::NOTCONN) => Ok(()),
        Err(source) => Err(source.into()),
    }
}

/// A stream of which the bytes are counted, read and written.
pub(crate) struct Counted<S, C> {
    stream: S,
    count: C,
}

impl<S, C: Fn(u64, u64)> Counted<S, C> {
    pub(crate) fn new(stream: S, count: C) -> Self {
        Self { stream, count }
    }
}

impl<S: AsyncRead + Unpin, C: Fn(u64, u64) + Unpin> AsyncRead for Counted<S, C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().len().saturating_sub(before);
        (self.count)(read as u64, 0);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, C: Fn(u64, u64) + Unpin> AsyncWrite for Counted<S, C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        (self.count)(0, written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, parts))?;
        (self.count)(0, written as u64);
        Poll::Ready(Ok(written))
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

/// A socket that somebody watches while another reads and writes.
struct Shared(Arc<TcpStream>);

impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read_buf(buffer) {
                Err(source) if source.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|_bytes| ())),
            }
        }
    }
}

impl Shared {
    /// Tries to write until it can be said how it went.
    fn poll_try(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match write(&self.0) {
                Err(source) if source.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncWrite for Shared {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |stream| stream.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(end(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{io::AsyncWriteExt as _, net::TcpListener, time::timeout};

    use super::*;

    #[tokio::test]
    async fn bytes_that_wait_are_not_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _peer) = listener.accept().await.unwrap();
        let accepted = Arc::new(accepted);
        client.write_all(b"waits").await.unwrap();
        accepted.readable().await.unwrap();
        let mut end = Box::pin(closed(Arc::clone(&accepted)));
        assert!(futures::poll!(end.as_mut()).is_pending());
        client.shutdown().await.unwrap();
        timeout(Duration::from_secs(10), end).await.unwrap();
    }
}
