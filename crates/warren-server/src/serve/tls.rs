//! TLS for a listener: a certificate and its key from files, and others by name.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::SystemTime,
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        client::verify_server_name,
        crypto::CryptoProvider,
        pki_types::{
            CertificateDer, PrivateKeyDer, ServerName,
            pem::{self, PemObject as _},
        },
        server::{ClientHello, ParsedCertificate, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

/// What this server speaks over TLS, the best first.
pub(super) const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// What an authority speaks that looks for the answer to its challenge, and nobody else.
pub(super) const ACME_TLS: &[u8] = b"acme-tls/1";

/// How a listener speaks TLS: a certificate and its key from files, others by name, or both. A
/// clone is another handle to the same one.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: Option<Files>,
    others: Option<Arc<dyn ResolvesServerCert>>,
    current: RwLock<Arc<ServerConfig>>,
    /// What the files were when they were looked at last.
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What changes when a file is written anew: when, which and how long.
type Seen = [Option<(SystemTime, u64, u64)>; 2];

/// Why a listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("could not read the {what} in {}", file.display())]
    Read {
        /// `certificate` or `key`.
        what: &'static str,
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// The file holds something else.
    #[error("there is no {what} in {}: expected it in PEM", file.display())]
    Missing {
        /// `certificate` or `key`.
        what: &'static str,
        /// Which file.
        file: PathBuf,
    },
    /// Both are there, and not of one another.
    #[error(
        "the key in {} is not that of the first certificate in {}",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The certificate or the key is of a kind that is not supported.
    #[error("the certificate in {} cannot be used with its key", certificate.display())]
    Unusable {
        /// The file of the certificate.
        certificate: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// TLS cannot be set up at all.
    #[error("could not set up TLS")]
    Provider(#[source] rustls::Error),
}

impl Tls {
    /// Reads a certificate, with those above it behind it, and its key: two files in PEM, which
    /// may be the same.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::choosing(Some((certificate, key)), None)
    }

    /// Shows a client the certificate of the files where it is of the name that the client asks
    /// for, else what `others` have for that name, else that of the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn choosing(
        files: Option<(&Path, &Path)>,
        others: Option<Arc<dyn ResolvesServerCert>>,
    ) -> Result<Self, TlsError> {
        let files = files.map(|(certificate, key)| Files {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        });
        let seen = Mutex::new(files.as_ref().map(Files::look).unwrap_or_default());
        let current = RwLock::new(Arc::new(load(files.as_ref(), others.as_ref())?));
        Ok(Self(Arc::new(Inner { files, others, current, seen })))
    }

    /// Reads both files again; connections from then on get the new certificate.
    ///
    /// # Errors
    ///
    /// [`TlsError`]; the old certificate goes on being used.
    pub fn reload(&self) -> Result<(), TlsError> {
        let loaded = Arc::new(load(self.0.files.as_ref(), self.0.others.as_ref())?);
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// The same where a file was written since the last look; says whether one was.
    ///
    /// # Errors
    ///
    /// [`TlsError`]; the old certificate goes on being used, and the next look tries no more until
    /// a file changes again.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let Some(files) = &self.0.files else { return Ok(false) };
        let now = files.look();
        let before = {
            let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *seen, now)
        };
        // One that is gone is about to be replaced.
        let changed = before != now && now.iter().all(Option::is_some);
        if changed {
            self.reload()?;
        }
        Ok(changed)
    }

    /// What takes a new connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current))
    }
}

impl Files {
    fn look(&self) -> Seen {
        [&self.certificate, &self.key].map(|file| {
            let found = std::fs::metadata(file).ok()?;
            Some((found.modified().ok()?, found.ino(), found.len()))
        })
    }
}

/// Which certificate a client is shown.
#[derive(Debug)]
struct Choice {
    file: Option<Arc<CertifiedKey>>,
    others: Option<Arc<dyn ResolvesServerCert>>,
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let challenge = hello.alpn().into_iter().flatten().any(|it| it == ACME_TLS);
        match (&self.file, &self.others) {
            (Some(file), None) => (!challenge).then(|| Arc::clone(file)),
            (Some(file), Some(others)) if !challenge => {
                let asked = hello.server_name().map(str::to_owned);
                if asked.is_none_or(|name| is_of(file, &name)) {
                    return Some(Arc::clone(file));
                }
                others.resolve(hello).or_else(|| Some(Arc::clone(file)))
            }
            (_, others) => others.as_ref()?.resolve(hello),
        }
    }
}

