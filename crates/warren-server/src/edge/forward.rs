//! One request on its way to a port, and its answer back.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header},
};
use bytes::Bytes;
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use warren_core::{exposure::AGENT_PORT, sandbox::Sandbox, sandboxes::Visit};
use warren_http::{Held, declare_length, strip_hop_by_hop, upgrade_protocol};

use super::{
    Edge, agent,
    answer::Refusal,
    h2c,
    headers::{self, Visitor},
    link::{Answer, Link, SendError},
    pass::{self, Pass},
    place::{Destination, Names},
    pool::Room,
    slots::{Slot, Who},
    upgrade::{self, Admitted, Pipe},
};
use crate::app::App;

/// How often a request is sent, at most: kept connections may have been closed meanwhile.
const ATTEMPTS: usize = 4;

/// A request whose visitor was let in.
struct Entry<'a> {
    app: &'a App,
    edge: &'a Edge,
    visit: Visit,
    at: Destination,
    visitor: Visitor,
    admitted: Admitted,
    slot: Slot,
}

impl Edge {
    /// Answers a request to a port of a sandbox.
    pub(crate) async fn serve<B>(
        &self,
        app: &App,
        (at, visitor): (Destination, Visitor),
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let page = accept_of(request.headers());
        let visit = app.sandboxes().visit(at.id);
        let at = self.spoken_to(at, visit.as_ref());
        let entered = match visit {
            Some(visit) => self.enter(app, (visit, at, visitor), request).await,
            None => Err(Refusal::Unknown),
        };
        entered.unwrap_or_else(|refusal| refusal.respond(&page, Some(at)))
    }

    /// Answers a request for a file that names its sandbox by its signature alone.
    pub(crate) async fn serve_signed<B>(
        &self,
        app: &App,
        visitor: Visitor,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        match agent::find((app, &self.signer), &request) {
            Ok(at) => self.serve(app, (at, visitor), request).await,
            Err(refusal) => refusal.respond(&accept_of(request.headers()), None),
        }
    }

    async fn enter<B>(
        &self,
        app: &App,
        (visit, at, visitor): (Visit, Destination, Visitor),
        request: Request<B>,
    ) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let now = app.sandboxes().now();
        let mut sandbox = visit.sandbox();
        let mut pass = self.look(app, (&at, &sandbox), &request)?;
        if let Pass { grant: Some(grant), to_cookie: Some(token), .. } = &pass {
            let secure = self.is_secure(request.headers(), visitor);
            let cookie = pass::cookie(token, *grant, secure, now).ok_or(Refusal::Unknown)?;
            return redirect(&request, secure, cookie);
        }
        if request.method() == Method::CONNECT {
            return Err(Refusal::Malformed("CONNECT is not for ports: ask for a path"));
        }
        let slot = self.slots.open(at.id, self.who(&pass, visitor, request.headers()));
        // Whoever waits for the sandbox has a place too.
        let slot = slot.ok_or(Refusal::Busy)?;
        let may_wake = pass.wakes || sandbox.exposure.wake;
        visit.ready(may_wake, self.settings.patience).await.map_err(|state| {
            use warren_core::state::State as S;
            match state {
                S::Paused | S::Pausing if !may_wake => Refusal::Asleep,
                S::Paused | S::Pausing | S::Resuming | S::Creating | S::Starting => {
                    Refusal::Starting
                }
                S::Running | S::Parked | S::Stopping | S::Stopped | S::Failed => Refusal::Stopped,
            }
        })?;
        let woken = visit.sandbox();
        if !Arc::ptr_eq(&sandbox, &woken) {
            // Meanwhile the port may have been closed to this visitor.
            pass = self.look(app, (&at, &woken), &request)?;
            sandbox = woken;
        }
        let admitted = Admitted { sandbox, grant: pass.grant };
        Entry { app, edge: self, visit, at, visitor, admitted, slot }.go_in(request).await
    }

    /// Looks whether a request is let in to a sandbox as it is now.
    fn look<B>(
        &self,
        app: &App,
        (at, sandbox): (&Destination, &Sandbox),
        request: &Request<B>,
    ) -> Result<Pass, Refusal> {
        let now = app.sandboxes().now();
        if at.port == AGENT_PORT {
            return agent::look(&self.signer, sandbox, request, now);
        }
        let others = |name: &str| app.sandboxes().domain(name);
        let by = (&self.signer, Names { domain: self.domain(), others: &others });
        pass::look(by, (at, &sandbox.exposure), request, now)
    }

    /// For whom a request counts.
    fn who(&self, pass: &Pass, visitor: Visitor, headers: &HeaderMap) -> Who {
        let trusts = |address| self.settings.trusts(address);
        match pass.grant {
            Some(_) => Who::Guest,
            None => Who::Stranger(headers::comes_from(headers, visitor.address, trusts)),
        }
    }

    /// Whether the visitor's own connection is encrypted: the operator may have said that all
    /// names below the domain are reached so.
    fn is_secure(&self, headers: &HeaderMap, visitor: Visitor) -> bool {
        self.settings.domain.secure() == Some(true)
            || headers::is_secure(headers, visitor, self.settings.trusts(visitor.address))
    }
}

