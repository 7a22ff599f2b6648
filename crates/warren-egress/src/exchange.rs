//! HTTP requests of one connection that are looked at one by one.
//!
//! What a client sends is taken apart and sent anew, so that both sides agree on where a request
//! begins, and no second one hides in the body of the first. Bodies are passed on as they come, in
//! both directions. A client's connection has at most one to the other side at a time, in the same
//! version of HTTP.

mod body;
mod headers;
pub(crate) mod naming;
mod outside;
mod rewrite;
mod sender;
mod tunnel;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    credentials::{Credentials, HostRule},
    io::Stream,
    mask::Masks,
    name::HostName,
    outside::OutsideError,
    passport::{Asked, Denied, Reason},
    refuse,
};
pub(crate) use outside::{Outside, Tls};
use sender::{Sender, Unsent};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// How many names one connection may speak of.
const MOST_NAMES: usize = 64;
/// How many fields a request may have, and how long all of them may be.
const MOST_HEADERS: usize = 200;
const LONGEST_HEAD: usize = 128 * 1024;
/// How long a client may say nothing between two requests.
const BETWEEN_REQUESTS: Duration = Duration::from_secs(10 * 60);

/// Serves a client's connection until it is over. `first` is a connection to the other side that
/// is there already.
pub(crate) async fn serve(
    inside: impl Stream,
    outside: Outside,
    first: Option<Box<dyn Stream>>,
    changes: watch::Receiver<u64>,
) -> io::Result<()> {
    let exchange = Arc::new(Exchange {
        outside,
        names: Mutex::default(),
        sender: Mutex::default(),
        connections: Mutex::default(),
        tunnels: Mutex::default(),
    });
    if let Some(first) = first {
        let (sender, driver) =
            Sender::over(first, exchange.outside.h2).await.map_err(io::Error::other)?;
        lock(&exchange.connections).spawn(driver);
        *lock(&exchange.sender) = Some(sender);
    }
    let ended = tokio::select! {
        ended = requests(inside, &exchange) => ended,
        () = exchange.forbidden(changes) => Err(io::ErrorKind::PermissionDenied.into()),
    };
    // Tasks hold the exchange through what they send: without this they would keep each other.
    drop(lock(&exchange.sender).take());
    lock(&exchange.connections).abort_all();
    lock(&exchange.tunnels).abort_all();
    ended
}

async fn requests(inside: impl Stream, exchange: &Arc<Exchange>) -> io::Result<()> {
    let service = service_fn(|request| {
        let exchange = Arc::clone(exchange);
        async move { Ok::<_, Infallible>(exchange.answer(request).await) }
    });
    let io = TokioIo::new(inside);
    let ended = if exchange.outside.h2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(LONGEST_HEAD).unwrap_or(u32::MAX))
            .enable_connect_protocol()
            .serve_connection(io, service)
            .await
    } else {
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(BETWEEN_REQUESTS)
            .max_buf_size(LONGEST_HEAD)
            .max_headers(MOST_HEADERS)
            .preserve_header_case(true)
            .half_close(true)
            .serve_connection(io, service)
            .with_upgrades()
            .await
    };
    // An upgraded connection is over for HTTP, and goes on for itself.
    let mut tunnels = std::mem::take(&mut *lock(&exchange.tunnels));
    while tunnels.join_next().await.is_some() {}
    ended.map_err(io::Error::other)
}

/// One client's connection.
#[derive(Debug)]
struct Exchange {
    outside: Outside,
    /// What was allowed on this connection so far.
    names: Mutex<BTreeSet<Option<HostName>>>,
    /// The connection to the other side, where there is one that is free.
    sender: Mutex<Option<Sender>>,
    /// What drives connections to the other side.
    connections: Mutex<JoinSet<()>>,
    /// Connections that were upgraded to something else.
    tunnels: Mutex<JoinSet<()>>,
}

