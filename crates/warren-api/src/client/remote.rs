//! A server on another machine, or on a port of this one.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use super::{
    connect::{Connect, Connecting, Connection, UnixSocket},
    endpoint::{Authority, Endpoint},
};

/// How long a connection may take to open, the look-up of the name and TLS included.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that runs already, wherever it is.
#[derive(Clone, Debug)]
pub struct Remote {
    endpoint: Endpoint,
    /// Whether requests carry a key, which is not for everybody on the way.
    has_key: bool,
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Remote {
    /// The way to the server at `endpoint`.
    ///
    /// For TLS the certificates are trusted that this machine trusts, and with `ca` also those of
    /// that file, in PEM. `has_key` says that requests will carry a key: it is never sent over
    /// plain HTTP to anything but this machine's loopback.
    ///
    /// # Errors
    ///
    /// [`RemoteError::Certificates`] when `ca` cannot be read or has no certificate.
    pub fn new(endpoint: Endpoint, has_key: bool, ca: Option<&Path>) -> Result<Self, RemoteError> {
        let tls = match endpoint {
            Endpoint::Https(_) => Some(Tls(trusting(ca)?)),
            Endpoint::Unix(_) | Endpoint::Http(_) => None,
        };
        Ok(Self { endpoint, has_key, tls })
    }

    async fn open(&self) -> io::Result<Box<dyn Connection>> {
        match (&self.endpoint, &self.tls) {
            (Endpoint::Unix(path), _) => UnixSocket(path.clone()).connect().await,
            (Endpoint::Https(authority), Some(Tls(connector))) => {
                let stream = self.dial(authority).await?;
                encrypted(connector, authority, stream).await
            }
            (Endpoint::Http(authority) | Endpoint::Https(authority), _) => {
                Ok(Box::new(self.dial(authority).await?))
            }
        }
    }

    /// Connects to the first address of the host that answers.
    async fn dial(&self, authority: &Authority) -> io::Result<TcpStream> {
        let Authority { host, port } = authority;
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), *port))
            .await
            .map_err(|source| RemoteError::NoSuchHost { host: host.clone(), source })?
            .collect();
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in found {
            self.may_be_told(address.ip())?;
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        let server = self.endpoint.to_string();
        Err(match last.kind() {
            io::ErrorKind::ConnectionRefused => RemoteError::NobodyListens { server, source: last },
            _ => RemoteError::Unreachable { server, source: last },
        }
        .into())
    }

    /// Refuses to show a key to everybody between here and `address`.
    fn may_be_told(&self, address: IpAddr) -> Result<(), RemoteError> {
        let plain = matches!(self.endpoint, Endpoint::Http(_));
        if self.has_key && plain && !address.to_canonical().is_loopback() {
            return Err(RemoteError::KeyInTheOpen { server: self.endpoint.to_string() });
        }
        Ok(())
    }
}

impl Connect for Remote {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async move {
            tokio::time::timeout(PATIENCE, self.open()).await.unwrap_or_else(|_elapsed| {
                let server = self.endpoint.to_string();
                Err(RemoteError::TooSlow { server, seconds: PATIENCE.as_secs() }.into())
            })
        })
    }
}

/// What trusts the certificates of this machine and those of a file.
fn trusting(ca: Option<&Path>) -> Result<TlsConnector, RemoteError> {
    let mut roots = RootCertStore::empty();
    // A machine may have some that nobody understands, or none: then the file's must do.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = ca {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| RemoteError::Certificates {
            file: file.to_owned(),
            source,
        };
        let mut count = 0;
        for certificate in CertificateDer::pem_file_iter(file).map_err(|e| failed(e.into()))? {
            let certificate = certificate.map_err(|error| failed(error.into()))?;
            roots.add(certificate).map_err(|error| failed(error.into()))?;
            count += 1;
        }
        if count == 0 {
            return Err(failed("expected certificates in PEM, and there is none in it".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| RemoteError::Tls { server: "any server".to_owned(), source })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn encrypted(
    connector: &TlsConnector,
    authority: &Authority,
    stream: TcpStream,
) -> io::Result<Box<dyn Connection>> {
    let server = format!("https://{authority}");
    let name = ServerName::try_from(authority.host.clone()).map_err(|source| {
        RemoteError::Unreachable { server: server.clone(), source: io::Error::other(source) }
    })?;
    match connector.connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(RemoteError::of_handshake(server, error).into()),
    }
}

/// Why a server cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The file with further certificates is of no use.
    #[error("could not read the certificates in {}", file.display())]
    Certificates {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The name has no address.
    #[error("no address is known for the host {host}")]
    NoSuchHost {
        /// The host.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// The machine is there and nobody listens on that port.
    #[error("nobody listens at {server}")]
    NobodyListens {
        /// The server.
        server: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No connection came about.
    #[error("could not connect to {server}")]
    Unreachable {
        /// The server.
        server: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Nothing answered in time.
    #[error("{server} did not answer within {seconds} s")]
    TooSlow {
        /// The server.
        server: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The server shows a certificate that nobody here vouches for, or one of another host.
    #[error("the certificate of {server} is not trusted")]
    Untrusted {
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// TLS did not come about.
    #[error("could not speak TLS with {server}")]
    Tls {
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The key would be readable on the way.
    #[error("the API key is not sent to {server}: plain http shows it to everybody on the way")]
    KeyInTheOpen {
        /// The server.
        server: String,
    },
}

impl RemoteError {
    fn of_handshake(server: String, error: io::Error) -> Self {
        match error.downcast::<rustls::Error>() {
            Ok(source @ rustls::Error::InvalidCertificate(_)) => Self::Untrusted { server, source },
            Ok(source) => Self::Tls { server, source },
            Err(source) => Self::Unreachable { server, source },
        }
    }
}

impl From<RemoteError> for io::Error {
    fn from(error: RemoteError) -> Self {
        Self::other(error)
    }
}
