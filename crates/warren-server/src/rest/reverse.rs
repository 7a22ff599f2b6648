//! Ports of sandboxes that lead back to the caller.
//!
//! The server listens inside for as long as a stream of lines is read; each connection from inside
//! is a line, and the caller takes it as a stream of its own. So nothing is multiplexed, and each
//! connection has the back-pressure of its own.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use warren_api::{Code, edge as api};
use warren_core::sandboxes::Listening;

use super::{
    lines::{self, SILENCE, line},
    ports::port_path,
    usage::{require_upgrade, switch},
};
use crate::{app::App, auth::Known, error::ApiError, waiting::Way};

/// How long a connection waits to be taken by the caller.
const PATIENCE: Duration = Duration::from_secs(10);

/// Listen on a port of a sandbox
///
/// What runs in the sandbox finds a listener on that port of its loopback for as long as this
/// stream is read. Each connection to it is a line, to be taken within ten seconds. A client should
/// offer this only where its user asked for it: whatever runs in the sandbox reaches what is behind.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/listeners/{port}", tag = "ports",
    params(crate::extract::SandboxPath, ("port" = u16, Path, description = "The port")),
    responses((status = 200, description = "Lines: one `ListenerEvent` each",
        body = api::ListenerEvent, content_type = "application/x-ndjson")),
)]
pub(crate) async fn listen_port(
    State(app): State<App>,
    Known(caller): Known,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, ApiError> {
    let (id, port) = port_path(path)?;
    let slot = app.open_stream(&caller, &id)?;
    let listening = app.sandboxes.listen(&caller, &id, port).await?;
    let way = app.waiting().way(listening.id(), port);
    let ending = app.ending(&caller);
    Ok(lines::response(arrivals(listening, way, ending), slot))
}

fn arrivals(
    listening: Listening,
    way: Way,
    ending: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let rest = stream::unfold((listening, way, ending), async |state| {
        let (mut listening, way, ending) = state;
        // Until there is room for one more, the others wait in the kernel's queue.
        way.forget_older_than(PATIENCE);
        let next = tokio::select! {
            biased;
            () = ending.cancelled() => return None,
            came = listening.accept(), if way.has_room() => Some(came?),
            () = tokio::time::sleep(if way.has_room() { SILENCE } else { PATIENCE / 10 }) => None,
        };
        let event = match next {
            Some(stream) => api::ListenerEvent::Connection { id: way.put(stream) },
            None => api::ListenerEvent::Keepalive,
        };
        Some((line(&event), (listening, way, ending)))
    });
    stream::iter([line(&api::ListenerEvent::Listening)]).chain(rest).map(Ok)
}

/// Take a connection from inside of a sandbox
///
/// With `Connection: Upgrade` and `Upgrade: tcp` on HTTP/1.1. The connection then carries the bytes
/// of the one that came from inside, both ways.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/listeners/{port}/{connection}", tag = "ports",
    params(
        crate::extract::SandboxPath,
        ("port" = u16, Path, description = "The port"),
        ("connection" = u64, Path, description = "Which, as a line of the listener has said"),
    ),
    responses((status = 101, description = "The connection carries the stream from here on")),
)]
pub(crate) async fn take_connection(
    State(app): State<App>,
    Known(caller): Known,
    path: Result<Path<(String, String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let Path((id, port, connection)) =
        path.map_err(|error| ApiError::invalid("path", error.body_text()))?;
    let (id, port) = port_path(Ok(Path((id, port))))?;
    require_upgrade(request.headers())?;
    let sandbox = app.sandboxes.get(&caller, &id)?;
    // Who is refused one may come again while the connection waits.
    let slot = app.open_stream(&caller, &id)?;
    let inside = connection.parse().ok();
    let inside = inside.and_then(|which| app.waiting().take((sandbox.id, port), which));
    let inside = inside.ok_or_else(|| {
        ApiError::new(Code::NotFound, "no connection from inside waits under this number")
    })?;
    Ok(switch(&app, (&caller, sandbox.id), request, inside, slot))
}
