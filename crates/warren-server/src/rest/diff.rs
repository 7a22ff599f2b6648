//! How files differ.

use std::convert::Infallible;

use axum::{extract::State, response::Response};
use bytes::Bytes;
use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use warren_api::diff as api;
use warren_core::compare::{Change, Changes, Comparison, Patch, Side};

use super::lines::{self, SILENCE, line};
use crate::{app::App, auth::Known, error::ApiError, extract::Parameters};

/// Bytes of the largest file whose lines are compared.
const PATCH_BYTES: u64 = 1 << 20;

/// Compare files
///
/// How the files of one sandbox or snapshot differ from those of another, or from what it was made
/// from: a line for each path, in order, as it is found, then `end`. Contents, kinds, modes,
/// owners, links and extended attributes are compared; times are not. A running sandbox goes on
/// meanwhile, so what it changes just now is seen or not.
#[utoipa::path(
    get, path = "/v1/diff", tag = "snapshots",
    params(
        ("from" = Option<String>, Query, description = "A sandbox or a snapshot, by id or name, perhaps with `sandbox:` or `snapshot:` before it; what `to` was made from where absent"),
        ("to" = String, Query, description = "The same, for the other side"),
        ("patch" = Option<bool>, Query, description = "Whether the lines are wanted in which texts of at most 1 MiB differ"),
        ("identity" = Option<bool>, Query, description = "Whether files are compared that say which sandbox it is: `/etc/hostname`, `hosts`, `machine-id` and `resolv.conf`"),
    ),
    responses((status = 200, description = "The differences", body = api::DiffLine, content_type = "application/x-ndjson")),
)]
pub(crate) async fn compare_files(
    State(app): State<App>,
    Known(caller): Known,
    mut parameters: Parameters,
) -> Result<Response, ApiError> {
    let from = parameters.one("from")?;
    let to = parameters.required("to")?;
    let patch = parameters.flag("patch")?;
    let comparison = Comparison {
        patch_bytes: patch.then_some(PATCH_BYTES),
        with_identity: parameters.flag("identity")?,
    };
    parameters.finish()?;
    let slot = app.open_files_stream(&caller)?;
    let changes = app.sandboxes.compare(&caller, from.as_deref(), &to, comparison)?;
    Ok(lines::response(stream_of(changes, app.ending(&caller)), slot))
}

fn stream_of(
    changes: Changes,
    stopping: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    // None once the last line was given.
    stream::unfold(Some((changes, stopping)), |state| async move {
        let (mut changes, stopping) = state?;
        let next = tokio::select! {
            biased;
            () = stopping.cancelled() => return None,
            next = changes.next() => next,
            () = tokio::time::sleep(SILENCE) => {
                return Some((Ok(line(&api::DiffLine::Keepalive)), Some((changes, stopping))));
            }
        };
        Some(match next {
            Ok(Some(change)) => {
                (Ok(line(&api::DiffLine::Change(entry(change)))), Some((changes, stopping)))
            }
            Ok(None) => (Ok(line(&api::DiffLine::End)), None),
            Err(error) => {
                (Ok(line(&api::DiffLine::Error(ApiError::from(error).into_body()))), None)
            }
        })
    })
}

fn entry(change: Change) -> api::DiffEntry {
    let (patch, no_patch) = match change.patch {
        Some(Patch::Text(text)) => (Some(text), None),
        Some(Patch::Binary) => (None, Some(api::NoPatch::Binary)),
        Some(Patch::TooLarge) => (None, Some(api::NoPatch::TooLarge)),
        None => (None, None),
    };
    api::DiffEntry {
        path: change.path,
        change: match (&change.before, &change.after) {
            (None, _) => api::DiffChange::Added,
            (_, None) => api::DiffChange::Removed,
            _ => api::DiffChange::Changed,
        },
        differs_in: change.aspects.into_iter().map(aspect).collect(),
        before: change.before.map(side),
        after: change.after.map(side),
        patch,
        no_patch,
    }
}

fn aspect(aspect: warren_core::compare::Aspect) -> api::DiffAspect {
    use warren_core::compare::Aspect;
    match aspect {
        Aspect::Kind => api::DiffAspect::Kind,
        Aspect::Content => api::DiffAspect::Content,
        Aspect::Link => api::DiffAspect::Link,
        Aspect::Mode => api::DiffAspect::Mode,
        Aspect::Owner => api::DiffAspect::Owner,
        Aspect::Attributes => api::DiffAspect::Attributes,
    }
}

fn side(side: Side) -> api::DiffSide {
    api::DiffSide {
        kind: side.kind.to_owned(),
        size: side.size,
        mode: format!("{:04o}", side.mode),
        uid: side.user,
        gid: side.group,
        symlink_target: side.link,
    }
}
