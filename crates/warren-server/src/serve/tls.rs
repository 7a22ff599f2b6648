//! TLS for a listener: a certificate and its key from files.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject as _},
        },
    },
};

/// What this server speaks over TLS, the best first.
pub(super) const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// The files of a certificate and its key, and what was read of them last. A clone is another
/// handle to the same one.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
}

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
}

impl Tls {
    /// Reads a certificate, with those above it behind it, and its key: two files in PEM, which
    /// may be the same.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let current = RwLock::new(Arc::new(load(certificate, key)?));
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        Ok(Self(Arc::new(Inner { certificate, key, current })))
    }

    /// Reads both files again; connections from then on get the new certificate.
    ///
    /// # Errors
    ///
    /// [`TlsError`]; the old certificate goes on being used.
    pub fn reload(&self) -> Result<(), TlsError> {
        let loaded = Arc::new(load(&self.0.certificate, &self.0.key)?);
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// What takes a new connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current))
    }
}

fn load(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(read("certificate", certificate))?;
    if chain.is_empty() {
        return Err(TlsError::Missing { what: "certificate", file: certificate.to_owned() });
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(read("key", key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |source| match source {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        source => TlsError::Unusable { certificate: certificate.to_owned(), source },
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(unusable)?;
    config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
    Ok(config)
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

    struct Files(tempfile::TempDir);

    impl Files {
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
        let files = Files::new();
        let (certificate, key) = files.make("a");
        let (_, other) = files.make("b");
        Tls::open(&certificate, &key).unwrap();
        let error = refused(&certificate, &other);
        assert!(error.contains("is not that of the first certificate"), "{error}");
    }

    #[test]
    fn what_is_no_certificate_and_no_key_is_named() {
        let files = Files::new();
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
    fn what_cannot_be_read_again_changes_nothing() {
        let files = Files::new();
        let (certificate, key) = files.make("a");
        let tls = Tls::open(&certificate, &key).unwrap();
        fs::write(&certificate, "").unwrap();
        tls.reload().unwrap_err();
        files.make("a");
        tls.reload().unwrap();
    }
}
