//! Whole trees, patterns and modes. Archives stream through in both directions.

use axum::{
    Json,
    body::Body as ResponseBody,
    extract::{Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt};
use warren_api::files as api;
use warren_core::sandboxes::At;

use super::{
    arriving::Arriving,
    files::{Place, mode},
};
use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{Body, Parameters, SandboxPath},
};

/// The media type of an archive.
const TAR: &str = "application/x-tar";

/// Read a tree
///
/// A tar archive of what is below a directory, with names relative to it, or of one file. Modes,
/// times, symbolic and hard links are kept; devices, pipes and sockets are left out. An archive
/// that breaks off names the file that could not be read in a PAX record `WARREN.error`.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/files/archive", tag = "files", params(SandboxPath, Place),
    responses((status = 200, description = "The archive", body = [u8], content_type = "application/x-tar")),
)]
pub(crate) async fn read_archive(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let place = Place::of(id, parameters)?;
    let download = app.sandboxes.read_archive(&caller, place.at()).await?;
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(TAR));
    Ok(([content_type], ResponseBody::from_stream(download)).into_response())
}

/// Write a tree
///
/// The body is a tar archive, plain or compressed with gzip, that is unpacked below a directory;
/// missing ones are made. Files that are there are replaced, and belong to `user`. Names that are
/// absolute or have `..`, paths through links that lead out, and sparse files are refused; devices
/// and pipes are skipped and counted; set-user-id and set-group-id are dropped. What was unpacked
/// before a refusal stays, but for a directory that was made for it.
#[utoipa::path(
    put, path = "/v1/sandboxes/{id}/files/archive", tag = "files", params(SandboxPath, Place),
    request_body(content = [u8], content_type = "application/x-tar"),
    responses((status = 200, description = "It was unpacked", body = api::ArchiveUnpacked)),
)]
pub(crate) async fn write_archive(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    parameters: Parameters,
    request: Request,
) -> Result<Json<api::ArchiveUnpacked>, ApiError> {
    let place = Place::of(id, parameters)?;
    let contents = Arriving::new(request.into_body(), app.tasks()).map_err(Into::into).boxed();
    let unpacked = app.sandboxes.write_archive(&caller, place.at(), contents).await?;
    Ok(Json(convert::unpacked(unpacked)))
}

/// Find files
///
/// Paths below a directory that match a pattern: `*` and `?` within a name, `**` across
/// directories, `[a-z]`, `{a,b}`. At most 10,000. Links are not followed.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/files/glob", tag = "files",
    params(SandboxPath, Place, ("pattern" = String, Query, description = "Relative to the path, such as `**/*.rs`")),
    responses((status = 200, description = "What matches", body = api::FileMatches)),
)]
pub(crate) async fn glob_files(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    mut parameters: Parameters,
) -> Result<Json<api::FileMatches>, ApiError> {
    let pattern = parameters.one("pattern")?;
    let place = Place::of(id, parameters)?;
    let pattern = pattern.filter(|pattern| !pattern.is_empty());
    let pattern = pattern.ok_or_else(|| ApiError::invalid("pattern", "missing from the query"))?;
    let found = app.sandboxes.glob_files(&caller, place.at(), &pattern).await?;
    Ok(Json(api::FileMatches { paths: found.paths, truncated: found.truncated }))
}

/// Change the mode of a file
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/files/chmod", tag = "files", params(SandboxPath),
    request_body = api::ChmodFile,
    responses((status = 200, description = "What was changed", body = api::FileInfo)),
)]
pub(crate) async fn chmod_file(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    Body(request): Body<api::ChmodFile>,
) -> Result<Json<api::FileInfo>, ApiError> {
    let mode = mode(&request.mode)?;
    let at = At { sandbox: &id, user: request.user.as_deref(), path: &request.path };
    Ok(Json(convert::file(app.sandboxes.chmod_file(&caller, at, mode).await?)))
}
