//! The authority of this machine alone, for development.
//!
//! Its key never leaves the data directory, and what it signs is good below a few names only:
//! whoever trusts it trusts it for nothing else. Certificates of names are made when somebody asks
//! for them and live in memory.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
    SanType, date_time_ymd,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::{
    self,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};

use crate::{
    clock::{DAY, now},
    keep,
    parse::validity,
};

/// How long the authority is good for.
const AUTHORITY_DAYS: u64 = 3650;
/// How long a certificate is good for, and when another is made in its place.
const LEAF_DAYS: u64 = 90;
const RENEWAL_DAYS: u64 = 60;
/// How far back a certificate begins, for clocks that differ.
const EARLIER: u64 = 60 * 60;
/// How many names have their certificates kept.
const MOST_LEAVES: usize = 1024;
/// The names every authority may sign for, and the addresses.
const LOCALHOST: &str = "localhost";

/// Why there is no local authority.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A file cannot be read or written.
    #[error("could not {operation} {}", path.display())]
    File {
        /// `read` or `write`.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is something else.
    #[error("{} is no local authority; move it away to make a new one", path.display())]
    Broken {
        /// Which.
        path: PathBuf,
    },
    /// There is one already.
    #[error("there is a local authority in {}", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// A name that it is to sign for is none.
    #[error("`{name}` is no domain: expected a name such as `sandboxes.example`")]
    Name {
        /// Which.
        name: String,
    },
    /// A key or a certificate could not be made.
    #[error("could not make a certificate")]
    Make(#[source] rcgen::Error),
}

/// What is kept of an authority: one file, so that it is whole or not there.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// PEM.
    key: String,
    /// PEM.
    certificate: String,
    /// What it may sign for beside `localhost`.
    domains: Vec<String>,
}

/// The authority, with its key.
pub struct Authority {
    issuer: Certificate,
    key: KeyPair,
    pem: String,
    domains: Vec<String>,
    until: u64,
    leaves: Mutex<HashMap<String, Leaf>>,
}

struct Leaf {
    certified: Arc<CertifiedKey>,
    renewed_at: u64,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("domains", &self.domains).finish_non_exhaustive()
    }
}

/// Where an authority is kept in a data directory: itself, and its certificate for people.
#[must_use]
pub fn files(data: &Path) -> (PathBuf, PathBuf) {
    let directory = data.join("tls");
    (directory.join("ca.json"), directory.join("ca.pem"))
}

