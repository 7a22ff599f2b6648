//! What every request passes on its way to the routes: it is counted, gets an id and a span, and
//! learns who asks.

use std::{
    convert::Infallible,
    future::{self, Future},
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    http::{HeaderName, HeaderValue, Request, Response, header::HOST, uri::Authority},
    response::IntoResponse,
};
use bytes::Bytes;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tracing::Instrument;
use warren_core::Caller;
use warren_http::Held;

use crate::{
    app::{App, Busy},
    auth::{self, Access, Way},
    e2b,
    edge::{self, CameBy, Names, Place, Refusal, Visitor},
    origin::Page,
    routes,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The routes, as one caller sees them. A listener makes one for each connection.
#[derive(Clone, Debug)]
pub struct Face {
    app: App,
    routes: TowerToHyperService<Router>,
    way: Way,
    requests: Arc<AtomicU64>,
    /// Requests of this connection that are under way.
    open: Arc<AtomicUsize>,
}

impl Face {
    /// The routes for nobody known: every request is refused.
    #[must_use]
    pub fn new(app: App) -> Self {
        let routes = TowerToHyperService::new(routes::router(app.clone()));
        Self { app, routes, way: Way::Local(None), requests: Arc::default(), open: Arc::default() }
    }

    /// The same routes for somebody whom the listener vouches for.
    #[must_use]
    pub fn for_caller(&self, caller: Option<Caller>) -> Self {
        Self { way: Way::Local(caller), ..self.clone() }
    }

    /// The same routes for whoever comes over TCP from this address.
    #[must_use]
    pub fn over_tcp(&self, address: IpAddr, access: Access, tls: bool) -> Self {
        Self { way: Way::Tcp { address, access, tls }, open: Arc::default(), ..self.clone() }
    }

    /// How many requests of this connection are under way.
    pub(crate) fn open(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.open)
    }

    /// Where a request is to go. Over the unix socket everything is for the API.
    fn place<B>(&self, request: &Request<B>) -> Result<Place, Refusal> {
        match self.way {
            Way::Local(_) => Ok(Place::Api),
            Way::Tcp { access, .. } => {
                let others = |name: &str| self.app.sandboxes().domain(name);
                let names = Names { domain: self.app.edge().domain(), others: &others };
                match edge::place(names, request.uri(), request.headers())? {
                    Place::Api | Place::E2b if access == Access::Ports => Err(Refusal::PortsOnly),
                    place => Ok(place),
                }
            }
        }
    }

    /// What says how a request came, for links that lead the same way.
    fn came_by<B>(&self, request: &Request<B>) -> Option<CameBy> {
        let Way::Tcp { tls, .. } = self.way else { return None };
        let port = match request.uri().authority() {
            Some(authority) => authority.port_u16(),
            None => {
                let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
                host.and_then(|host| host.parse::<Authority>().ok()?.port_u16())
            }
        };
        Some(CameBy { tls, port })
    }
}

impl<B> Service<Request<B>> for Face
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<B>) -> Self::Future {
        if let (Way::Tcp { .. }, Some(answer)) = (&self.way, self.app.answer_challenge(&request)) {
            return Box::pin(future::ready(Ok(answer)));
        }
        let busy = Under { _busy: self.app.busy(), open: Open::new(&self.open) };
        let place = self.place(&request);
        if let (Ok(at @ (Place::Port(_) | Place::Signed)), Way::Tcp { address, tls, .. }) =
            (place, &self.way)
        {
            let visitor = Visitor { address: *address, tls: *tls };
            let app = self.app.clone();
            return Box::pin(async move {
                let response = match at {
                    Place::Port(at) => app.edge().serve(&app, (at, visitor), request).await,
                    _ => app.edge().serve_signed(&app, visitor, request).await,
                };
                app.metrics().visited(response.status());
                Ok(response.map(|body| Body::new(Held::new(body, busy))))
            });
        }
        if let (Ok(Place::E2b), Some(uri)) = (&place, e2b::beneath_root(request.uri())) {
            *request.uri_mut() = uri;
        }
        let is_e2b = e2b::is_asked(request.uri().path());
        let came_by = self.came_by(&request);
        request.extensions_mut().insert(came_by);
        name_host(&mut request);
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let span = tracing::info_span!(
            "request",
            request.id = number,
            method = %request.method(),
            path = request.uri().path(),
        );
        let admitted = match place {
            Ok(_) => {
                auth::admit(&self.app, &self.way, &mut request).map_err(|error| match is_e2b {
                    true => e2b::Refusal::from(error).into_response(),
                    false => error.into_response(),
                })
            }
            Err(refusal) => Err(refusal.respond(request.headers(), None)),
        };
        let (app, routes) = (self.app.clone(), self.routes.clone());
        let respond = async move {
            let mut response = match admitted {
                Ok(page) => answer(routes, page, request.map(Body::new)).await?,
                Err(response) => {
                    app.metrics().turned_away(response.status());
                    response
                }
            };
            response.headers_mut().insert(REQUEST_ID, HeaderValue::from(number));
            Ok(response.map(|body| Body::new(Held::new(body, busy))))
        };
        Box::pin(respond.instrument(span))
    }
}

/// Asks the routes; for a page of another origin so that it can read the answer.
async fn answer(
    routes: TowerToHyperService<Router>,
    page: Option<Page>,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    let Some(page) = page else { return routes.call(request).await };
    let response = match Page::asks_first(request.method(), request.headers()) {
        true => Page::permission().into_response(),
        false => routes.call(request).await?,
    };
    let (mut head, body) = response.into_parts();
    page.allow(&mut head);
    Ok(Response::from_parts(head, body))
}

/// A request under way, for the server and for its connection.
#[expect(dead_code, reason = "what counts is when they are dropped")]
struct Under {
    _busy: Busy,
    open: Open,
}

/// A request under way on one connection.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// HTTP/2 names the host in the target; what looks at it further on looks into the header.
fn name_host<B>(request: &mut Request<B>) {
    let authority = request.uri().authority().map(|it| HeaderValue::try_from(it.as_str()));
    if let (false, Some(Ok(host))) = (request.headers().contains_key(HOST), authority) {
        request.headers_mut().insert(HOST, host);
    }
}
