//! What a sandbox uses, and what listens in it.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, network::Traffic, sandbox::Limits};

/// `GET /v1/sandboxes/{id}/metrics`: what a sandbox uses now, beside what it may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Metrics {
    /// When it was measured.
    pub time: Timestamp,
    /// Memory in bytes, page cache of the sandbox included.
    pub memory_bytes: u64,
    /// The most memory it used since it was started, in bytes.
    pub memory_peak_bytes: u64,
    /// Processor time since it was started, in microseconds.
    pub cpu_us: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Processes that were killed for want of memory since it was started.
    pub oom_kills: u64,
    /// What it has written to its root filesystem and not removed, in bytes; absent where the
    /// storage does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// What went over its network; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// What it may use.
    pub limits: Limits,
}

/// `GET /v1/sandboxes/{id}/ports`: the TCP ports on which something in a sandbox listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PortList {
    /// The ports, in order.
    pub ports: Vec<Port>,
}

/// A TCP port on which something in a sandbox listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// Whether it listens on the sandbox's loopback alone. Streams of this API reach it there.
    pub loopback: bool,
}

/// The protocol to upgrade a connection to for a stream to a port: raw bytes.
pub const TCP: &str = "tcp";
