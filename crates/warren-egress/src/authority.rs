//! Who signs for the hosts that have credentials, inside of one sandbox.
//!
//! A sandbox trusts an authority that was made for it alone, so that its key is of no use against
//! anybody else. Certificates of hosts are made when they are asked for, live for days and are
//! remembered.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tokio_rustls::rustls::{
    self, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use zeroize::Zeroizing;

use crate::name::HostName;

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;
/// How long an authority is good for: longer than any sandbox lives without being started anew.
const AUTHORITY_DAYS: u64 = 5 * 365;
/// How long a host's certificate is good for.
const LEAF_DAYS: u64 = 7;
/// How many hosts are remembered.
const MOST_LEAVES: usize = 256;
/// How the second part of a stored authority begins.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Why an authority could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A key or a certificate could not be made.
    #[error("could not make a certificate")]
    Make(#[source] rcgen::Error),
    /// What was stored is no authority.
    #[error("could not read an authority: expected a key and a certificate as PEM")]
    Read(#[source] Option<rcgen::Error>),
    /// The TLS library does not take the certificate.
    #[error("could not use a certificate")]
    Use(#[source] rustls::Error),
}

/// One sandbox's authority, with its key.
pub struct Authority {
    issuer: Certificate,
    key: KeyPair,
    pem: String,
    /// The key of all hosts' certificates.
    leaf_key: KeyPair,
    leaves: Mutex<HashMap<(HostName, bool), Leaf>>,
}

struct Leaf {
    config: Arc<ServerConfig>,
    renewed_at: u64,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// Makes an authority for the sandbox of this name.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Make`], when there are no random numbers.
    pub fn create(sandbox: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Make)?;
        let issuer = issuer(sandbox, &key)?;
        let pem = issuer.pem();
        Self::with(issuer, key, pem)
    }

    /// Reads what [`Authority::store`] gave, for the same sandbox.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::Read`], when it is something else.
    pub fn restore(sandbox: &str, stored: &str) -> Result<Self, AuthorityError> {
        let at = stored.find(CERTIFICATE).ok_or(AuthorityError::Read(None))?;
        let (key, pem) = stored.split_at(at);
        let key = KeyPair::from_pem(key).map_err(|source| AuthorityError::Read(Some(source)))?;
        Self::with(issuer(sandbox, &key)?, key, pem.to_owned())
    }

    fn with(issuer: Certificate, key: KeyPair, pem: String) -> Result<Self, AuthorityError> {
        let leaf_key = KeyPair::generate().map_err(AuthorityError::Make)?;
        Ok(Self { issuer, key, pem, leaf_key, leaves: Mutex::default() })
    }

    /// The key and the certificate as text, to be kept where nobody else reads.
    #[must_use]
    pub fn store(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(self.key.serialize_pem());
        Zeroizing::new(format!("{}{}", *key, self.pem))
    }

    /// The certificate that the sandbox is to trust, as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// How to be this host towards the sandbox, in HTTP/2 or in HTTP/1.1.
    ///
    /// # Errors
    ///
    /// Those of making a certificate.
    pub(crate) fn server(
        &self,
        name: &HostName,
        h2: bool,
    ) -> Result<Arc<ServerConfig>, AuthorityError> {
        let now = now();
        let key = (name.clone(), h2);
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(&key).filter(|leaf| now < leaf.renewed_at) {
            return Ok(Arc::clone(&leaf.config));
        }
        let config = Arc::new(self.make(name, h2, now)?);
        if leaves.len() >= MOST_LEAVES {
            leaves.clear();
        }
        let renewed_at = now + (LEAF_DAYS - 1) * DAY;
        leaves.insert(key, Leaf { config: Arc::clone(&config), renewed_at });
        Ok(config)
    }

    fn make(&self, name: &HostName, h2: bool, now: u64) -> Result<ServerConfig, AuthorityError> {
        let mut params =
            CertificateParams::new([name.as_str().to_owned()]).map_err(AuthorityError::Make)?;
        params.distinguished_name = DistinguishedName::new();
        // Java takes no certificate of nobody whose other names are not critical.
        params.distinguished_name.push(DnType::OrganizationName, "Warren");
        lives(&mut params, now, LEAF_DAYS);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params
            .signed_by(&self.leaf_key, &self.issuer, &self.key)
            .map_err(AuthorityError::Make)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(AuthorityError::Use)?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .map_err(AuthorityError::Use)?;
        config.alpn_protocols = vec![if h2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Ok(config)
    }
}

/// The authority's own certificate. Made anew from the same key and name it signs the same.
fn issuer(sandbox: &str, key: &KeyPair) -> Result<Certificate, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Warren");
    params.distinguished_name.push(DnType::CommonName, format!("Warren sandbox {sandbox}"));
    lives(&mut params, now(), AUTHORITY_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.self_signed(key).map_err(AuthorityError::Make)
}

/// Makes a certificate good from a day ago, for clocks that are late, to so many days from now.
fn lives(params: &mut CertificateParams, now: u64, days: u64) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(DAY));
    params.not_after = epoch + Duration::from_secs(now + days * DAY);
}

/// Seconds since 1970, as the TLS library reads them as well.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    u64::try_from(now.tv_sec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_authority_is_the_same_one() {
        let made = Authority::create("sb-1").unwrap();
        let read = Authority::restore("sb-1", &made.store()).unwrap();
        assert_eq!(read.certificate_pem(), made.certificate_pem());
        assert_eq!(read.key.public_key_der(), made.key.public_key_der());
        assert!(!made.certificate_pem().contains("PRIVATE"));
        for bad in ["", CERTIFICATE, "-----BEGIN PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----"] {
            assert!(
                matches!(Authority::restore("sb-1", bad), Err(AuthorityError::Read(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_hosts_certificate_is_made_once() {
        let authority = Authority::create("sb-1").unwrap();
        let name = HostName::parse("api.example.org").unwrap();
        let first = authority.server(&name, true).unwrap();
        assert!(Arc::ptr_eq(&first, &authority.server(&name, true).unwrap()));
        assert!(!Arc::ptr_eq(&first, &authority.server(&name, false).unwrap()));
    }
}
