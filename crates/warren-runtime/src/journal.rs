//! What is on the host: one directory per guest, which exists before anything else of it does.
//!
//! ```text
//! <data>/blanks/<slot>/      a blank: guest, disk/
//!   -- rename --> <data>/sandboxes/<id>/
//!   -- rename --> <data>/trash/<name>/   removed in the background
//!
//! <data>/stopped/<id>/disk   the files of a guest that was stopped: moved here out of its entry,
//!                            and back into the entry of the guest that is made on them again
//! ```
//!
//! Every other host object's name follows from the slot: the cgroups, the network interface, the
//! sockets, the id range. So whoever reads an entry can find and remove all of it, whatever line
//! the last server died at. Nothing is synced: the journal must survive the death of the process
//! and not of the machine, with which all but the files are gone anyway.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use warren_core::id::SandboxId;
use warren_sys::tree;

/// The directories of a server's guests.
#[derive(Debug)]
pub(crate) struct Journal {
    blanks: PathBuf,
    sandboxes: PathBuf,
    trash: PathBuf,
    stopped: PathBuf,
    boot_id: String,
}

/// A guest's process, as far as it can be told after its server's death.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The guest's number on this host.
    pub(crate) slot: u32,
    /// Its first process; absent while it was not forked.
    pub(crate) process: Option<Process>,
    /// Whether its processes lived in this boot of the host.
    pub(crate) this_boot: bool,
}

/// A process that cannot be mistaken for a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) start_time: u64,
}

impl Process {
    /// Reads when the process started.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let start_time = warren_sys::process::start_time(i32::try_from(pid).unwrap_or(-1))?;
        Ok(Self { pid, start_time })
    }

    /// A descriptor that holds it; `None` when it has ended.
    pub(crate) fn open(self) -> Option<OwnedFd> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
        // Only what the descriptor holds now is certain to be the process that was meant.
        self.lives().then_some(pidfd)
    }

    /// Whether it still runs. One that has ended and waits to be reaped does not.
    pub(crate) fn lives(self) -> bool {
        let pid = i32::try_from(self.pid).unwrap_or(-1);
        warren_sys::process::running_since(pid).is_ok_and(|since| since == Some(self.start_time))
    }
}

