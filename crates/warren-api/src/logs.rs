//! What detached commands wrote: `GET /v1/sandboxes/{id}/logs`.

use serde::{Deserialize, Serialize};

use crate::{Base64, Timestamp};

/// Which entries of a log to read. All conditions must hold.
///
/// As a query: `after=12&limit=100&exec=ex-...&follow=true`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadLogs {
    /// Behind the entry with this number.
    pub after: Option<u64>,
    /// At most this many, 1 to 1000; 1000 where absent. Not with `follow`.
    pub limit: Option<u32>,
    /// Of this command alone.
    pub exec_id: Option<String>,
}

/// Entries of a sandbox's log, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogPage {
    /// The entries.
    pub entries: Vec<LogEntry>,
    /// What to give as `after` for the next page; absent when there is no more now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<u64>,
}

/// One piece of a sandbox's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogEntry {
    /// Its place in the order of all entries; higher is later, gaps are possible.
    pub seq: u64,
    /// When it was written down.
    pub time: Timestamp,
    /// The command it is about.
    pub exec_id: String,
    /// What it is.
    pub source: LogSource,
    /// The bytes as they were written: perhaps several lines, perhaps a part of one. Of `system`,
    /// one sentence without an end of line.
    pub data: Base64,
}

/// What an entry of a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LogSource {
    /// A command's standard output.
    Stdout,
    /// A command's standard error.
    Stderr,
    /// A command's terminal.
    Tty,
    /// The server, about a command: that it started, how it ended, what of its output was lost.
    System,
}

/// One line of a followed log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LogLine {
    /// An entry.
    Entry(LogEntry),
    /// Nothing happened for a while.
    Keepalive,
    /// The sandbox has ended, and this is all.
    End,
    /// The log cannot be read on.
    Error(crate::ErrorBody),
}
