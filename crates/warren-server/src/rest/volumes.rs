//! Volumes and their files. Contents stream through in both directions.

use std::io;

use axum::{
    Json,
    body::Body as ResponseBody,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::TryStreamExt;
use tokio_util::io::{ReaderStream, StreamReader};
use warren_api::{files, volume as api};
use warren_core::{
    Caller,
    sandboxes::{InVolume, NewVolume},
    volumes::{Ownership, Volume},
};

use super::{
    arriving::Arriving,
    files::{mode, range},
};
use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{Body, Named, Parameters},
};

/// How much of a file is read at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Make a volume
#[utoipa::path(
    post, path = "/v1/volumes", tag = "volumes", request_body = api::CreateVolume,
    responses((status = 201, description = "The volume", body = api::Volume)),
)]
pub(crate) async fn create_volume(
    State(app): State<App>,
    Known(caller): Known,
    Body(request): Body<api::CreateVolume>,
) -> Result<(StatusCode, Json<api::Volume>), ApiError> {
    let wanted = NewVolume { name: request.name, size_bytes: request.size_bytes };
    let made = app.sandboxes.create_volume(&caller, wanted).await?;
    Ok((StatusCode::CREATED, Json(shown(&app, &made).await)))
}

/// List volumes, by name
#[utoipa::path(
    get, path = "/v1/volumes", tag = "volumes",
    responses((status = 200, description = "The caller's volumes", body = api::VolumeList)),
)]
pub(crate) async fn list_volumes(
    State(app): State<App>,
    Known(caller): Known,
) -> Result<Json<api::VolumeList>, ApiError> {
    let mut volumes = Vec::new();
    for volume in app.sandboxes.volumes(&caller) {
        volumes.push(shown(&app, &volume).await);
    }
    Ok(Json(api::VolumeList { volumes }))
}

/// Show a volume
#[utoipa::path(
    get, path = "/v1/volumes/{name}", tag = "volumes",
    params(("name" = String, Path, description = "The volume's id, or its name")),
    responses((status = 200, description = "The volume", body = api::Volume)),
)]
pub(crate) async fn get_volume(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
) -> Result<Json<api::Volume>, ApiError> {
    let found = app.sandboxes.volume(&caller, &name)?;
    Ok(Json(shown(&app, &found).await))
}

/// Remove a volume with its files
///
/// One that a sandbox has, also a stopped one, is not removed.
#[utoipa::path(
    delete, path = "/v1/volumes/{name}", tag = "volumes",
    params(("name" = String, Path, description = "The volume's id, or its name")),
    responses((status = 204, description = "Nothing of it is left")),
)]
pub(crate) async fn delete_volume(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
) -> Result<StatusCode, ApiError> {
    app.sandboxes.remove_volume(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Change how much a volume may hold
///
/// From the next write on. Where it holds more already, that stays, and nothing can be added.
#[utoipa::path(
    post, path = "/v1/volumes/{name}/resize", tag = "volumes", request_body = api::ResizeVolume,
    params(("name" = String, Path, description = "The volume's id, or its name")),
    responses((status = 200, description = "The volume", body = api::Volume)),
)]
pub(crate) async fn resize_volume(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
    Body(request): Body<api::ResizeVolume>,
) -> Result<Json<api::Volume>, ApiError> {
    let resized = app.sandboxes.resize_volume(&caller, &name, request.size_bytes).await?;
    Ok(Json(shown(&app, &resized).await))
}

/// Save what a volume holds now as a volume that nobody writes to
///
/// On btrfs it is what was there at one moment, and costs the same whatever that is; elsewhere the
/// files are copied one after another.
#[utoipa::path(
    post, path = "/v1/volumes/{name}/snapshot", tag = "volumes", request_body = api::CopyVolume,
    params(("name" = String, Path, description = "The id or name of the volume to save")),
    responses((status = 201, description = "The new volume", body = api::Volume)),
)]
pub(crate) async fn snapshot_volume(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
    Body(request): Body<api::CopyVolume>,
) -> Result<(StatusCode, Json<api::Volume>), ApiError> {
    copy(&app, &caller, &name, request, true).await
}

