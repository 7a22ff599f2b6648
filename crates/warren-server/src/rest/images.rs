//! Images.

use std::path::PathBuf;

use axum::{
    Json,
    body::Body as RequestBody,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use tokio::sync::mpsc;
use warren_api::images as api;
use warren_core::images::{
    ExportFormat, Held, Images, ImportSource, Listed, Progress, Prune, Step,
};

use super::{arriving::Arriving, transfers::transfer};
use crate::{
    app::App,
    auth::{HostCaller, Known},
    convert::images as convert,
    error::ApiError,
    extract::{Body, Named, Parameters},
};

/// How many steps of an import are kept for its answer.
const MOST_STEPS: usize = 4096;

/// List images, the newest first
#[utoipa::path(
    get, path = "/v1/images", tag = "images",
    responses((status = 200, description = "Every image of this server", body = api::ImageList)),
)]
pub(crate) async fn list_images(
    State(app): State<App>,
    Known(_caller): Known,
) -> Result<Json<api::ImageList>, ApiError> {
    let images = app.sandboxes.images()?;
    let listed = images.list().iter().map(convert::image).collect();
    Ok(Json(api::ImageList { images: listed, disk_bytes: images.bytes() }))
}

/// Show an image
///
/// By a name, an id, or the first six or more digits of an id.
#[utoipa::path(
    get, path = "/v1/images/{name}", tag = "images",
    params(("name" = String, Path, description = "The image's name or id; `/` is written `%2F`")),
    responses((status = 200, description = "The image", body = api::Image)),
)]
pub(crate) async fn get_image(
    State(app): State<App>,
    Known(_caller): Known,
    Named(name): Named,
) -> Result<Json<api::Image>, ApiError> {
    Ok(Json(convert::image(&app.sandboxes.images()?.get(&name)?)))
}

/// Pull an image
///
/// From its registry, and whatever is here under that name already. Callers with a key may name
/// registries that the server's setting `registries_for_keys` lists. A client that goes away ends
/// the transfer; what has come by then need not come again.
#[utoipa::path(
    post, path = "/v1/images/pull", tag = "images", request_body = api::PullImage,
    responses((status = 200, description = "Lines, the last of which is `done` or `error`",
        body = api::ImageStep, content_type = "application/x-ndjson")),
)]
pub(crate) async fn pull_image(
    State(app): State<App>,
    Known(caller): Known,
    Body(request): Body<api::PullImage>,
) -> Result<Response, ApiError> {
    let images = app.sandboxes.images()?;
    transfer(&app, &caller.clone(), move |progress| {
        Box::pin(async move {
            let held = images.pull(&caller, &request.reference, &progress).await?;
            Ok(done(&images, &[held]))
        })
    })
}

/// Push an image
///
/// To the registry of its name, or under another name.
#[utoipa::path(
    post, path = "/v1/images/push", tag = "images", request_body = api::PushImage,
    responses((status = 200, description = "Lines, the last of which is `done` or `error`",
        body = api::ImageStep, content_type = "application/x-ndjson")),
)]
pub(crate) async fn push_image(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
    Body(request): Body<api::PushImage>,
) -> Result<Response, ApiError> {
    let images = app.sandboxes.images()?;
    transfer(&app, &caller.clone(), move |progress| {
        Box::pin(async move {
            let api::PushImage { image, target } = request;
            let digest = images.push(&caller, &image, target.as_deref(), &progress).await?;
            let listed = images.get(&image).iter().map(convert::image).collect();
            let digest = Some(digest.to_string());
            Ok(api::TransferDone { images: listed, digest, ..api::TransferDone::default() })
        })
    })
}

/// Import an image of the server's machine
///
/// From a file or directory there, its Docker or its containerd.
#[utoipa::path(
    post, path = "/v1/images/import", tag = "images", request_body = api::ImportImage,
    responses((status = 200, description = "Lines, the last of which is `done` or `error`",
        body = api::ImageStep, content_type = "application/x-ndjson")),
)]
pub(crate) async fn import_image(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
    Body(request): Body<api::ImportImage>,
) -> Result<Response, ApiError> {
    let api::ImportImage { path, docker, containerd, name } = request;
    let source = match (path.map(PathBuf::from), docker, containerd) {
        (Some(path), None, None) if !path.is_absolute() => {
            return Err(ApiError::invalid("path", "expected an absolute path"));
        }
        (Some(path), None, None) => ImportSource::Path(path),
        (None, Some(image), None) => ImportSource::Docker(image),
        (None, None, Some(image)) => ImportSource::Containerd(image),
        _ => {
            let expected = "expected exactly one of `path`, `docker` and `containerd`";
            return Err(ApiError::invalid("request body", expected));
        }
    };
    let images = app.sandboxes.images()?;
    transfer(&app, &caller.clone(), move |progress| {
        Box::pin(async move {
            let held = images.import(&caller, source, name.as_deref(), &progress).await?;
            Ok(done(&images, &held))
        })
    })
}