impl Entry<'_> {
    async fn go_in<B>(self, request: Request<B>) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let mut request = self.prepared(request)?;
        let room = self.edge.pool.room(&self.visit);
        if self.at.port != AGENT_PORT
            && h2c::is_grpc(&request)
            && let Some(sender) =
                h2c::connection(&self.visit, &room, self.at.port, self.app.tasks()).await?
        {
            to_http_2(&mut request)?;
            let response = h2c::send(sender, request).await.map_err(|_error| Refusal::Broken)?;
            let (head, body) = response.into_parts();
            return Ok(self.answered(head, Body::new(body)));
        }
        let (mut head, body) = request.into_parts();
        declare_length(&mut head.headers, &body);
        let mut request = Request::from_parts(head, body);
        let asked = upgrade::asked(&mut request);
        let sending = Arc::new(());
        if !request.body().is_end_stream() {
            // Whoever sends the body drops it when that is done.
            request = request.map(|body| Body::new(Held::new(body, Arc::clone(&sending))));
        }
        let (response, mut link) = self.exchange(&room, request).await?;
        if Arc::strong_count(&sending) > 1 {
            link.go_on(self.app.tasks());
        }
        let (mut head, incoming) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let (on_their_side, to) = asked.ok_or(Refusal::Broken)?;
            return self.changed(head, (incoming, link), (on_their_side, to));
        }
        if head.status == StatusCode::UPGRADE_REQUIRED {
            // What it wants to change to belongs to this answer.
            head.headers.remove(header::CONNECTION);
        }
        let body = Answer::body(incoming, link, room.home(self.at.port));
        Ok(self.answered(head, body))
    }

    /// The request as the port is to see it.
    fn prepared<B>(&self, request: Request<B>) -> Result<Request<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let (mut head, body) = request.into_parts();
        let upgrade = headers::upgrade(head.version, &head.headers);
        let host = match head.uri.authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            None => head.headers.get(header::HOST).cloned(),
        };
        let host = host.ok_or(Refusal::Malformed("expected a Host header"))?;
        let chunked = head.headers.contains_key(header::TRANSFER_ENCODING);
        strip_hop_by_hop(&mut head.headers);
        if chunked {
            // Chunks say how long the body is; whatever else says it is a lie.
            head.headers.remove(header::CONTENT_LENGTH);
        }
        pass::strip(&mut head.headers);
        self.edge.strip_access(&mut head.headers, &self.admitted.sandbox);
        // Our server has answered it, or will when the body is asked for.
        head.headers.remove(header::EXPECT);
        let trusted = self.edge.settings.trusts(self.visitor.address);
        let said = self.at.by_host && self.edge.settings.domain.secure() == Some(true);
        let visitor = Visitor { tls: self.visitor.tls || said, ..self.visitor };
        headers::forward(&mut head.headers, (visitor, trusted), &host);
        let masked = self.admitted.sandbox.exposure.host_for(self.at.port);
        let masked = masked.and_then(|host| HeaderValue::try_from(host).ok());
        head.headers.insert(header::HOST, masked.unwrap_or(host));
        if let Some(to) = upgrade {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(header::UPGRADE, to);
        }
        head.uri = target(&head.uri).ok_or(Refusal::Malformed("the target is none"))?;
        head.version = Version::HTTP_11;
        Ok(Request::from_parts(head, Body::new(body)))
    }

    /// Sends the request over a kept connection, or over a new one.
    async fn exchange(
        &self,
        room: &Arc<Room>,
        mut request: Request<Body>,
    ) -> Result<(Response<hyper::body::Incoming>, Link), Refusal> {
        let mut anew = false;
        for attempt in 1..=ATTEMPTS {
            anew |= attempt == ATTEMPTS;
            let kept = if anew { None } else { room.take(self.at.port).await };
            let again = kept.as_ref().and_then(|_| to_be_sent_again(&request));
            let mut link = match kept {
                Some(link) => link,
                None => {
                    let stream = agent::dial(&self.visit, self.at).await?;
                    Link::open(stream).await.map_err(|_error| Refusal::Broken)?
                }
            };
            match link.send(request).await {
                Ok(response) => return Ok((response, link)),
                Err(SendError::Unsent(unsent)) => request = *unsent,
                Err(SendError::Silent(_)) if let Some(again) = again => {
                    // The port has closed it while it waited, and nobody knew yet.
                    (request, anew) = (again, true);
                }
                Err(SendError::Silent(error) | SendError::Broken(error)) => {
                    tracing::debug!(sandbox.id = %self.at.id, port = self.at.port, %error, "broke");
                    return Err(Refusal::Broken);
                }
            }
        }
        Err(Refusal::Broken)
    }

    /// The answer as the visitor is to see it. It counts until it is sent.
    fn answered(self, mut head: http::response::Parts, body: Body) -> Response<Body> {
        headers::strip_answer(&mut head.headers);
        head.version = Version::HTTP_11;
        // What belongs to the connection behind us is not for the one before us.
        head.extensions.clear();
        Response::from_parts(head, Body::new(Held::new(body, self.slot)))
    }

    /// Becomes a pipe of bytes, as the port has agreed to.
    fn changed(
        self,
        mut head: http::response::Parts,
        (incoming, link): (hyper::body::Incoming, Link),
        (outside, to): (OnUpgrade, HeaderValue),
    ) -> Result<Response<Body>, Refusal> {
        let inside = head.extensions.remove::<OnUpgrade>().ok_or(Refusal::Broken)?;
        drop(incoming);
        if head.headers.contains_key(header::UPGRADE) && upgrade_protocol(&head.headers).is_none() {
            // It became what nobody would look at.
            return Err(Refusal::Broken);
        }
        headers::strip_answer(&mut head.headers);
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, to);
        head.extensions.clear();
        let pipe = Pipe::new(self.visit, (self.at, self.admitted), self.slot);
        self.app.tasks().spawn(pipe.run(self.app.clone(), (outside, inside), link));
        Ok(Response::from_parts(head, Body::empty()))
    }
}