impl Exchange {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match self.admit(&request) {
            Ok(grant) => self.forward(request, grant).await,
            Err(refused) => *refused,
        }
    }

    /// Whether a request may be passed on, and what is done to it; else the answer that says why
    /// not.
    fn admit(&self, request: &Request<Incoming>) -> Result<Option<Grant>, Box<Response<Body>>> {
        let name = naming::name(request).map_err(|_contradiction| {
            self.refuse(None, None, Reason::Contradiction, StatusCode::BAD_REQUEST)
        })?;
        // A certificate was shown for one name; requests for another belong elsewhere.
        if self.outside.tls.as_ref().is_some_and(|tls| name.as_ref() != Some(&tls.name)) {
            let status = StatusCode::MISDIRECTED_REQUEST;
            return Err(self.refuse(name, None, Reason::Contradiction, status));
        }
        let asked = self.asked(name.as_ref(), false);
        let verdict = self.outside.passport.decide(&asked);
        if !verdict.allowed {
            let given = name.is_some() || verdict.rule.is_some();
            let reason = if given { Reason::Rule } else { Reason::NoName };
            return Err(self.refuse(name, verdict.rule, reason, StatusCode::FORBIDDEN));
        }
        let grant = name.as_ref().and_then(|name| self.grant(name));
        self.remember(name.clone())?;
        if let Some(rule) = grant.as_ref().and_then(Grant::rule)
            && let Err(reason) = rewrite::limits(rule, request)
        {
            return Err(self.refuse(name, None, reason, StatusCode::FORBIDDEN));
        }
        Ok(grant)
    }

    /// Notes a name that was allowed, so that the connection ends when it is not any more.
    fn remember(&self, name: Option<HostName>) -> Result<(), Box<Response<Body>>> {
        let mut names = lock(&self.names);
        if names.len() >= MOST_NAMES && !names.contains(&name) {
            drop(names);
            return Err(self.refuse(name, None, Reason::Contradiction, StatusCode::FORBIDDEN));
        }
        names.insert(name);
        Ok(())
    }

    /// What a rule gives to requests for this host.
    fn grant(&self, name: &HostName) -> Option<Grant> {
        let passport = &*self.outside.passport;
        let credentials = passport.credentials()?;
        let rule = credentials.rule(name)?;
        let proven = || passport.answered(name, self.outside.destination.ip());
        let reveal = self.outside.tls.is_some() || (rule.plain && proven());
        Some(Grant { name: name.clone(), credentials, reveal })
    }

    fn asked<'a>(&self, name: Option<&'a HostName>, established: bool) -> Asked<'a> {
        Asked { name, destination: self.outside.destination, established }
    }

    /// Tells the passport, and gives the answer for the client.
    fn refuse(
        &self,
        name: Option<HostName>,
        rule: Option<usize>,
        reason: Reason,
        status: StatusCode,
    ) -> Box<Response<Body>> {
        let destination = self.outside.destination;
        let to = name.as_ref().map_or_else(|| destination.to_string(), ToString::to_string);
        self.outside.passport.denied(Denied { name, destination, rule, reason });
        Box::new(refuse::answer(status, &format!("{to} was not reached: {}", reason.phrase())))
    }

    /// Passes a request on, and the response back.
    async fn forward(
        &self,
        mut request: Request<Incoming>,
        grant: Option<Grant>,
    ) -> Response<Body> {
        let upgrade = tunnel::wanted(&mut request);
        let request = match headers::outgoing(request, &self.outside, upgrade.is_some()) {
            Ok(request) => request.map(|body| body.map_err(BoxError::from).boxed_unsync()),
            Err(reason) => return refuse::answer(StatusCode::BAD_REQUEST, reason),
        };
        let rule = grant.as_ref().and_then(|grant| Some((grant.rule()?, grant.reveal)));
        let masks = rule.filter(|(_, reveal)| *reveal).map(|(rule, _)| Arc::clone(&rule.masks));
        let request = match rule {
            None => request,
            Some((rule, reveal)) => match changed(request, rule, reveal).await {
                Ok(request) => request,
                Err(reason) => return refuse::answer(StatusCode::BAD_REQUEST, &reason.to_string()),
            },
        };
        let mut response = match self.send(request).await {
            Ok(response) => response,
            Err(failed) => return self.failed(&failed),
        };
        let switched = tunnel::switched(&mut response);
        match (upgrade, switched) {
            (Some(inside), Some(outside)) => {
                lock(&self.tunnels).spawn(tunnel::run(inside, outside, masks.clone()));
            }
            (None, Some(_)) => {
                return refuse::answer(
                    StatusCode::BAD_GATEWAY,
                    "the other side switched protocols",
                );
            }
            (_, None) => {}
        }
        headers::incoming(&mut response, self.outside.h2);
        let response = response.map(|body| body.map_err(BoxError::from).boxed_unsync());
        match masks {
            Some(masks) => hidden(response, &masks),
            None => response,
        }
    }

    /// Sends a request on the connection that is there, or on a new one.
    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        let request = match self.kept() {
            Some(mut sender) => match sender.send(request).await {
                Ok(response) => return Ok(self.keep(sender, response)),
                // The other side had closed it meanwhile, as servers do.
                Err(Unsent::Untouched(request)) => *request,
                Err(Unsent::Failed(source)) => return Err(SendError::Broke(source)),
            },
            None => request,
        };
        let (mut sender, driver) = Sender::connect(&self.outside).await?;
        lock(&self.connections).spawn(driver);
        if let Some(another) = sender.another() {
            // Requests of HTTP/2 do not wait for each other.
            *lock(&self.sender) = Some(another);
        }
        match sender.send(request).await {
            Ok(response) => Ok(self.keep(sender, response)),
            Err(Unsent::Untouched(_)) => Err(SendError::Closed),
            Err(Unsent::Failed(source)) => Err(SendError::Broke(source)),
        }
    }

    /// The connection that is there. One of HTTP/1 is free only when its last request is done.
    fn kept(&self) -> Option<Sender> {
        let mut slot = lock(&self.sender);
        let another = slot.as_ref().and_then(Sender::another);
        another.or_else(|| slot.take())
    }

    fn keep(&self, sender: Sender, response: Response<Incoming>) -> Response<Incoming> {
        *lock(&self.sender) = Some(sender);
        response
    }

    fn failed(&self, failed: &SendError) -> Response<Body> {
        if let SendError::Outside(OutsideError::Unreachable { .. }) = failed {
            let reason = Reason::Unreachable;
            return *self.refuse(None, None, reason, StatusCode::FORBIDDEN);
        }
        tracing::debug!(error = failed as &dyn std::error::Error, "no answer: {failed}");
        refuse::answer(StatusCode::BAD_GATEWAY, &told(failed))
    }

    /// Returns when something that was allowed on this connection is not any more.
    async fn forbidden(&self, mut changes: watch::Receiver<u64>) {
        let passport = &*self.outside.passport;
        while changes.changed().await.is_ok() {
            let names = lock(&self.names).clone();
            let denied = names.into_iter().find_map(|name| {
                let verdict = passport.decide(&self.asked(name.as_ref(), true));
                (!verdict.allowed).then_some((name, verdict.rule))
            });
            if let Some((name, rule)) = denied {
                let destination = self.outside.destination;
                passport.denied(Denied { name, destination, rule, reason: Reason::Changed });
                return;
            }
        }
        std::future::pending().await
    }
}

