//! What detached commands wrote.

use std::convert::Infallible;

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use warren_api::logs as api;
use warren_core::logs::{LogQuery, LogReader};

use super::lines::{self, SILENCE, line};
use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{Parameters, SandboxPath},
};

/// How many entries a page has where the request does not say, and at most.
const PAGE: u32 = 1000;

/// Read the log of a sandbox
///
/// What its detached commands wrote, and what happened to them; the newest 4 MiB unless the server
/// is set otherwise. It outlives the commands and the sandbox's stops. With `follow=true`, or
/// `Accept: application/x-ndjson`, it is a stream of lines that goes on until the sandbox ends.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/logs", tag = "exec",
    params(
        SandboxPath,
        ("after" = Option<u64>, Query, description = "Only entries behind this number"),
        ("limit" = Option<u32>, Query, description = "At most this many: 1 to 1000, the default"),
        ("exec" = Option<String>, Query, description = "Only of this command"),
        ("follow" = Option<bool>, Query, description = "Whether to wait for what comes"),
    ),
    responses((status = 200, description = "The entries, in order", content(
        (api::LogPage = "application/json"),
        (api::LogLine = "application/x-ndjson"),
    ))),
)]
pub(crate) async fn read_logs(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, ApiError> {
    let after = parameters.number("after")?.unwrap_or_default();
    let exec = parameters.one("exec")?.map(|exec| exec.parse()).transpose();
    let exec = exec.map_err(|error| ApiError::invalid("exec", error))?;
    let limit = parameters.number("limit")?;
    let follow = parameters.choice("follow")?.unwrap_or_else(|| lines::wanted(&headers));
    parameters.finish()?;
    let query = LogQuery { after, exec };
    if follow {
        if limit.is_some() {
            return Err(ApiError::invalid("limit", "not together with `follow`"));
        }
        let reader = app.sandboxes.follow_logs(&caller, &id, query)?;
        let slot = app.open_stream(&caller, &id)?;
        return Ok(lines::response(events(reader, app.ending(&caller)), slot));
    }
    let limit = limit.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(ApiError::invalid("limit", format!("expected 1 to {PAGE}")));
    }
    let entries = app.sandboxes.logs(&caller, &id, query, limit).await?;
    let more = entries.len() == limit as usize;
    let next_after = entries.last().filter(|_| more).map(|entry| entry.seq);
    let entries = entries.iter().map(convert::log_entry).collect();
    Ok(Json(api::LogPage { entries, next_after }).into_response())
}

fn events(
    reader: LogReader,
    stopping: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    // None once the last line was given.
    stream::unfold(Some((reader, stopping)), |state| async move {
        let (mut reader, stopping) = state?;
        let next = tokio::select! {
            biased;
            () = stopping.cancelled() => return None,
            next = reader.next() => next,
            () = tokio::time::sleep(SILENCE) => {
                return Some((Ok(line(&api::LogLine::Keepalive)), Some((reader, stopping))));
            }
        };
        Some(match next {
            Ok(Some(entry)) => {
                let text = line(&api::LogLine::Entry(convert::log_entry(&entry)));
                (Ok(text), Some((reader, stopping)))
            }
            Ok(None) => (Ok(line(&api::LogLine::End)), None),
            Err(error) => (Ok(line(&api::LogLine::Error(ApiError::from(error).into_body()))), None),
        })
    })
}
