//! The journal: what was done to which agent, one line each, parted by tabs.
//!
//! ```text
//! 2026-11-22T08:00:00Z <TAB> spawn <TAB> c1 <TAB> profile=claude-code sandbox=namespace
//! ```
//!
//! Lines are added in one piece each and never changed. Whatever a line holds, it is shown without
//! control characters.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read as _},
    time::SystemTime,
};

use crate::{Home, HomeError, home::Item, record::timestamp, text};

/// How much of one line is looked at, in bytes.
const MOST_LINE_BYTES: u64 = 4096;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, as the line says it.
    pub when: String,
    /// What: `spawn`, `kill`, `clean`, `purge`, and whatever else came to be written.
    pub event: String,
    /// To whom; may be empty.
    pub agent: String,
    /// More about it; may be empty.
    pub detail: String,
}

/// How often each of the four was done, of all times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// Agents started.
    pub spawns: u64,
    /// Agents ended by command.
    pub kills: u64,
    /// Times that what was dead was removed.
    pub cleans: u64,
    /// Times that everything was removed.
    pub purges: u64,
}

/// Adds a line.
///
/// # Errors
///
/// Those of [`Home::append`].
pub fn add(
    home: &Home,
    now: SystemTime,
    event: &str,
    agent: &str,
    detail: &str,
) -> Result<(), HomeError> {
    let fields = [event, agent, detail].map(text::shown);
    home.append(Item::History, &format!("{}\t{}", timestamp(now), fields.join("\t")))
}

/// The last `count` lines, of one event where `event` names one, the oldest first.
///
/// # Errors
///
/// Those of [`Home::open_file`]; a journal that is not there is empty.
pub fn last(home: &Home, count: usize, event: Option<&str>) -> Result<Vec<Entry>, HomeError> {
    let mut entries = VecDeque::new();
    each(home, |entry| {
        if event.is_none_or(|event| entry.event == event) {
            entries.push_back(entry);
        }
        if entries.len() > count {
            entries.pop_front();
        }
    })?;
    Ok(entries.into())
}

/// Counts the whole journal.
///
/// # Errors
///
/// As [`last`].
pub fn lifetime(home: &Home) -> Result<Lifetime, HomeError> {
    let mut counts = Lifetime::default();
    each(home, |entry| match entry.event.as_str() {
        "spawn" => counts.spawns += 1,
        "kill" => counts.kills += 1,
        "clean" => counts.cleans += 1,
        "purge" => counts.purges += 1,
        _ => {}
    })?;
    Ok(counts)
}

fn each(home: &Home, mut take: impl FnMut(Entry)) -> Result<(), HomeError> {
    let Some(file) = home.open_file(Item::History)? else { return Ok(()) };
    let mut reader = BufReader::new(file);
    let path = home.path_of(Item::History);
    let failed = |source| HomeError::Io { step: "read", path: path.clone(), source };
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MOST_LINE_BYTES).read_until(b'\n', &mut line);
        if read.map_err(failed)? == 0 {
            return Ok(());
        }
        let ended = line.last() == Some(&b'\n');
        if !ended {
            reader.skip_until(b'\n').map_err(failed)?;
        }
        let text = String::from_utf8_lossy(&line);
        if !text.trim().is_empty() {
            take(parse(text.trim_end_matches(['\n', '\r'])));
        }
    }
}

fn parse(line: &str) -> Entry {
    let mut fields = line.splitn(4, '\t').map(text::shown);
    let mut next = || fields.next().unwrap_or_default();
    Entry { when: next(), event: next(), agent: next(), detail: next() }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        time::{Duration, UNIX_EPOCH},
    };

    use super::*;

    #[test]
    fn the_journal_is_read_back_and_filtered_before_it_is_cut() {
        let base = tempfile::tempdir().unwrap();
        let home = Home::open(base.path()).unwrap();
        assert_eq!(last(&home, 50, None).unwrap(), []);
        for number in 0..100 {
            let event = if number % 10 == 0 { "kill" } else { "spawn" };
            let now = UNIX_EPOCH + Duration::from_secs(number);
            add(&home, now, event, &format!("a{number}"), "profile=x sandbox=y").unwrap();
        }
        add(&home, UNIX_EPOCH, "clean", "", "").unwrap();
        let kills = last(&home, 3, Some("kill")).unwrap();
        let agents: Vec<_> = kills.iter().map(|it| it.agent.as_str()).collect();
        assert_eq!(agents, ["a70", "a80", "a90"]);
        assert_eq!(last(&home, 50, Some("none")).unwrap(), []);
        assert_eq!(last(&home, 0, None).unwrap(), []);
        let end = last(&home, 1, None).unwrap();
        assert_eq!(
            (end[0].when.as_str(), end[0].event.as_str()),
            ("1970-01-01T00:00:00Z", "clean")
        );
        let counts = Lifetime { spawns: 90, kills: 10, cleans: 1, purges: 0 };
        assert_eq!(lifetime(&home).unwrap(), counts);
    }

    #[test]
    fn a_line_cannot_be_made_of_two_and_obeys_nobody() {
        let base = tempfile::tempdir().unwrap();
        let home = Home::open(base.path()).unwrap();
        add(&home, UNIX_EPOCH, "spawn", "a", "x\n1970\tpurge\tb\t\x1b[2J").unwrap();
        let entries = last(&home, 9, None).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].event.as_str(), entries[0].agent.as_str()), ("spawn", "a"));
        // What somebody else has written there.
        let mut bytes = vec![b'x'; 1 << 20];
        bytes.extend_from_slice(b"\n\xff\x1b]0;t\x07\tkill\n\n\tpurge\n");
        fs::write(home.path_of(Item::History), bytes).unwrap();
        let entries = last(&home, 9, None).unwrap();
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0].when.len() as u64, MOST_LINE_BYTES);
        assert!(entries.iter().all(|it| !it.when.contains(['\x1b', '\x07'])));
        assert_eq!(entries[2].event, "purge");
    }
}