impl Journal {
    /// Opens the journal below `data_dir` and makes its directories.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let journal = Self::at(data_dir)?;
        for directory in [&journal.blanks, &journal.sandboxes, &journal.trash, &journal.stopped] {
            crate::storage::make_place(directory)?;
        }
        Ok(journal)
    }

    /// The journal below `data_dir`, if there is one; nothing is made.
    pub(crate) fn existing(data_dir: &Path) -> io::Result<Option<Self>> {
        let journal = Self::at(data_dir)?;
        Ok(journal.sandboxes.is_dir().then_some(journal))
    }

    fn at(data_dir: &Path) -> io::Result<Self> {
        Ok(Self {
            blanks: data_dir.join("blanks"),
            sandboxes: data_dir.join("sandboxes"),
            trash: data_dir.join("trash"),
            stopped: data_dir.join("stopped"),
            boot_id: warren_sys::process::boot_id()?,
        })
    }

    /// Begins an entry: from here on the slot's host objects can be found.
    pub(crate) fn begin(&self, slot: u32) -> io::Result<PathBuf> {
        let entry = self.blank(slot);
        fs::create_dir(&entry)?;
        self.write(&entry, slot, None)?;
        Ok(entry)
    }

    /// Adds the guest's process to its entry.
    pub(crate) fn forked(&self, entry: &Path, slot: u32, process: Process) -> io::Result<()> {
        self.write(entry, slot, Some(process))
    }

    fn write(&self, entry: &Path, slot: u32, process: Option<Process>) -> io::Result<()> {
        let mut text = format!("slot {slot}\nboot {}\n", self.boot_id);
        if let Some(Process { pid, start_time }) = process {
            text.push_str(&format!("pid {pid}\nstart {start_time}\n"));
        }
        fs::write(entry.join("guest.new"), text)?;
        fs::rename(entry.join("guest.new"), entry.join("guest"))
    }

    /// Where the entry of a blank is.
    pub(crate) fn blank(&self, slot: u32) -> PathBuf {
        self.blanks.join(slot.to_string())
    }

    /// Gives a blank to a sandbox. Fails if the sandbox has an entry already.
    pub(crate) fn assign(&self, slot: u32, id: &SandboxId) -> io::Result<PathBuf> {
        let entry = self.sandboxes.join(id.as_str());
        fs::rename(self.blank(slot), &entry)?;
        Ok(entry)
    }

    /// Puts the disk of a guest that has ended aside, out of its entry. Done before is no error.
    pub(crate) fn shelve(&self, entry: &Path, id: &SandboxId) -> io::Result<()> {
        // A server that died while it started this guest again has left them there: what is in
        // the entry is the blank's that was to take them.
        if self.is_shelved(id) {
            return Ok(());
        }
        let shelf = self.shelf(id);
        let made = match fs::create_dir(&shelf) {
            // Stopping a sandbox is what makes room: the overlay's own directory, which is made
            // anew with the next start, has what one more directory takes.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tree::remove(&entry.join("disk/work"))?;
                fs::create_dir(&shelf)
            }
            other => other,
        };
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::rename(entry.join("disk"), shelf.join("disk"))
    }

    /// Puts a stopped guest's disk into the entry of the guest that is made on it, which has none.
    pub(crate) fn unshelve(&self, id: &SandboxId, entry: &Path) -> io::Result<()> {
        let shelf = self.shelf(id);
        fs::rename(shelf.join("disk"), entry.join("disk"))?;
        // Should it stay, it is found empty at the next start.
        fs::remove_dir(shelf).ok();
        Ok(())
    }

    /// Whether the files of a stopped guest are there.
    pub(crate) fn is_shelved(&self, id: &SandboxId) -> bool {
        self.shelf(id).join("disk").is_dir()
    }

    /// Where the files of a stopped guest are.
    pub(crate) fn shelf(&self, id: &SandboxId) -> PathBuf {
        self.stopped.join(id.as_str())
    }

    /// The stopped guests. What a server left empty, which died in the middle, is removed.
    pub(crate) fn shelves(&self) -> io::Result<Vec<SandboxId>> {
        let mut found = Vec::new();
        for shelf in children(&self.stopped)? {
            let id = shelf.file_name().and_then(|it| it.to_str()?.parse().ok());
            match id {
                Some(id) if self.is_shelved(&id) => found.push(id),
                Some(_) => drop(fs::remove_dir(shelf)),
                None => {}
            }
        }
        Ok(found)
    }

    /// Takes an entry out of sight; the place of what is left of it to remove.
    pub(crate) fn discard(&self, entry: &Path) -> io::Result<PathBuf> {
        let number = next_number();
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let place = self.trash.join(format!("{name}.{}.{number}", std::process::id()));
        fs::rename(entry, &place)?;
        Ok(place)
    }

    /// An empty entry in the trash, for what has none of its own.
    pub(crate) fn trash_entry(&self) -> io::Result<PathBuf> {
        let name = format!("files.{}.{}", std::process::id(), next_number());
        let place = self.trash.join(name);
        fs::create_dir(&place)?;
        Ok(place)
    }

    /// The blanks' entries.
    pub(crate) fn blanks(&self) -> io::Result<Vec<(PathBuf, Option<Record>)>> {
        Ok(children(&self.blanks)?.into_iter().map(|it| (it.clone(), self.read(&it))).collect())
    }

    /// The sandboxes' entries. What is not named by an id is not ours and left alone.
    pub(crate) fn sandboxes(&self) -> io::Result<Vec<(SandboxId, PathBuf, Option<Record>)>> {
        let entries = children(&self.sandboxes)?.into_iter().filter_map(|path| {
            let id = path.file_name()?.to_str()?.parse().ok()?;
            let record = self.read(&path);
            Some((id, path, record))
        });
        Ok(entries.collect())
    }

    /// What an earlier server had discarded and not yet removed.
    pub(crate) fn trash(&self) -> io::Result<Vec<PathBuf>> {
        children(&self.trash)
    }

    fn read(&self, entry: &Path) -> Option<Record> {
        let text = fs::read_to_string(entry.join("guest")).ok()?;
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let process = match (field("pid"), field("start")) {
            (Some(pid), Some(start)) => {
                Some(Process { pid: pid.parse().ok()?, start_time: start.parse().ok()? })
            }
            _ => None,
        };
        Some(Record {
            slot: field("slot")?.parse().ok()?,
            process,
            this_boot: field("boot") == Some(&self.boot_id),
        })
    }
}