/// Import an archive
///
/// A tar archive in OCI's layout, or what `docker save` writes; compressed by gzip or not.
#[utoipa::path(
    put, path = "/v1/images/archive", tag = "images",
    params(("name" = Option<String>, Query, description = "The name that an image without one gets")),
    request_body(content = [u8], content_type = "application/x-tar"),
    responses((status = 200, description = "The images that were in it", body = api::ImagesImported)),
)]
pub(crate) async fn import_archive(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
    mut parameters: Parameters,
    body: RequestBody,
) -> Result<Json<api::ImagesImported>, ApiError> {
    let name = parameters.one("name")?;
    parameters.finish()?;
    let images = app.sandboxes.images()?;
    let pieces = Arriving::new(body, app.tasks()).map(|piece| piece.map_err(std::io::Error::other));
    let source = ImportSource::Stream(Box::pin(pieces));
    let (sender, mut steps) = mpsc::channel(MOST_STEPS);
    let held = images.import(&caller, source, name.as_deref(), &Progress::to(sender)).await?;
    let mut notes = Vec::new();
    while let Ok(step) = steps.try_recv() {
        if let Step::Note(text) = step {
            notes.push(text);
        }
    }
    Ok(Json(api::ImagesImported { images: done(&images, &held).images, notes }))
}

/// Export an image
///
/// As a tar archive in OCI's layout; with `format=docker` also with what older programs want.
#[utoipa::path(
    get, path = "/v1/images/{name}/archive", tag = "images",
    params(
        ("name" = String, Path, description = "The image's name or id; `/` is written `%2F`"),
        ("format" = Option<String>, Query, description = "`oci`, the default, or `docker`"),
    ),
    responses((status = 200, description = "The archive", body = [u8], content_type = "application/x-tar")),
)]
pub(crate) async fn export_image(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
    Named(name): Named,
    mut parameters: Parameters,
) -> Result<Response, ApiError> {
    let format = match parameters.one("format")?.as_deref() {
        None | Some("oci") => ExportFormat::Oci,
        Some("docker") => ExportFormat::Docker,
        Some(_) => return Err(ApiError::invalid("format", "expected `oci` or `docker`")),
    };
    parameters.finish()?;
    let archive = app.sandboxes.images()?.export(&caller, &name, format).await?;
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    Ok(([content_type], RequestBody::from_stream(archive)).into_response())
}

/// Name an image
///
/// One more name; one that another image has goes over.
#[utoipa::path(
    post, path = "/v1/images/tag", tag = "images", request_body = api::TagImage,
    responses((status = 200, description = "The image", body = api::Image)),
)]
pub(crate) async fn tag_image(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
    Body(request): Body<api::TagImage>,
) -> Result<Json<api::Image>, ApiError> {
    let images = app.sandboxes.images()?;
    images.tag(&caller, &request.image, &request.tag).await?;
    Ok(Json(convert::image(&images.get(&request.tag)?)))
}

/// Remove an image
///
/// Named by a name, it loses that name, and goes with its last one unless it is in use; named by an
/// id, it goes with all its names, and is refused while it is in use.
#[utoipa::path(
    delete, path = "/v1/images/{name}", tag = "images",
    params(("name" = String, Path, description = "The image's name or id; `/` is written `%2F`")),
    responses((status = 200, description = "What went", body = api::ImagesRemoved)),
)]
pub(crate) async fn remove_image(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
    Named(name): Named,
) -> Result<Json<api::ImagesRemoved>, ApiError> {
    Ok(Json(convert::removed(app.sandboxes.images()?.remove(&caller, &name).await?)))
}

/// Remove images that nobody uses
///
/// Those without a name; with `all`, whatever nothing is made from.
#[utoipa::path(
    post, path = "/v1/images/prune", tag = "images", request_body = api::PruneImages,
    responses((status = 200, description = "What went", body = api::ImagesRemoved)),
)]
pub(crate) async fn prune_images(
    State(app): State<App>,
    HostCaller(caller): HostCaller,
    Body(request): Body<api::PruneImages>,
) -> Result<Json<api::ImagesRemoved>, ApiError> {
    let which = if request.all { Prune::Unused } else { Prune::Unnamed };
    Ok(Json(convert::removed(app.sandboxes.images()?.prune(&caller, which).await?)))
}

fn done(images: &Images, held: &[Held]) -> api::TransferDone {
    let listed = held.iter().map(|held| {
        let of = images.get(&held.image.id.to_string());
        let listed = of.unwrap_or(Listed { image: held.image.clone(), in_use: false });
        convert::image(&listed)
    });
    api::TransferDone { images: listed.collect(), ..api::TransferDone::default() }
}
