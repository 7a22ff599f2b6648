//! What all handlers share.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warren_core::{Caller, Sandboxes, id::KeyId, sandboxes::Unready};
use warren_http::Crowd;

use crate::{
    certificates::CertificateSource,
    config::{COMMAND_FACTOR, Config},
    e2b::Samples,
    edge::{Door, Edge},
    error::ApiError,
    metrics::Metrics,
    rate::Buckets,
    streams::{StreamOf, StreamSlot, Streams},
    waiting::Waiting,
};

/// How long an answer to whether the server is ready holds.
const READY_KEPT: Duration = Duration::from_secs(1);

/// The server's state. A clone is another handle to the same one.
#[derive(Clone, Debug)]
pub struct App {
    pub(crate) sandboxes: Sandboxes,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    version: String,
    started: Instant,
    in_flight: AtomicUsize,
    /// Milliseconds from `started` to the end of the last request, or its beginning.
    last_activity_ms: AtomicU64,
    stopping: CancellationToken,
    tasks: TaskTracker,
    metrics: Metrics,
    ready: Mutex<Option<(Instant, Result<(), Unready>)>>,
    config: Config,
    streams: Streams,
    edge: Edge,
    /// What sandboxes of E2B's clients have used.
    samples: Samples,
    waiting: Waiting,
    certificates: OnceLock<Box<dyn CertificateSource>>,
    /// The turns of each key; none where they are not limited.
    turns: Option<Buckets<KeyId>>,
    /// The connections of TCP.
    crowd: Crowd,
    /// Requests without a good key, by address.
    failures: Buckets<IpAddr>,
    /// What ends the streams of each key that has had one. Those of revoked keys stay, so that a
    /// stream that begins while its key goes ends as well.
    keys: Mutex<HashMap<KeyId, CancellationToken>>,
}

/// How many requests without a good key an address may make a second, and at once.
const FAILURES: (f64, f64) = (1.0, 20.0);

/// What a background server needs to know to decide whether anybody needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Sandboxes that live; parked ones do not count.
    pub living: usize,
    /// Requests whose answers are not complete.
    pub in_flight: usize,
    /// How long ago the last request began or ended; since the start where there was none.
    pub idle_for: Duration,
}

/// A request under way, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Inner>);

impl App {
    /// The application on these sandboxes. `version` is what `GET /v1/version` answers.
    #[must_use]
    pub fn new(sandboxes: Sandboxes, version: impl Into<String>) -> Self {
        Self::with_config(sandboxes, version, Config::default())
    }

    /// The same with limits of the operator's choice.
    #[must_use]
    pub fn with_config(sandboxes: Sandboxes, version: impl Into<String>, config: Config) -> Self {
        Self::with_door(sandboxes, version, config, None)
    }

    /// The same with a way to listen for browsers where the server listens on no TCP address.
    #[must_use]
    pub fn with_door(
        sandboxes: Sandboxes,
        version: impl Into<String>,
        config: Config,
        door: Option<Door>,
    ) -> Self {
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let edge = Edge::new(config.edge.clone(), tasks.clone(), stopping.clone(), door);
        let rate = f64::from(config.requests_per_second);
        let inner = Inner {
            version: version.into(),
            started: Instant::now(),
            in_flight: AtomicUsize::new(0),
            last_activity_ms: AtomicU64::new(0),
            stopping,
            tasks,
            edge,
            samples: Samples::default(),
            waiting: Waiting::default(),
            certificates: OnceLock::new(),
            metrics: Metrics::default(),
            ready: Mutex::default(),
            crowd: Crowd::new(config.connections, config.connections_per_address),
            streams: Streams::new(config.streams_per_sandbox),
            turns: (rate > 0.0).then(|| Buckets::new(rate, rate * 2.0)),
            failures: Buckets::new(FAILURES.0, FAILURES.1),
            keys: Mutex::default(),
            config,
        };
        Self { sandboxes, inner: Arc::new(inner) }
    }

    /// Core behind it.
    #[must_use]
    pub fn sandboxes(&self) -> &Sandboxes {
        &self.sandboxes
    }

    /// What goes on, for the decision to exit when idle.
    #[must_use]
    pub fn activity(&self) -> Activity {
        let last = Duration::from_millis(self.inner.last_activity_ms.load(Ordering::Acquire));
        Activity {
            living: self.sandboxes.living(),
            in_flight: self.inner.in_flight.load(Ordering::Acquire),
            idle_for: self.inner.started.elapsed().saturating_sub(last),
        }
    }

