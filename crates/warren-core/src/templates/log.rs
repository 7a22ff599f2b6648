//! What a build says, entry by entry: in memory while it runs, a bounded part of it for good.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::clock::Timestamp;

/// How much of a running build's log is there to be read.
const MOST_BYTES: usize = 4 << 20;
/// How much of it is kept when it has ended: the newest.
const KEPT_BYTES: usize = 256 << 10;
/// The longest entry; what is longer becomes several.
const LINE_BYTES: usize = 4 << 10;
/// What an entry costs beside its text.
const OVERHEAD: usize = 64;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildLogEntry {
    /// Its place in the log, from 1.
    pub seq: u64,
    /// When it was said.
    pub time: Timestamp,
    /// How much it matters.
    pub level: Level,
    /// The number of the step that it is about, from 1.
    pub step: Option<u32>,
    /// The text, without an end of line. Of a command's output it is the guest's word.
    pub message: String,
}

/// How much an entry matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What a command wrote to its standard output.
    Debug,
    /// What the builder does.
    Info,
    /// What a command wrote to its standard error, and what may surprise.
    Warn,
    /// What went wrong.
    Error,
}

impl Level {
    const ALL: [Self; 4] = [Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The name used in the database and in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// The log of one build.
#[derive(Debug)]
pub(crate) struct BuildLog {
    entries: Mutex<Entries>,
    /// The number of the last entry.
    written: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Entries {
    kept: VecDeque<BuildLogEntry>,
    bytes: usize,
    last: u64,
}

impl BuildLog {
    pub(crate) fn new(entries: Vec<BuildLogEntry>) -> Self {
        let last = entries.last().map_or(0, |entry| entry.seq);
        let bytes = entries.iter().map(cost).sum();
        let entries = Entries { kept: entries.into(), bytes, last };
        Self { entries: Mutex::new(entries), written: watch::Sender::new(last) }
    }

    /// Adds a text, cut into pieces where it is long.
    pub(crate) fn say(&self, time: Timestamp, level: Level, step: Option<u32>, text: &str) {
        let mut rest = text;
        loop {
            let mut at = rest.len().min(LINE_BYTES);
            while !rest.is_char_boundary(at) {
                at -= 1;
            }
            let (piece, after) = rest.split_at(at);
            self.push(time, level, step, piece);
            rest = after;
            if rest.is_empty() {
                return;
            }
        }
    }

    fn push(&self, time: Timestamp, level: Level, step: Option<u32>, text: &str) {
        let last = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.last += 1;
            let entry =
                BuildLogEntry { seq: entries.last, time, level, step, message: text.to_owned() };
            entries.bytes += cost(&entry);
            entries.kept.push_back(entry);
            while entries.bytes > MOST_BYTES
                && let Some(oldest) = entries.kept.pop_front()
            {
                entries.bytes -= cost(&oldest);
            }
            entries.last
        };
        self.written.send_replace(last);
    }

    /// At most `limit` entries behind `after`, in order.
    pub(crate) fn read(&self, after: u64, limit: usize) -> Vec<BuildLogEntry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let from = entries.kept.partition_point(|entry| entry.seq <= after);
        entries.kept.iter().skip(from).take(limit).cloned().collect()
    }

    /// The newest entries, as many as are kept for good.
    pub(crate) fn tail(&self) -> Vec<BuildLogEntry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        let within = |entry: &&BuildLogEntry| {
            bytes += cost(entry);
            bytes <= KEPT_BYTES
        };
        let count = entries.kept.iter().rev().take_while(within).count();
        entries.kept.iter().skip(entries.kept.len() - count).cloned().collect()
    }

    /// Changes with each entry.
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }
}

fn cost(entry: &BuildLogEntry) -> usize {
    entry.message.len() + OVERHEAD
}

/// Bytes of a command's output, cut into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    held: Vec<u8>,
}

impl Lines {
    /// Adds bytes and gives the lines that are whole.
    pub(super) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.held.extend_from_slice(piece);
            if self.held.ends_with(b"\n") || self.held.len() >= LINE_BYTES {
                self.flush(&mut line);
            }
        }
    }

    /// Gives what is left.
    pub(super) fn flush(&mut self, mut line: impl FnMut(&str)) {
        if self.held.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&self.held);
        // Of a progress bar only the last state is worth a line.
        let text = text.trim_end_matches(['\n', '\r']);
        line(text.rsplit('\r').next().unwrap_or_default());
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_from_any_place_and_ends_in_time() {
        let log = BuildLog::new(Vec::new());
        for number in 0..5000 {
            log.say(
                Timestamp::default(),
                Level::Debug,
                None,
                &format!("{number}{}", "x".repeat(1000)),
            );
        }
        let all = log.read(0, usize::MAX);
        assert!(all.len() < 5000 && all.last().unwrap().seq == 5000);
        assert_eq!(log.read(4998, 10).len(), 2);
        let tail = log.tail();
        assert!(tail.len() > 200 && tail.len() < 300, "{}", tail.len());
        let again = BuildLog::new(tail);
        again.say(Timestamp::default(), Level::Info, Some(1), &"é".repeat(3000));
        assert_eq!(again.read(5000, 10).len(), 2, "a long line becomes two");
    }

    #[test]
    fn output_becomes_lines() {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in ["a\nb", "c\r\n", "1%\r2%\r", "3%\nend"] {
            lines.push(piece.as_bytes(), |line| found.push(line.to_owned()));
        }
        lines.flush(|line| found.push(line.to_owned()));
        assert_eq!(found, ["a", "bc", "3%", "end"]);
    }
}
