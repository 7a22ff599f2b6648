//! Memory that guests could do without: how much is left for all of them, and what a frozen one
//! gives back.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use warren_core::runtime::Room;

use super::{Cgroup, Hierarchy, field};

impl Hierarchy {
    /// What there is for guests, and what of it is free: of the machine's, or of what they may have
    /// together, whichever of the two is the tighter. What the kernel could take back at once
    /// counts as free.
    pub(crate) fn room(&self) -> Option<Room> {
        let machine = machine(&fs::read_to_string("/proc/meminfo").ok()?)?;
        Some(match self.own_room() {
            Some(own) if own.is_tighter_than(machine) => own,
            _ => machine,
        })
    }

    fn own_room(&self) -> Option<Room> {
        let (directory, limit, used, idle) = match self {
            Self::V1(all) => {
                let (_, directory) = all.iter().find(|(controller, _)| *controller == "memory")?;
                let idle = "total_inactive_file";
                (directory, "memory.limit_in_bytes", "memory.usage_in_bytes", idle)
            }
            Self::V2(directory) => (directory, "memory.max", "memory.current", "inactive_file"),
            Self::None { .. } => return None,
        };
        let total = number(&directory.join(limit)).ok()?;
        let used = number(&directory.join(used)).ok()?;
        let idle = field(&fs::read_to_string(directory.join("memory.stat")).ok()?, idle);
        Some(Room { total_bytes: total, free_bytes: total.saturating_sub(used - idle.min(used)) })
    }
}

impl Cgroup {
    /// Has the kernel take back what it can of a frozen guest: what lies on a disk, and what goes
    /// to swap where the host has some. Gives how much, in bytes.
    pub(crate) fn reclaim(&self) -> io::Result<u64> {
        let used = || {
            let file = self.file("memory", "memory.usage_in_bytes", "memory.current");
            number(&file.ok_or(io::ErrorKind::Unsupported)?)
        };
        if !self.is_frozen() {
            return Ok(0);
        }
        let before = used()?;
        let done = match self.hierarchy {
            Hierarchy::V1(_) => self.tell("memory.force_empty", "0"),
            Hierarchy::V2(_) => {
                // One that runs never swaps: its limit is to mean the same everywhere.
                self.allow_swap(true)?;
                self.tell("memory.reclaim", &before.to_string())
            }
            Hierarchy::None { .. } => return Err(io::ErrorKind::Unsupported.into()),
        };
        if !self.is_frozen() {
            self.allow_swap(false)?;
        }
        match done {
            // Less than all was to be had, or somebody is quicker.
            Err(error) if matches!(error.raw_os_error(), Some(EAGAIN | EBUSY | EINTR)) => {}
            done => done?,
        }
        Ok(before.saturating_sub(used()?))
    }

    /// Whether a guest may be in swap, where v2 has a say of its own about that. What is there
    /// already comes back when it is used.
    pub(super) fn allow_swap(&self, allowed: bool) -> io::Result<()> {
        if !matches!(self.hierarchy, Hierarchy::V2(_)) {
            return Ok(());
        }
        match self.tell("memory.swap.max", if allowed { "max" } else { "0" }) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            told => told,
        }
    }

    /// Writes to a file of the memory controller that is there already.
    fn tell(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.file("memory", name, name).ok_or(io::ErrorKind::Unsupported)?;
        File::options().write(true).open(path)?.write_all(text.as_bytes())
    }
}

const EAGAIN: i32 = rustix::io::Errno::AGAIN.raw_os_error();
const EBUSY: i32 = rustix::io::Errno::BUSY.raw_os_error();
const EINTR: i32 = rustix::io::Errno::INTR.raw_os_error();

/// The machine, as `/proc/meminfo` describes it.
fn machine(text: &str) -> Option<Room> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(1024))
    };
    Some(Room { total_bytes: bytes("MemTotal:")?, free_bytes: bytes("MemAvailable:")? })
}

/// The number in a file; `max` is none.
fn number(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|_none| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read_from_what_the_kernel_says() {
        let text = "MemTotal:  2048 kB\nMemFree: 1 kB\nMemAvailable:   512 kB\n";
        assert_eq!(machine(text), Some(Room { total_bytes: 2 << 20, free_bytes: 512 << 10 }));
        assert_eq!(machine("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn guests_have_what_is_theirs_but_for_what_lies_idle() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("memory.max", "1000\n");
        write("memory.current", "900\n");
        write("memory.stat", "anon 1\ninactive_file 300\n");
        let hierarchy = Hierarchy::V2(directory.path().to_owned());
        assert_eq!(hierarchy.own_room(), Some(Room { total_bytes: 1000, free_bytes: 400 }));
        write("memory.max", "max\n");
        assert_eq!(hierarchy.own_room(), None);
        assert_eq!(Hierarchy::None { reason: String::new() }.own_room(), None);
    }
}
