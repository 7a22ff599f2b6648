//! Room for the files of guests: watched, made where it can be, and kept for what must go on.
//!
//! A pool grows before it is full. Where nothing grows any more, no guest is made while less is
//! free than the reserve: those that live can go on writing, and be removed.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::AsFd,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use warren_core::{
    id::SandboxId,
    runtime::{RuntimeError, RuntimeEvent},
};
use warren_sys::btrfs::quota;

use super::host::{Host, lock};
use crate::storage::backing::{Backing, Growth, Room};

/// How often a filesystem is looked at that has room.
const CALM: Duration = Duration::from_secs(5);
/// What there is none of where a sandbox was to be made, for callers.
pub(super) const FOR_SANDBOX: &str = "disk space for another sandbox";
/// The same where files were to be saved.
pub(super) const FOR_SNAPSHOT: &str = "disk space for the snapshot";
/// How often one is that has little.
const ALERT: Duration = Duration::from_secs(1);

/// The filesystem that guests' files are on.
#[derive(Debug)]
pub(super) struct Space {
    directory: PathBuf,
    backing: Option<Backing>,
    /// The identity of the filesystem, where it is btrfs.
    btrfs: Option<String>,
    reserve_bytes: u64,
    /// Whether less than the reserve is free.
    short: AtomicBool,
    /// Whether the host could not make a pool larger, which is said once.
    stuck: AtomicBool,
    /// Ends the watch when it is dropped.
    watched: Mutex<Option<mpsc::Sender<()>>>,
}

impl Space {
    pub(super) fn new(directory: PathBuf, backing: Option<Backing>, reserve_bytes: u64) -> Self {
        let opened = File::open(&directory);
        let btrfs = opened.and_then(|it| quota::filesystem_id(it.as_fd())).ok();
        Self {
            directory,
            backing,
            btrfs,
            reserve_bytes,
            short: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            watched: Mutex::default(),
        }
    }

    /// Refuses one more guest, or whatever `what` says, where the filesystem is nearly full.
    pub(super) fn admit(&self, what: &'static str) -> Result<(), RuntimeError> {
        // What the watch found may be over: somebody who removed files must not wait for it.
        if self.short.load(Ordering::Relaxed) && self.look().is_ok_and(|room| self.is_short(room)) {
            return Err(RuntimeError::Exhausted { what });
        }
        Ok(())
    }

    fn look(&self) -> io::Result<Room> {
        let mut room = Room::of(&self.directory)?;
        if let Some(id) = &self.btrfs {
            let unplaced = quota::unplaced_bytes(id).unwrap_or(0);
            room.free_bytes = room.free_bytes.saturating_sub(unplaced);
        }
        Ok(room)
    }

    fn is_short(&self, room: Room) -> bool {
        room.free_bytes < self.reserve_bytes.min(room.total_bytes / 10)
    }

    /// Looks once, and makes room where there is little; how long until the next look, and what
    /// was seen.
    fn tick(&self) -> (Duration, Option<Room>) {
        let Ok(mut room) = self.look() else { return (CALM, None) };
        if room.is_low() && self.grow() {
            room = self.look().unwrap_or(room);
        }
        let short = self.is_short(room);
        if short != self.short.swap(short, Ordering::Relaxed) {
            let free = room.free_bytes;
            if short {
                tracing::warn!(free, "the storage is nearly full: no new sandboxes");
            } else {
                tracing::info!(free, "the storage has room again");
            }
        }
        (if room.is_low() { ALERT } else { CALM }, Some(room))
    }

    /// Makes a pool larger; whether it did.
    fn grow(&self) -> bool {
        let Some(backing) = &self.backing else { return false };
        let (grown, problem) = match backing.grow() {
            Ok(Growth::To(bytes)) => {
                tracing::info!(bytes, "the storage pool grew");
                (true, None)
            }
            Ok(Growth::AtMost) => (false, None),
            Ok(Growth::NoRoom) => (false, Some("the host has no room".to_owned())),
            Err(error) => (false, Some(error.to_string())),
        };
        let said = self.stuck.swap(problem.is_some(), Ordering::Relaxed);
        if let Some(problem) = problem.filter(|_| !said) {
            tracing::warn!("the storage pool should grow and does not: {problem}");
        }
        grown
    }
}

/// The disks of guests, as they were when they were looked at last.
#[derive(Debug, Default)]
struct Disks {
    /// Whether each is full; none for one without a limit.
    known: HashMap<SandboxId, Option<bool>>,
    /// Whether the filesystem that all are on is.
    all_full: bool,
}

