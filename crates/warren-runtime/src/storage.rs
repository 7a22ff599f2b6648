//! Where the writable part of a root filesystem lives: the pool's drivers.
//!
//! A *disk* is one directory with `upper` and `work` in it, on one filesystem, as overlayfs wants
//! them. Ids in it are those of the inside (0, 1000), whatever range the guest runs in.

pub mod backing;
pub(crate) mod copy;
mod count;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use warren_core::runtime::Cost;
use warren_sys::{btrfs, btrfs::quota, tree};

use count::Counting;

/// How disks are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// The best one that the data directory's filesystem has.
    #[default]
    Auto,
    /// Plain directories, on any filesystem.
    Directory,
    /// One btrfs subvolume per disk.
    Btrfs,
}

/// An opened storage pool.
#[derive(Clone, Debug)]
pub struct Pool {
    btrfs: bool,
    /// How what each disk has is counted and limited, where it is.
    counting: Option<Counting>,
}

impl Pool {
    /// Opens the pool at `directory`.
    ///
    /// # Errors
    ///
    /// `Unsupported` when btrfs was asked for and the directory is not on one.
    pub fn open(driver: Driver, directory: &Path) -> io::Result<Self> {
        let on_btrfs = btrfs::is_btrfs(directory)?;
        match driver {
            Driver::Auto | Driver::Btrfs if on_btrfs => Self::with_subvolumes(directory),
            Driver::Auto | Driver::Directory => Self::with_directories(directory),
            Driver::Btrfs => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{} is not on btrfs, expected for this driver", directory.display()),
            )),
        }
    }

    fn with_subvolumes(directory: &Path) -> io::Result<Self> {
        let counting = Counting::of_subvolumes(&File::open(directory)?)?;
        Ok(Self { btrfs: true, counting })
    }

    fn with_directories(directory: &Path) -> io::Result<Self> {
        let counting = Counting::of_projects(&File::open(directory)?);
        Ok(Self { btrfs: false, counting })
    }

    /// The driver's name: `dir` or `btrfs`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if self.btrfs { "btrfs" } else { "dir" }
    }

    /// What it costs to copy a disk.
    #[must_use]
    pub fn snapshot_cost(&self) -> Cost {
        if self.btrfs { Cost::Constant } else { Cost::Bytes }
    }

    /// Whether copies share what is equal.
    pub(crate) fn shares(&self) -> bool {
        self.btrfs
    }

    /// Whether [`Pool::limit`] limits.
    #[must_use]
    pub fn limits(&self) -> bool {
        self.counting.is_some()
    }

    /// Limits what is at `place`, which this pool has made; none takes a limit back, also where
    /// there can be none.
    ///
    /// # Errors
    ///
    /// The system's error; `Unsupported` for a limit where nothing counts.
    pub fn limit(&self, place: &Path, bytes: Option<u64>) -> io::Result<()> {
        match (&self.counting, bytes) {
            (Some(counting), bytes) => counting.limit(place, bytes),
            (None, None) => Ok(()),
            (None, Some(_)) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// What the disk or volume at `place` has and may have; none where nothing counts.
    #[must_use]
    pub fn used(&self, place: &Path) -> Option<quota::Group> {
        self.counting.as_ref()?.used(place)
    }

    /// Makes an empty directory at `place`, that can be limited where that is possible.
    pub(crate) fn make_directory(&self, place: &Path) -> io::Result<()> {
        if self.btrfs {
            return btrfs::create_subvolume(place);
        }
        fs::create_dir(place)?;
        let counted = self.counting.as_ref().map_or(Ok(()), |it| it.begin(place));
        if counted.is_err() {
            // The first error is the one to tell.
            drop(fs::remove_dir(place));
        }
        counted
    }

    /// Makes a copy of the directory at `source`, which this pool has made, that shares everything
    /// with it; false where that cannot be.
    pub(crate) fn share(&self, source: &Path, place: &Path) -> io::Result<bool> {
        if !self.btrfs || !btrfs::is_subvolume(source) {
            return Ok(false);
        }
        btrfs::snapshot_subvolume(source, place).map(|()| true)
    }

    /// Makes an empty disk at `place`, which must not exist.
    ///
    /// # Errors
    ///
    /// The system's error; nothing is left at `place` then.
    pub fn create(&self, place: &Path) -> io::Result<()> {
        self.make_directory(place)?;
        self.furnish(place)
    }

    /// As [`Pool::create`], for a disk that nobody will write to. It is not counted: files and
    /// directories can be moved and linked into it from anywhere in the storage.
    pub(crate) fn create_saved(&self, place: &Path) -> io::Result<()> {
        if self.btrfs {
            btrfs::create_subvolume(place)?
        } else {
            fs::create_dir(place)?
        }
        self.furnish(place)
    }

    fn furnish(&self, place: &Path) -> io::Result<()> {
        let made = ["upper", "work"].iter().try_for_each(|name| make_open(&place.join(name)));
        if made.is_err() {
            // The first error is the one to tell.
            drop(self.remove(place));
        }
        made
    }

    /// Removes a disk. One that is gone is not an error.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn remove(&self, place: &Path) -> io::Result<()> {
        if self.btrfs && btrfs::is_subvolume(place) {
            return match btrfs::delete_subvolume(place) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let end = self.counting.as_ref().and_then(|it| it.end(place));
        match tree::remove(place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                // One that stays limits nothing, and its number is not used again.
                drop(end.map(|it| it.take_back()));
                Ok(())
            }
        }
    }
}