/// What a rule gives to one request.
#[derive(Debug)]
struct Grant {
    name: HostName,
    credentials: Arc<Credentials>,
    /// Whether secrets may be sent.
    reveal: bool,
}

impl Grant {
    fn rule(&self) -> Option<&HostRule> {
        self.credentials.rule(&self.name)
    }
}

/// Does to a request what its rule says.
async fn changed(
    request: Request<Body>,
    rule: &HostRule,
    reveal: bool,
) -> Result<Request<Body>, BoxError> {
    let (mut parts, body) = request.into_parts();
    rewrite::head(rule, reveal, &mut parts)?;
    let in_body = if reveal && rule.places.body { rule.placeholders.clone() } else { Vec::new() };
    let body = body::replaced(&mut parts.headers, body, in_body).await?;
    Ok(Request::from_parts(parts, body))
}

/// Hides secrets in everything that comes back.
fn hidden(mut response: Response<Body>, masks: &Arc<Masks>) -> Response<Body> {
    body::mask_headers(response.headers_mut(), masks);
    // It may repeat what it was sent as well.
    response.extensions_mut().remove::<hyper::ext::ReasonPhrase>();
    response.map(|body| body::masked(body, masks))
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the other side was not reached")]
    Outside(#[from] OutsideError),
    #[error("the other side does not speak this version of HTTP")]
    Handshake(#[source] hyper::Error),
    #[error("the other side broke the connection")]
    Broke(#[source] hyper::Error),
    #[error("the other side closed the connection")]
    Closed,
}

/// An error with what caused it: all of it is about what the sandbox asked for.
fn told(failed: &SendError) -> String {
    let mut text = failed.to_string();
    let mut source = std::error::Error::source(failed);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
