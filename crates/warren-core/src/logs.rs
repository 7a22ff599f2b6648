//! What commands wrote that nobody waited for, and what happened around them.
//!
//! The output of a detached command is followed by the server and kept, so that it can be read
//! after the command, the sandbox or the server has ended. It is kept in a database of its own:
//! however much is written there, no create waits for it.
//!
//! A sandbox writes what it likes, so everything is bounded: what is kept of each sandbox, and how
//! fast it is taken. A command that writes faster waits in its pipe, as behind any slow reader.

use bytes::Bytes;

use crate::{clock::Timestamp, id::ExecId};

pub(crate) mod follow;
mod reader;
pub(crate) mod store;

pub use reader::LogReader;

/// One piece of a sandbox's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place in the order of all entries of all sandboxes; gaps are possible.
    pub seq: u64,
    /// When it was written down.
    pub time: Timestamp,
    /// The command it is about.
    pub exec: ExecId,
    /// What it is.
    pub source: LogSource,
    /// The bytes as they were written: perhaps several lines, perhaps a part of one.
    pub data: Bytes,
}

/// What an entry of a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// A command wrote it to its standard output.
    Stdout,
    /// A command wrote it to its standard error.
    Stderr,
    /// A command wrote it to its terminal.
    Terminal,
    /// The server says what happened to a command: one sentence, without an end of line.
    System,
}

impl LogSource {
    const ALL: [Self; 4] = [Self::Stdout, Self::Stderr, Self::Terminal, Self::System];

    /// The number used in the database.
    fn number(self) -> i64 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Terminal => 3,
            Self::System => 4,
        }
    }

    fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.number() == number)
    }
}

/// Which entries of a log to read; all conditions must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Behind this one.
    pub after: u64,
    /// Of this command alone.
    pub exec: Option<ExecId>,
}