/// Makes the overlay's own directory of a disk anew. Its mounts are volatile, and leave a note
/// there that keeps the kernel from mounting the disk a second time.
///
/// # Errors
///
/// The system's error.
///
/// # Source
///
/// `Documentation/filesystems/overlayfs.rst`, "Volatile mount".
pub(crate) fn renew_work(disk: &Path) -> io::Result<()> {
    let work = disk.join("work");
    match tree::remove(&work) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    make_open(&work)
}

/// Makes a directory whose subdirectories have nothing to do with each other, and those above it.
///
/// ext4 puts a new directory near its parent, and the files in it near both. It does not use an
/// inode again that was freed in the last minutes, but looks at each of them whenever it wants
/// one: where thousands of files come and go, making a file took 530 microseconds and not 25. The
/// mark has it put every subdirectory into some other part of the disk.
///
/// # Errors
///
/// The system's error. Where there are no such marks, none is missing.
///
/// # Source
///
/// `chattr(1)`, attribute `T`; `find_inode_bit` and `find_group_orlov` in `fs/ext4/ialloc.c`.
pub(crate) fn make_place(directory: &Path) -> io::Result<()> {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    fs::create_dir_all(directory)?;
    let opened = File::open(directory)?;
    match ioctl_getflags(&opened) {
        Ok(flags) if !flags.contains(IFlags::TOPDIR) => {
            // Other filesystems refuse it, and need it as little as they know it.
            ioctl_setflags(&opened, flags | IFlags::TOPDIR).ok();
        }
        _ => {}
    }
    Ok(())
}

/// Makes a directory that everybody may enter.
fn make_open(directory: &Path) -> io::Result<()> {
    fs::create_dir(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread_over_the_disk_where_that_can_be_said() {
        const EXT4: rustix::fs::FsWord = 0xef53;
        let data = tempfile::tempdir().unwrap();
        let place = data.path().join("many");
        make_place(&place).unwrap();
        make_place(&place).unwrap();
        let opened = File::open(&place).unwrap();
        let kind = rustix::fs::fstatfs(&opened).unwrap().f_type;
        let marked = rustix::fs::ioctl_getflags(&opened)
            .is_ok_and(|flags| flags.contains(rustix::fs::IFlags::TOPDIR));
        assert!(marked || kind != EXT4);
    }

    #[test]
    fn a_directory_disk_is_made_and_removed() {
        let data = tempfile::tempdir().unwrap();
        let pool = Pool::open(Driver::Directory, data.path()).unwrap();
        let place = data.path().join("disk");
        pool.create(&place).unwrap();
        assert!(place.join("upper").is_dir() && place.join("work").is_dir());
        fs::write(place.join("upper/file"), "x").unwrap();
        pool.remove(&place).unwrap();
        assert!(!place.exists());
        pool.remove(&place).unwrap();
    }

    #[test]
    fn btrfs_is_refused_elsewhere_and_says_so() {
        let data = tempfile::tempdir().unwrap();
        if btrfs::is_btrfs(data.path()).unwrap() {
            return;
        }
        let error = Pool::open(Driver::Btrfs, data.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }
}