impl Authority {
    /// Makes the authority of a data directory, which may sign for these domains and what is below
    /// them, and for `localhost`.
    ///
    /// # Errors
    ///
    /// [`LocalError`]; nothing is left then.
    pub fn create(data: &Path, domains: &[String]) -> Result<Self, LocalError> {
        let (file, certificate) = files(data);
        if file.exists() {
            return Err(LocalError::Exists { path: file });
        }
        if let Some(name) = domains.iter().find(|name| !is_domain(name)) {
            return Err(LocalError::Name { name: name.clone() });
        }
        let key = KeyPair::generate().map_err(LocalError::Make)?;
        let issuer = issuer(&key, domains, now())?;
        let stored =
            Stored { key: key.serialize_pem(), certificate: issuer.pem(), domains: domains.into() };
        let bytes = serde_json::to_vec(&stored).unwrap_or_default();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LocalError::File { operation: "write", path, source }
        };
        keep::directory(&data.join("tls")).map_err(failed(&data.join("tls")))?;
        keep::write(&certificate, stored.certificate.as_bytes()).map_err(failed(&certificate))?;
        keep::write(&file, &bytes).map_err(failed(&file))?;
        let broken = LocalError::Broken { path: file };
        Self::of(stored).ok_or(broken)
    }

    /// The authority of a data directory; none where none was made.
    ///
    /// # Errors
    ///
    /// [`LocalError`].
    pub fn open(data: &Path) -> Result<Option<Self>, LocalError> {
        let (file, _) = files(data);
        let failed = |source| LocalError::File { operation: "read", path: file.clone(), source };
        let Some(bytes) = keep::read(&file).map_err(failed)? else { return Ok(None) };
        let stored = serde_json::from_slice(&bytes).ok();
        let found = stored.and_then(Self::of);
        found.map(Some).ok_or(LocalError::Broken { path: file })
    }

    fn of(stored: Stored) -> Option<Self> {
        let key = KeyPair::from_pem(&stored.key).ok()?;
        // Made anew from its parts: what signs needs the name and the key of the authority alone.
        let issuer = issuer(&key, &stored.domains, now()).ok()?;
        let der = rustls::pki_types::pem::PemObject::from_pem_slice(stored.certificate.as_bytes());
        let der: rustls::pki_types::CertificateDer<'_> = der.ok()?;
        let until = validity(&der)?.until;
        let (pem, domains) = (stored.certificate, stored.domains);
        Some(Self { issuer, key, pem, domains, until, leaves: Mutex::default() })
    }

    /// Its certificate, as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its name in lists of authorities.
    #[must_use]
    pub fn name(&self) -> String {
        common_name(&self.key)
    }

    /// What it may sign for beside `localhost`.
    #[must_use]
    pub fn domains(&self) -> &[String] {
        &self.domains
    }

    /// Until when it is good, in seconds since 1970.
    #[must_use]
    pub fn until(&self) -> u64 {
        self.until
    }

    /// Whether it may sign for this name.
    #[must_use]
    pub fn may_sign(&self, name: &str) -> bool {
        let below = |domain: &str| {
            name == domain || name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
        };
        below(LOCALHOST) || self.domains.iter().any(|domain| below(domain))
    }

    /// The certificate for a name, or for clients that ask for none; none where it may not sign.
    pub(crate) fn certificate(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        if !name.is_none_or(|name| self.may_sign(name) && is_domain(name)) {
            return None;
        }
        // Names right below a domain share one; browsers take no `*.localhost`.
        let shared = name.is_none_or(|name| {
            let above = name.split_once('.').map_or("", |(_label, above)| above);
            name == LOCALHOST || self.domains.iter().any(|it| it == name || it == above)
        });
        let key = if shared { "" } else { name.unwrap_or_default() };
        let time = now();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(key).filter(|leaf| time < leaf.renewed_at) {
            return Some(Arc::clone(&leaf.certified));
        }
        let made = self.make(if shared { None } else { name }, time);
        let certified = match made {
            Ok(certified) => Arc::new(certified),
            Err(error) => {
                tracing::error!(%error, "the local authority could not sign");
                return None;
            }
        };
        if leaves.len() >= MOST_LEAVES {
            leaves.clear();
        }
        let leaf =
            Leaf { certified: Arc::clone(&certified), renewed_at: time + RENEWAL_DAYS * DAY };
        leaves.insert(key.to_owned(), leaf);
        Some(certified)
    }

    /// Signs for one name, or for all domains, `*.` of each and this machine's own addresses.
    fn make(&self, name: Option<&str>, time: u64) -> Result<CertifiedKey, SignError> {
        let names = match name {
            Some(name) => vec![name.to_owned()],
            None => {
                let both = |it: &String| [it.clone(), format!("*.{it}")];
                let domains = self.domains.iter().filter(|it| *it != LOCALHOST).flat_map(both);
                std::iter::once(LOCALHOST.to_owned()).chain(domains).collect()
            }
        };
        let mut params = CertificateParams::new(names)?;
        if name.is_none() {
            let own = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
            params.subject_alt_names.extend(own.map(SanType::IpAddress));
        }
        // Browsers take no certificate without a subject whose names are not marked as critical.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Warren");
        lives(&mut params, time, (time + LEAF_DAYS * DAY).min(self.until));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer, &self.key)?;
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = rustls::crypto::ring::default_provider();
        Ok(CertifiedKey::from_der(vec![leaf.der().clone()], secret, &provider)?)
    }
}

