//! The table of contents of the `envd` socket.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderValue,
};
use hyper::service::Service as _;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use super::reply::{self, Body, Ending, Refusal};
use super::{metrics, rpc};
use crate::daemon::Agent;
use crate::files;

pub(super) async fn answer(
    agent: Arc<Agent>,
    dispatch: rpc::Service,
    request: Request<Incoming>,
) -> Response<Body> {
    let path = request.uri().path();
    let mut response = match (request.method(), path) {
        (&Method::OPTIONS, _) => preflight(),
        (&Method::GET, "/health") => reply::empty(StatusCode::NO_CONTENT),
        (&Method::GET, "/envs") => environment(&agent),
        (&Method::GET, "/metrics") => measure(&agent).await,
        (_, "/files" | "/files/compose" | "/archive" | "/glob" | "/chmod") => {
            files::answer(agent, request).await
        }
        (&Method::POST, path) if is_method(path) => call(dispatch, request).await,
        _ => Refusal::new(StatusCode::NOT_FOUND, "no such path").into(),
    };
    allow_every_origin(response.headers_mut());
    response
}

fn is_method(path: &str) -> bool {
    path.starts_with("/process.Process/") || path.starts_with("/filesystem.Filesystem/")
}

async fn call(dispatch: rpc::Service, request: Request<Incoming>) -> Response<Body> {
    match TowerToHyperService::new(dispatch).call(request).await {
        Ok(response) => response.map(|body| Ending::new(body).boxed_unsync()),
        Err(never) => match never {},
    }
}

/// Pages in browsers call this, from anywhere: who may is decided outside.
fn allow_every_origin(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
}

/// What a browser asks before it calls.
fn preflight() -> Response<Body> {
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "*, authorization"),
        (ACCESS_CONTROL_MAX_AGE, "7200"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn measure(agent: &Arc<Agent>) -> Response<Body> {
    let measured = Arc::clone(agent);
    match agent.pool.with_files(move || Ok(metrics::measure(&measured.meter))).await {
        Ok(value) => reply::json(StatusCode::OK, &value),
        Err(status) => Refusal::from(status).into(),
    }
}

fn environment(agent: &Agent) -> Response<Body> {
    let sandbox = agent.sandbox();
    let pairs = sandbox.environment.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str())));
    reply::json(StatusCode::OK, &Value::Object(pairs.collect()))
}
