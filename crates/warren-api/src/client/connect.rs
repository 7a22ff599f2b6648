//! How a connection to the server comes about.

use std::{fmt, future::Future, io, path::PathBuf, pin::Pin, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};

/// A byte stream to the server.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for T {}

/// A connection on its way.
pub type Connecting<'a> =
    Pin<Box<dyn Future<Output = io::Result<Box<dyn Connection>>> + Send + 'a>>;

/// Opens connections to a server, starting the server first where that is its way.
///
/// It is called for each new connection and decides by itself how often to try: a failure here
/// is final for the request.
pub trait Connect: fmt::Debug + Send + Sync + 'static {
    /// Opens one connection.
    fn connect(&self) -> Connecting<'_>;

    /// Whether connections are unix sockets. There the kernel says that a connection was reset
    /// only where the server closed it without having read all that was sent: one that ends does
    /// that to whoever connects meanwhile, and the request can be sent again.
    fn is_unix(&self) -> bool {
        false
    }
}

impl<T: Connect> Connect for Arc<T> {
    fn connect(&self) -> Connecting<'_> {
        (**self).connect()
    }

    fn is_unix(&self) -> bool {
        (**self).is_unix()
    }
}

/// A server that listens on a unix socket.
#[derive(Clone, Debug)]
pub struct UnixSocket(pub PathBuf);

impl Connect for UnixSocket {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async move {
            let stream = UnixStream::connect(&self.0).await?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }

    fn is_unix(&self) -> bool {
        true
    }
}
