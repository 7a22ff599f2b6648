//! Files. Contents stream through in both directions.

use axum::{
    Json,
    body::Body as ResponseBody,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt};
use utoipa::{
    IntoParams,
    openapi::{
        Required,
        path::{Parameter, ParameterIn},
    },
};
use warren_api::files as api;
use warren_core::sandboxes::{At, Range, Upload};

use super::arriving::Arriving;
use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{Body, Parameters, SandboxPath},
    openapi::text,
};

/// Read a file
///
/// The raw bytes; `Range` with one range is honoured.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/files", tag = "files",
    params(SandboxPath, Place, ("Range" = Option<String>, Header, description = "One range, such as `bytes=0-99`")),
    responses(
        (status = 200, description = "Its bytes", body = [u8], content_type = "application/octet-stream"),
        (status = 206, description = "The range that was asked for", body = [u8], content_type = "application/octet-stream"),
    ),
)]
pub(crate) async fn read_file(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let place = Place::of(id, parameters)?;
    let range = headers.get(header::RANGE).and_then(range);
    let download = app.sandboxes.read_file(&caller, place.at(), range).await?;
    let mut response = HeaderMap::new();
    let octets = HeaderValue::from_static("application/octet-stream");
    response.insert(header::CONTENT_TYPE, octets);
    response.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(length) = download.length {
        response.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let part = download.range.as_deref().and_then(|range| HeaderValue::from_str(range).ok());
    let status = if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    response.extend(part.map(|range| (header::CONTENT_RANGE, range)));
    Ok((status, response, ResponseBody::from_stream(download)).into_response())
}

/// Write a file
///
/// The body is its contents, as they are. Missing directories above it are made.
#[utoipa::path(
    put, path = "/v1/sandboxes/{id}/files", tag = "files",
    params(SandboxPath, Place, ("mode" = Option<String>, Query, description = "Permission bits in octal, such as `0644`")),
    request_body(content = [u8], content_type = "application/octet-stream"),
    responses((status = 200, description = "It was written", body = api::FileWritten)),
)]
pub(crate) async fn write_file(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    mut parameters: Parameters,
    request: Request,
) -> Result<Json<api::FileWritten>, ApiError> {
    let mode = parameters.one("mode")?.as_deref().map(mode).transpose()?;
    let place = Place::of(id, parameters)?;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let contents = Arriving::new(request.into_body(), app.tasks()).map_err(Into::into).boxed();
    let upload = Upload { contents, length, mode };
    let written = app.sandboxes.write_file(&caller, place.at(), upload).await?;
    Ok(Json(api::FileWritten { path: written.path, size: written.size }))
}

/// Remove a file, or a directory with everything in it
#[utoipa::path(
    delete, path = "/v1/sandboxes/{id}/files", tag = "files", params(SandboxPath, Place),
    responses((status = 204, description = "It is gone")),
)]
pub(crate) async fn remove_file(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    let place = Place::of(id, parameters)?;
    app.sandboxes.remove_file(&caller, place.at()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Show what is at a path
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/files/stat", tag = "files", params(SandboxPath, Place),
    responses((status = 200, description = "What is there", body = api::FileInfo)),
)]
pub(crate) async fn stat_file(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    parameters: Parameters,
) -> Result<Json<api::FileInfo>, ApiError> {
    let place = Place::of(id, parameters)?;
    Ok(Json(convert::file(app.sandboxes.stat_file(&caller, place.at()).await?)))
}

/// List a directory, `depth` levels down
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/files/list", tag = "files",
    params(SandboxPath, Place, ("depth" = Option<u32>, Query, minimum = 1, description = "How many levels; 1 where absent")),
    responses((status = 200, description = "What it holds", body = api::FileList)),
)]
pub(crate) async fn list_files(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    mut parameters: Parameters,
) -> Result<Json<api::FileList>, ApiError> {
    let depth = parameters.number("depth")?.unwrap_or(1);
    if depth == 0 {
        return Err(ApiError::invalid("depth", "expected 1 or more"));
    }
    let place = Place::of(id, parameters)?;
    let entries = app.sandboxes.list_files(&caller, place.at(), depth).await?;
    Ok(Json(api::FileList { entries: entries.into_iter().map(convert::file).collect() }))
}

/// Make a directory, and those above it that are missing
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/files/mkdir", tag = "files", params(SandboxPath, Place),
    responses((status = 200, description = "The directory", body = api::FileInfo)),
)]
pub(crate) async fn make_directory(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    parameters: Parameters,
) -> Result<Json<api::FileInfo>, ApiError> {
    let place = Place::of(id, parameters)?;
    Ok(Json(convert::file(app.sandboxes.make_directory(&caller, place.at()).await?)))
}

/// Move a file or a directory
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/files/move", tag = "files", params(SandboxPath),
    request_body = api::MoveFile,
    responses((status = 200, description = "What was moved", body = api::FileInfo)),
)]
pub(crate) async fn move_file(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    Body(request): Body<api::MoveFile>,
) -> Result<Json<api::FileInfo>, ApiError> {
    let at = At { sandbox: &id, user: request.user.as_deref(), path: &request.from };
    Ok(Json(convert::file(app.sandboxes.move_file(&caller, at, &request.to).await?)))
}

/// Where a request points to.
pub(super) struct Place {
    sandbox: String,
    user: Option<String>,
    path: String,
}

impl Place {
    /// Takes the rest of a query.
    pub(super) fn of(sandbox: String, mut parameters: Parameters) -> Result<Self, ApiError> {
        let path = parameters.required("path")?;
        let user = parameters.one("user")?;
        parameters.finish()?;
        Ok(Self { sandbox, user, path })
    }

    pub(super) fn at(&self) -> At<'_> {
        At { sandbox: &self.sandbox, user: self.user.as_deref(), path: &self.path }
    }
}

impl IntoParams for Place {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let path = "Absolute, or from the home of `user`";
        let user = "As whom; the sandbox's default user where absent";
        let user = text("user", ParameterIn::Query, user).required(Required::False);
        vec![text("path", ParameterIn::Query, path).build(), user.build()]
    }
}

/// Reads permission bits in octal.
pub(super) fn mode(text: &str) -> Result<u32, ApiError> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| ApiError::invalid("mode", "expected octal permission bits such as 0644"))
}

/// Reads a `Range` with one range. As HTTP has it, one that cannot be read is as good as none.
pub(super) fn range(value: &HeaderValue) -> Option<Range> {
    let (first, last) = value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        return Some(Range::Last(last.parse().ok()?));
    }
    let first = first.parse().ok()?;
    let last = if last.is_empty() { None } else { Some(last.parse().ok()?) };
    last.is_none_or(|last| first <= last).then_some(Range::From(first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        let check = |text, expected| assert_eq!(range(&HeaderValue::from_static(text)), expected);
        check("bytes=0-9", Some(Range::From(0, Some(9))));
        check("bytes=5-", Some(Range::From(5, None)));
        check("bytes=-3", Some(Range::Last(3)));
        check("bytes=9-0", None);
        check("bytes=0-1,4-5", None);
        check("lines=1-2", None);
        check("bytes=-", None);
    }

    #[test]
    fn a_mode_is_octal() {
        assert_eq!(mode("0644").ok(), Some(0o644));
        for bad in ["", "9", "10000", "rw"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }
}
