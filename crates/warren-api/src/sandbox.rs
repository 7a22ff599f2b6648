//! Sandboxes: asking for one, and what one is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Timestamp, credentials::Credentials, git::Git, volume::VolumeMount};

pub use crate::network::Network;

/// `POST /v1/sandboxes`: what is wanted. Everything has a default of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({"name": "worker", "lifetime_seconds": 3600})))]
#[serde(deny_unknown_fields)]
pub struct CreateSandbox {
    /// What the root filesystem is made from: `host` (the default), `dir:PATH`, `tar:PATH` with
    /// absolute paths of the server's machine, or an OCI reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The id or name of a snapshot that it is made from, in place of `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The template that it is made from, in place of `image`: its name, `NAME:TAG`,
    /// `PROJECT/NAME` for another project's public one, or its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// A name, unique among the caller's living sandboxes: `[a-z0-9][a-z0-9._-]{0,62}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Free text for finding it again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Environment of every command.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Who commands run as unless they say otherwise: `user` (the default) or `root`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where commands start unless they say otherwise; the user's home where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Processor time in thousandths of one core: 1500 is one core and a half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// Memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Open files of one process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u32>,
    /// What it may write to its root filesystem, in bytes. Refused where the server's storage has
    /// no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// How long it lives, in seconds from its creation; 0 for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_seconds: Option<u64>,
    /// What happens then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_deadline: Option<OnDeadline>,
    /// How much its root may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// What it may reach: `open`, `none`, or rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// The name it sees as its own; its id where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Directories of the server's machine that it sees; at most 8. Over the server's own socket
    /// these are the caller's own, else what the server's setting `mounts` gives to everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Volumes that it sees; at most 10, with mounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// Ports that everybody reaches from outside, without a token; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_ports: Vec<u16>,
    /// Whether visitors of a public port wake it while it is paused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_resume: bool,
    /// What requests from outside have in `Host` when they come to a port, such as
    /// `localhost:${PORT}`; the name that was asked for where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_request_host: Option<String>,
    /// What its requests are given on their way out, for some hosts; they never reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// The repository that it works in: cloned before the answer comes, its work saved on a branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
    /// Whether it may come from the warm pool; true where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<bool>,
}

/// A directory of the server's machine inside a sandbox.
///
/// Files in it belong to `user` inside and to the directory's owner outside, whoever of the two
/// wrote them; files of others are nobody's inside. Programs in it never run with more rights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// An absolute path on the server's machine.
    pub source: String,
    /// An absolute path inside; made where it is missing. Not at or below `/proc`, `/sys`, `/dev`.
    pub target: String,
    /// Whether it may only be read.
    #[serde(default)]
    pub read_only: bool,
}

/// `POST /v1/sandboxes/{id}/extend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExtendSandbox {
    /// How long it lives from now on, in seconds; 0 for no limit.
    pub lifetime_seconds: u64,
}

/// What happens to a sandbox at the end of its lifetime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnDeadline {
    /// It is stopped and removed.
    #[default]
    Kill,
    /// Its processes are frozen.
    Pause,
    /// Its processes end and its files are kept: it can be started again.
    Stop,
}

/// How much the root of a sandbox may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// `sudo` works: bounded capabilities inside the user namespace.
    #[default]
    Default,
    /// No capability, no new privileges, never root.
    Strict,
}

