//! A server to test against.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Method, Request, Response, service::Service};
use serde_json::Value;
use tokio_util::task::TaskTracker;
use warren_core::{
    Caller, Sandboxes,
    clock::{Clock, SystemClock},
    config::Config,
    fake::{FakeClock, FakeRuntime},
    store::Store,
};
use warren_server::{App, Config as Limits, Face};

/// A server with a fake runtime, as one caller sees it.
#[derive(Debug)]
pub(crate) struct TestApp {
    pub(crate) app: App,
    pub(crate) runtime: Arc<FakeRuntime>,
    face: Face,
}

/// What it answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Reads a response to its end.
    pub(crate) async fn read(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Self { status: head.status.as_u16(), headers: head.headers, body }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Asserts the status, and gives the body.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Asserts that it is an error with this status and code.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> String {
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{body}");
        body["message"].as_str().expect("a message").to_owned()
    }

    /// The lines of a stream of JSON lines.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = std::str::from_utf8(&self.body).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        Self::made(config, Limits::default(), Arc::new(SystemClock)).await
    }

    /// With limits of its own on requests and connections.
    pub(crate) async fn limited(limits: Limits) -> Self {
        Self::made(Config::default(), limits, Arc::new(SystemClock)).await
    }

    /// With a clock that the test moves.
    pub(crate) async fn at(clock: Arc<FakeClock>) -> Self {
        Self::made(Config::default(), Limits::default(), clock).await
    }

    async fn made(config: Config, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let runtime = Arc::new(FakeRuntime::default());
        let store = Store::in_memory(&TaskTracker::new()).await.expect("a store");
        let sandboxes =
            Sandboxes::open(runtime.clone(), store, clock, config).await.expect("core opens");
        let app = App::with_config(sandboxes, "0.0.0-test", limits);
        let face = Face::new(app.clone()).for_caller(Some(Caller::local()));
        Self { app, runtime, face }
    }

    /// The same server for a caller whom nobody vouches for.
    pub(crate) fn as_stranger(&self) -> Self {
        Self {
            app: self.app.clone(),
            runtime: Arc::clone(&self.runtime),
            face: self.face.for_caller(None),
        }
    }

    /// The same server for somebody from another project, which is made.
    pub(crate) async fn as_owner(&self, name: &str) -> Self {
        let quota = warren_core::access::ProjectQuota::default();
        let made = self.app.sandboxes().create_project(&Caller::local(), name, quota).await;
        made.expect("a project");
        let owner = warren_core::caller::Owner::new(name);
        Self {
            app: self.app.clone(),
            runtime: Arc::clone(&self.runtime),
            face: self.face.for_caller(Some(Caller::remote(owner))),
        }
    }

    pub(crate) async fn open(&self, request: Request<Body>) -> Response<Body> {
        self.face.call(request).await.expect("the face never fails")
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        Answer::read(self.open(request).await).await
    }

    pub(crate) async fn ask(&self, method: &str, target: &str, body: &str) -> Answer {
        let method: Method = method.parse().expect("a method");
        let request = Request::builder().method(method).uri(target);
        self.send(request.body(Body::from(body.to_owned())).expect("a request")).await
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, "").await
    }

    pub(crate) async fn post(&self, target: &str, body: &str) -> Answer {
        self.ask("POST", target, body).await
    }

    /// Makes a sandbox and gives its id.
    pub(crate) async fn create(&self) -> String {
        let made = self.post("/v1/sandboxes", "{}").await.expect(201);
        made["id"].as_str().expect("an id").to_owned()
    }
}
