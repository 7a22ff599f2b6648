//! Watching files, as lines of JSON.

use std::convert::Infallible;

use axum::{extract::State, response::Response};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;
use warren_api::files as api;
use warren_core::{SandboxError, sandboxes::FileWatch};

use super::{
    files::Place,
    lines::{self, SILENCE, line},
};
use crate::{
    app::App,
    auth::Known,
    convert,
    error::ApiError,
    extract::{Parameters, SandboxPath},
};

/// Watch a directory
///
/// One line per event, the first when the directory is watched. Ends when the client leaves, with
/// the sandbox, or with the server.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/files/watch", tag = "files",
    params(SandboxPath, Place, ("recursive" = Option<bool>, Query, description = "Also everything below it; `false` where absent")),
    responses((status = 200, description = "Lines: one `WatchEvent` each",
        body = api::WatchEvent, content_type = "application/x-ndjson")),
)]
pub(crate) async fn watch_files(
    State(app): State<App>,
    Known(caller): Known,
    SandboxPath(id): SandboxPath,
    mut parameters: Parameters,
) -> Result<Response, ApiError> {
    let recursive = match parameters.one("recursive")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::invalid("recursive", "expected true or false")),
    };
    let place = Place::of(id, parameters)?;
    let slot = app.open_stream(&caller, place.at().sandbox)?;
    let watch = app.sandboxes.watch_files(&caller, place.at(), recursive).await?;
    Ok(lines::response(events(watch, app.ending(&caller)), slot))
}

fn events(
    watch: FileWatch,
    stopping: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let path = watch.root().to_owned();
    let start = api::WatchEvent::Start(api::WatchedPath { path });
    // None once the last line was given.
    let rest = stream::unfold(Some((watch, stopping)), |state| async move {
        let (mut watch, stopping) = state?;
        let next = tokio::select! {
            biased;
            change = watch.next() => change.map(Some),
            () = stopping.cancelled() => Err(SandboxError::ShuttingDown),
            () = tokio::time::sleep(SILENCE) => Ok(None),
        };
        Some(match next {
            Ok(Some(change)) => (line(&convert::change(change)), Some((watch, stopping))),
            Ok(None) => (line(&api::WatchEvent::Keepalive), Some((watch, stopping))),
            Err(error) => {
                let error = ApiError::from(error).into_body();
                (line(&api::WatchEvent::Error(error)), None)
            }
        })
    });
    stream::iter([line(&start)]).chain(rest).map(Ok)
}
