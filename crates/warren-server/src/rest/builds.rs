//! Builds of templates: the files they take in, what they say, and how they end.

use std::convert::Infallible;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;
use warren_api::template as api;
use warren_core::{SandboxError, id::BuildId, templates::BuildFollower};

use super::{
    arriving::Arriving,
    lines::{self, SILENCE, line},
};
use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{Body, Named, Parameters},
};

/// How many entries a page has where the request does not say, and at most.
const PAGE: usize = 1000;

/// Upload files for builds
///
/// A tar archive, plain or compressed with gzip, of what `COPY` and `ADD` take: at most 8 GiB and
/// 500,000 entries. With `hash`, a SHA-256 that the caller works out, the files are found by it
/// again; unused files go after a week.
#[utoipa::path(
    put, path = "/v1/build-files", tag = "templates",
    params(("hash" = Option<String>, Query, description = "What to call them: 64 hexadecimal digits")),
    request_body(content = Vec<u8>, content_type = "application/x-tar", description = "The archive"),
    responses((status = 200, description = "What to call them in a build", body = api::BuildFiles)),
)]
pub(crate) async fn upload_build_files(
    State(app): State<App>,
    Known(caller): Known,
    mut parameters: Parameters,
    request: Request,
) -> Result<Json<api::BuildFiles>, ApiError> {
    let hash = parameters.one("hash")?;
    parameters.finish()?;
    let archive = Arriving::new(request.into_body(), app.tasks()).map_err(Into::into).boxed();
    let templates = app.sandboxes.templates();
    let (id, taken) = templates.upload(&caller, hash.as_deref(), archive).await?;
    Ok(Json(api::BuildFiles { id, entries: taken.entries, bytes: taken.bytes }))
}

/// Build a template
///
/// The build goes on whoever waits for it: its log says what it does. Each step runs in a sandbox
/// of its own, and is not done again where its result is known.
#[utoipa::path(
    post, path = "/v1/builds", tag = "templates", request_body = api::BuildTemplate,
    responses((status = 202, description = "The build, which goes on", body = api::Build)),
)]
pub(crate) async fn build_template(
    State(app): State<App>,
    Known(caller): Known,
    Body(request): Body<api::BuildTemplate>,
) -> Result<(StatusCode, Json<api::Build>), ApiError> {
    let request = convert::build_request(request)?;
    let build = app.sandboxes.templates().build(&caller, request).await?;
    Ok((StatusCode::ACCEPTED, Json(convert::build(&build))))
}

/// Get a build
#[utoipa::path(
    get, path = "/v1/builds/{build}", tag = "templates",
    params(("build" = String, Path, description = "Its id")),
    responses((status = 200, description = "The build", body = api::Build)),
)]
pub(crate) async fn get_build(
    State(app): State<App>,
    Known(caller): Known,
    Named(id): Named,
) -> Result<Json<api::Build>, ApiError> {
    let build = app.sandboxes.templates().get_build(&caller, build_id(&id)?)?;
    Ok(Json(convert::build(&build)))
}

/// Cancel a build
///
/// One that has ended stays as it is.
#[utoipa::path(
    post, path = "/v1/builds/{build}/cancel", tag = "templates",
    params(("build" = String, Path, description = "Its id")),
    responses((status = 200, description = "The build, which has ended", body = api::Build)),
)]
pub(crate) async fn cancel_build(
    State(app): State<App>,
    Known(caller): Known,
    Named(id): Named,
) -> Result<Json<api::Build>, ApiError> {
    let build = app.sandboxes.templates().cancel(&caller, build_id(&id)?).await?;
    Ok(Json(convert::build(&build)))
}

/// Read the log of a build
///
/// With `follow=true`, or `Accept: application/x-ndjson`, it is a stream of lines that goes on
/// until the build ends. Of a build that has ended, the newest 256 KiB are kept.
#[utoipa::path(
    get, path = "/v1/builds/{build}/logs", tag = "templates",
    params(
        ("build" = String, Path, description = "Its id"),
        ("after" = Option<u64>, Query, description = "Only entries behind this number"),
        ("limit" = Option<u32>, Query, description = "At most this many: 1 to 1000, the default"),
        ("follow" = Option<bool>, Query, description = "Whether to wait for what comes"),
    ),
    responses((status = 200, description = "The entries, in order", content(
        (api::BuildLogPage = "application/json"),
        (api::BuildLine = "application/x-ndjson"),
    ))),
)]
pub(crate) async fn read_build_logs(
    State(app): State<App>,
    Known(caller): Known,
    Named(id): Named,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, ApiError> {
    let after = parameters.number("after")?.unwrap_or_default();
    let limit = parameters.number("limit")?;
    let follow = parameters.choice("follow")?.unwrap_or_else(|| lines::wanted(&headers));
    parameters.finish()?;
    let build = build_id(&id)?;
    let templates = app.sandboxes.templates();
    if follow {
        if limit.is_some() {
            return Err(ApiError::invalid("limit", "not together with `follow`"));
        }
        let follower = templates.follow_build(&caller, build, after)?;
        let slot = app.open_event_stream(&caller)?;
        return Ok(lines::response(events(follower, app.ending(&caller)), slot));
    }
    let limit = limit.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(ApiError::invalid("limit", format!("expected 1 to {PAGE}")));
    }
    let entries = templates.build_log(&caller, build, after, limit)?;
    let more = entries.len() == limit;
    let next_after = entries.last().filter(|_| more).map(|entry| entry.seq);
    let entries = entries.iter().map(convert::build_log_entry).collect();
    Ok(Json(api::BuildLogPage { entries, next_after }).into_response())
}

/// Forget what the steps of builds have made
///
/// Of the caller's project: the next builds do every step anew. Templates stay as they are.
#[utoipa::path(
    delete, path = "/v1/build-cache", tag = "templates",
    responses((status = 200, description = "How much was forgotten", body = api::CacheForgotten)),
)]
pub(crate) async fn forget_build_cache(
    State(app): State<App>,
    Known(caller): Known,
) -> Result<Json<api::CacheForgotten>, ApiError> {
    let steps = app.sandboxes.templates().forget_cache(&caller).await?;
    Ok(Json(api::CacheForgotten { steps: steps as u64 }))
}

fn build_id(text: &str) -> Result<BuildId, ApiError> {
    // What cannot be an id is none.
    text.parse().map_err(|_not_an_id| SandboxError::NoBuild { name: text.to_owned() }.into())
}

fn events(
    follower: BuildFollower,
    stopping: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    // None once the last line was given.
    stream::unfold(Some((follower, stopping)), |state| async move {
        let (mut follower, stopping) = state?;
        let next = tokio::select! {
            biased;
            () = stopping.cancelled() => return None,
            next = follower.next() => next,
            () = tokio::time::sleep(SILENCE) => {
                return Some((Ok(line(&api::BuildLine::Keepalive)), Some((follower, stopping))));
            }
        };
        let Some(entries) = next else {
            let end = api::BuildLine::End(convert::build(&follower.build()));
            return Some((Ok(line(&end)), None));
        };
        let entry = |entry| line(&api::BuildLine::Entry(convert::build_log_entry(entry)));
        let text: Vec<_> = entries.iter().map(entry).collect();
        Some((Ok(text.concat().into()), Some((follower, stopping))))
    })
}
