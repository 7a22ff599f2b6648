//! Projects, keys and copies of the database: for the user who runs the server, on its own host.

use std::time::Duration;

use axum::{
    Json,
    body::Body as ResponseBody,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio_util::io::ReaderStream;
use warren_api::access as api;
use warren_core::access::WantedKey;

use crate::{
    app::App,
    auth::HostCaller,
    convert,
    error::ApiError,
    extract::{Body, Named},
};

/// How much of a copy is read at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Make an API key
///
/// The key is in this answer and in no other: of what is kept nobody can tell it again.
#[utoipa::path(
    post, path = "/v1/keys", tag = "access", request_body = api::CreateKey,
    responses((status = 201, description = "The key", body = api::NewKey)),
)]
pub(crate) async fn create_key(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
    Body(request): Body<api::CreateKey>,
) -> Result<(StatusCode, Json<api::NewKey>), ApiError> {
    let wanted = WantedKey {
        scope: convert::key_scope(&request, caller.owner())?,
        name: request.name,
        lifetime: request.expires_in_seconds.map(Duration::from_secs),
    };
    let (key, secret) = app.sandboxes.create_key(&caller, wanted).await?;
    let new = api::NewKey { about: convert::key(key), key: secret.expose().to_owned() };
    Ok((StatusCode::CREATED, Json(new)))
}

/// List API keys, oldest first
///
/// Of all projects.
#[utoipa::path(
    get, path = "/v1/keys", tag = "access",
    responses((status = 200, description = "Every key", body = api::KeyList)),
)]
pub(crate) async fn list_keys(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
) -> Result<Json<api::KeyList>, ApiError> {
    let keys = app.sandboxes.keys(&caller)?.into_iter().map(convert::key).collect();
    Ok(Json(api::KeyList { keys }))
}

/// Revoke an API key
///
/// It opens nothing from this answer on, and the streams that it opened end. Commands that it
/// started run on.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "access",
    params(("id" = String, Path, description = "The key's id, such as `key-0123456789abcdef`")),
    responses((status = 204, description = "It opens nothing any more")),
)]
pub(crate) async fn revoke_key(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
    Named(id): Named,
) -> Result<StatusCode, ApiError> {
    app.sandboxes.revoke_key(&caller, &id).await?;
    if let Ok(key) = id.parse() {
        app.end_streams_of(key);
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Make a project
#[utoipa::path(
    post, path = "/v1/projects", tag = "access", request_body = api::CreateProject,
    responses((status = 201, description = "The project", body = api::Project)),
)]
pub(crate) async fn create_project(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
    Body(request): Body<api::CreateProject>,
) -> Result<(StatusCode, Json<api::Project>), ApiError> {
    let quota = convert::quota(request.quota);
    let made = app.sandboxes.create_project(&caller, &request.name, quota).await?;
    Ok((StatusCode::CREATED, Json(convert::project(made))))
}

/// List projects, by name
#[utoipa::path(
    get, path = "/v1/projects", tag = "access",
    responses((status = 200, description = "Every project", body = api::ProjectList)),
)]
pub(crate) async fn list_projects(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
) -> Result<Json<api::ProjectList>, ApiError> {
    let projects = app.sandboxes.projects(&caller)?.into_iter().map(convert::project).collect();
    Ok(Json(api::ProjectList { projects }))
}

/// Show a project
#[utoipa::path(
    get, path = "/v1/projects/{name}", tag = "access",
    params(("name" = String, Path, description = "The project's name")),
    responses((status = 200, description = "The project", body = api::Project)),
)]
pub(crate) async fn get_project(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
    Named(name): Named,
) -> Result<Json<api::Project>, ApiError> {
    Ok(Json(convert::project(app.sandboxes.project(&caller, &name)?)))
}

/// Remove a project
///
/// One that has neither sandboxes, those that ended included, nor keys; `default` is always there.
#[utoipa::path(
    delete, path = "/v1/projects/{name}", tag = "access",
    params(("name" = String, Path, description = "The project's name")),
    responses((status = 204, description = "Nothing of it is left")),
)]
pub(crate) async fn delete_project(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
    Named(name): Named,
) -> Result<StatusCode, ApiError> {
    app.sandboxes.delete_project(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Change what a project may have
///
/// To exactly this: what is absent has no limit. What the project has already stays.
#[utoipa::path(
    put, path = "/v1/projects/{name}/quota", tag = "access", request_body = api::ProjectQuota,
    params(("name" = String, Path, description = "The project's name")),
    responses((status = 200, description = "The project", body = api::Project)),
)]
pub(crate) async fn set_project_quota(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
    Named(name): Named,
    Body(request): Body<api::ProjectQuota>,
) -> Result<Json<api::Project>, ApiError> {
    let quota = convert::quota(request);
    let changed = app.sandboxes.set_project_quota(&caller, &name, quota).await?;
    Ok(Json(convert::project(changed)))
}

/// Copy the database
///
/// An SQLite database that is consistent in itself: sandboxes and their environments, events,
/// projects, hashes of keys. Keep it as secret as the data directory.
#[utoipa::path(
    get, path = "/v1/backup", tag = "server",
    responses((status = 200, description = "The copy", body = [u8], content_type = "application/vnd.sqlite3")),
)]
pub(crate) async fn get_backup(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
) -> Result<Response, ApiError> {
    let backup = app.sandboxes.backup(&caller).await?;
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::from_static("application/vnd.sqlite3");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(backup.length));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let file = tokio::fs::File::from_std(backup.file);
    let body = ResponseBody::from_stream(ReaderStream::with_capacity(file, PIECE_BYTES));
    Ok((headers, body).into_response())
}
