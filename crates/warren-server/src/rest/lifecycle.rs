//! Sandboxes that are stopped, started again, and given more time.

use std::time::{Duration, Instant};

use axum::{Json, extract::State};
use warren_api::sandbox as api;

use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{Body, SandboxPath},
};

/// Stop a sandbox and keep its files
///
/// Its processes end, it takes no memory and counts for no quota any more; its files, its name and
/// its settings stay. What it wrote is on the disk when the answer comes.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/stop", tag = "sandboxes", params(SandboxPath),
    responses((status = 200, description = "It is stopped", body = api::Sandbox)),
)]
pub(crate) async fn stop_sandbox(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::Sandbox>, ApiError> {
    Ok(Json(convert::sandbox(&*app.sandboxes.stop(&caller, &id).await?)))
}

/// Start a stopped sandbox
///
/// On the files that were kept, with the settings it was made with; its lifetime starts anew. What
/// was in its memory is gone: commands must be run again.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/start", tag = "sandboxes", params(SandboxPath),
    responses((status = 200, description = "It runs", body = api::Sandbox)),
)]
pub(crate) async fn start_sandbox(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::Sandbox>, ApiError> {
    let began = Instant::now();
    let made = app.sandboxes.start(&caller, &id).await?;
    let mut sandbox = convert::sandbox(&made.sandbox);
    sandbox.timing = Some(convert::timing(began.elapsed(), &made.steps));
    sandbox.warnings = app.sandboxes.runtime().1.warnings;
    Ok(Json(sandbox))
}

/// Give a sandbox another lifetime
///
/// From now on; of one that is paused or stopped, from when it goes on.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/extend", tag = "sandboxes", params(SandboxPath),
    request_body = api::ExtendSandbox,
    responses((status = 200, description = "It has more time", body = api::Sandbox)),
)]
pub(crate) async fn extend_sandbox(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    Body(request): Body<api::ExtendSandbox>,
) -> Result<Json<api::Sandbox>, ApiError> {
    let length = Duration::from_secs(request.lifetime_seconds);
    Ok(Json(convert::sandbox(&*app.sandboxes.extend(&caller, &id, length).await?)))
}
