//! Sandboxes: make, find, pause, resume, remove.

use std::time::Instant;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use warren_api::{IDEMPOTENCY_KEY, sandbox as api};
use warren_core::{Caller, sandbox::Made};

use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{Body, Parameters, SandboxPath},
    openapi::IdempotencyKey,
};

/// Make a sandbox
///
/// The answer comes when its agent answers: commands can run at once. With an `Idempotency-Key`
/// a repeated request answers with the sandbox that the first one made.
#[utoipa::path(
    post, path = "/v1/sandboxes", tag = "sandboxes", params(IdempotencyKey),
    request_body = api::CreateSandbox,
    responses((status = 201, description = "It runs", body = api::Sandbox)),
)]
pub(crate) async fn create_sandbox(
    State(app): State<App>,
    Known(caller): Known,
    headers: HeaderMap,
    Body(request): Body<api::CreateSandbox>,
) -> Result<(StatusCode, Json<api::Sandbox>), ApiError> {
    let began = Instant::now();
    let made = create(&app, &caller, &headers, request).await;
    let outcome = made.as_ref().map(drop).map_err(ApiError::code);
    app.metrics().created(began.elapsed(), outcome);
    let made = made?;
    let mut sandbox = convert::sandbox(&made.sandbox);
    sandbox.timing = Some(convert::timing(began.elapsed(), &made.steps));
    sandbox.warnings = app.sandboxes.runtime().1.warnings;
    Ok((StatusCode::CREATED, Json(sandbox)))
}

async fn create(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    request: api::CreateSandbox,
) -> Result<Made, ApiError> {
    let key = headers.get(IDEMPOTENCY_KEY).map(|key| key.to_str()).transpose();
    let key = key.map_err(|error| ApiError::invalid(IDEMPOTENCY_KEY, error))?;
    Ok(app.sandboxes.create(caller, convert::wanted(request)?, key).await?)
}

/// List sandboxes, newest first
///
/// Those that live, unless `state` asks for others.
#[utoipa::path(
    get, path = "/v1/sandboxes", tag = "sandboxes", params(api::ListSandboxes),
    responses((status = 200, description = "One page", body = api::SandboxList)),
)]
pub(crate) async fn list_sandboxes(
    State(app): State<App>,
    Known(caller): Known,
    parameters: Parameters,
) -> Result<Json<api::SandboxList>, ApiError> {
    let filter = convert::filter(parameters)?;
    let page = app.sandboxes.list(&caller, &filter);
    Ok(Json(convert::page(&page)))
}

/// Show a sandbox
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}", tag = "sandboxes", params(SandboxPath),
    responses((status = 200, description = "The sandbox", body = api::Sandbox)),
)]
pub(crate) async fn get_sandbox(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::Sandbox>, ApiError> {
    Ok(Json(convert::sandbox(&*app.sandboxes.get(&caller, &id)?)))
}

/// Remove a sandbox
///
/// Everything in it ends and is lost. A second request for the same one answers 404. Work in the
/// repository of a session of git is committed and pushed first; where that fails the sandbox is
/// paused and the answer says why, unless it is to go all the same.
#[utoipa::path(
    delete, path = "/v1/sandboxes/{id}", tag = "sandboxes",
    params(
        SandboxPath,
        ("force" = Option<bool>, Query, description = "Whether it goes although work in its repository is not saved"),
    ),
    responses((status = 204, description = "Nothing of it is left")),
)]
pub(crate) async fn delete_sandbox(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    mut parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    let force = parameters.flag("force")?;
    parameters.finish()?;
    match force {
        true => app.sandboxes.delete(&caller, &id).await?,
        false => app.sandboxes.delete_saved(&caller, &id).await?,
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Pause a running sandbox
///
/// The guest's processes stop where they are and keep their memory; its lifetime stands still.
/// Pausing a sandbox that is already paused answers 400 `failed_precondition`.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/pause", tag = "sandboxes", params(SandboxPath),
    responses((status = 200, description = "It is paused", body = api::Sandbox)),
)]
pub(crate) async fn pause_sandbox(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::Sandbox>, ApiError> {
    Ok(Json(convert::sandbox(&*app.sandboxes.pause(&caller, &id).await?)))
}

/// Let a paused sandbox go on
///
/// Its lifetime starts anew.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/resume", tag = "sandboxes", params(SandboxPath),
    responses((status = 200, description = "It runs", body = api::Sandbox)),
)]
pub(crate) async fn resume_sandbox(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::Sandbox>, ApiError> {
    Ok(Json(convert::sandbox(&*app.sandboxes.resume(&caller, &id).await?)))
}
