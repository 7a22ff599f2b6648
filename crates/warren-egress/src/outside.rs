//! Connecting to what a sandbox means.

pub(crate) mod proxy;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    client::TlsStream,
    rustls::{self, pki_types::ServerName},
};

use proxy::{Proxy, ProxyError};

use crate::{
    name::HostName,
    passport::{Passport, Reach},
    trust::{Trust, Versions},
};

/// Why there is no connection to the other side.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutsideError {
    /// No sandbox may reach it.
    #[error("no sandbox may reach {address}")]
    Unreachable { address: IpAddr },
    /// It did not work.
    #[error("could not connect to {destination}")]
    Connect {
        destination: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// The sandbox's proxy was not reached.
    #[error("the proxy {host} was not reached")]
    NoProxy {
        host: String,
        #[source]
        source: io::Error,
    },
    /// The sandbox's proxy does not let it through.
    #[error("the proxy {host} does not connect to {destination}")]
    Proxy {
        host: String,
        destination: SocketAddr,
        #[source]
        source: ProxyError,
    },
    /// Nobody can be trusted.
    #[error("could not prepare TLS")]
    Trust(#[source] rustls::Error),
    /// It is there, but is not who it should be, or does not speak TLS.
    #[error("could not agree on TLS with {name}")]
    Tls {
        name: HostName,
        #[source]
        source: io::Error,
    },
}

/// Opens a connection to a destination: as the host, or through the proxy that the sandbox has,
/// which is told the name where that was answered with this address.
pub(crate) async fn connect(
    destination: SocketAddr,
    name: Option<&HostName>,
    passport: &dyn Passport,
    patience: Duration,
) -> Result<TcpStream, OutsideError> {
    match passport.proxy() {
        None => direct(destination, passport, patience).await,
        Some(proxy) => {
            let address = destination.ip().to_canonical();
            if passport.reach(address) == Reach::No {
                return Err(OutsideError::Unreachable { address });
            }
            // A proxy that looks a name up may get to another address than the rules allow.
            let name = name.filter(|name| passport.answered(name, address));
            let connected = proxied(&proxy, destination, name, passport, patience);
            let late = |_elapsed| OutsideError::NoProxy {
                host: proxy.host.clone(),
                source: io::ErrorKind::TimedOut.into(),
            };
            timeout(patience, connected).await.map_err(late)?
        }
    }
}

async fn proxied(
    proxy: &Proxy,
    destination: SocketAddr,
    name: Option<&HostName>,
    passport: &dyn Passport,
    patience: Duration,
) -> Result<TcpStream, OutsideError> {
    let host = || proxy.host.clone();
    let addresses = tokio::net::lookup_host((proxy.host.as_str(), proxy.port)).await;
    let addresses = addresses.map_err(|source| OutsideError::NoProxy { host: host(), source })?;
    let nowhere = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut failed = OutsideError::NoProxy { host: host(), source: nowhere };
    for address in addresses {
        match direct(address, passport, patience).await {
            Ok(mut stream) => {
                let through = proxy::through(&mut stream, proxy, name, destination).await;
                let refused = |source| OutsideError::Proxy { host: host(), destination, source };
                return through.map(|()| stream).map_err(refused);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Opens a connection to an address, as the host.
async fn direct(
    destination: SocketAddr,
    passport: &dyn Passport,
    patience: Duration,
) -> Result<TcpStream, OutsideError> {
    let address = destination.ip().to_canonical();
    if !may_reach(address, passport.reach(address)) {
        return Err(OutsideError::Unreachable { address });
    }
    let failed = |source| OutsideError::Connect { destination, source };
    let stream = timeout(patience, TcpStream::connect(destination)).await;
    let stream = stream.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
    let stream = stream.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// Opens TLS on a connection, and makes sure that this host is the other side. Gives whether both
/// speak HTTP/2.
pub(crate) async fn tls(
    stream: TcpStream,
    name: &HostName,
    trust: &Arc<Trust>,
    versions: Versions,
    patience: Duration,
) -> Result<(TlsStream<TcpStream>, bool), OutsideError> {
    // The first call reads some hundred certificates.
    let reader = Arc::clone(trust);
    let connector = tokio::task::spawn_blocking(move || reader.connector(versions)).await;
    let connector = connector.unwrap_or_else(|_cancelled| {
        Err(rustls::Error::General("could not read certificates".to_owned()))
    });
    let connector = connector.map_err(OutsideError::Trust)?;
    let failed = |source| OutsideError::Tls { name: name.clone(), source };
    let server = ServerName::try_from(name.as_str().to_owned());
    let server = server.map_err(|_odd| failed(io::ErrorKind::InvalidInput.into()))?;
    let stream = timeout(patience, connector.connect(server, stream)).await;
    let stream = stream.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
    let stream = stream.map_err(failed)?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((stream, h2))
}

/// Whether this host connects to an address that a sandbox may reach in this way.
pub(crate) fn may_reach(address: IpAddr, reach: Reach) -> bool {
    match reach {
        Reach::No => false,
        Reach::Public => !is_host(address),
        Reach::Granted => true,
    }
}

/// Whether an address is one of this host's own: the kernel would use it for both ends. Asking
/// sends no packet. Where the kernel knows no way, connecting will say so.
fn is_host(address: IpAddr) -> bool {
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let local = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((address, 53))?;
        socket.local_addr()
    };
    address.is_loopback()
        || address.is_unspecified()
        || local().is_ok_and(|local| local.ip().to_canonical() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_addresses_are_known() {
        assert!(is_host(Ipv4Addr::LOCALHOST.into()));
        assert!(is_host(Ipv4Addr::new(127, 9, 9, 9).into()));
        assert!(is_host(Ipv4Addr::UNSPECIFIED.into()));
        assert!(!is_host(Ipv4Addr::new(192, 0, 2, 77).into()));
    }
}
