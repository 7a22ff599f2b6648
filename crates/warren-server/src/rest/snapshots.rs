//! Snapshots, forks, and going back.

use std::time::Instant;

use axum::{
    Json,
    body::Body as ResponseBody,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio_util::io::ReaderStream;
use warren_api::{
    images::{ImageStep, TransferDone},
    sandbox, snapshot as api,
};
use warren_core::sandboxes::WantedSnapshot;

use super::{arriving::Arriving, transfers::transfer};

use crate::{
    app::App,
    auth::{HostCaller, Known},
    convert,
    error::ApiError,
    extract::{Body, Named, Parameters, SandboxPath},
};

/// Bytes of an exported file that are read at once.
const PIECE_BYTES: usize = 256 << 10;

/// Save what a sandbox's files are
///
/// As they are at one moment, for which a running sandbox stands still. It is on the disk, with a
/// checksum of every file, when the answer comes.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/snapshots", tag = "snapshots", params(SandboxPath),
    request_body = api::CreateSnapshot,
    responses((status = 201, description = "It is saved", body = api::Snapshot)),
)]
pub(crate) async fn create_snapshot(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    Body(request): Body<api::CreateSnapshot>,
) -> Result<(StatusCode, Json<api::Snapshot>), ApiError> {
    convert::check_snapshot_kind(request.kind)?;
    let wanted = convert::wanted_snapshot(request);
    let (snapshot, frozen) = app.sandboxes.snapshot(&caller, &id, wanted).await?;
    let mut snapshot = convert::snapshot(&snapshot);
    snapshot.frozen_us = Some(convert::micros(frozen));
    Ok((StatusCode::CREATED, Json(snapshot)))
}

/// List snapshots
///
/// Oldest first; `parent` makes a tree of them.
#[utoipa::path(
    get, path = "/v1/snapshots", tag = "snapshots", params(api::ListSnapshots),
    responses((status = 200, description = "They", body = api::SnapshotList)),
)]
pub(crate) async fn list_snapshots(
    State(app): State<App>,
    Known(caller): Known,
    mut parameters: Parameters,
) -> Result<Json<api::SnapshotList>, ApiError> {
    let sandbox = parameters.one("sandbox")?;
    let tag = parameters.one("tag")?;
    parameters.finish()?;
    let sandbox = match sandbox {
        Some(id) => Some(id.parse().map_err(|error| ApiError::invalid("sandbox", error))?),
        None => None,
    };
    let found = app.sandboxes.snapshots(&caller, sandbox, tag.as_deref());
    let snapshots = found.iter().map(|it| convert::snapshot(it)).collect();
    Ok(Json(api::SnapshotList { snapshots }))
}

/// Export a snapshot
///
/// An OCI image in one file: the layers of the snapshot, of those below it, and of its image, so
/// that any program that runs containers can load it. The host's own image is not in it. What says
/// which sandbox it was is left out; the environment that came with the image, and more where the
/// snapshot was made with it, is in it.
#[utoipa::path(
    get, path = "/v1/snapshots/{id}/archive", tag = "snapshots", params(("id" = String, Path, description = "A snapshot's id or name")),
    responses((status = 200, description = "The image", body = [u8], content_type = "application/x-tar")),
)]
pub(crate) async fn export_snapshot(
    State(app): State<App>,
    Known(caller): Known,
    Named(name): Named,
) -> Result<Response, ApiError> {
    let slot = app.open_files_stream(&caller)?;
    let exported = app.sandboxes.export_snapshot(&caller, &name).await?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(exported.length));
    let file = tokio::fs::File::from_std(exported.file);
    let pieces = ReaderStream::with_capacity(file, PIECE_BYTES).inspect(move |_| {
        // The slot is the stream's: it goes when the stream does.
        let _held = &slot;
    });
    Ok((headers, ResponseBody::from_stream(pieces)).into_response())
}