/// The target without what names the host and opens the port.
fn target(uri: &Uri) -> Option<Uri> {
    if uri.path() == "*" {
        return Some(Uri::from_static("*"));
    }
    pass::without_token(uri).parse().ok()
}

/// The same request once more, where it may be sent twice.
///
/// # Source
///
/// RFC 9110, section 9.2.2.
fn to_be_sent_again(request: &Request<Body>) -> Option<Request<Body>> {
    let asks = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !asks || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(Body::empty());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

/// HTTP/2 names the host in the target.
fn to_http_2(request: &mut Request<Body>) -> Result<(), Refusal> {
    let host = request.headers_mut().remove(header::HOST).ok_or(Refusal::Broken)?;
    let path = request.uri().path_and_query().cloned().ok_or(Refusal::Broken)?;
    let uri = Uri::builder().scheme("http").authority(host.as_bytes()).path_and_query(path);
    *request.uri_mut() = uri.build().map_err(|_error| Refusal::Broken)?;
    *request.version_mut() = Version::HTTP_2;
    Ok(())
}

/// Sends a browser to the same place without the token, which it has in a cookie from then on.
fn redirect<B>(
    request: &Request<B>,
    secure: bool,
    cookie: HeaderValue,
) -> Result<Response<Body>, Refusal> {
    let scheme = if secure { "https" } else { "http" };
    let host = match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(header::HOST).and_then(|host| host.to_str().ok()),
    };
    let host = host.ok_or(Refusal::Malformed("expected a Host header"))?;
    // With the host: a path may begin with two slashes, and be taken for one.
    let place = format!("{scheme}://{host}{}", pass::without_token(request.uri()));
    let place = HeaderValue::try_from(place).map_err(|_error| Refusal::Malformed("no target"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let fields = response.headers_mut();
    fields.insert(header::LOCATION, place);
    fields.insert(header::SET_COOKIE, cookie);
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// What decides the form of an answer of our own.
fn accept_of(headers: &HeaderMap) -> HeaderMap {
    let accept = headers.get(header::ACCEPT);
    accept.map(|accept| (header::ACCEPT, accept.clone())).into_iter().collect()
}
