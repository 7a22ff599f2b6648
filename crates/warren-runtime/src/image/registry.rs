//! Registries of images: the client side of OCI's distribution protocol.
//!
//! A registry is a stranger. Whatever it sends is read up to a limit, is waited for up to a limit,
//! and counts for nothing until its digest is what was asked for.
//!
//! | file | what |
//! |---|---|
//! | `auth` | tokens |
//! | `credentials` | what Docker knows of users and passwords |
//! | `download` | blobs that come in pieces, and go on where they stopped |
//! | `upload` | the other direction |
//!
//! # Source
//!
//! OCI Distribution Specification 1.1; for tokens "Token Authentication Specification" of the
//! distribution project.

mod auth;
pub(super) mod credentials;
mod download;
mod upload;

use std::{collections::HashMap, fmt, sync::Mutex, time::Duration};

use reqwest::{RequestBuilder, Response, StatusCode, header};
use serde::Deserialize;
use tokio_rustls::rustls;
use warren_core::images::{DEFAULT_REGISTRY, Digest, ImageError, Reference};

use self::{auth::Token, credentials::Login};
use super::{document, settings::Settings};

/// The host that serves the default registry.
const DEFAULT_HOST: &str = "registry-1.docker.io";
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a registry may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// What is reached without a proxy, whatever is set.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";
/// The longest message of a registry that is read, in bytes.
const MOST_MESSAGE: usize = 64 << 10;
/// How many addresses lead on to others before one answers.
const REDIRECTS: usize = 5;

/// A client of all registries.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    mirrors: Vec<(String, String)>,
    plain: Vec<String>,
    tokens: Mutex<HashMap<auth::Scope, Token>>,
}

/// A repository in a place where it is spoken to.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Such as `https://registry-1.docker.io`.
    address: String,
    /// The registry's name, for messages.
    pub(super) registry: String,
    repository: String,
    login: Option<Login>,
    access: Access,
}

/// What is done in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Pull,
    Push,
}

/// Why a registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegistryError {
    /// No answer. Another attempt may do better.
    #[error("{0}")]
    Unreachable(String),
    /// An answer that broke off. Another attempt may do better.
    #[error("{0}")]
    Short(String),
    /// It is too busy. Another attempt may do better.
    #[error("it answers {0}")]
    Busy(StatusCode),
    /// It has no such thing, or does not show it.
    #[error("{0}")]
    Refused(String),
    /// It sent what nobody asked for.
    #[error("{0}")]
    Odd(String),
    /// Something on this host failed.
    #[error(transparent)]
    Host(#[from] ImageError),
}

impl RegistryError {
    /// Whether the same request may succeed later.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Short(_) | Self::Busy(_))
    }

    /// What the caller is told.
    pub(super) fn about(self, place: &Place, reference: &Reference) -> ImageError {
        let (registry, name) = (place.registry.clone(), reference.to_string());
        match self {
            Self::Unreachable(reason) => ImageError::Unreachable { registry, reason },
            Self::Short(reason) => ImageError::Failing { registry, reason },
            Self::Busy(status) => {
                ImageError::Failing { registry, reason: format!("it answers {status}") }
            }
            Self::Refused(reason) => ImageError::NotInRegistry { registry, name, reason },
            Self::Odd(reason) => ImageError::unusable(format!("what {registry} sent"), reason),
            Self::Host(error) => error,
        }
    }
}