/// Import a snapshot
///
/// The body is what an export gave, here or on another server. Only the snapshot's own layers are
/// taken; what lies below them has to be here: the host's image always is, an OCI image where it
/// was pulled.
#[utoipa::path(
    put, path = "/v1/snapshots", tag = "snapshots",
    params(
        ("name" = Option<String>, Query, description = "A name, unique among the caller's snapshots"),
        ("tag" = Option<Vec<String>>, Query, description = "Words for finding it again; may be repeated"),
    ),
    request_body(content = [u8], content_type = "application/x-tar"),
    responses((status = 201, description = "It is saved", body = api::Snapshot)),
)]
pub(crate) async fn import_snapshot(
    State(app): State<App>,
    Known(caller): Known,
    mut parameters: Parameters,
    request: Request,
) -> Result<(StatusCode, Json<api::Snapshot>), ApiError> {
    let name = parameters.one("name")?;
    let tags = parameters.all("tag").into_iter().collect();
    parameters.finish()?;
    let _slot = app.open_files_stream(&caller)?;
    let wanted = WantedSnapshot { name, tags, with_env: false };
    let archive = Arriving::new(request.into_body(), app.tasks());
    let archive = archive.map_err(std::io::Error::other).boxed();
    let snapshot = app.sandboxes.import_snapshot(&caller, wanted, archive).await?;
    Ok((StatusCode::CREATED, Json(convert::snapshot(&snapshot))))
}

/// Push a snapshot
///
/// To a registry, as the image that an export gives. It has all layers, so that other programs can
/// run it, unless the snapshot is on the host's own image.
#[utoipa::path(
    post, path = "/v1/snapshots/{id}/push", tag = "snapshots", params(("id" = String, Path, description = "A snapshot's id or name")),
    request_body = api::PushSnapshot,
    responses((status = 200, description = "Lines, the last of which is `done` or `error`",
        body = ImageStep, content_type = "application/x-ndjson")),
)]
pub(crate) async fn push_snapshot(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
    Named(name): Named,
    Body(request): Body<api::PushSnapshot>,
) -> Result<Response, ApiError> {
    let sandboxes = app.sandboxes.clone();
    // What is not there is said at once.
    sandboxes.get_snapshot(&caller, &name)?;
    transfer(&app, &caller.clone(), move |progress| {
        Box::pin(async move {
            let pushed = sandboxes.push_snapshot(&caller, &name, &request.target, &progress);
            let (snapshot, digest) = pushed.await?;
            let (snapshot, digest) = (convert::snapshot(&snapshot), digest.to_string());
            let (snapshot, digest) = (Some(Box::new(snapshot)), Some(digest));
            Ok(TransferDone { snapshot, digest, ..TransferDone::default() })
        })
    })
}

/// Pull a snapshot
///
/// From a registry that it was pushed to. Its own layers become one, as in an import; the image
/// that it lies on is taken along where it is not here. Callers with a key may name registries that
/// the server's setting `registries_for_keys` lists.
#[utoipa::path(
    post, path = "/v1/snapshots", tag = "snapshots", request_body = api::PullSnapshot,
    responses((status = 200, description = "Lines, the last of which is `done` or `error`",
        body = ImageStep, content_type = "application/x-ndjson")),
)]
pub(crate) async fn pull_snapshot(
    State(app): State<App>,
    Known(caller): Known,
    Body(request): Body<api::PullSnapshot>,
) -> Result<Response, ApiError> {
    let sandboxes = app.sandboxes.clone();
    transfer(&app, &caller.clone(), move |progress| {
        Box::pin(async move {
            let api::PullSnapshot { reference, name, tags } = request;
            let wanted = WantedSnapshot { name, tags, with_env: false };
            let pulled = sandboxes.pull_snapshot(&caller, &reference, wanted, &progress).await?;
            let snapshot = Some(Box::new(convert::snapshot(&pulled)));
            Ok(TransferDone { snapshot, ..TransferDone::default() })
        })
    })
}

/// Look at one snapshot
#[utoipa::path(
    get, path = "/v1/snapshots/{id}", tag = "snapshots", params(("id" = String, Path, description = "A snapshot's id or name")),
    responses((status = 200, description = "It", body = api::Snapshot)),
)]
pub(crate) async fn get_snapshot(
    State(app): State<App>,
    Known(caller): Known,
    Named(id): Named,
) -> Result<Json<api::Snapshot>, ApiError> {
    Ok(Json(convert::snapshot(&*app.sandboxes.get_snapshot(&caller, &id)?)))
}

