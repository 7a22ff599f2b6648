//! Removing what guests leave, away from whoever waits.
//!
//! There is one order for all of it, whatever a guest ended by: its entry goes to the trash, then
//! everything that is named by its slot goes, and only then is the slot free again. What takes long
//! takes it waiting for the kernel and not working, so several threads do it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Signal, pidfd_send_signal};

use super::{
    blank::Blank,
    host::{Guest, Host, NO_SLOT, lock},
};
use crate::journal::Process;

/// Threads that remove. Interfaces that several of them remove go together.
const THREADS: usize = 8;
/// How long to wait for the last process of a cgroup, which on a host under load, or with a disk
/// that does not answer, takes its time. What is left then is removed by the next server.
const CGROUP_PATIENCE: Duration = Duration::from_secs(30);
/// The same for what nobody knows of, while a server starts and callers wait.
const FIRST_PATIENCE: Duration = Duration::from_millis(200);
/// The same once the server is ending.
const LAST_PATIENCE: Duration = Duration::from_secs(4);
/// How long to wait between two tries, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(50)];

/// What is left of a guest.
#[derive(Debug)]
struct Leftover {
    slot: u32,
    entry: PathBuf,
    /// Its last holder lets go of its namespaces here, which takes the kernel its time.
    guest: Option<Arc<Guest>>,
}

/// The threads that remove.
#[derive(Debug, Default)]
pub(super) struct Janitor {
    queue: Mutex<Option<mpsc::Sender<Leftover>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    ending: OnceLock<Instant>,
}

impl Janitor {
    pub(super) fn start(&self, host: &Arc<Host>) -> io::Result<()> {
        let (give, take) = mpsc::channel::<Leftover>();
        let take = Arc::new(Mutex::new(take));
        for _ in 0..THREADS {
            let (take, host) = (Arc::clone(&take), Arc::downgrade(host));
            let work = move || loop {
                let leftover = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let (Ok(leftover), Some(host)) = (leftover, host.upgrade()) else { return };
                host.clean(leftover);
            };
            let thread = std::thread::Builder::new().name("janitor".to_owned()).spawn(work)?;
            lock(&self.threads).push(thread);
        }
        *lock(&self.queue) = Some(give);
        Ok(())
    }

    /// Whether work that began then has waited for long enough.
    fn is_late(&self, began: Instant, patience: Duration) -> bool {
        let ending = self.ending.get();
        began.elapsed() > patience || ending.is_some_and(|it| it.elapsed() > LAST_PATIENCE)
    }

    /// Hands a leftover to the threads; gives it back when they have ended.
    fn give(&self, leftover: Leftover) -> Option<Leftover> {
        match lock(&self.queue).as_ref() {
            Some(queue) => queue.send(leftover).err().map(|refused| refused.0),
            None => Some(leftover),
        }
    }

    /// Waits until all that was given is removed, and ends the threads.
    pub(super) fn finish(&self) {
        lock(&self.queue).take();
        self.ending.get_or_init(Instant::now);
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // One that panicked has said so; what it left is found at the next start.
            drop(thread.join());
        }
    }
}

impl Host {
    /// Has everything removed that is named by a slot; its processes have been killed.
    ///
    /// The entry leaves its place at once; the janitor does the rest. If the server dies in
    /// between, the next one finds the entry in the trash and the rest by its slot.
    pub(crate) fn remove_slot(&self, slot: u32, process: Option<Process>, entry: &Path) {
        self.remove(slot, process, entry, None);
    }

    pub(super) fn remove(
        &self,
        slot: u32,
        process: Option<Process>,
        entry: &Path,
        guest: Option<Arc<Guest>>,
    ) {
        if let Some(process) = process.filter(|it| it.lives()) {
            kill(process);
        }
        let entry = self.journal.discard(entry).unwrap_or_else(|_gone| entry.to_owned());
        let leftover = Leftover { slot, entry, guest };
        if let Some(leftover) = self.janitor.give(leftover) {
            self.clean(leftover);
        }
    }

