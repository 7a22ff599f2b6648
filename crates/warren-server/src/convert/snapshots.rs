//! Snapshots and forks.

use std::time::Duration;

use warren_api::{Code, sandbox, snapshot as api};
use warren_core::{
    sandbox::Made,
    sandboxes::{WantedFork, WantedSnapshot},
    snapshots::Snapshot,
};

use super::{image_text, limits, network, profile, timestamp, timing};
use crate::error::ApiError;

/// Refuses what no runtime here can carry.
pub(crate) fn check_snapshot_kind(kind: Option<api::SnapshotKind>) -> Result<(), ApiError> {
    match kind {
        None | Some(api::SnapshotKind::Filesystem) => Ok(()),
        Some(api::SnapshotKind::Memory) => {
            let message = "this runtime saves files and no processes; expected kind `filesystem`";
            Err(ApiError::new(Code::Unimplemented, message.to_owned()))
        }
    }
}

pub(crate) fn wanted_snapshot(request: api::CreateSnapshot) -> WantedSnapshot {
    let api::CreateSnapshot { name, tags, with_env, kind: _ } = request;
    WantedSnapshot { name, tags, with_env }
}

pub(crate) fn wanted_fork(request: api::ForkSandbox) -> WantedFork {
    WantedFork {
        count: request.count,
        name: request.name,
        labels: request.labels,
        env: request.env,
        with_env: request.with_env,
        with_exposure: false,
        lifetime: request.lifetime_seconds.map(Duration::from_secs),
        some_may_fail: false,
    }
}

pub(crate) fn snapshot(snapshot: &Snapshot) -> api::Snapshot {
    let inherited = &snapshot.inherited;
    api::Snapshot {
        id: snapshot.id.to_string(),
        name: snapshot.name.clone(),
        tags: snapshot.tags.clone(),
        kind: api::SnapshotKind::Filesystem,
        parent: snapshot.parent.map(|id| id.to_string()),
        sandbox_id: snapshot.sandbox.map(|id| id.to_string()),
        image: image_text(&snapshot.stack.base),
        layers: u32::try_from(snapshot.stack.layers.len()).unwrap_or(u32::MAX),
        bytes: snapshot.bytes,
        files: snapshot.files,
        limits: limits(&inherited.limits),
        profile: profile(inherited.profile),
        network: network::shown(&inherited.network),
        user: inherited.user.clone(),
        workdir: inherited.workdir.clone(),
        created_at: timestamp(snapshot.created_at),
        frozen_us: None,
    }
}

/// A sandbox that was just made, or made anew.
pub(crate) fn made(made: &Made, took: Duration) -> sandbox::Sandbox {
    let mut sandbox = super::sandbox(&made.sandbox);
    sandbox.timing = Some(timing(took, &made.steps));
    sandbox
}