impl Disks {
    /// Tells every guest's owner when the filesystem that all are on has become full: nobody can
    /// write any more, limit or not.
    fn tick_all(&mut self, host: &Host, room: Room) {
        let (used_bytes, limit_bytes) =
            (room.total_bytes.saturating_sub(room.free_bytes), room.total_bytes);
        let was_full = self.all_full;
        self.all_full = is_full(used_bytes, limit_bytes, was_full);
        if !self.all_full || was_full {
            return;
        }
        tracing::warn!(used_bytes, limit_bytes, "the storage is full");
        for (id, _) in host.guests() {
            // Nobody listening is no error.
            host.events.send(RuntimeEvent::DiskFull { id, used_bytes, limit_bytes }).ok();
        }
    }

    /// Looks at every disk with a limit, and tells of those that have become full.
    fn tick(&mut self, host: &Host) {
        if !host.pool.limits() {
            return;
        }
        let guests = host.guests();
        self.known.retain(|id, _| guests.iter().any(|(known, _)| known == id));
        for (id, guest) in guests {
            // What has no limit gets none by itself.
            if self.known.get(&id) == Some(&None) {
                continue;
            }
            let group = host.pool.used(&guest.entry.join("disk"));
            let limited = group.and_then(|it| Some((it.used_bytes, it.limit_bytes?)));
            let Some((used_bytes, limit_bytes)) = limited else {
                self.known.insert(id, None);
                continue;
            };
            let was_full = self.known.get(&id).copied().flatten().unwrap_or(false);
            let is_full = is_full(used_bytes, limit_bytes, was_full);
            self.known.insert(id, Some(is_full));
            if is_full && !was_full {
                tracing::info!(sandbox.id = %id, used_bytes, limit_bytes, "a disk is full");
                // Nobody listening is no error.
                host.events.send(RuntimeEvent::DiskFull { id, used_bytes, limit_bytes }).ok();
            }
        }
    }
}

/// Whether a disk counts as full: a fiftieth is left, and once it was, until a tenth is.
fn is_full(used: u64, limit: u64, was_full: bool) -> bool {
    let left = limit.saturating_sub(used);
    left <= if was_full { limit / 10 } else { limit / 50 }
}

/// Says of a step that failed for want of space what there is none of; for `map_err`.
pub(super) fn shortage(what: &'static str) -> impl FnOnce(RuntimeError) -> RuntimeError {
    move |error| named(error, what)
}

fn named(error: RuntimeError, what: &'static str) -> RuntimeError {
    let RuntimeError::Host { source, .. } = &error else { return error };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
    while let Some(found) = cause {
        let kind = found.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            tracing::warn!(error = &error as &dyn std::error::Error, "the storage is full");
            return RuntimeError::Exhausted { what };
        }
        cause = found.source();
    }
    error
}

/// Watches for as long as the host is there.
pub(super) fn watch(host: &Arc<Host>) -> io::Result<()> {
    let (held, ended) = mpsc::channel();
    *lock(&host.space.watched) = Some(held);
    let host = Arc::downgrade(host);
    let watch = move || {
        let (mut pause, mut disks) = (Duration::ZERO, Disks::default());
        while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            let Some(host) = host.upgrade() else { return };
            let (next, room) = host.space.tick();
            pause = next;
            disks.tick(&host);
            if let Some(room) = room {
                disks.tick_all(&host, room);
            }
        }
    };
    std::thread::Builder::new().name("space".to_owned()).spawn(watch)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_failed_for_want_of_space_says_so() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let named = shortage(FOR_SNAPSHOT)(RuntimeError::host("save a file")(full));
        assert_eq!(named.to_string(), "the host has no disk space for the snapshot left");
        let other = io::Error::from(io::ErrorKind::NotFound);
        let named = shortage(FOR_SANDBOX)(RuntimeError::host("make a disk")(other));
        assert!(matches!(named, RuntimeError::Host { .. }), "{named}");
    }

    #[test]
    fn a_disk_is_full_once_until_it_has_room_again() {
        assert!(!is_full(900, 1000, false));
        assert!(
            is_full(985, 1000, false) && is_full(1000, 1000, false) && is_full(1001, 1000, false)
        );
        assert!(is_full(950, 1000, true), "a little less is not worth a second word");
        assert!(!is_full(850, 1000, true));
    }

    #[test]
    fn a_filesystem_below_its_reserve_takes_no_more() {
        let data = tempfile::tempdir().unwrap();
        let space = Space::new(data.path().to_owned(), None, u64::MAX);
        let total = space.look().unwrap().total_bytes;
        for (free_bytes, short) in [(total / 20, true), (total / 5, false)] {
            assert_eq!(space.is_short(Room { total_bytes: total, free_bytes }), short);
        }
        space.admit(FOR_SANDBOX).unwrap();
        space.short.store(true, Ordering::Relaxed);
        // The reserve is a tenth at most, so whether it is refused is up to this machine.
        let refused = space.admit(FOR_SANDBOX).is_err();
        assert_eq!(refused, space.is_short(space.look().unwrap()));
        let none = Space::new(data.path().to_owned(), None, 0);
        assert!(none.tick().1.is_some());
        assert!(!none.short.load(Ordering::Relaxed));
    }
}
