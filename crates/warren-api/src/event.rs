//! What happened, as server-sent events on `GET /v1/events?after=&sandbox=`.
//!
//! The `id` of an event is its sequence number: `Last-Event-ID`, or `after`, goes on behind it.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Its place in the order of all events; higher is later, gaps are possible.
    pub seq: u64,
    /// When.
    pub time: Timestamp,
    /// What.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// To which sandbox.
    pub sandbox_id: String,
    /// More, by type; an object.
    #[serde(default)]
    pub detail: serde_json::Value,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum EventKind {
    /// A sandbox was asked for.
    #[serde(rename = "sandbox.created")]
    Created,
    /// It runs.
    #[serde(rename = "sandbox.running")]
    Running,
    /// It was paused.
    #[serde(rename = "sandbox.paused")]
    Paused,
    /// It was resumed.
    #[serde(rename = "sandbox.resumed")]
    Resumed,
    /// It ended.
    #[serde(rename = "sandbox.stopped")]
    Stopped,
    /// It was started again.
    #[serde(rename = "sandbox.started")]
    Started,
    /// It got another lifetime.
    #[serde(rename = "sandbox.extended")]
    Extended,
    /// A snapshot was made of it; `snapshot` in the detail says which.
    #[serde(rename = "sandbox.snapshotted")]
    Snapshotted,
    /// It went back to a snapshot.
    #[serde(rename = "sandbox.rolled_back")]
    RolledBack,
    /// It has written as much as it may to its root filesystem, or nearly, or the storage that all
    /// sandboxes share is full; `used_bytes` and `limit_bytes` in the detail say how much.
    #[serde(rename = "disk.full")]
    DiskFull,
    /// It tried to reach what its rules deny; `host`, `address`, `protocol`, `port` and `rule` in the
    /// detail say what and by which rule, `why` what else kept it (its name is hidden, say),
    /// `dry_run` that it happened all the same, `untold` how many more there were since the last
    /// such event.
    #[serde(rename = "network.denied")]
    Denied,
    /// What it may reach was changed.
    #[serde(rename = "network.changed")]
    NetworkChanged,
    /// Something in it began to listen on a port: `port` in the detail, and in `loopback` whether on
    /// its loopback alone. Noticed within a second, and only while somebody follows the events.
    #[serde(rename = "port.opened")]
    PortOpened,
    /// Nothing in it listens on `port` any more, although it runs.
    #[serde(rename = "port.closed")]
    PortClosed,
    /// No certificate could be had for the `domain` in the detail, which leads to it; `reason` says
    /// why. One that there is goes on, and it is tried again.
    #[serde(rename = "certificate.failed")]
    CertificateFailed,
    /// The certificate of the `domain` in the detail ends soon: `until`, in seconds since 1970.
    #[serde(rename = "certificate.ending")]
    CertificateEnding,
    /// Something became of its session of git: `event` in the detail is `started`, `committed`,
    /// `pushed`, `pulled`, `commit_failed`, `push_failed`, `conflict`, or `refused` for what its
    /// broker did not let it do; `session`, `sha`, `branch`, `reason` and `rescue` say more.
    #[serde(rename = "sandbox.git")]
    Git,
    /// It could not be made, or broke.
    #[serde(rename = "sandbox.failed")]
    Failed,
    /// Nothing of it is left.
    #[serde(rename = "sandbox.deleted")]
    Deleted,
    /// Something that this version does not know.
    #[serde(other, rename = "unknown")]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_later_version_is_still_read() {
        let json = r#"{"seq":4,"time":"2026-11-21T10:00:00.000Z","type":"sandbox.forked",
            "sandbox_id":"sb-aaaaaaaaaaaaaaaa","detail":{}}"#;
        let event: Event = serde_json::from_str(json).unwrap();
        assert_eq!(event.kind, EventKind::Unknown);
        assert_eq!(serde_json::to_value(EventKind::Paused).unwrap(), "sandbox.paused");
    }
}
