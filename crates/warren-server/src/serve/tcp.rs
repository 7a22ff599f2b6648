//! TCP: everybody may knock, so everything has a limit.

use std::{future::Future, io, net::SocketAddr, pin::pin, time::Duration};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use warren_http::{Place, Placed};

use super::{
    EXHAUSTED, ServeError, Tls,
    begin::begin,
    http2,
    tls::{ACME_TLS, HTTP_2},
    to_its_end,
};
use crate::{
    app::App,
    auth::Access,
    config::{BUFFER_BYTES, HEAD_BYTES, HEADERS},
    face::Face,
};

/// How long a listener says nothing more about those it turned away.
const QUIET: Duration = Duration::from_secs(60);

/// Serves `app` on a TCP listener until [`App::stop`] is called; to be used beside
/// [`fn@crate::serve`] on the unix socket, which waits for the connections to end.
///
/// HTTP/1.1 and HTTP/2, over TLS where there is one. Callers show a key, unless `access` is
/// [`Access::Open`]; none of them is a host caller.
///
/// # Errors
///
/// [`ServeError::Listen`] when the listener cannot be used, [`ServeError::Exposed`] for
/// [`Access::Open`] on an address that other machines may reach.
pub async fn serve_tcp(
    listener: std::net::TcpListener,
    tls: Option<Tls>,
    access: Access,
    app: App,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listen)?;
    if access == Access::Open && !address.ip().to_canonical().is_loopback() {
        return Err(ServeError::Exposed { address });
    }
    listener.set_nonblocking(true).map_err(ServeError::Listen)?;
    let listener = TcpListener::from_std(listener).map_err(ServeError::Listen)?;
    if access != Access::Ports {
        app.edge().listens(address, tls.is_some());
    }
    let server = Server { tls, access, face: Face::new(app.clone()), app };
    server.accept(listener).await;
    Ok(())
}

#[derive(Clone)]
struct Server {
    tls: Option<Tls>,
    access: Access,
    face: Face,
    app: App,
}

impl Server {
    async fn accept(&self, listener: TcpListener) {
        let mut told: Option<tokio::time::Instant> = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.app.stopping().cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => match self.app.crowd().enter(peer.ip()) {
                    Some(place) => {
                        let server = self.clone();
                        self.app.tasks().spawn(server.meet(stream, peer, place));
                    }
                    // The stream is closed: to say more would be work for whoever makes too much.
                    None if told.is_none_or(|told| told.elapsed() >= QUIET) => {
                        told = Some(tokio::time::Instant::now());
                        tracing::warn!("connections are turned away, for there are too many");
                    }
                    None => {}
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
    }

    /// Serves one connection to its end, or until it stops being HTTP.
    async fn meet(self, stream: TcpStream, peer: SocketAddr, place: Place) {
        // Answers are written whole; a client waits for each.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended early");
            return;
        }
        // What it becomes after HTTP has the place too.
        let stream = Placed::new(stream, place);
        let face = self.face.over_tcp(peer.ip(), self.access, self.tls.is_some());
        match &self.tls {
            None => self.begin(stream, face).await,
            Some(tls) => {
                let handshake =
                    within(self.app.config().tls_timeout, tls.acceptor().accept(stream));
                let met = tokio::select! {
                    met = handshake => met,
                    () = self.app.stopping().cancelled() => return,
                };
                match met {
                    // Whoever agrees on HTTP/2 speaks it; the others may be told from their words.
                    Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(HTTP_2) => {
                        http2::converse(&self.app, stream, face).await;
                    }
                    // The handshake was the answer to a challenge.
                    Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) => {}
                    Ok(stream) => self.converse(stream, face).await,
                    Err(error) => tracing::debug!(%error, "TLS did not come about"),
                }
            }
        }
    }

    /// Serves a client whose first bytes say which version of HTTP it speaks. hyper has such a
    /// choice too, and waits for ever for a client that says nothing.
    async fn begin(&self, stream: Placed<TcpStream>, face: Face) {
        let begun = within(self.app.config().head_timeout, begin(stream));
        let begun = tokio::select! {
            begun = begun => begun,
            () = self.app.stopping().cancelled() => return,
        };
        match begun {
            Ok((true, stream)) => http2::converse(&self.app, stream, face).await,
            Ok((false, stream)) => self.converse(stream, face).await,
            Err(error) => tracing::debug!(%error, "a connection ended early"),
        }
    }

    async fn converse<S>(&self, stream: S, face: Face)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.app.config().head_timeout)
            .max_header_size(HEAD_BYTES)
            .max_buf_size(BUFFER_BYTES)
            .max_headers(HEADERS);
        let connection = builder.serve_connection(TokioIo::new(stream), face).with_upgrades();
        to_its_end(connection, http1::UpgradeableConnection::graceful_shutdown, &self.app).await;
    }
}

async fn within<T>(patience: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_elapsed| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(patience, pin!(work)).await.map_err(late)?
}