/// Change the name or the tags of a snapshot
#[utoipa::path(
    patch, path = "/v1/snapshots/{id}", tag = "snapshots", params(("id" = String, Path, description = "A snapshot's id or name")),
    request_body = api::ChangeSnapshot,
    responses((status = 200, description = "It is changed", body = api::Snapshot)),
)]
pub(crate) async fn change_snapshot(
    State(app): State<App>,
    Known(caller): Known,
    Named(id): Named,
    Body(request): Body<api::ChangeSnapshot>,
) -> Result<Json<api::Snapshot>, ApiError> {
    let changed = app.sandboxes.change_snapshot(&caller, &id, request.name, request.tags).await?;
    Ok(Json(convert::snapshot(&changed)))
}

/// Remove a snapshot
///
/// What comes after it in the tree comes after its parent then. Its files go as soon as no sandbox
/// and no other snapshot needs them.
#[utoipa::path(
    delete, path = "/v1/snapshots/{id}", tag = "snapshots", params(("id" = String, Path, description = "A snapshot's id or name")),
    responses((status = 204, description = "It is gone")),
)]
pub(crate) async fn delete_snapshot(
    State(app): State<App>,
    Known(caller): Known,
    Named(id): Named,
) -> Result<StatusCode, ApiError> {
    app.sandboxes.delete_snapshot(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Fork a sandbox
///
/// Independent sandboxes from its live state: its files as they are at one moment, and an id, a
/// hostname, a machine-id and addresses of their own. Its processes are not carried over, and the
/// environment that it was given only where that is asked for. All are made or none.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/fork", tag = "snapshots", params(SandboxPath),
    request_body = api::ForkSandbox,
    responses((status = 201, description = "They run", body = api::ForkList)),
)]
pub(crate) async fn fork_sandbox(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    Body(request): Body<api::ForkSandbox>,
) -> Result<(StatusCode, Json<api::ForkList>), ApiError> {
    let began = Instant::now();
    convert::check_snapshot_kind(request.kind)?;
    let forked = app.sandboxes.fork(&caller, &id, convert::wanted_fork(request)).await?;
    let took = began.elapsed();
    let warnings = app.sandboxes.runtime().1.warnings;
    let sandboxes = forked.made.iter().map(|made| {
        let mut sandbox = convert::sandbox(&made.sandbox);
        sandbox.timing = Some(convert::timing(took, &made.steps));
        sandbox.warnings.clone_from(&warnings);
        sandbox
    });
    let list =
        api::ForkList { sandboxes: sandboxes.collect(), frozen_us: convert::micros(forked.frozen) };
    Ok((StatusCode::CREATED, Json(list)))
}

/// Take a sandbox back to a snapshot
///
/// Its processes end, what it wrote since is gone, and it runs again on the files of the snapshot,
/// with its own id, name and settings.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/rollback", tag = "snapshots", params(SandboxPath),
    request_body = api::RollbackSandbox,
    responses((status = 200, description = "It runs", body = sandbox::Sandbox)),
)]
pub(crate) async fn rollback_sandbox(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    Body(request): Body<api::RollbackSandbox>,
) -> Result<Json<sandbox::Sandbox>, ApiError> {
    let began = Instant::now();
    let made = app.sandboxes.roll_back(&caller, &id, &request.snapshot).await?;
    Ok(Json(convert::made(&made, began.elapsed())))
}

/// Adopt a fork's files into its parent
///
/// The parent's processes end, and it runs again on the files of the fork, which goes on.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/keep", tag = "snapshots", params(SandboxPath),
    responses((status = 200, description = "The parent, which runs", body = sandbox::Sandbox)),
)]
pub(crate) async fn keep_sandbox(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<sandbox::Sandbox>, ApiError> {
    let began = Instant::now();
    let made = app.sandboxes.keep(&caller, &id).await?;
    Ok(Json(convert::made(&made, began.elapsed())))
}
