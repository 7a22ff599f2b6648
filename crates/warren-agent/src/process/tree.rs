//! A process and everything that it started.
//!
//! A process belongs to a tree when one of these is true, and the rule is applied until nothing
//! more is found:
//!
//! 1. it is the tree's root;
//! 2. its parent belongs;
//! 3. it is in a session that a member leads or led: the root leads one, and sessions survive
//!    their leaders (`cmd &` in a shell that has ended);
//! 4. its environment, as of its last `execve`, has the root's marker `WARREN_EXEC_ID`, or it has
//!    the marker's number as a resource limit that nothing else uses: this finds daemons that
//!    forked twice and opened a session of their own, also through `sudo`, which clears the
//!    environment.
//!
//! What escapes: a process that did all of it (forked away from its parent, opened a session,
//! cleared its environment, changed the limit), which only one that means to does. The end of the
//! sandbox reaches those. Nothing here may trust a pid for long: each is signalled through a pidfd
//! that was opened before its facts were read.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use warren_proto::{Code, Status};
use warren_sys::spawn::{Identity, mark_of};
use warren_sys::users::with_files_of;

use super::record::Process;
use crate::daemon::Agent;

/// The environment variable that descendants inherit.
pub(crate) const MARKER: &str = "WARREN_EXEC_ID";
/// Looks at all processes before a kill gives up: a fork bomb is outrun by its own limit.
const ROUNDS: usize = 200;
/// Time between two looks while something still dies.
const PAUSE: Duration = Duration::from_millis(2);
/// Most bytes read of an environment; the kernel's own limit is a few megabytes.
const ENVIRONMENT_BYTES: u64 = 256 << 10;

/// The number of a marker: 48 bits of its hash (FNV-1a), and one that makes it a limit of 142 years.
pub(super) fn mark(marker: &str) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let hash = marker.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    1 << 52 | hash >> 16
}

/// Kills `process` and everything it started, until none is left.
pub(crate) async fn kill(agent: &Arc<Agent>, process: &Arc<Process>) {
    process.cut_output();
    for _ in 0..ROUNDS {
        match signal(agent, process, Signal::KILL).await {
            Ok(count) if count > 0 => tokio::time::sleep(PAUSE).await,
            _ => return,
        }
    }
}

/// Sends `signal` once to every member, and gives how many there were.
///
/// # Errors
///
/// When no thread is free to look for them.
pub(crate) async fn signal(
    agent: &Arc<Agent>,
    process: &Arc<Process>,
    signal: Signal,
) -> Result<usize, Status> {
    let (root, marker) = (process.pid(), process.marker().to_owned());
    let (root_lives, mark) = (process.exit().is_none(), mark(process.marker()));
    let switches_users = agent.switches_users;
    agent
        .pool
        .start(move || {
            let facts = all_processes();
            let members = members(&facts, root, root_lives, |fact| {
                mark_of(fact.pid) == Some(mark) || has_marker(fact, &marker, switches_users)
            });
            let mut count = 0;
            for fact in facts.iter().filter(|it| members.contains(&it.pid)) {
                if pidfd_send_signal(&fact.pidfd, signal).is_ok() {
                    count += 1;
                }
            }
            Ok(count)
        })
        .await
        .map_err(|status| Status::new(Code::Unavailable, status.message))
}

/// What is known of one living process.
#[derive(Debug)]
struct Fact<H = OwnedFd> {
    pidfd: H,
    pid: i32,
    parent: i32,
    session: i32,
}

fn all_processes() -> Vec<Fact> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter_map(look)
        .collect()
}

fn look(pid: i32) -> Option<Fact> {
    let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (parent, session) = parse_stat(&stat)?;
    Some(Fact { pidfd, pid, parent, session })
}

/// Parent and session of a process that is not a zombie. Its name, in parentheses, may hold
/// anything; fields count from the last one.
fn parse_stat(stat: &str) -> Option<(i32, i32)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some((parent, session))
}

/// Applies the rule of this file's head.
fn members<H>(
    facts: &[Fact<H>],
    root: i32,
    root_lives: bool,
    has_marker: impl Fn(&Fact<H>) -> bool,
) -> BTreeSet<i32> {
    // Where the root is gone its number may be another's by now; its session may not, while that
    // has members.
    let root_belongs = |it: &Fact<H>| it.session == root && (it.pid != root || root_lives);
    let seed = |it: &&Fact<H>| root_belongs(it) || has_marker(it);
    let mut members: BTreeSet<i32> = facts.iter().filter(seed).map(|it| it.pid).collect();
    loop {
        let before = members.len();
        for fact in facts {
            if members.contains(&fact.parent) || members.contains(&fact.session) {
                members.insert(fact.pid);
            }
        }
        if members.len() == before {
            return members;
        }
    }
}

/// Whether a process's environment has the marker. The kernel shows an environment to its owner
/// alone, so this looks with the owner's ids.
fn has_marker(fact: &Fact, marker: &str, switches_users: bool) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let path = format!("/proc/{}/environ", fact.pid);
    let wanted = format!("{MARKER}={marker}");
    let look = || {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&path).ok()?;
        file.take(ENVIRONMENT_BYTES).read_to_end(&mut bytes).ok()?;
        Some(bytes.split(|it| *it == 0).any(|it| it == wanted.as_bytes()))
    };
    if !switches_users {
        return look().unwrap_or_default();
    }
    let Ok(owner) = std::fs::metadata(format!("/proc/{}", fact.pid)) else { return false };
    let identity = Identity { uid: owner.uid(), gid: owner.gid(), groups: vec![] };
    with_files_of(&identity, look).ok().flatten().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(pid: i32, parent: i32, session: i32) -> Fact<()> {
        Fact { pidfd: (), pid, parent, session }
    }

    #[track_caller]
    fn check(root_lives: bool, marked: &[i32], expected: &[i32]) {
        let facts = [
            fact(10, 1, 10),  // the root
            fact(11, 10, 10), // its child
            fact(12, 11, 12), // a grandchild with a session of its own
            fact(13, 1, 12),  // an orphan of that session
            fact(14, 1, 10),  // an orphan of the root's session
            fact(20, 1, 20),  // a daemon that forked twice, if marked
            fact(21, 20, 20), // and what it started
            fact(30, 1, 30),  // somebody else
        ];
        let members = members(&facts, 10, root_lives, |it| marked.contains(&it.pid));
        assert_eq!(members.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_tree_is_parents_sessions_and_marks() {
        check(true, &[], &[10, 11, 12, 13, 14]);
        check(true, &[20], &[10, 11, 12, 13, 14, 20, 21]);
    }

    #[test]
    fn names_cannot_shift_the_fields_of_stat() {
        assert_eq!(parse_stat("7 (a) S 9 (x) R 5 6 4 0"), Some((5, 4)));
        assert_eq!(parse_stat("7 (x) Z 5 6 4 0"), None);
        assert_eq!(parse_stat("7 (x) S"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_process_is_seen() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(look(own).map(|it| it.pid), Some(own));
    }
}
