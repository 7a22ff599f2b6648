//! What a sandbox uses, what listens in it, and streams to that.

use axum::{
    Json,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper_util::rt::TokioIo;
use warren_api::usage as api;
use warren_core::{Caller, id::SandboxId, runtime::Duplex};

use crate::{
    app::App, auth::Known, convert, error::ApiError, extract::SandboxPath, metrics::OpenStream,
    streams::StreamSlot,
};

/// Measure a sandbox
///
/// One that runs or is paused.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/metrics", tag = "sandboxes", params(SandboxPath),
    responses((status = 200, description = "What it uses", body = api::Metrics)),
)]
pub(crate) async fn measure_sandbox(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::Metrics>, ApiError> {
    let (sandbox, usage) = app.sandboxes.usage(&caller, &id).await?;
    Ok(Json(convert::metrics(&sandbox, &usage, app.sandboxes.now())))
}

/// List the ports on which something in a sandbox listens
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/ports", tag = "ports", params(SandboxPath),
    responses((status = 200, description = "The TCP ports, in order", body = api::PortList)),
)]
pub(crate) async fn list_ports(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::PortList>, ApiError> {
    let ports = app.sandboxes.ports(&caller, &id).await?;
    let port =
        |port: warren_core::runtime::Port| api::Port { port: port.number, loopback: port.loopback };
    Ok(Json(api::PortList { ports: ports.into_iter().map(port).collect() }))
}

/// Open a stream to a port of a sandbox
///
/// With `Connection: Upgrade` and `Upgrade: tcp` on HTTP/1.1. The connection then carries the bytes
/// of one TCP connection to that port on the sandbox's loopback, both ways.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/ports/{port}", tag = "ports",
    params(SandboxPath, ("port" = u16, Path, description = "The port")),
    responses((status = 101, description = "The connection carries the stream from here on")),
)]
pub(crate) async fn connect_port(
    State(app): State<App>,
    Known(caller): Known,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let (id, port) = super::ports::port_path(path)?;
    require_upgrade(request.headers())?;
    let slot = app.open_stream(&caller, &id)?;
    let inside = app.sandboxes.dial(&caller, &id, port).await?;
    let id = app.sandboxes.get(&caller, &id)?.id;
    Ok(switch(&app, (&caller, id), request, inside, slot))
}

/// Refuses a request that does not ask for a stream of bytes.
pub(super) fn require_upgrade(headers: &HeaderMap) -> Result<(), ApiError> {
    if wants_stream(headers) {
        return Ok(());
    }
    let expected = "expected `Connection: Upgrade` and `Upgrade: tcp`, on HTTP/1.1";
    Err(ApiError::invalid("upgrade", expected))
}

/// Has the connection of a request carry the bytes of `inside` from the answer on, until either
/// side ends, the sandbox has no guest any more, or the caller's streams end.
pub(super) fn switch(
    app: &App,
    (caller, id): (&Caller, SandboxId),
    request: Request,
    mut inside: Box<dyn Duplex>,
    slot: StreamSlot,
) -> Response {
    let open = (slot, app.busy(), OpenStream::new(app));
    let (stopping, visit) = (app.ending(caller), app.sandboxes.visit(id));
    let upgrade = hyper::upgrade::on(request);
    app.tasks().spawn(async move {
        let (Ok(outside), Some(visit)) = (upgrade.await, visit) else { return };
        let mut outside = TokioIo::new(outside);
        tokio::select! {
            // Whoever breaks the stream knows; the other side sees its end.
            _ = tokio::io::copy_bidirectional(&mut outside, &mut inside) => {}
            () = visit.gone() => {}
            () = stopping.cancelled() => {}
        }
        drop(open);
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static(api::TCP)),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let has = |name, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, api::TCP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_asked_for_by_both_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, HeaderValue::from_static("TCP"));
        assert!(!wants_stream(&headers));
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        assert!(wants_stream(&headers));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        assert!(!wants_stream(&headers));
    }
}
