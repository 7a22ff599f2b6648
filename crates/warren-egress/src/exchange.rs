//! HTTP requests of one connection that are looked at one by one.
//!
//! What a client sends is taken apart and sent anew, so that both sides agree on where a request
//! begins, and no second one hides in the body of the first. Bodies are passed on as they come, in
//! both directions. A client's connection has at most one to the other side at a time, in the same
//! version of HTTP.

mod activity;
mod body;
mod headers;
pub(crate) mod naming;
mod outside;
mod rewrite;
mod sender;
mod tasks;
mod tunnel;
mod way;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{net::TcpStream, sync::watch};
use warren_http::{Held, declare_length};

use crate::{
    credentials::{Credentials, HostRule},
    io::{Stream, closed},
    mask::Masks,
    name::HostName,
    outside::OutsideError,
    passport::{Asked, Denied, Reason},
    refuse,
};
use activity::Activity;
pub(crate) use outside::{Outside, Tls};
use tasks::Tasks;
use way::{SendError, Way};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// How many names one connection may speak of.
const MOST_NAMES: usize = 64;
/// How many fields a request may have, and how long all of them may be.
const MOST_HEADERS: usize = 200;
const LONGEST_HEAD: usize = 128 * 1024;
/// How many requests of HTTP/2 may be under way on one connection: as many as clients begin with
/// before they are told how many (RFC 9113, section 6.5.2).
const MOST_STREAMS: u32 = 100;
/// How many bytes of a request of HTTP/2, of all on a connection, and of a response wait here. The
/// client is on this host: more would make nothing faster.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
const SEND_BUFFER: usize = 16 * 1024;

/// What ends a client's connection besides its two sides.
#[derive(Debug)]
pub(crate) struct Ends {
    /// The rules change.
    pub(crate) changes: watch::Receiver<u64>,
    /// The client's socket, of which it is watched whether the client is there.
    pub(crate) client: Arc<TcpStream>,
}

/// Serves a client's connection until it is over. `first` is a connection to the other side that
/// is there already.
pub(crate) async fn serve(
    inside: impl Stream,
    outside: Outside,
    first: Option<Box<dyn Stream>>,
    ends: Ends,
) -> io::Result<()> {
    let exchange = Arc::new(Exchange {
        outside,
        activity: Arc::default(),
        names: Mutex::default(),
        way: Way::default(),
        tunnels: Tasks::default(),
    });
    if let Some(first) = first {
        let begun = exchange.way.begin(first, exchange.outside.h2, &exchange.activity).await;
        begun.map_err(io::Error::other)?;
    }
    let Ends { changes, client } = ends;
    let ended = tokio::select! {
        ended = exchange.both(inside, client) => ended,
        () = exchange.forbidden(changes) => Err(io::ErrorKind::PermissionDenied.into()),
    };
    // Tasks hold the exchange through what they send: without this they would keep each other.
    exchange.way.end();
    exchange.tunnels.end();
    ended
}

async fn requests(inside: impl Stream, exchange: &Arc<Exchange>) -> io::Result<()> {
    let service = service_fn(|request| {
        let exchange = Arc::clone(exchange);
        async move {
            let open = exchange.activity.request();
            let response = exchange.answer(request).await;
            Ok::<_, Infallible>(response.map(|body| Held::new(body, open)))
        }
    });
    let io = TokioIo::new(inside);
    let ended = if exchange.outside.h2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(LONGEST_HEAD).unwrap_or(u32::MAX))
            .max_concurrent_streams(MOST_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .serve_connection(io, service)
            .await
    } else {
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(exchange.outside.patience.between)
            .max_buf_size(LONGEST_HEAD)
            .max_headers(MOST_HEADERS)
            .preserve_header_case(true)
            .half_close(true)
            .serve_connection(io, service)
            .with_upgrades()
            .await
    };
    ended.map_err(io::Error::other)
}

