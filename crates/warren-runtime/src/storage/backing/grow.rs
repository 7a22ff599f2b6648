//! Room in a pool: how much there is, and more of it.

use std::{fs::File, io, os::fd::AsFd, path::Path};

use rustix::fs::{FallocateFlags, fallocate, ftruncate, statvfs};
use warren_sys::{btrfs, loopback, xfs};

use super::{Backing, BackingError, FILE, Filesystem, Source, failed};

/// What a pool grows by at least, unless so much is not to be had.
const STEP_BYTES: u64 = 1 << 30;
/// Less than this is not worth growing by.
const LEAST_STEP_BYTES: u64 = 64 << 20;
/// What stays free on the host at least, whatever its size.
const LEAST_KEPT_BYTES: u64 = 1 << 30;

/// What came of growing a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// It has so many bytes now.
    To(u64),
    /// It is as large as it may become, or on a device.
    AtMost,
    /// The host has no room for more.
    NoRoom,
}

/// Space on a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) total_bytes: u64,
    pub(crate) free_bytes: u64,
}

impl Room {
    /// Measures the filesystem that `path` is on.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let found = statvfs(path)?;
        Ok(Self {
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    /// Whether a pool should grow: less than a fifth is free, or less than one step.
    pub(crate) fn is_low(self) -> bool {
        self.free_bytes < (self.total_bytes / 5).max(STEP_BYTES.min(self.total_bytes / 2))
    }

    /// What the host keeps free of pools: a twentieth, and a gigabyte at least.
    fn kept(self) -> u64 {
        (self.total_bytes / 20).max(LEAST_KEPT_BYTES)
    }
}

/// Refuses a pool that the host has no room for.
pub(super) fn check_room(data_dir: &Path, wanted_bytes: u64) -> Result<(), BackingError> {
    let room = Room::of(data_dir).map_err(failed("look at the data directory"))?;
    let kept_bytes = room.kept();
    if wanted_bytes.saturating_add(kept_bytes) > room.free_bytes {
        let free_bytes = room.free_bytes;
        return Err(BackingError::NoRoom { wanted_bytes, free_bytes, kept_bytes });
    }
    Ok(())
}

/// How much a pool of `now` bytes grows by.
fn step(now: u64, most: u64, host: Room) -> Result<u64, Growth> {
    if now.saturating_add(LEAST_STEP_BYTES) > most {
        return Err(Growth::AtMost);
    }
    let spare = host.free_bytes.saturating_sub(host.kept());
    let step = (now / 4).max(STEP_BYTES).min(most - now).min(spare) >> 20 << 20;
    if step < LEAST_STEP_BYTES { Err(Growth::NoRoom) } else { Ok(step) }
}

impl Backing {
    /// Makes a pool in a file larger by a quarter, as far as it may and the host has room.
    ///
    /// # Errors
    ///
    /// [`BackingError`]; the pool is as it was, or larger.
    pub fn grow(&self) -> Result<Growth, BackingError> {
        if self.source != Source::File {
            return Ok(Growth::AtMost);
        }
        let file = File::options().read(true).write(true).open(self.data_dir.join(FILE));
        let file = file.map_err(failed("open the pool's file"))?;
        let now = file.metadata().map_err(failed("look at the pool's file"))?.len();
        let host = Room::of(&self.data_dir).map_err(failed("look at the data directory"))?;
        let step = match step(now, self.most_bytes, host) {
            Ok(step) => step,
            Err(nothing) => return Ok(nothing),
        };
        if let Err(errno) = fallocate(&file, FallocateFlags::empty(), now, step) {
            // Part of it may be there, which nothing uses.
            ftruncate(&file, now).ok();
            return Err(failed("set more space aside for the pool")(errno));
        }
        self.fill_device().map_err(failed("make the pool larger"))?;
        Ok(Growth::To(now + step))
    }

    /// Makes the device as large as its file, and the mounted filesystem as large as its device.
    pub(super) fn fill_device(&self) -> io::Result<()> {
        let Some(path) = self.file() else { return Ok(()) };
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let place = File::open(self.place())?;
        if let Some(device) = loopback::Device::of(&file)? {
            device.take_new_size()?;
        }
        match self.filesystem {
            Filesystem::Btrfs => btrfs::quota::grow(place.as_fd()),
            Filesystem::Xfs => xfs::grow(place.as_fd(), bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_pool_grows_by_a_quarter_as_far_as_it_may_and_the_host_has_room() {
        let roomy = Room { total_bytes: 1000 * GIB, free_bytes: 500 * GIB };
        assert_eq!(step(20 * GIB, 80 * GIB, roomy), Ok(5 * GIB));
        assert_eq!(step(2 * GIB, 80 * GIB, roomy), Ok(GIB), "no tiny steps");
        assert_eq!(step(79 * GIB, 80 * GIB, roomy), Ok(GIB), "no further than it may");
        assert_eq!(step(80 * GIB, 80 * GIB, roomy), Err(Growth::AtMost));
        let full = Room { total_bytes: 1000 * GIB, free_bytes: 50 * GIB };
        assert_eq!(step(20 * GIB, 80 * GIB, full), Err(Growth::NoRoom), "a twentieth stays free");
        let tight = Room { total_bytes: 1000 * GIB, free_bytes: 52 * GIB };
        assert_eq!(step(20 * GIB, 80 * GIB, tight), Ok(2 * GIB), "what there is");
    }

    #[test]
    fn a_pool_is_low_before_it_is_full() {
        let room = |total_bytes, free_bytes| Room { total_bytes, free_bytes };
        assert!(room(20 * GIB, 3 * GIB).is_low());
        assert!(!room(20 * GIB, 5 * GIB).is_low());
        assert!(!room(GIB, GIB * 6 / 10).is_low(), "a small one is not always low");
        assert!(room(GIB, GIB / 10).is_low());
    }
}
