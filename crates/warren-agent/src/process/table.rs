//! All processes, and how long the records of those that ended are kept.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use warren_proto::process::ProcessSelector;
use warren_proto::process::process_selector::Selector;
use warren_proto::{Code, Status};

use super::record::Process;
use crate::daemon::Agent;
use crate::daemon::state::lock;

/// How long the end of a process without a spool can be asked for.
const KEEP: Duration = Duration::from_secs(30);
/// How long a spool is kept.
const KEEP_SPOOL: Duration = Duration::from_secs(600);
/// Spools of ended processes, at most.
const SPOOLS: usize = 64;
/// Bytes in spools of ended processes, at most.
const SPOOL_BYTES: usize = 8 << 20;
/// Ends without a spool, at most.
const ENDS: usize = 1024;

/// The processes of this sandbox that were started through the daemon.
#[derive(Debug)]
pub(crate) struct Processes {
    table: Mutex<Table>,
    starting: AtomicUsize,
    started: Notify,
}

#[derive(Debug, Default)]
struct Table {
    /// By order of their start.
    entries: BTreeMap<u64, Entry>,
    next: u64,
    janitor: bool,
}

#[derive(Debug)]
struct Entry {
    process: Arc<Process>,
    ended: Option<Instant>,
}

/// Held while a process is being started: its pid is not known yet, so no unknown child may be
/// reaped.
#[derive(Debug)]
pub(crate) struct Starting(Arc<Agent>);

impl Starting {
    pub(crate) fn new(agent: &Arc<Agent>) -> Self {
        agent.processes.starting.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(agent))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.processes.starting.fetch_sub(1, Ordering::AcqRel);
        self.0.processes.started.notify_one();
    }
}

impl Processes {
    pub(crate) fn new() -> Self {
        Self { table: Mutex::default(), starting: AtomicUsize::new(0), started: Notify::new() }
    }

    pub(crate) fn add(&self, process: Arc<Process>) {
        let mut table = lock(&self.table);
        let number = table.next;
        table.next += 1;
        table.entries.insert(number, Entry { process, ended: None });
    }

    /// Whether a child that is not known may be one that is being started.
    pub(crate) fn is_starting(&self) -> bool {
        self.starting.load(Ordering::Acquire) > 0
    }

    /// Waits until a start is over.
    pub(crate) async fn started(&self) {
        self.started.notified().await;
    }

    /// The process with this pid that has not been reaped.
    pub(crate) fn unreaped(&self, pid: i32) -> Option<Arc<Process>> {
        self.newest(|it| it.pid() == pid && it.exit().is_none())
    }

    /// The process that a selector names: the newest, as pids and tags are used again.
    ///
    /// # Errors
    ///
    /// `not_found` when there is none, `invalid_argument` for an empty selector.
    pub(crate) fn find(&self, selector: Option<&ProcessSelector>) -> Result<Arc<Process>, Status> {
        let selector = selector.and_then(|it| it.selector.as_ref());
        let (found, name) = match selector {
            None => return Err(Status::new(Code::InvalidArgument, "process is missing")),
            Some(Selector::Pid(pid)) => {
                (self.newest(|it| it.wire_pid() == *pid), format!("pid {pid}"))
            }
            Some(Selector::Tag(tag)) => {
                (self.newest(|it| it.tag() == Some(tag)), format!("tag {tag}"))
            }
            Some(Selector::ExecId(id)) => {
                (self.newest(|it| it.exec_id() == Some(id)), format!("id {id}"))
            }
        };
        found.ok_or_else(|| Status::new(Code::NotFound, format!("no process with {name}")))
    }

    fn newest(&self, is_it: impl Fn(&Process) -> bool) -> Option<Arc<Process>> {
        let table = lock(&self.table);
        let found = table.entries.values().rev().find(|it| is_it(&it.process));
        found.map(|it| Arc::clone(&it.process))
    }

    /// All that run, and those that ended but keep a spool.
    pub(crate) fn listed(&self) -> Vec<Arc<Process>> {
        let table = lock(&self.table);
        let listed = table.entries.values().filter(|it| it.ended.is_none() || it.process.spools());
        listed.map(|it| Arc::clone(&it.process)).collect()
    }

    /// All that are known, whether they run or have left something running.
    pub(crate) fn all(&self) -> Vec<Arc<Process>> {
        lock(&self.table).entries.values().map(|it| Arc::clone(&it.process)).collect()
    }

    /// Notes that a process and its output have ended.
    pub(crate) fn ended(&self, agent: &Arc<Agent>, process: &Arc<Process>) {
        let mut table = lock(&self.table);
        let entry = table.entries.values_mut().rev().find(|it| Arc::ptr_eq(&it.process, process));
        if let Some(entry) = entry {
            entry.ended = Some(Instant::now());
        }
        table.bound();
        if !std::mem::replace(&mut table.janitor, true) {
            agent.tasks.spawn(forget_in_time(Arc::clone(agent)));
        }
    }
}

impl Table {
    /// Drops the oldest records over the limits.
    fn bound(&mut self) {
        let (mut spools, mut bytes, mut ends) = (0, 0, 0);
        let mut over = Vec::new();
        for (number, entry) in self.entries.iter().rev().filter(|it| it.1.ended.is_some()) {
            let keep = if entry.process.spools() {
                spools += 1;
                bytes += entry.process.held_bytes();
                spools <= SPOOLS && bytes <= SPOOL_BYTES
            } else {
                ends += 1;
                ends <= ENDS
            };
            if !keep {
                over.push(*number);
            }
        }
        for number in over {
            self.entries.remove(&number);
        }
    }

    /// Drops what is old enough, and gives the time of the next look.
    fn forget(&mut self, now: Instant) -> Option<Instant> {
        let expiry = |entry: &Entry| {
            let keep = if entry.process.spools() { KEEP_SPOOL } else { KEEP };
            entry.ended.map(|it| it + keep)
        };
        self.entries.retain(|_, entry| expiry(entry).is_none_or(|it| it > now));
        self.entries.values().filter_map(expiry).min()
    }
}

/// Runs while there is something to forget.
async fn forget_in_time(agent: Arc<Agent>) {
    loop {
        let next = {
            let mut table = lock(&agent.processes.table);
            let next = table.forget(Instant::now());
            table.janitor = next.is_some();
            next
        };
        match next {
            Some(next) => tokio::time::sleep_until(next).await,
            None => return,
        }
    }
}
