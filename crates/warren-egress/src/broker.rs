//! Requests of git, which are sent on with a credential that whoever sends them does not have.
//!
//! A client inside speaks plain HTTP with the broker, at `/HOST[:PORT]/PATH`, in the place of
//! `https://HOST[:PORT]/PATH`. The broker understands the four requests that git makes and nothing
//! else ([`warren_git::wire`]), asks a [`GitPassport`] about each, and makes a request of its own
//! for what it has understood. Of a push it holds everything back until it has read which refs would
//! change.
//!
//! Redirects are not followed: the credential is for the address that it was given for. What the
//! remote says when it refuses the credential is not passed on, so that nobody inside is asked for
//! one.

mod answer;
mod push;
mod remote;

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request as HttpRequest, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::timeout};
use warren_git::wire::{Request, Rights, Service, Step};
use zeroize::Zeroizing;

use crate::{
    passport::Reach,
    trust::{Trust, TrustError},
};
use answer::{Answer, Refusal, refusal};

/// How long the first line and the headers of a request may take.
const HEAD: Duration = Duration::from_secs(30);
/// How long one connection of git may last.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long connecting to a remote may take.
const CONNECT: Duration = Duration::from_secs(15);
/// How long a remote may take to begin its answer.
const SILENCE: Duration = Duration::from_secs(600);
/// What of a request's headers is sent on.
const PASSED: [HeaderName; 5] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::USER_AGENT,
];

/// What the broker asks about the client of a connection, and what it tells.
pub trait GitPassport: Send + Sync {
    /// Whether it may do this with the repository at `authority`, host and port. The error is a
    /// sentence for the client.
    ///
    /// # Errors
    ///
    /// What it has no right to.
    fn admit(&self, authority: &str, request: &Request) -> Result<Admitted, String>;

    /// Whether it may reach a remote at this address.
    fn reach(&self, address: IpAddr) -> Reach;

    /// Is told what was refused, about which repository.
    fn refused(&self, repository: &str, reason: &str);
}

/// What is needed to send a request on.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Whether the remote is spoken with by TLS.
    pub https: bool,
    /// Name and token.
    pub credential: Option<(String, Zeroizing<String>)>,
    /// Whether the remote may be at any address, this host's own too.
    pub anywhere: bool,
    /// What a push may change.
    pub rights: Rights,
}

/// The broker.
#[derive(Debug)]
pub struct Broker {
    trust: Arc<Trust>,
}

impl Broker {
    /// A broker that trusts the host's authorities and these, as PEM.
    ///
    /// # Errors
    ///
    /// [`TrustError`] for what is no authority.
    pub fn new(additional_roots: &[u8]) -> Result<Self, TrustError> {
        Ok(Self { trust: Arc::new(Trust::new(additional_roots)?) })
    }

    /// Serves one connection to its end. Dropping the future closes both sides.
    pub async fn serve(&self, stream: TcpStream, passport: &dyn GitPassport) {
        let service = service_fn(|request| async move {
            Ok::<_, std::convert::Infallible>(self.answer(request, passport).await)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), service);
        // Whatever ends a client's connection is the client's affair.
        drop(timeout(LONGEST, connection).await);
    }

    async fn answer(&self, request: HttpRequest<Incoming>, passport: &dyn GitPassport) -> Answer {
        match self.send_on(request, passport).await {
            Ok(answer) => answer,
            Err(Refusal::Denied { repository, reason }) => {
                passport.refused(&repository, &reason);
                refusal(http::StatusCode::FORBIDDEN, &reason)
            }
            Err(Refusal::Failed { status, reason }) => refusal(status, &reason),
        }
    }

    async fn send_on(
        &self,
        request: HttpRequest<Incoming>,
        passport: &dyn GitPassport,
    ) -> Result<Answer, Refusal> {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let denied = |reason: String| Refusal::Denied {
            repository: path.chars().take(200).collect(),
            reason,
        };
        let (authority, rest) = path
            .strip_prefix('/')
            .and_then(|path| path.split_once('/'))
            .ok_or_else(|| denied("expected /HOST/PATH of a repository".to_owned()))?;
        let wanted = Request::read(head.method.as_str(), &format!("/{rest}"), head.uri.query());
        let wanted = wanted.map_err(|error| denied(error.to_string()))?;
        let admitted = passport.admit(authority, &wanted).map_err(denied)?;
        let pushes = (wanted.service, wanted.step) == (Service::Write, Step::Exchange);
        let body = if pushes {
            push::checked(&head.headers, body, &admitted.rights).await?.at(path)?
        } else {
            push::Body::whole(body)
        };
        let method = if wanted.step == Step::Refs { Method::GET } else { Method::POST };
        let mut outgoing = HttpRequest::new(body);
        *outgoing.method_mut() = method;
        *outgoing.uri_mut() = wanted
            .target()
            .parse()
            .map_err(|_odd| denied("the repository's path cannot be asked for".to_owned()))?;
        *outgoing.headers_mut() = headers(&head.headers, authority, &admitted)?;
        let remote = remote::connect(authority, &admitted, passport, &self.trust).await?;
        remote::exchange(remote, outgoing).await
    }
}

/// The headers of a request that is sent on.
fn headers(given: &HeaderMap, authority: &str, admitted: &Admitted) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::new();
    let protocol = HeaderName::from_static("git-protocol");
    for name in PASSED.into_iter().chain([protocol]) {
        if let Some(value) = given.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let broken = |_odd| Refusal::failed("the session's credential is none");
    headers.insert(header::HOST, HeaderValue::from_str(authority).map_err(broken)?);
    if let Some((user, token)) = &admitted.credential {
        use base64::Engine as _;
        let both = Zeroizing::new(format!("{user}:{}", token.as_str()));
        let encoded = base64::prelude::BASE64_STANDARD.encode(both.as_bytes());
        let line = Zeroizing::new(format!("Basic {}", Zeroizing::new(encoded).as_str()));
        let mut value = HeaderValue::from_str(&line).map_err(broken)?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(headers)
}