impl From<reqwest::Error> for RegistryError {
    fn from(error: reqwest::Error) -> Self {
        // The address is known, and may hold a signature that is as good as a key.
        let error = error.without_url();
        let mut text = error.to_string();
        let mut next = std::error::Error::source(&error);
        while let Some(cause) = next {
            text = format!("{text}: {cause}");
            next = cause.source();
        }
        // Before there was an answer, or in the middle of one.
        match error.is_redirect() {
            true => Self::Odd(text),
            false if error.is_body() || error.is_decode() => Self::Short(text),
            false => Self::Unreachable(text),
        }
    }
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Self, ImageError> {
        let failed = |error: reqwest::Error| {
            ImageError::host("prepare to speak to registries")(std::io::Error::other(error))
        };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls().map_err(ImageError::host("prepare TLS"))?)
            .user_agent(concat!("warren/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE)
            .redirect(redirects())
            .no_proxy();
        let proxy = &settings.proxy;
        // What is on this machine is reached from this machine.
        let except = proxy.except.iter().map(String::as_str).chain([LOOPBACK]);
        let except = except.collect::<Vec<_>>().join(",");
        let except = reqwest::NoProxy::from_string(&except);
        let proxies = [
            proxy.https.as_ref().map(reqwest::Proxy::https),
            proxy.http.as_ref().map(reqwest::Proxy::http),
        ];
        for proxy in proxies.into_iter().flatten() {
            builder = builder.proxy(proxy.map_err(failed)?.no_proxy(except.clone()));
        }
        Ok(Self {
            http: builder.build().map_err(failed)?,
            mirrors: settings.mirrors.clone(),
            plain: settings.plain.clone(),
            tokens: Mutex::default(),
        })
    }

    /// Where a repository is asked for, in order: mirrors, then its own registry.
    pub(super) fn places(&self, reference: &Reference, login: Option<&Login>) -> Vec<Place> {
        let registry = reference.registry();
        let mirrors = self.mirrors.iter().filter(|(of, _)| of == registry);
        let mirrors = mirrors.map(|(_, address)| Place {
            registry: address.clone(),
            address: address.clone(),
            repository: reference.repository().to_owned(),
            // What is meant for the registry is nobody else's to see.
            login: None,
            access: Access::Pull,
        });
        mirrors.chain([self.place(reference, login, Access::Pull)]).collect()
    }

    /// The repository in its own registry.
    pub(super) fn place(
        &self,
        reference: &Reference,
        login: Option<&Login>,
        access: Access,
    ) -> Place {
        let registry = reference.registry();
        let host = if registry == DEFAULT_REGISTRY { DEFAULT_HOST } else { registry };
        let plain = is_loopback(registry) || self.plain.iter().any(|it| it == registry);
        Place {
            address: format!("{}://{host}", if plain { "http" } else { "https" }),
            registry: registry.to_owned(),
            repository: reference.repository().to_owned(),
            login: login.cloned(),
            access,
        }
    }

    /// A manifest by tag or digest: its bytes and what the registry says they are.
    pub(super) async fn manifest(
        &self,
        place: &Place,
        version: &str,
    ) -> Result<Vec<u8>, RegistryError> {
        let url = place.url(&format!("manifests/{version}"));
        let accept = document::MANIFEST_TYPES.join(", ");
        let make = || self.http.get(&url).header(header::ACCEPT, &accept);
        let response = self.ask(place, make).await?;
        read(response, document::MOST_MANIFEST).await
    }

    /// A small blob, whose digest is checked.
    pub(super) async fn small_blob(
        &self,
        place: &Place,
        digest: Digest,
        most: usize,
    ) -> Result<Vec<u8>, RegistryError> {
        let url = place.url(&format!("blobs/{digest}"));
        let response = self.ask(place, || self.http.get(&url)).await?;
        let bytes = read(response, most).await?;
        match Digest::of(&bytes) == digest {
            true => Ok(bytes),
            false => Err(RegistryError::Odd(format!("a blob that is not {digest}"))),
        }
    }

    /// Sends a request, with a token where the registry wants one, until it is answered well.
    async fn ask(
        &self,
        place: &Place,
        make: impl Fn() -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let response = self.send(place, make).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response).await)
    }

    /// Sends a request, again with a new token where the first answer asks for one.
    async fn send(
        &self,
        place: &Place,
        make: impl Fn() -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let known = self.token(place);
        let signed = |token: &Option<String>| match token {
            Some(token) => make().header(header::AUTHORIZATION, token),
            None => make(),
        };
        let response = signed(&known).send().await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges: Vec<_> = response
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect();
        let token = self.authenticate(place, &challenges).await?;
        Ok(signed(&Some(token)).send().await?)
    }
}

impl Place {
    fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.address, self.repository)
    }

    fn is_plain(&self) -> bool {
        self.address.starts_with("http://")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.registry)
    }
}

/// Whether a registry is on this machine: what is said to it goes over no wire.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|it| it.is_ascii_digit()) => host,
        _ => registry,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|it: std::net::IpAddr| it.is_loopback())
}

/// The roots of this host, with the cryptography that the server itself uses.
fn tls() -> std::io::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    // Without any, registries without TLS are still there; the others say what is wrong.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Where a registry sends us we go, a few times, and never from TLS to none.
fn redirects() -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(|attempt| {
        let secure = attempt.previous().iter().any(|url| url.scheme() == "https");
        if attempt.previous().len() > REDIRECTS {
            attempt.error("too many redirections")
        } else if secure && attempt.url().scheme() != "https" {
            attempt.error("a redirection from TLS to none")
        } else {
            attempt.follow()
        }
    })
}

/// Reads a body of at most `most` bytes.
async fn read(mut response: Response, most: usize) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await? {
        if bytes.len() + piece.len() > most {
            return Err(RegistryError::Odd(format!("more than the {most} bytes that are taken")));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// What registries say when something is wrong.
#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The error that an answer without success stands for.
async fn refusal(response: Response) -> RegistryError {
    let status = response.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return RegistryError::Busy(status);
    }
    let body = read(response, MOST_MESSAGE).await.unwrap_or_default();
    let told = serde_json::from_slice::<Errors>(&body).ok();
    let told = told.and_then(|told| told.errors.into_iter().next());
    let text = match told {
        Some(OneError { code, message }) if message.is_empty() => code,
        Some(OneError { message, .. }) => message,
        None => status.to_string(),
    };
    RegistryError::Refused(plain(&text))
}

/// A stranger's sentence, fit for a terminal and a log.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(settings: &Settings, reference: &str) -> Vec<String> {
        let client = Client::new(settings).unwrap();
        let places = client.places(&reference.parse().unwrap(), None);
        places.iter().map(|place| place.url("x")).collect()
    }

    #[test]
    fn loopback_is_spoken_to_without_tls_and_mirrors_come_first() {
        let settings = Settings {
            mirrors: vec![("docker.io".into(), "https://mirror.example/hub".into())],
            plain: vec!["plain.example:5000".into()],
            ..Settings::default()
        };
        assert_eq!(
            places(&settings, "python"),
            [
                "https://mirror.example/hub/v2/library/python/x",
                "https://registry-1.docker.io/v2/library/python/x",
            ]
        );
        assert_eq!(places(&settings, "127.0.0.1:5000/a"), ["http://127.0.0.1:5000/v2/a/x"]);
        assert_eq!(places(&settings, "[::1]:5000/a"), ["http://[::1]:5000/v2/a/x"]);
        assert_eq!(places(&settings, "plain.example:5000/a"), ["http://plain.example:5000/v2/a/x"]);
        assert_eq!(places(&settings, "plain.example/a"), ["https://plain.example/v2/a/x"]);
        assert_eq!(places(&settings, "10.0.0.1:5000/a"), ["https://10.0.0.1:5000/v2/a/x"]);
    }

    #[test]
    fn a_strangers_sentence_moves_no_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a[2Jb");
        assert_eq!(plain(&"x".repeat(1000)).len(), 300);
    }
}