/// One client's connection.
#[derive(Debug)]
struct Exchange {
    outside: Outside,
    activity: Arc<Activity>,
    /// What was allowed on this connection so far.
    names: Mutex<BTreeSet<Option<HostName>>>,
    /// The connection to the other side.
    way: Way,
    /// Connections that were upgraded to something else.
    tunnels: Tasks,
}

impl Exchange {
    /// Serves requests, and then what the connection has become.
    async fn both(self: &Arc<Self>, inside: impl Stream, client: Arc<TcpStream>) -> io::Result<()> {
        let patience = &self.outside.patience;
        let ended = tokio::select! {
            ended = requests(inside, self) => ended,
            () = self.activity.quiet(patience, closed(client)) => {
                return Err(io::ErrorKind::TimedOut.into());
            }
        };
        // An upgraded connection is over for HTTP, and goes on for itself.
        let mut tunnels = self.tunnels.take();
        tokio::select! {
            () = async { while tunnels.join_next().await.is_some() {} } => ended,
            () = self.activity.idle(patience.idle) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

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
        // An answer may have expired meanwhile: the connection is there, and stays good.
        let established = lock(&self.names).contains(&name);
        let asked = self.asked(name.as_ref(), established);
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
        let (upgrade, protocol) = tunnel::wanted(&mut request).unzip();
        let request = match headers::outgoing(request, &self.outside, protocol) {
            Ok(request) => request.map(|body| body.map_err(BoxError::from).boxed_unsync()),
            Err(reason) => return refuse::answer(StatusCode::BAD_REQUEST, reason),
        };
        let rule = grant.as_ref().and_then(|grant| Some((grant.rule()?, grant.reveal)));
        let masks = rule.filter(|(_, reveal)| *reveal).map(|(rule, _)| Arc::clone(&rule.masks));
        let mut request = match rule {
            None => request,
            Some((rule, reveal)) => match changed(request, rule, reveal).await {
                Ok(request) => request,
                Err(reason) => return refuse::answer(StatusCode::BAD_REQUEST, &reason.to_string()),
            },
        };
        if !self.outside.h2 {
            let (mut head, body) = request.into_parts();
            declare_length(&mut head.headers, &body);
            request = Request::from_parts(head, body);
        }
        let mut response = match self.way.send(request, &self.outside, &self.activity).await {
            Ok(response) => response,
            Err(failed) => return self.failed(&failed),
        };
        let protocol = match self.switched(upgrade, &mut response, masks.as_ref()) {
            Ok(protocol) => protocol,
            Err(reason) => return refuse::answer(StatusCode::BAD_GATEWAY, reason),
        };
        headers::incoming(&mut response, self.outside.h2, protocol);
        let response = response.map(|body| body.map_err(BoxError::from).boxed_unsync());
        match masks {
            Some(masks) => hidden(response, &masks),
            None => response,
        }
    }

    /// Joins both sides of a connection that becomes something else, if it does; gives what.
    fn switched(
        &self,
        upgrade: Option<OnUpgrade>,
        response: &mut Response<Incoming>,
        masks: Option<&Arc<Masks>>,
    ) -> Result<Option<HeaderValue>, &'static str> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(None);
        }
        let inside = upgrade.ok_or("the other side switched protocols")?;
        let (outside, protocol) = tunnel::switched(response)
            .ok_or("the other side did not say to which protocol it switched")?;
        self.tunnels.spawn(tunnel::run(inside, outside, masks.cloned()));
        Ok(Some(protocol))
    }

    fn failed(&self, failed: &SendError) -> Response<Body> {
        if let SendError::Outside(OutsideError::Unreachable { .. }) = failed {
            let reason = Reason::Unreachable;
            return *self.refuse(None, None, reason, StatusCode::FORBIDDEN);
        }
        tracing::debug!(error = failed as &dyn std::error::Error, "no answer: {failed}");
        refuse::answer(StatusCode::BAD_GATEWAY, &failed.told())
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
