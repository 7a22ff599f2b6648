//! The server itself: is it there, what is it, what can it do.

use serde::{Deserialize, Serialize};

/// `GET /v1/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// What somebody should see to, each a sentence for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `GET /v1/version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Version {
    /// The server's version: semantic versioning, with the build after a `+` where it is known.
    pub version: String,
    /// The version of this API: 1.
    pub api: u32,
    /// The runtime that isolates new sandboxes.
    pub runtime: RuntimeInfo,
}

/// A way of isolating, as it works on the server's machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RuntimeInfo {
    /// Its name, such as `namespace`.
    pub name: String,
    /// What it can do there.
    pub capabilities: Capabilities,
    /// What is weaker there than it could be, each a sentence for people.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What a runtime can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "a list of independent answers on the wire")]
pub struct Capabilities {
    /// Pausing and resuming.
    pub pause: bool,
    /// Stopping with the files kept, and starting again.
    pub stop: bool,
    /// Streams to ports inside.
    pub dial: bool,
    /// Reaching the internet.
    pub network: bool,
    /// Rules say what is reached, and can be changed while a sandbox runs.
    pub network_rules: bool,
    /// The memory limit is enforced.
    pub memory_limit: bool,
    /// The processor limit is enforced.
    pub cpu_limit: bool,
    /// The limit of processes is enforced.
    pub pids_limit: bool,
    /// Usage can be measured.
    pub usage: bool,
    /// There is more than one user inside: `user` and `root` differ.
    pub users: bool,
}
