//! The `control` socket: the host's own, never reached by a caller's request.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::arriving::Arriving;
use super::reply::{self, Body, Refusal};
use crate::daemon::Agent;
use crate::daemon::state::Sandbox;

/// Bytes of an `/init` body.
const INIT_BYTES: usize = 4 << 20;
/// Bytes under way in each direction of a stream to a port.
const COPY_BYTES: usize = 32 << 10;

pub(super) async fn answer(agent: Arc<Agent>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    let port = path.strip_prefix("/port/").map(str::to_owned);
    let answer = match (request.method(), path) {
        (&Method::GET, "/health") => Ok(reply::empty(StatusCode::NO_CONTENT)),
        (&Method::POST, "/init") => init(&agent, request).await,
        (&Method::POST, _) if port.is_some() => {
            open_port(&agent, port.as_deref().unwrap_or_default(), request).await
        }
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "no such path")),
    };
    answer.unwrap_or_else(Into::into)
}

/// Sets what the sandbox is. May be called again: the new values replace the old.
async fn init(agent: &Agent, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let body = reply::read_body(Arriving::new(request.into_body()), INIT_BYTES).await?;
    let value: Value = match body.len() {
        0 => Value::Object(serde_json::Map::new()),
        _ => serde_json::from_slice(&body)
            .map_err(|it| Refusal::bad_request(format!("read the body: {it}")))?,
    };
    agent.set_sandbox(sandbox_of(&value)?);
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// Fields have Warren's name or E2B's. The time of the host is not set: a sandbox shares its clock.
pub(super) fn sandbox_of(value: &Value) -> Result<Sandbox, Refusal> {
    let field = |names: [&str; 2]| names.into_iter().find_map(|name| value.get(name));
    let text = |names: [&str; 2]| match field(names) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok((!text.is_empty()).then(|| text.clone())),
        Some(_) => Err(Refusal::bad_request(format!("{} is no text", names[0]))),
    };
    let environment = match field(["env", "envVars"]) {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::Object(pairs)) => pairs
            .iter()
            .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect::<Option<_>>()
            .ok_or_else(|| Refusal::bad_request("a value of env is no text"))?,
        Some(_) => return Err(Refusal::bad_request("env is no object")),
    };
    Ok(Sandbox {
        environment,
        default_user: text(["defaultUser", "default_user"])?,
        default_directory: text(["defaultWorkdir", "default_workdir"])?,
        id: text(["sandboxId", "sandbox_id"])?,
    })
}

/// Turns the connection into a stream to a port on the sandbox's own loopback.
async fn open_port(
    agent: &Agent,
    port: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let port: u16 = port.parse().map_err(|_text| Refusal::bad_request("no such port"))?;
    let asks = request.headers().get(UPGRADE).is_some_and(|it| it.as_bytes() == b"tcp");
    if !asks {
        return Err(Refusal::bad_request("this needs an upgrade to tcp"));
    }
    let closed = |it| Refusal::new(StatusCode::BAD_GATEWAY, format!("port {port}: {it}"));
    let stream = match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(stream) => stream,
        Err(error) => TcpStream::connect(("::1", port)).await.map_err(|_second| closed(error))?,
    };
    let upgrade = hyper::upgrade::on(&mut request);
    agent.tasks.spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        splice(TokioIo::new(upgraded), stream).await;
    });
    let mut response = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("tcp"));
    Ok(response)
}

/// Copies both ways until both are done. A side that breaks ends both, which is how a peer learns.
async fn splice(mut host: TokioIo<hyper::upgrade::Upgraded>, mut port: TcpStream) {
    drop(port.set_nodelay(true));
    let size = COPY_BYTES;
    drop(tokio::io::copy_bidirectional_with_sizes(&mut host, &mut port, size, size).await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn init_takes_both_dialects() {
        let ours = json!({"env": {"A": "1"}, "defaultUser": "user", "defaultWorkdir": "/w",
            "sandboxId": "sb-1", "timestampUnixNanos": 5});
        let theirs = json!({"envVars": {"A": "1"}, "defaultUser": "user", "defaultWorkdir": "/w",
            "sandboxId": "sb-1", "timestamp": "2026-01-01T00:00:00Z", "accessToken": "x"});
        let expected = Sandbox {
            environment: [("A".to_owned(), "1".to_owned())].into(),
            default_user: Some("user".to_owned()),
            default_directory: Some("/w".to_owned()),
            id: Some("sb-1".to_owned()),
        };
        assert_eq!(sandbox_of(&ours).unwrap(), expected);
        assert_eq!(sandbox_of(&theirs).unwrap(), expected);
        assert_eq!(sandbox_of(&json!({})).unwrap(), Sandbox::default());
    }

    #[test]
    fn init_refuses_what_it_cannot_read() {
        for bad in [json!({"env": 5}), json!({"env": {"A": 1}}), json!({"defaultUser": []})] {
            assert_eq!(sandbox_of(&bad).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}
