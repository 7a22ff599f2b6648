//! How disks and volumes are counted and limited: by subvolume on btrfs, by project on xfs.

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    io,
    os::fd::AsFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use warren_sys::{
    btrfs::{self, quota},
    project,
};

/// Numbers of projects that are ours: those below are for people who give them out by hand.
const FIRST: u32 = 1 << 30;
/// How many such numbers there are.
const NUMBERS: u32 = 1 << 30;
/// How many numbers are tried before it is given up: other numbers are taken in great gaps.
const TRIES: u32 = 10_000;

/// A filesystem's way of counting.
#[derive(Clone, Debug)]
pub(super) enum Counting {
    /// By subvolume, on the btrfs of this identity.
    Subvolumes(Arc<str>),
    /// By project; the number that is tried next.
    Projects(Arc<Mutex<u32>>),
}

/// A project whose files are about to go.
#[derive(Debug)]
pub(super) struct Ending {
    /// The directory that it is in, which stays.
    above: File,
    project: u32,
}

impl Ending {
    /// Takes its limit back: the number is free again.
    pub(super) fn take_back(self) -> io::Result<()> {
        project::limit(self.above.as_fd(), self.project, None)
    }
}

impl Counting {
    /// For subvolumes below a directory on btrfs; none where it does not count.
    pub(super) fn of_subvolumes(directory: &File) -> io::Result<Option<Self>> {
        // Counting is looked up in sysfs, which is not everywhere: then there are no limits.
        let counts = quota::mode(directory.as_fd()).unwrap_or(None).is_some();
        // Limits are the business of whoever owns the filesystem.
        if !counts || !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        Ok(Some(Self::Subvolumes(quota::filesystem_id(directory.as_fd())?.into())))
    }

    /// For directories below another; none where nothing counts.
    pub(super) fn of_projects(directory: &File) -> Option<Self> {
        if !project::works(directory.as_fd()) {
            return None;
        }
        // Where an earlier server stopped is not known, and need not be.
        let start = RandomState::new().hash_one(0) % u64::from(NUMBERS);
        let start = u32::try_from(start).unwrap_or_default();
        Some(Self::Projects(Arc::new(Mutex::new(start))))
    }

    /// Begins to count what is made in an empty directory.
    pub(super) fn begin(&self, place: &Path) -> io::Result<()> {
        let Self::Projects(next) = self else { return Ok(()) };
        let directory = File::open(place)?;
        // Held until the number is taken: the directory itself counts.
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TRIES {
            let number = FIRST + *next % NUMBERS;
            *next = next.wrapping_add(1);
            if project::is_free(directory.as_fd(), number)? {
                return project::assign(directory.as_fd(), number);
            }
        }
        Err(io::Error::other("no number is free to count a disk by"))
    }

    /// Limits what is at `place`.
    pub(super) fn limit(&self, place: &Path, bytes: Option<u64>) -> io::Result<()> {
        let directory = File::open(place)?;
        match (self, bytes) {
            // Elsewhere it would limit what the directory is in: everything.
            (Self::Subvolumes(_), _) if btrfs::is_subvolume(place) => {
                quota::limit(directory.as_fd(), bytes)
            }
            (Self::Projects(_), _) if let Some(number) = project::of(directory.as_fd())? => {
                project::limit(directory.as_fd(), number, bytes)
            }
            (_, None) => Ok(()),
            // Made before there was counting.
            (_, Some(_)) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// What is at `place`, and may be.
    pub(super) fn used(&self, place: &Path) -> Option<quota::Group> {
        let directory = File::open(place).ok()?;
        match self {
            Self::Subvolumes(filesystem) => {
                let number = quota::subvolume(directory.as_fd()).ok()?;
                quota::usage(filesystem, number).ok()
            }
            Self::Projects(_) => {
                let number = project::of(directory.as_fd()).ok()??;
                project::usage(directory.as_fd(), number).ok()
            }
        }
    }

    /// Notes what is to be taken back when the files at `place` are gone.
    pub(super) fn end(&self, place: &Path) -> Option<Ending> {
        let Self::Projects(_) = self else { return None };
        let number = project::of(File::open(place).ok()?.as_fd()).ok()??;
        // The one that it is in may have a number too, which stays.
        let above = File::open(place.parent()?).ok()?;
        let of_above = project::of(above.as_fd()).ok()?;
        (number >= FIRST && of_above != Some(number)).then_some(Ending { above, project: number })
    }
}
