//! Who signs for every name of the internet.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, KeyPair};
use tokio_rustls::rustls::{
    self, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::site;

/// An authority that certifies whatever name a client asks for: a lie about a name must not fail
/// by its certificate.
pub(crate) struct Authority {
    root: Certificate,
    root_key: KeyPair,
    root_pem: String,
    key: KeyPair,
    made: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    pub(crate) fn new() -> Result<Self, rcgen::Error> {
        let root_key = KeyPair::generate()?;
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(DnType::CommonName, "the test's internet");
        let root = root.self_signed(&root_key)?;
        let root_pem = root.pem();
        Ok(Self { root, root_key, root_pem, key: KeyPair::generate()?, made: Mutex::default() })
    }

    pub(crate) fn pem(&self) -> &str {
        &self.root_pem
    }

    /// TLS as every server here speaks it.
    pub(crate) fn tls(self: &Arc<Self>) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn make(&self, names: Vec<String>) -> Option<Arc<CertifiedKey>> {
        let leaf = CertificateParams::new(names).ok()?;
        let leaf = leaf.signed_by(&self.key, &self.root, &self.root_key).ok()?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let key = ring::sign::any_supported_type(&key).ok()?;
        Some(Arc::new(CertifiedKey::new(vec![leaf.der().clone()], key)))
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Without a name it was an address that the client asked for.
        let name = hello.server_name().unwrap_or_default().to_owned();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(&name) {
            return Some(Arc::clone(known));
        }
        let names = match name.as_str() {
            "" => (1..=9).map(|number| site(number).to_string()).collect(),
            name => vec![name.to_owned()],
        };
        let certified = self.make(names)?;
        made.insert(name, Arc::clone(&certified));
        Some(certified)
    }
}