#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error("could not make a certificate")]
    Make(#[from] rcgen::Error),
    #[error("could not use a certificate")]
    Use(#[from] rustls::Error),
}

fn issuer(key: &KeyPair, domains: &[String], time: u64) -> Result<Certificate, LocalError> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Warren");
    name.push(DnType::CommonName, common_name(key));
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lives(&mut params, time, time + AUTHORITY_DAYS * DAY);
    let mut permitted: Vec<_> =
        domains.iter().map(|domain| GeneralSubtree::DnsName(domain.clone())).collect();
    permitted.push(GeneralSubtree::DnsName(LOCALHOST.to_owned()));
    permitted.push(GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)));
    let own = CidrSubnet::from_v6_prefix(Ipv6Addr::LOCALHOST.octets(), 128);
    permitted.push(GeneralSubtree::IpAddress(own));
    let constraints =
        NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() };
    params.name_constraints = Some(constraints);
    params.self_signed(key).map_err(LocalError::Make)
}

/// A name that no other authority has, so that one of an earlier data directory is not taken for
/// this one.
fn common_name(key: &KeyPair) -> String {
    let digest = Sha256::digest(key.public_key_der());
    let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("Warren local authority {short}")
}

fn lives(params: &mut CertificateParams, from: u64, until: u64) {
    let at = |seconds: u64| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = at(from.saturating_sub(EARLIER));
    params.not_after = at(until);
}

/// Whether a name is that of a host, in small letters and without a dot at its end.
#[must_use]
pub fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(good)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label) && name.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tokio_rustls::rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    };

    use super::*;

    /// Whether a client that trusts this authority takes a certificate for this name.
    fn takes(authority: &str, shown: &CertifiedKey, name: &str) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now()));
        let checked = verifier.build().unwrap();
        checked.verify_server_cert(&shown.cert[0], &[], &name, &[], time).map(drop)
    }

    #[test]
    fn a_client_that_trusts_it_takes_its_names_and_this_machine() {
        let data = tempfile::tempdir().unwrap();
        let made = Authority::create(data.path(), &["box.example".to_owned()]).unwrap();
        let opened = Authority::open(data.path()).unwrap().unwrap();
        assert_eq!((made.pem(), made.name()), (opened.pem(), opened.name()));
        for name in [
            "box.example",
            "3000-sb-1.box.example",
            "localhost",
            "3000-sb-1.localhost",
            "a.b.box.example",
        ] {
            let shown = opened.certificate(Some(name)).unwrap();
            takes(made.pem(), &shown, name).unwrap();
        }
        let shown = opened.certificate(None).unwrap();
        takes(made.pem(), &shown, "127.0.0.1").unwrap();
        takes(made.pem(), &shown, "::1").unwrap();
        let again = opened.certificate(Some("other.box.example")).unwrap();
        assert!(Arc::ptr_eq(&shown, &again), "names right below a domain share one");
    }

    #[test]
    fn it_signs_for_nobody_else_and_nobody_would_believe_it() {
        let data = tempfile::tempdir().unwrap();
        let authority = Authority::create(data.path(), &["box.example".to_owned()]).unwrap();
        for name in ["bank.example", "notbox.example", "box.example.evil", "", "a..box.example"] {
            assert!(authority.certificate(Some(name)).is_none(), "{name}");
        }
        let stolen = authority.make(Some("bank.example"), now()).unwrap();
        let error = takes(authority.pem(), &stolen, "bank.example").unwrap_err();
        assert!(format!("{error:?}").contains("NameConstraint"), "{error:?}");
    }

    #[test]
    fn its_key_is_its_owners_and_it_is_made_once() {
        let data = tempfile::tempdir().unwrap();
        assert!(Authority::open(data.path()).unwrap().is_none());
        Authority::create(data.path(), &[]).unwrap();
        let (file, _) = files(data.path());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let error = Authority::create(data.path(), &[]).unwrap_err();
        assert!(matches!(error, LocalError::Exists { .. }), "{error}");
        std::fs::write(&file, "{}").unwrap();
        let error = Authority::open(data.path()).unwrap_err();
        assert!(error.to_string().contains("is no local authority"), "{error}");
        let error = Authority::create(&data.path().join("b"), &["no domain".to_owned()]);
        assert!(matches!(error.unwrap_err(), LocalError::Name { .. }));
    }
}