/// Whether a certificate is of this name.
fn is_of(certified: &CertifiedKey, name: &str) -> bool {
    let certificate = certified.end_entity_cert().and_then(ParsedCertificate::try_from);
    match (certificate, ServerName::try_from(name)) {
        (Ok(certificate), Ok(name)) => verify_server_name(&certificate, &name).is_ok(),
        _ => false,
    }
}

fn load(
    files: Option<&Files>,
    others: Option<&Arc<dyn ResolvesServerCert>>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let file = files.map(|files| files.load(&provider)).transpose()?.map(Arc::new);
    let mut protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
    if others.is_some() {
        protocols.push(ACME_TLS.to_vec());
    }
    let choice = Choice { file, others: others.cloned() };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(choice));
    config.alpn_protocols = protocols;
    Ok(config)
}

impl Files {
    fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let Self { certificate, key } = self;
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(read("certificate", certificate))?;
        if chain.is_empty() {
            return Err(TlsError::Missing { what: "certificate", file: certificate.to_owned() });
        }
        let secret = PrivateKeyDer::from_pem_file(key).map_err(read("key", key))?;
        CertifiedKey::from_der(chain, secret, provider).map_err(|source| match source {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
            }
            source => TlsError::Unusable { certificate: certificate.to_owned(), source },
        })
    }
}

fn read(what: &'static str, file: &Path) -> impl FnOnce(pem::Error) -> TlsError {
    move |source| match source {
        pem::Error::NoItemsFound => TlsError::Missing { what, file: file.to_owned() },
        source => TlsError::Read { what, file: file.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        /// Writes a certificate and its key under this name.
        fn make(&self, name: &str) -> (PathBuf, PathBuf) {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let (certificate, key) = (self.path(&format!("{name}.pem")), self.path(name));
            fs::write(&certificate, made.cert.pem()).unwrap();
            fs::write(&key, made.key_pair.serialize_pem()).unwrap();
            (certificate, key)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }
    }

    #[track_caller]
    fn refused(certificate: &Path, key: &Path) -> String {
        Tls::open(certificate, key).unwrap_err().to_string()
    }

    #[test]
    fn a_certificate_and_its_key_belong_together() {
        let files = Folder::new();
        let (certificate, key) = files.make("a");
        let (_, other) = files.make("b");
        Tls::open(&certificate, &key).unwrap();
        let error = refused(&certificate, &other);
        assert!(error.contains("is not that of the first certificate"), "{error}");
    }

    #[test]
    fn what_is_no_certificate_and_no_key_is_named() {
        let files = Folder::new();
        let (certificate, key) = files.make("a");
        let error = refused(&files.path("nothing"), &key);
        assert!(error.starts_with("could not read the certificate in "), "{error}");
        let error = refused(&key, &key);
        assert!(error.starts_with("there is no certificate in "), "{error}");
        let error = refused(&certificate, &certificate);
        assert!(error.starts_with("there is no key in "), "{error}");
        fs::write(files.path("text"), "-----BEGIN CERTIFICATE-----\n?\n").unwrap();
        let error = refused(&files.path("text"), &key);
        assert!(error.starts_with("could not read the certificate in "), "{error}");
    }

    #[test]
    fn files_are_read_again_when_they_change() {
        let files = Folder::new();
        let (certificate, key) = files.make("a");
        let tls = Tls::open(&certificate, &key).unwrap();
        assert!(!tls.reload_if_changed().unwrap());
        fs::remove_file(&certificate).unwrap();
        assert!(!tls.reload_if_changed().unwrap(), "one that is gone is being replaced");
        files.make("a");
        assert!(tls.reload_if_changed().unwrap());
        fs::write(&key, "nonsense").unwrap();
        tls.reload_if_changed().unwrap_err();
        assert!(!tls.reload_if_changed().unwrap(), "the same nonsense is told once");
    }

    #[test]
    fn what_cannot_be_read_again_changes_nothing() {
        let files = Folder::new();
        let (certificate, key) = files.make("a");
        let tls = Tls::open(&certificate, &key).unwrap();
        fs::write(&certificate, "").unwrap();
        tls.reload().unwrap_err();
        files.make("a");
        tls.reload().unwrap();
    }
}
