//! TLS in the place of a host that has credentials.
//!
//! The other side is connected to first: the client is then offered the version of HTTP that it
//! chose. Where it cannot be reached or trusted, the client gets that as an answer of HTTP.

use std::{io, time::Duration};

use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::{
    exchange::{self, Ends, Outside},
    io::Stream,
    name::HostName,
    trust::Versions,
};

/// How long a client may take to agree on TLS.
const PATIENCE: Duration = Duration::from_secs(15);

/// Serves a client that asks for this host, until its connection is over.
pub(crate) async fn serve(
    inside: impl Stream,
    mut outside: Outside,
    name: &HostName,
    versions: Versions,
    ends: Ends,
) -> io::Result<()> {
    let Some(credentials) = outside.passport.credentials() else {
        return Err(io::ErrorKind::PermissionDenied.into());
    };
    let first = match outside.open(versions).await {
        Ok((stream, h2)) => {
            outside.h2 = h2;
            Some(stream)
        }
        Err(failed) => {
            tracing::debug!(%name, error = &failed as &dyn std::error::Error, "{failed}");
            outside.h2 = versions.h2 && !versions.http1;
            None
        }
    };
    let server = credentials.authority.server(name, outside.h2).map_err(io::Error::other)?;
    let accepted = timeout(PATIENCE, TlsAcceptor::from(server).accept(inside)).await;
    let inside = accepted.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
    exchange::serve(inside, outside, first, ends).await
}
