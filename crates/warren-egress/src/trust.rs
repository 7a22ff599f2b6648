//! Whom the gate trusts on the other side: the authorities of the host, and those it is told of.

use std::sync::{Arc, OnceLock};

use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig, RootCertStore,
        pki_types::{CertificateDer, pem::PemObject as _},
    },
};

/// The versions of HTTP that a client would take, in the order of ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) h2: bool,
    pub(crate) http1: bool,
}

/// Why the authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// An additional certificate is none.
    #[error("could not read an additional certificate authority: expected PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// The TLS library does not take one.
    #[error("could not use an additional certificate authority")]
    Root(#[source] rustls::Error),
}

/// Authorities, read when they are first needed.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    additional: Vec<CertificateDer<'static>>,
    config: OnceLock<ClientConfig>,
}

impl Trust {
    /// Trusts the host's authorities and these, as PEM.
    pub(crate) fn new(additional: &[u8]) -> Result<Self, TrustError> {
        let additional = CertificateDer::pem_slice_iter(additional).collect::<Result<Vec<_>, _>>();
        let additional = additional.map_err(TrustError::Pem)?;
        let mut tried = RootCertStore::empty();
        for root in &additional {
            tried.add(root.clone()).map_err(TrustError::Root)?;
        }
        Ok(Self { additional, config: OnceLock::new() })
    }

    /// A client that offers these versions. Reads files of the host at its first call.
    pub(crate) fn connector(&self, versions: Versions) -> Result<TlsConnector, rustls::Error> {
        let mut config = match self.config.get() {
            Some(config) => config.clone(),
            None => {
                let config = self.config()?;
                self.config.get_or_init(|| config).clone()
            }
        };
        let offers = [(versions.h2, &b"h2"[..]), (versions.http1, b"http/1.1")];
        let offers = offers.into_iter().filter(|(offered, _)| *offered);
        config.alpn_protocols = offers.map(|(_, name)| name.to_vec()).collect();
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn config(&self) -> Result<ClientConfig, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(self.additional.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        Ok(builder
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth())
    }
}