/// A number that no other entry of the trash has from this process.
fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| entry.map(|it| it.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_goes_from_blank_to_sandbox_to_trash() {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path()).unwrap();
        let entry = journal.begin(7).unwrap();
        let process = Process::of(std::process::id()).unwrap();
        journal.forked(&entry, 7, process).unwrap();
        let record = Record { slot: 7, process: Some(process), this_boot: true };
        assert_eq!(journal.blanks().unwrap(), [(entry, Some(record.clone()))]);

        let id = SandboxId::mint();
        let entry = journal.assign(7, &id).unwrap();
        assert!(journal.blanks().unwrap().is_empty());
        assert_eq!(journal.sandboxes().unwrap(), [(id, entry.clone(), Some(record))]);

        let place = journal.discard(&entry).unwrap();
        assert!(journal.sandboxes().unwrap().is_empty());
        assert_eq!(journal.trash().unwrap(), [place]);
    }

    #[test]
    fn a_blanks_disk_does_not_take_the_place_of_files_that_are_aside() {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path()).unwrap();
        let id = SandboxId::mint();
        for content in ["kept", "a blank's"] {
            let entry = journal.begin(7).unwrap();
            fs::create_dir(entry.join("disk")).unwrap();
            fs::write(entry.join("disk/file"), content).unwrap();
            let entry = journal.assign(7, &id).unwrap();
            journal.shelve(&entry, &id).unwrap();
            let kept = fs::read_to_string(journal.shelf(&id).join("disk/file")).unwrap();
            assert_eq!(kept, "kept");
            journal.discard(&entry).unwrap();
        }
    }

    #[test]
    fn a_disk_goes_aside_and_comes_back() {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path()).unwrap();
        let id = SandboxId::mint();
        let entry = journal.begin(7).unwrap();
        fs::create_dir(entry.join("disk")).unwrap();
        fs::write(entry.join("disk/file"), "kept").unwrap();
        journal.shelve(&entry, &id).unwrap();
        journal.shelve(&entry, &id).unwrap();
        assert_eq!(journal.shelves().unwrap(), [id]);
        let place = journal.discard(&entry).unwrap();
        assert!(!place.join("disk").exists());

        let entry = journal.begin(8).unwrap();
        journal.unshelve(&id, &entry).unwrap();
        assert_eq!(fs::read_to_string(entry.join("disk/file")).unwrap(), "kept");
        assert!(journal.shelves().unwrap().is_empty());
        assert!(journal.unshelve(&id, &entry).is_err());
    }

    #[test]
    fn an_entry_cut_short_is_found_without_a_record() {
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path()).unwrap();
        fs::create_dir(data.path().join("blanks/3")).unwrap();
        let blanks = journal.blanks().unwrap();
        assert_eq!(blanks.len(), 1);
        assert_eq!(blanks[0].1, None);
    }

    #[test]
    fn a_process_that_ended_does_not_live_on_in_a_later_one() {
        let process = Process::of(std::process::id()).unwrap();
        assert!(process.lives());
        assert!(!Process { start_time: process.start_time + 1, ..process }.lives());
    }
}