    /// Cancelled once the server is asked to end, by [`App::stop`] or over the API. Every
    /// [`crate::serve()`] ends then.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.inner.stopping
    }

    /// What ends the streams of this caller: the end of the server, and of the caller's key.
    pub(crate) fn ending(&self, caller: &Caller) -> CancellationToken {
        match caller.key() {
            Some(key) => self.key_token(key),
            None => self.inner.stopping.clone(),
        }
    }

    /// Ends the streams of a key that was revoked.
    pub(crate) fn end_streams_of(&self, key: KeyId) {
        self.key_token(key).cancel();
    }

    fn key_token(&self, key: KeyId) -> CancellationToken {
        let mut keys = self.inner.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.entry(key).or_insert_with(|| self.inner.stopping.child_token()).clone()
    }

    /// Asks every listener to end and every stream to come to its end.
    pub fn stop(&self) {
        self.inner.stopping.cancel();
    }

    /// Waits for the connections of all listeners, then ends core. Sandboxes live on.
    ///
    /// Call it when every [`crate::serve()`] has returned.
    pub async fn shut_down(&self) {
        self.stop();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.sandboxes.shut_down().await;
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The largest request to run a command, in bytes.
    pub(crate) fn command_bytes(&self) -> usize {
        self.inner.config.body_bytes.saturating_mul(COMMAND_FACTOR)
    }

    pub(crate) fn edge(&self) -> &Edge {
        &self.inner.edge
    }

    pub(crate) fn samples(&self) -> &Samples {
        &self.inner.samples
    }

    pub(crate) fn waiting(&self) -> &Waiting {
        &self.inner.waiting
    }

    /// Who knows the certificates, once somebody has said so.
    pub(crate) fn certificates(&self) -> &OnceLock<Box<dyn CertificateSource>> {
        &self.inner.certificates
    }

    pub(crate) fn crowd(&self) -> &Crowd {
        &self.inner.crowd
    }

    pub(crate) fn turns(&self) -> Option<&Buckets<KeyId>> {
        self.inner.turns.as_ref()
    }

    pub(crate) fn failures(&self) -> &Buckets<IpAddr> {
        &self.inner.failures
    }

    /// Counts a stream of the caller's sandbox for as long as the slot lives.
    pub(crate) fn open_stream(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<StreamSlot, ApiError> {
        let sandbox = self.sandboxes.get(caller, id_or_name)?;
        self.inner.streams.open(StreamOf::Sandbox(sandbox.id))
    }

    /// Counts a stream of events of the caller's project for as long as the slot lives.
    pub(crate) fn open_event_stream(&self, caller: &Caller) -> Result<StreamSlot, ApiError> {
        self.inner.streams.open(StreamOf::Project(caller.owner().clone()))
    }

    /// Counts a stream about the files of the caller's project for as long as the slot lives.
    pub(crate) fn open_files_stream(&self, caller: &Caller) -> Result<StreamSlot, ApiError> {
        self.inner.streams.open(StreamOf::Files(caller.owner().clone()))
    }

    pub(crate) fn version(&self) -> &str {
        &self.inner.version
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.inner.started.elapsed()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Whether a sandbox could be made now. Anybody may ask, so the answer is kept for a second.
    pub(crate) async fn ready(&self) -> Result<(), Unready> {
        if self.inner.stopping.is_cancelled() {
            return Err(Unready::ShuttingDown);
        }
        let kept = *self.inner.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, answer)) = kept.filter(|(at, _)| at.elapsed() < READY_KEPT) {
            return answer;
        }
        let answer = self.sandboxes.check().await;
        let answered = Some((Instant::now(), answer));
        *self.inner.ready.lock().unwrap_or_else(PoisonError::into_inner) = answered;
        answer
    }

    /// The connections.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    /// Counts a request for as long as the guard lives.
    pub(crate) fn busy(&self) -> Busy {
        self.inner.in_flight.fetch_add(1, Ordering::AcqRel);
        self.inner.touch();
        Busy(Arc::clone(&self.inner))
    }
}

impl Inner {
    fn touch(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_activity_ms.store(now, Ordering::Release);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