    /// Ends a guest that belongs to nobody.
    pub(super) fn discard_blank(&self, blank: Blank) {
        let (slot, process) = (blank.slot, blank.process);
        pidfd_send_signal(&blank.pidfd, Signal::KILL).ok();
        drop(blank);
        self.remove_slot(slot, Some(process), &self.journal.blank(slot));
    }

    /// Has files removed that no host object belongs to.
    pub(super) fn remove_later(&self, entry: PathBuf) {
        if let Some(leftover) = self.janitor.give(Leftover { slot: NO_SLOT, entry, guest: None }) {
            self.clean(leftover);
        }
    }

    fn clean(&self, leftover: Leftover) {
        let slot = leftover.slot;
        drop(leftover.guest);
        if slot == NO_SLOT {
            return self.remove_files(&leftover.entry);
        }
        let mut clean = true;
        let mut note = |what: &'static str, result: Result<(), String>| {
            if let Err(error) = result {
                clean = false;
                tracing::warn!(guest.slot = slot, error, "could not remove {what}");
            }
        };
        note(
            "a cgroup",
            self.remove_cgroup(slot, CGROUP_PATIENCE).map_err(|error| error.to_string()),
        );
        if let Some(net) = &self.net {
            note("an interface", net.detach(slot).map_err(|error| error.to_string()));
        }
        note("sockets", remove_all(&self.sockets(slot)));
        note("an exit record", remove_file(&self.exit_records().join(slot.to_string())));
        let disk = leftover.entry.join("disk");
        note("a disk", self.pool.remove(&disk).map_err(|error| error.to_string()));
        note("a journal entry", remove_all(&leftover.entry));
        if clean {
            self.slots.give_back(slot);
        }
    }

    /// The last process may still be on its way out when the first one was reaped.
    fn remove_cgroup(&self, slot: u32, patience: Duration) -> io::Result<()> {
        let cgroup = self.cgroups.of(slot);
        let ([mut pause, most], began) = (PAUSES, Instant::now());
        loop {
            match cgroup.remove() {
                Err(error) if self.janitor.is_late(began, patience) => return Err(error),
                Err(_busy) => {}
                Ok(()) => return Ok(()),
            }
            for pid in cgroup.processes() {
                if let Ok(process) = Process::of(pid.unsigned_abs()) {
                    kill(process);
                }
            }
            drop(cgroup.thaw());
            std::thread::park_timeout(pause);
            pause = most.min(pause * 2);
        }
    }

    /// Removes the files of an entry that has no host objects.
    pub(super) fn remove_files(&self, entry: &Path) {
        let removed = self
            .pool
            .remove(&entry.join("disk"))
            .map_err(|error| error.to_string())
            .and_then(|()| remove_all(entry));
        if let Err(error) = removed {
            tracing::warn!(error, "could not remove what an earlier server left");
        }
    }

    /// Removes a cgroup that no entry has, with whatever runs in it.
    pub(super) fn remove_cgroup_of(&self, slot: u32) {
        if let Err(error) = self.remove_cgroup(slot, FIRST_PATIENCE) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, guest.slot = slot, "could not remove a stray cgroup");
        }
    }

    /// Removes the sockets and exit records of slots that no entry has.
    pub(super) fn remove_stray_sockets(&self, living: &BTreeSet<u32>) {
        for directory in [self.run_dir.join("s"), self.exit_records()] {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            for entry in entries {
                let slot = entry.file_name().to_string_lossy().parse::<u32>();
                if slot.is_ok_and(|slot| living.contains(&slot)) {
                    continue;
                }
                let path = entry.path();
                let removed = if path.is_dir() { remove_all(&path) } else { remove_file(&path) };
                if let Err(error) = removed {
                    tracing::warn!(error, "could not remove what an earlier server left");
                }
            }
        }
    }
}

/// Kills a process if it is still the one that was meant.
fn kill(process: Process) {
    if let Some(pidfd) = process.open() {
        pidfd_send_signal(&pidfd, Signal::KILL).ok();
    }
}

fn remove_all(path: &Path) -> Result<(), String> {
    match warren_sys::tree::remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    }
}