/// Make a volume of what another holds now
///
/// What is written to either later is its own. The cost is that of a snapshot.
#[utoipa::path(
    post, path = "/v1/volumes/{name}/clone", tag = "volumes", request_body = api::CopyVolume,
    params(("name" = String, Path, description = "The id or name of the volume to copy")),
    responses((status = 201, description = "The new volume", body = api::Volume)),
)]
pub(crate) async fn clone_volume(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
    Body(request): Body<api::CopyVolume>,
) -> Result<(StatusCode, Json<api::Volume>), ApiError> {
    copy(&app, &caller, &name, request, false).await
}

async fn copy(
    app: &App,
    caller: &Caller,
    source: &str,
    request: api::CopyVolume,
    read_only: bool,
) -> Result<(StatusCode, Json<api::Volume>), ApiError> {
    let wanted = NewVolume { name: request.name, size_bytes: request.size_bytes };
    let made = app.sandboxes.copy_volume(caller, source, wanted, read_only).await?;
    Ok((StatusCode::CREATED, Json(shown(app, &made).await)))
}

async fn shown(app: &App, volume: &Volume) -> api::Volume {
    let (used, sandboxes) = app.sandboxes.volume_usage(volume).await;
    convert::volume(volume, used, sandboxes)
}

/// Read a file of a volume
///
/// The raw bytes; `Range` with one range is honoured. No link leads out of the volume.
#[utoipa::path(
    get, path = "/v1/volumes/{name}/files", tag = "volumes",
    params(
        ("name" = String, Path, description = "The volume's id, or its name"),
        ("path" = String, Query, description = "From the volume's root"),
        ("Range" = Option<String>, Header, description = "One range, such as `bytes=0-99`"),
    ),
    responses(
        (status = 200, description = "Its bytes", body = [u8], content_type = "application/octet-stream"),
        (status = 206, description = "The range that was asked for", body = [u8], content_type = "application/octet-stream"),
    ),
)]
pub(crate) async fn read_volume_file(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let path = only_path(parameters)?;
    let wanted = headers.get(header::RANGE).and_then(range);
    let at = InVolume { volume: &name, path: &path };
    let contents = app.sandboxes.read_in_volume(&caller, at, wanted).await?;
    let mut response = HeaderMap::new();
    let octets = HeaderValue::from_static("application/octet-stream");
    response.insert(header::CONTENT_TYPE, octets);
    response.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response.insert(header::CONTENT_LENGTH, HeaderValue::from(contents.length));
    let part = contents.part.filter(|_| contents.length > 0).and_then(|(first, size)| {
        let last = first + contents.length - 1;
        HeaderValue::from_str(&format!("bytes {first}-{last}/{size}")).ok()
    });
    let status = if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    response.extend(part.map(|range| (header::CONTENT_RANGE, range)));
    let body = ReaderStream::with_capacity(contents.bytes, PIECE_BYTES);
    Ok((status, response, ResponseBody::from_stream(body)).into_response())
}

/// Write a file of a volume
///
/// The body is its contents, as they are. Missing directories above it are made. The file is there
/// whole or not at all, and on the disk when the answer comes.
#[utoipa::path(
    put, path = "/v1/volumes/{name}/files", tag = "volumes",
    params(
        ("name" = String, Path, description = "The volume's id, or its name"),
        ("path" = String, Query, description = "From the volume's root"),
        ("mode" = Option<String>, Query, description = "Permission bits in octal, such as `0644`"),
    ),
    request_body(content = [u8], content_type = "application/octet-stream"),
    responses((status = 200, description = "It was written", body = files::FileWritten)),
)]
pub(crate) async fn write_volume_file(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
    mut parameters: Parameters,
    request: Request,
) -> Result<Json<files::FileWritten>, ApiError> {
    let mode = parameters.one("mode")?.as_deref().map(mode).transpose()?;
    let path = only_path(parameters)?;
    let contents = Arriving::new(request.into_body(), app.tasks()).map_err(io::Error::other);
    let contents = Box::new(StreamReader::new(Box::pin(contents)));
    let at = InVolume { volume: &name, path: &path };
    let size = app.sandboxes.write_in_volume(&caller, at, Ownership::mode(mode), contents).await?;
    Ok(Json(files::FileWritten { path: format!("/{}", path.trim_start_matches('/')), size }))
}

