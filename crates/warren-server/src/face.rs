//! What every request passes on its way to the routes: it is counted, gets an id and a span, and
//! learns who asks.

use std::{
    convert::Infallible,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderName, HeaderValue, Request, Response},
    response::IntoResponse,
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tracing::Instrument;
use warren_core::Caller;

use crate::{
    app::{App, Busy},
    auth::{self, Access, Way},
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
}

impl Face {
    /// The routes for nobody known: every request is refused.
    #[must_use]
    pub fn new(app: App) -> Self {
        let routes = TowerToHyperService::new(routes::router(app.clone()));
        Self { app, routes, way: Way::Local(None), requests: Arc::default() }
    }

    /// The same routes for somebody whom the listener vouches for.
    #[must_use]
    pub fn for_caller(&self, caller: Option<Caller>) -> Self {
        Self { way: Way::Local(caller), ..self.clone() }
    }

    /// The same routes for whoever comes over TCP from this address.
    #[must_use]
    pub fn over_tcp(&self, address: IpAddr, access: Access) -> Self {
        Self { way: Way::Tcp { address, access }, ..self.clone() }
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
        let busy = self.app.busy();
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let span = tracing::info_span!(
            "request",
            request.id = number,
            method = %request.method(),
            path = request.uri().path(),
        );
        let admitted = auth::admit(&self.app, &self.way, &mut request);
        let (app, routes) = (self.app.clone(), self.routes.clone());
        let respond = async move {
            let mut response = match admitted {
                Ok(page) => answer(routes, page, request.map(Body::new)).await?,
                Err(error) => {
                    let response = error.into_response();
                    app.metrics().turned_away(response.status());
                    response
                }
            };
            response.headers_mut().insert(REQUEST_ID, HeaderValue::from(number));
            Ok(response.map(|body| Body::new(Counted { body, _busy: busy })))
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

/// The body of a response, which counts as a request under way until it is sent.
struct Counted {
    body: Body,
    _busy: Busy,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
