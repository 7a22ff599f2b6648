//! Listeners and their connections.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::UnixListener;

use crate::{app::App, auth, face::Face};

mod begin;
mod http2;
mod tcp;
mod tls;

pub use tcp::serve_tcp;
pub use tls::{Tls, TlsError};

/// How long connections may take to end once the server stops.
const DRAIN: Duration = Duration::from_secs(10);

/// How long accepting pauses when the process has no descriptor left.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// A listener cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener does not work.
    #[error("could not listen on the socket")]
    Listen(#[source] io::Error),
    /// Without keys, whoever reaches the address could do everything.
    #[error("without keys only loopback addresses are listened on, not {address}")]
    Exposed {
        /// The address.
        address: SocketAddr,
    },
}

/// A unix socket, as the standard library or as tokio has it.
#[derive(Debug)]
pub enum Listener {
    /// Of the standard library, in any mode.
    Std(std::os::unix::net::UnixListener),
    /// Of tokio.
    Tokio(UnixListener),
}

impl From<std::os::unix::net::UnixListener> for Listener {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        Self::Std(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Tokio(listener)
    }
}

/// Serves `app` on a unix socket until `shutdown` is done or [`App::stop`] is called.
///
/// Callers are known by the credentials that the kernel gives of them: the user `server_uid`,
/// which is who runs this process, and root. Returns when every connection has ended, or ten
/// seconds after they were asked to.
///
/// # Errors
///
/// [`ServeError::Listen`] when the listener cannot be used.
pub async fn serve(
    listener: impl Into<Listener>,
    server_uid: u32,
    app: App,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let listener = match listener.into() {
        Listener::Tokio(listener) => listener,
        Listener::Std(listener) => {
            listener.set_nonblocking(true).map_err(ServeError::Listen)?;
            UnixListener::from_std(listener).map_err(ServeError::Listen)?
        }
    };
    let face = Face::new(app.clone());
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            () = app.stopping().cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let uid = stream.peer_cred().map(|peer| peer.uid());
                let caller = uid.ok().and_then(|uid| auth::peer(server_uid, uid));
                let (face, app) = (face.for_caller(caller), app.clone());
                let tasks = app.tasks().clone();
                tasks.spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let stream = TokioIo::new(stream);
                    let connection = builder.serve_connection_with_upgrades(stream, face);
                    to_its_end(connection, auto::UpgradeableConnection::graceful_shutdown, &app)
                        .await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
    // Connects are refused from here on; the file of the socket is its maker's to remove.
    drop(listener);
    app.stop();
    app.tasks().close();
    tokio::time::timeout(DRAIN, app.tasks().wait()).await.ok();
    Ok(())
}

/// Serves one connection to its end; once the server stops, to the end of what it is doing.
async fn to_its_end<C, E>(connection: C, close: fn(Pin<&mut C>), app: &App)
where
    C: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = app.stopping().cancelled() => {
            close(connection.as_mut());
            match tokio::time::timeout(DRAIN, connection).await {
                Ok(ended) => ended,
                Err(_elapsed) => return,
            }
        }
    };
    if let Err(error) = ended {
        // A client that leaves in the middle is its own business.
        tracing::debug!(%error, "a connection ended early");
    }
}