/// Remove a file of a volume, or a directory with everything in it
#[utoipa::path(
    delete, path = "/v1/volumes/{name}/files", tag = "volumes",
    params(
        ("name" = String, Path, description = "The volume's id, or its name"),
        ("path" = String, Query, description = "From the volume's root"),
    ),
    responses((status = 204, description = "It is gone")),
)]
pub(crate) async fn remove_volume_file(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    let path = only_path(parameters)?;
    app.sandboxes.remove_in_volume(&caller, InVolume { volume: &name, path: &path }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Show what is at a path of a volume
#[utoipa::path(
    get, path = "/v1/volumes/{name}/files/stat", tag = "volumes",
    params(
        ("name" = String, Path, description = "The volume's id, or its name"),
        ("path" = String, Query, description = "From the volume's root"),
    ),
    responses((status = 200, description = "What is there", body = files::FileInfo)),
)]
pub(crate) async fn stat_volume_file(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
    parameters: Parameters,
) -> Result<Json<files::FileInfo>, ApiError> {
    let path = only_path(parameters)?;
    let at = InVolume { volume: &name, path: &path };
    Ok(Json(convert::file(app.sandboxes.stat_in_volume(&caller, at).await?.info)))
}

/// List a directory of a volume, `depth` levels down
///
/// At most 10,000 entries: one that has more is refused.
#[utoipa::path(
    get, path = "/v1/volumes/{name}/files/list", tag = "volumes",
    params(
        ("name" = String, Path, description = "The volume's id, or its name"),
        ("path" = String, Query, description = "From the volume's root"),
        ("depth" = Option<u32>, Query, minimum = 1, maximum = 32, description = "How many levels; 1 where absent"),
    ),
    responses((status = 200, description = "What it holds", body = files::FileList)),
)]
pub(crate) async fn list_volume_files(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
    mut parameters: Parameters,
) -> Result<Json<files::FileList>, ApiError> {
    let depth = parameters.number("depth")?.unwrap_or(1);
    let path = only_path(parameters)?;
    let at = InVolume { volume: &name, path: &path };
    let entries = app.sandboxes.list_in_volume(&caller, at, depth).await?;
    Ok(Json(files::FileList {
        entries: entries.into_iter().map(|it| convert::file(it.info)).collect(),
    }))
}

/// Make a directory in a volume, and those above it that are missing
#[utoipa::path(
    post, path = "/v1/volumes/{name}/files/mkdir", tag = "volumes",
    params(
        ("name" = String, Path, description = "The volume's id, or its name"),
        ("path" = String, Query, description = "From the volume's root"),
    ),
    responses((status = 200, description = "The directory", body = files::FileInfo)),
)]
pub(crate) async fn make_volume_directory(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
    parameters: Parameters,
) -> Result<Json<files::FileInfo>, ApiError> {
    let path = only_path(parameters)?;
    let at = InVolume { volume: &name, path: &path };
    let made = app.sandboxes.make_directory_in_volume(&caller, at, Ownership::default()).await?;
    Ok(Json(convert::file(made.info)))
}

/// The path of a query that has nothing else.
fn only_path(mut parameters: Parameters) -> Result<String, ApiError> {
    let path = parameters.required("path")?;
    parameters.finish()?;
    Ok(path)
}