/// One sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sandbox {
    /// `sb-` and 16 characters of `[a-z0-9]`.
    pub id: String,
    /// The name given to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is doing.
    pub state: State,
    /// What its root filesystem is made from, as in [`CreateSandbox::image`].
    pub image: String,
    /// How much its root may do.
    pub profile: Profile,
    /// What it may reach.
    pub network: Network,
    /// What it may use.
    pub limits: Limits,
    /// Free text for finding it again.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Who commands run as unless they say otherwise.
    pub user: String,
    /// Where commands start unless they say otherwise.
    pub workdir: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its lifetime ends; absent without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// The way it is isolated, such as `namespace`.
    pub runtime: String,
    /// Whether it came from the warm pool.
    pub warm: bool,
    /// Whether it has ended and its files are kept, so that it can be started again.
    #[serde(default)]
    pub startable: bool,
    /// Directories of the server's machine that it sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Volumes that it sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// Ports that everybody reaches from outside, without a token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_ports: Vec<u16>,
    /// Whether visitors of a public port wake it while it is paused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_resume: bool,
    /// What requests from outside have in `Host` when they come to a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_request_host: Option<String>,
    /// The sandbox that it was forked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The last snapshot that was made of it, that it was made from, or that it went back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Where the time of its creation went; only in the answer to the creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
    /// What is weaker here than it could be, each a sentence for people.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What a sandbox is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is being made.
    Creating,
    /// Its processes run.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It is being removed.
    Stopping,
    /// It has ended.
    Stopped,
    /// It was stopped, and is being started again.
    Starting,
    /// It could not be made, or broke.
    Failed,
}

impl State {
    /// The state as it is written in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Failed => "failed",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a sandbox may use; units as in [`CreateSandbox`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Limits {
    /// Thousandths of one core.
    pub cpu_millis: u32,
    /// Bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Open files of one process.
    pub open_files: u32,
    /// Bytes written to its root filesystem; absent without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
}

/// How a sandbox ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct End {
    /// Why, for machines.
    pub reason: EndReason,
    /// Why, in one sentence for people.
    pub message: String,
    /// The exit status of its first process, where it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// Why a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Its first process ended.
    Exit,
    /// Its lifetime was over.
    Timeout,
    /// It went over its memory limit.
    OutOfMemory,
    /// Somebody removed it.
    Killed,
    /// Somebody stopped it.
    Stopped,
    /// The host went away under it.
    Host,
}

/// Where the time of a creation went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Timing {
    /// From the request to the answer, in microseconds.
    pub total_us: u64,
    /// The steps in order.
    pub steps: Vec<TimingStep>,
}

/// One step of a creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TimingStep {
    /// What was done.
    pub name: String,
    /// How long it took, in microseconds.
    pub us: u64,
}

/// `GET /v1/sandboxes`: which to list. All conditions must hold.
///
/// As a query: `state=running&state=paused&label=a=b&name=x&limit=100&cursor=...`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
pub struct ListSandboxes {
    /// In any of these states; where empty, all that live (not `stopped`, not
    /// `failed`) and those that can be started again.
    #[cfg_attr(feature = "openapi", param(rename = "state", required = false))]
    pub states: Vec<State>,
    /// With all of these labels.
    #[cfg_attr(
        feature = "openapi",
        param(rename = "label", value_type = Vec<String>, required = false, example = json!(["team=red"])),
    )]
    pub labels: BTreeMap<String, String>,
    /// Of exactly this name.
    pub name: Option<String>,
    /// At most this many, 1 to 1000; 100 where absent.
    pub limit: Option<u32>,
    /// [`SandboxList::next_cursor`] of the page before.
    pub cursor: Option<String>,
}

/// One page of sandboxes, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SandboxList {
    /// The page.
    pub sandboxes: Vec<Sandbox>,
    /// What to give as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_required_and_nothing_is_written() {
        assert_eq!(serde_json::from_str::<CreateSandbox>("{}").unwrap(), CreateSandbox::default());
        assert_eq!(serde_json::to_string(&CreateSandbox::default()).unwrap(), "{}");
    }

    #[test]
    fn an_unknown_field_is_refused_by_its_name() {
        let error = serde_json::from_str::<CreateSandbox>(r#"{"memory": 1}"#).unwrap_err();
        assert!(error.to_string().contains("`memory`"), "{error}");
    }

    #[test]
    fn an_answer_may_grow() {
        let json = r#"{"reason": "exit", "message": "m", "exit_code": 3, "later": true}"#;
        let end: End = serde_json::from_str(json).unwrap();
        assert_eq!(end.exit_code, Some(3));
    }
}
