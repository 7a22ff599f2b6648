//! HTTP towards the authority: the host's roots and those of the settings, times, and a bound on
//! what is read.

use std::{path::Path, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use reqwest::redirect::Policy;
use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::AcmeError;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes: a chain of certificates is a few thousand.
const MOST_ANSWER: usize = 1 << 20;

/// The HTTP client of this crate: for authorities, and for providers of names.
///
/// # Errors
///
/// For roots that cannot be read.
pub(crate) fn client(roots: Option<&Path>) -> Result<reqwest::Client, AcmeError> {
    build(roots, true)
}

/// The same, perhaps for tests that speak without TLS.
pub(crate) fn build(roots: Option<&Path>, https_only: bool) -> Result<reqwest::Client, AcmeError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = roots {
        let failed = |source| AcmeError::file("read", path)(std::io::Error::other(source));
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let read: Vec<_> = read.map_err(failed)?;
        if store.add_parsable_certificates(read).0 == 0 {
            let text = format!("there is no certificate of an authority in {}", path.display());
            return Err(AcmeError::Setting(text));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(AcmeError::Tls)?
        .with_root_certificates(store)
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .https_only(https_only)
        .redirect(Policy::none())
        .timeout(PATIENCE)
        .user_agent(concat!("warren/", env!("CARGO_PKG_VERSION")));
    client.build().map_err(AcmeError::Http)
}

/// That client as the library of ACME wants it.
pub(super) struct Http(pub(super) reqwest::Client);

impl HttpClient for Http {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let request = client.request(parts.method, parts.uri.to_string());
            let request = request.headers(parts.headers).body(body);
            let mut response = request.send().await.map_err(other)?;
            let mut bytes = Vec::new();
            while let Some(piece) = response.chunk().await.map_err(other)? {
                if bytes.len() + piece.len() > MOST_ANSWER {
                    return Err(Error::Str("the authority's answer is too long"));
                }
                bytes.extend_from_slice(&piece);
            }
            let mut answer = http::Response::new(());
            *answer.status_mut() = response.status();
            *answer.headers_mut() = std::mem::take(response.headers_mut());
            let (parts, ()) = answer.into_parts();
            Ok(BytesResponse { parts, body: Box::new(Bytes::from(bytes)) })
        })
    }
}

fn other(error: reqwest::Error) -> Error {
    Error::Other(Box::new(error))
}
