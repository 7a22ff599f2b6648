//! What answers look like, as the reference has them. Times are RFC 3339, sizes as in the names.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use warren_api::Timestamp;
use warren_core::{
    Caller, credentials::Credentials, runtime::DeadlineAction, sandbox::Sandbox, state::State,
};

use super::{ENVD_VERSION, network};
use crate::{app::App, convert::timestamp, edge::CameBy};

/// What every sandbox has here that an E2B server has a node's name for: clients want some text.
const CLIENT: &str = "warren";

/// What is told of sandboxes that have no end: clients want a time.
const NO_END: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The template of what was made from none.
pub(super) const BASE: &str = "base";

/// A sandbox to somebody who has just made it, or comes back to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Opened {
    #[serde(rename = "templateID")]
    template_id: String,
    #[serde(rename = "sandboxID")]
    sandbox_id: String,
    #[serde(rename = "clientID")]
    client_id: &'static str,
    envd_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envd_access_token: Option<String>,
    traffic_access_token: Option<String>,
    domain: Option<String>,
}

/// A sandbox in a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    #[serde(rename = "templateID")]
    template_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(rename = "sandboxID")]
    sandbox_id: String,
    #[serde(rename = "clientID")]
    client_id: &'static str,
    started_at: Timestamp,
    end_at: Timestamp,
    cpu_count: u32,
    #[serde(rename = "memoryMB")]
    memory_mb: u64,
    #[serde(rename = "diskSizeMB")]
    disk_size_mb: u64,
    metadata: BTreeMap<String, String>,
    state: &'static str,
    envd_version: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    volume_mounts: Vec<Mount>,
}

/// A volume in a sandbox.
#[derive(Debug, Serialize)]
struct Mount {
    name: String,
    path: String,
}

/// All that is told about a sandbox.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detail {
    #[serde(flatten)]
    listed: Listed,
    #[serde(skip_serializing_if = "Option::is_none")]
    envd_access_token: Option<String>,
    allow_internet_access: bool,
    domain: Option<String>,
    network: network::Shown,
    lifecycle: Lifecycle,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_mode: Option<&'static str>,
}

/// What becomes of a sandbox at its end, and after it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle {
    auto_resume: bool,
    on_timeout: &'static str,
}

/// Whether clients of this API see a sandbox, and as what: what is being made or removed is not
/// there, and what is stopped with its files is paused.
pub(super) fn seen_as(sandbox: &Sandbox) -> Option<&'static str> {
    match sandbox.state {
        State::Running => Some("running"),
        State::Pausing | State::Paused | State::Resuming | State::Starting => Some("paused"),
        State::Stopped if sandbox.kept => Some("paused"),
        State::Creating | State::Parked | State::Stopping | State::Stopped | State::Failed => None,
    }
}

pub(super) fn opened(
    app: &App,
    caller: &Caller,
    came: Option<CameBy>,
    sandbox: &Sandbox,
) -> Opened {
    let (template_id, alias) = template(app, caller, sandbox);
    Opened {
        template_id,
        sandbox_id: sandbox.id.to_string(),
        client_id: CLIENT,
        envd_version: ENVD_VERSION,
        alias,
        envd_access_token: access_token(app, sandbox),
        traffic_access_token: traffic_token(app, sandbox),
        domain: Some(app.edge().e2b_domain(came)),
    }
}

pub(super) fn listed(app: &App, caller: &Caller, sandbox: &Sandbox, state: &'static str) -> Listed {
    let limits = &sandbox.spec.limits;
    let (template_id, alias) = template(app, caller, sandbox);
    let mounts = sandbox.spec.volumes.iter().map(|mount| {
        let volume = app.sandboxes.volume(caller, mount.volume.as_str());
        let name = volume.map_or_else(|_gone| mount.volume.to_string(), |it| it.name.clone());
        Mount { name, path: mount.target.clone() }
    });
    Listed {
        template_id,
        alias,
        sandbox_id: sandbox.id.to_string(),
        client_id: CLIENT,
        started_at: timestamp(sandbox.created_at),
        end_at: end_at(sandbox),
        cpu_count: limits.cpu_millis.div_ceil(1000),
        memory_mb: limits.memory_bytes >> 20,
        disk_size_mb: limits.disk_bytes.unwrap_or_default() >> 20,
        metadata: sandbox.labels.clone(),
        state,
        envd_version: ENVD_VERSION,
        volume_mounts: mounts.collect(),
    }
}

pub(super) fn detail(
    app: &App,
    (caller, came): (&Caller, Option<CameBy>),
    sandbox: &Sandbox,
    state: &'static str,
) -> Detail {
    let credentials = app.sandboxes.credentials(caller, sandbox.id.as_str()).unwrap_or_default();
    let credentials: &Credentials = &credentials;
    let pauses = sandbox.lifetime.action != DeadlineAction::Kill;
    Detail {
        listed: listed(app, caller, sandbox, state),
        envd_access_token: access_token(app, sandbox),
        allow_internet_access: network::is_online(&sandbox.spec.network),
        domain: Some(app.edge().e2b_domain(came)),
        network: network::shown(&sandbox.spec.network, credentials, &sandbox.exposure),
        lifecycle: Lifecycle {
            auto_resume: sandbox.exposure.wake,
            on_timeout: if pauses { "pause" } else { "kill" },
        },
        pause_mode: match sandbox.state {
            State::Paused => Some("full"),
            State::Stopped => Some("filesystem"),
            _ => None,
        },
    }
}

/// The template that a sandbox was made from, and what it is called.
pub(super) fn template(app: &App, caller: &Caller, sandbox: &Sandbox) -> (String, Option<String>) {
    match (sandbox.history.template, sandbox.history.snapshot) {
        (Some(id), _) => {
            let template = app.sandboxes.templates().get(caller, id.as_str());
            (id.to_string(), template.ok().map(|template| template.name.clone()))
        }
        (None, Some(snapshot)) => (snapshot.to_string(), None),
        (None, None) => (BASE.to_owned(), Some(BASE.to_owned())),
    }
}

/// What opens the agent; none where it needs nothing.
fn access_token(app: &App, sandbox: &Sandbox) -> Option<String> {
    let open = sandbox.exposure.e2b.is_some_and(|it| !it.secured);
    (!open).then(|| app.edge().access_token(sandbox))
}

/// What opens the other ports; none where they are open, or a native token is what opens them.
fn traffic_token(app: &App, sandbox: &Sandbox) -> Option<String> {
    let closed = sandbox.exposure.e2b.is_some_and(|it| !it.public);
    closed.then(|| app.edge().traffic_token(sandbox))
}

/// When a sandbox ends; where it stands still, when it came to that or would have ended.
fn end_at(sandbox: &Sandbox) -> Timestamp {
    let stopped = sandbox.end.as_ref().map(|end| end.at);
    let length = sandbox.lifetime.length.unwrap_or(NO_END);
    timestamp(sandbox.expires_at.or(stopped).unwrap_or(sandbox.created_at + length))
}
