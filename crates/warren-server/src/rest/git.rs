//! Sessions of git: the repository in a sandbox.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio_util::io::ReaderStream;
use warren_api::git as api;

use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{Body, Named, Parameters, SandboxPath},
};

/// How many commits a log has where the request does not say.
const LOGGED: u32 = 20;

/// List sessions of git
///
/// Those of the caller's sandboxes that are there, the newest first: which branch of which
/// repository is worked on where, and what is known of its last commit and push.
#[utoipa::path(
    get, path = "/v1/git/sessions", tag = "git",
    responses((status = 200, description = "The sessions", body = api::GitSessionList)),
)]
pub(crate) async fn list_git_sessions(
    State(app): State<App>,
    Known(caller): Known,
) -> Result<Json<api::GitSessionList>, ApiError> {
    let sessions = app.sandboxes.git_sessions(&caller).into_iter();
    let sessions = sessions.map(|(session, sandbox)| convert::git_session(session, &sandbox));
    Ok(Json(api::GitSessionList { sessions: sessions.collect() }))
}

/// Show how a sandbox's repository is
///
/// A paused sandbox is woken for it and paused again. Nothing is fetched.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/git", tag = "git", params(SandboxPath),
    responses((status = 200, description = "Its state", body = api::GitStatus)),
)]
pub(crate) async fn get_git_status(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::GitStatus>, ApiError> {
    let status = app.sandboxes.git_status(&caller, &id).await?;
    let session = app.sandboxes.git_session(&caller, &id)?;
    let sandbox = app.sandboxes.get(&caller, &id)?;
    Ok(Json(convert::git_status(convert::git_session(session, &sandbox), status)))
}

/// Show what has changed and is not committed
///
/// A patch that `git apply` takes, with new and binary files, of at most 16 MiB: the header
/// `Warren-Truncated` says where there is more.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/git/diff", tag = "git", params(SandboxPath),
    responses((status = 200, description = "The patch", body = String, content_type = "text/x-diff")),
)]
pub(crate) async fn read_git_diff(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Response, ApiError> {
    let diff = app.sandboxes.git_diff(&caller, &id).await?;
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("text/x-diff"));
    let mut response = ([kind], diff.patch).into_response();
    if diff.truncated {
        response.headers_mut().insert("warren-truncated", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Commit everything that has changed
///
/// But what `.gitignore` names. Hooks of the repository run, inside the sandbox.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/git/commit", tag = "git", params(SandboxPath),
    request_body = api::CommitGit,
    responses((status = 200, description = "The commit, if anything had changed", body = api::GitCommitted)),
)]
pub(crate) async fn commit_git(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    Body(request): Body<api::CommitGit>,
) -> Result<Json<api::GitCommitted>, ApiError> {
    let commit = app.sandboxes.git_commit(&caller, &id, request.message.as_deref()).await?;
    Ok(Json(convert::git_committed(commit)))
}

/// Push the session's branch
///
/// Where the remote's branch has moved, its commits are taken in first; where that cannot be, the
/// commits go to a rescue branch.
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/git/push", tag = "git", params(SandboxPath),
    responses((status = 200, description = "What became of it", body = api::GitPushed)),
)]
pub(crate) async fn push_git(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::GitPushed>, ApiError> {
    Ok(Json(convert::git_pushed(app.sandboxes.git_push(&caller, &id).await?)))
}

/// Take in what the remote's branch has
#[utoipa::path(
    post, path = "/v1/sandboxes/{id}/git/pull", tag = "git", params(SandboxPath),
    responses((status = 200, description = "Where the branch is", body = api::GitPulled)),
)]
pub(crate) async fn pull_git(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::GitPulled>, ApiError> {
    let pull = app.sandboxes.git_pull(&caller, &id).await?;
    Ok(Json(api::GitPulled { sha: pull.after }))
}

/// Show the last commits
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/git/log", tag = "git",
    params(
        SandboxPath,
        ("limit" = Option<u32>, Query, description = "How many; 20 where absent, at most 1000"),
    ),
    responses((status = 200, description = "They, the newest first", body = api::GitLog)),
)]
pub(crate) async fn read_git_log(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    mut parameters: Parameters,
) -> Result<Json<api::GitLog>, ApiError> {
    let limit = parameters.number("limit")?.unwrap_or(LOGGED);
    parameters.finish()?;
    Ok(Json(convert::git_log(app.sandboxes.git_log(&caller, &id, limit).await?)))
}

/// List branches
///
/// The sandbox's own, and those of the remote as far as they were fetched.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/git/branches", tag = "git", params(SandboxPath),
    responses((status = 200, description = "They", body = api::GitBranchList)),
)]
pub(crate) async fn list_git_branches(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
) -> Result<Json<api::GitBranchList>, ApiError> {
    Ok(Json(convert::git_branches(app.sandboxes.git_branches(&caller, &id).await?)))
}

/// List bundles of work that could not get to its remote
///
/// A sandbox that had to go, by its deadline or because its owner said so, leaves one where its
/// work was nowhere else.
#[utoipa::path(
    get, path = "/v1/git/rescues", tag = "git",
    responses((status = 200, description = "They, the newest first", body = api::GitRescueList)),
)]
pub(crate) async fn list_git_rescues(
    State(app): State<App>,
    Known(caller): Known,
) -> Result<Json<api::GitRescueList>, ApiError> {
    let rescues = app.sandboxes.rescues(&caller);
    let rescues = rescues.iter().map(|it| convert::git_rescue(it)).collect();
    Ok(Json(api::GitRescueList { rescues }))
}

/// Read a bundle
///
/// A file for `git fetch` in a clone of the repository.
#[utoipa::path(
    get, path = "/v1/git/rescues/{id}", tag = "git",
    params(("id" = String, Path, description = "The id of the sandbox that it was in")),
    responses((status = 200, description = "The bundle", body = Vec<u8>, content_type = "application/octet-stream")),
)]
pub(crate) async fn read_git_rescue(
    State(app): State<App>,
    Known(caller): Known,
    Named(id): Named,
) -> Result<Response, ApiError> {
    let (rescue, file) = app.sandboxes.open_rescue(&caller, &id).await?;
    let pieces = ReaderStream::new(tokio::fs::File::from_std(file));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_LENGTH, HeaderValue::from(rescue.bytes)),
    ];
    Ok((headers, axum::body::Body::from_stream(pieces)).into_response())
}

/// Remove a bundle
#[utoipa::path(
    delete, path = "/v1/git/rescues/{id}", tag = "git",
    params(("id" = String, Path, description = "The id of the sandbox that it was in")),
    responses((status = 204, description = "It is gone")),
)]
pub(crate) async fn delete_git_rescue(
    State(app): State<App>,
    Known(caller): Known,
    Named(id): Named,
) -> Result<StatusCode, ApiError> {
    app.sandboxes.remove_rescue(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
