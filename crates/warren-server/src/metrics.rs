//! What this server did since its start, in numbers, and as Prometheus reads them.
//!
//! No label names a sandbox, a project or a caller: who makes many of them must not be able to
//! make the page long. Routes are labelled by their template, and what has none by `other`.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, Response, StatusCode, header},
    middleware::Next,
};
use warren_api::{Code, NDJSON};
use warren_http::Held;

use crate::{app::App, e2b, routes::ROUTES};

mod histogram;
mod page;
mod process;

use histogram::Histogram;
pub(crate) use page::page;

/// Bounds of the histogram of creations, in seconds.
const CREATE_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Bounds of the histograms of requests, in seconds.
const REQUEST_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// Methods that are counted by their name at routes of E2B's clients.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Counters of this server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    creations: Mutex<Creations>,
    execs: AtomicU64,
    streams: AtomicI64,
    requests: Mutex<BTreeMap<(&'static str, Cow<'static, str>), Requests>>,
    turned_away: Mutex<BTreeMap<u16, u64>>,
    /// Requests to ports of sandboxes, by the first digit of their status.
    visits: Mutex<BTreeMap<u16, u64>>,
}

/// What came of asking for sandboxes.
#[derive(Clone, Debug)]
struct Creations {
    durations: Histogram,
    failures: BTreeMap<&'static str, u64>,
}

impl Default for Creations {
    fn default() -> Self {
        Self { durations: Histogram::new(CREATE_SECONDS), failures: BTreeMap::new() }
    }
}

/// The requests of one method at one route.
#[derive(Clone, Debug)]
struct Requests {
    by_status: BTreeMap<u16, u64>,
    durations: Histogram,
}

impl Default for Requests {
    fn default() -> Self {
        Self { by_status: BTreeMap::new(), durations: Histogram::new(REQUEST_SECONDS) }
    }
}

impl Metrics {
    /// A creation ended after so long.
    pub(crate) fn created(&self, took: Duration, outcome: Result<(), Code>) {
        let mut creations = lock(&self.creations);
        match outcome {
            Ok(()) => creations.durations.observe(took),
            Err(code) => *creations.failures.entry(code.as_str()).or_default() += 1,
        }
    }

    /// How many creations have succeeded since the start, and how many have failed.
    pub(crate) fn creations(&self) -> (u64, u64) {
        let creations = lock(&self.creations);
        (creations.durations.count(), creations.failures.values().sum())
    }

    /// A command was started.
    pub(crate) fn exec_started(&self) {
        self.execs.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was refused before it came to the routes, for want of a key above all.
    pub(crate) fn turned_away(&self, status: StatusCode) {
        *lock(&self.turned_away).entry(status.as_u16()).or_default() += 1;
    }

    /// A request to a port of a sandbox was answered. Guests choose the status, so its class counts.
    pub(crate) fn visited(&self, status: StatusCode) {
        *lock(&self.visits).entry(status.as_u16() / 100).or_default() += 1;
    }

    fn requested(&self, method: &str, path: Option<&str>, status: StatusCode, took: Duration) {
        let labels = path.and_then(|path| labels(method, path));
        let labels = labels.unwrap_or(("other", Cow::Borrowed("other")));
        let mut requests = lock(&self.requests);
        let requests = requests.entry(labels).or_default();
        *requests.by_status.entry(status.as_u16()).or_default() += 1;
        requests.durations.observe(took);
    }
}

/// Method and template of a route; none for what is no route.
fn labels(method: &str, path: &str) -> Option<(&'static str, Cow<'static, str>)> {
    let native = ROUTES
        .iter()
        .find(|(known, template, _)| path == *template && known.eq_ignore_ascii_case(method));
    if let Some((method, template, _)) = native {
        return Some((*method, Cow::Borrowed(*template)));
    }
    // Templates of the router, of which there are so many and no more. Those of its own making are
    // of what matches none of ours.
    let dialect = e2b::is_asked(path) && !path.contains("{*") && path != e2b::ROOT;
    let method = METHODS.into_iter().find(|known| known.eq_ignore_ascii_case(method));
    method.filter(|_| dialect).map(|method| (method, Cow::Owned(path.to_owned())))
}

/// A stream that is open, for as long as this lives.
#[derive(Debug)]
pub(crate) struct OpenStream(App);

impl OpenStream {
    pub(crate) fn new(app: &App) -> Self {
        app.metrics().streams.fetch_add(1, Ordering::Relaxed);
        Self(app.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.metrics().streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts and times every request on its way through the routes. Of a stream, the time to its
/// beginning counts.
pub(crate) async fn observe(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let began = Instant::now();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let path = path.as_ref().map(MatchedPath::as_str);
    app.metrics().requested(method.as_str(), path, response.status(), began.elapsed());
    if !is_stream(response.headers()) {
        return response;
    }
    let open = OpenStream::new(&app);
    response.map(|body| Body::new(Held::new(body, open)))
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind == NDJSON || kind == "text/event-stream")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
