//! What a storage pool is made on: a filesystem of ours, in a file or on a device.
//!
//! ```text
//! <data>/pool.record   which filesystem, where: what is not written down is not mounted
//! <data>/pool.img      the filesystem, where it is in a file; every byte of it is allocated
//! <data>/pool/         where it is mounted, and what is then the storage directory
//! ```
//!
//! What the data directory held is copied into a new pool, and back out of one that goes, before
//! the record is written or removed: that is the moment from which on the other one counts. What is
//! under way is written down as well, so the next start removes what does not count. A pool that is recorded and cannot be mounted is an
//! error: the directory below the mount point is empty and must not be taken for it.
//!
//! Whoever calls holds the lock of the data directory's server, so there is one at a time.

mod carry;
mod grow;
mod make;
mod record;
mod tool;

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags},
};
use warren_sys::{btrfs, loopback, xfs};

use super::{Driver, Pool};

pub use grow::Growth;
pub(crate) use grow::Room;
pub use make::{Made, Wanted, make, remove, settle};

/// Where a pool is mounted, in the data directory.
const PLACE: &str = "pool";
/// The file that it is in, in the data directory.
const FILE: &str = "pool.img";

/// The filesystem of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// Disks are subvolumes: snapshots of constant cost, limits.
    Btrfs,
    /// Disks are directories: copies share their blocks, and projects limit them.
    Xfs,
}

impl Filesystem {
    /// Its name, as the kernel, `mkfs` and people say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs",
            Self::Xfs => "xfs",
        }
    }

    /// The filesystem of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Btrfs, Self::Xfs].into_iter().find(|it| it.name() == name)
    }

    /// How it is mounted: the first of these that this kernel knows. Blocks that are freed must not
    /// be given back to the host: in a file they are what was set aside, and a full host would then
    /// fail writes inside.
    fn options(self) -> &'static [&'static std::ffi::CStr] {
        match self {
            Self::Btrfs => &[c"nodiscard"],
            // Some kernels are built without quotas for xfs, and refuse to hear of them.
            Self::Xfs => &[c"nodiscard,prjquota", c"nodiscard,noquota"],
        }
    }

    /// The identity of the filesystem that `directory` is on; `None` where it is another kind.
    fn id_of(self, directory: &File) -> Option<String> {
        match self {
            Self::Btrfs => btrfs::quota::filesystem_id(directory.as_fd()).ok(),
            Self::Xfs => xfs::filesystem_id(directory.as_fd()).ok(),
        }
    }
}

/// What it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file `pool.img` in the data directory.
    File,
    /// A block device.
    Device(PathBuf),
}

/// A pool's filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    data_dir: PathBuf,
    /// Its kind.
    pub filesystem: Filesystem,
    /// Where it is.
    pub source: Source,
    /// How large it may become, in bytes.
    pub most_bytes: u64,
    /// Its UUID, in lower case.
    id: String,
}

/// Where the files of a server's sandboxes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Holds images, blanks, sandboxes, snapshots and volumes, which must share a filesystem.
    pub directory: PathBuf,
    /// The pool that it is in; `None` where it is the data directory itself.
    pub backing: Option<Backing>,
}

/// Finds out where the files are, and mounts the pool if there is one and it is not mounted.
///
/// # Errors
///
/// [`BackingError`] when there is a pool that cannot be mounted.
pub fn open(data_dir: &Path) -> Result<Storage, BackingError> {
    let Some(backing) = Backing::find(data_dir)? else {
        return Ok(Storage { directory: data_dir.to_owned(), backing: None });
    };
    let directory = backing.mount()?;
    Ok(Storage { directory, backing: Some(backing) })
}

/// Where the files are, if they can be seen now; nothing is mounted.
#[must_use]
pub fn directory(data_dir: &Path) -> PathBuf {
    match Backing::find(data_dir) {
        Ok(Some(backing)) => backing.place(),
        _ => data_dir.to_owned(),
    }
}

/// Where a pool is mounted now, recorded or not.
#[must_use]
pub fn mounted(data_dir: &Path) -> Option<PathBuf> {
    let place = data_dir.join(PLACE);
    is_mount_point(data_dir, &place).then_some(place)
}

/// Unmounts the pool of this data directory, for good: nothing may be wanted of it any more. What
/// still uses it keeps it until it ends. Nothing mounted is no error.
///
/// # Errors
///
/// [`BackingError::Host`] with the kernel's reason.
pub fn unmount(data_dir: &Path) -> Result<(), BackingError> {
    let Some(place) = mounted(data_dir) else { return Ok(()) };
    let file = File::open(data_dir.join(FILE)).ok();
    let result = detach(&place)
        .or_else(|_busy| {
            rustix::mount::unmount(&place, UnmountFlags::DETACH).map_err(io::Error::from)
        })
        .map_err(failed("unmount the pool"));
    // Its space is free when the file is removed, or soon after.
    if let Some(file) = file {
        make::wait_until_let_go(&file);
    }
    result
}

impl Backing {
    /// The pool of this data directory, if one is recorded.
    ///
    /// # Errors
    ///
    /// [`BackingError::Record`] when the record cannot be read.
    pub fn find(data_dir: &Path) -> Result<Option<Self>, BackingError> {
        record::read(data_dir)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn place(&self) -> PathBuf {
        self.data_dir.join(PLACE)
    }

    /// The file that it is in, if it is in one.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        (self.source == Source::File).then(|| self.data_dir.join(FILE))
    }

    /// Whether it is mounted.
    ///
    /// # Errors
    ///
    /// [`BackingError::Occupied`] when something else is.
    pub fn is_mounted(&self) -> Result<bool, BackingError> {
        let place = self.place();
        if !is_mount_point(&self.data_dir, &place) {
            return Ok(false);
        }
        let id = File::open(&place).ok().and_then(|it| self.filesystem.id_of(&it));
        if id.as_ref() == Some(&self.id) { Ok(true) } else { Err(BackingError::Occupied { place }) }
    }

    /// Mounts it, unless it is mounted; gives where.
    fn mount(&self) -> Result<PathBuf, BackingError> {
        let place = self.place();
        if self.is_mounted()? {
            return Ok(place);
        }
        if !rustix::process::geteuid().is_root() {
            return Err(BackingError::NotRoot);
        }
        self.attach()?;
        if !self.is_mounted().unwrap_or(false) {
            detach(&place).ok();
            return Err(BackingError::Mistaken { source_name: self.source_name() });
        }
        // A server may have died between making the device larger and the filesystem.
        self.fill_device().map_err(failed("make the pool as large as its device"))?;
        Ok(place)
    }

    /// Mounts what is there, whatever it is.
    fn attach(&self) -> Result<(), BackingError> {
        let place = self.place();
        match fs::create_dir(&place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("make the pool's mount point")(error));
            }
            _ => {}
        }
        let (device, _held) = match &self.source {
            Source::Device(path) => (self.device_path(path), None),
            Source::File => {
                let device = self.loop_device()?;
                (device.path.clone(), Some(device))
            }
        };
        let flags = MountFlags::NOATIME | MountFlags::NODEV;
        let filesystem = self.filesystem;
        let mount =
            |options| rustix::mount::mount(&device, &place, filesystem.name(), flags, options);
        let mut mounted = Err(Errno::INVAL);
        for options in filesystem.options() {
            mounted = mount(*options);
            if mounted != Err(Errno::INVAL) {
                break;
            }
        }
        mounted.map_err(|errno| {
            let source = io::Error::from(errno);
            BackingError::Mount { filesystem, source_name: self.source_name(), source }
        })
    }

    /// Whether limits hold in it, which is mounted.
    #[must_use]
    pub fn limits(&self) -> bool {
        Pool::open(Driver::Auto, &self.place()).is_ok_and(|it| it.limits())
    }

    /// A device by its identity where the system knows it: names may change from boot to boot.
    fn device_path(&self, recorded: &Path) -> PathBuf {
        let by_id = Path::new("/dev/disk/by-uuid").join(&self.id);
        if !self.id.is_empty() && by_id.exists() { by_id } else { recorded.to_owned() }
    }

    /// The loop device of the pool's file: the one it has, which running sandboxes may still use
    /// when the mount is gone, or a new one.
    fn loop_device(&self) -> Result<loopback::Device, BackingError> {
        let path = self.data_dir.join(FILE);
        let file = match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BackingError::Gone { path });
            }
            other => other.map_err(failed("open the pool's file"))?,
        };
        let found = loopback::Device::of(&file).map_err(failed("look at loop devices"))?;
        match found {
            Some(device) => Ok(device),
            None => loopback::Device::attach(&file).map_err(failed("make a loop device")),
        }
    }

    fn source_name(&self) -> String {
        match &self.source {
            Source::File => self.data_dir.join(FILE).display().to_string(),
            Source::Device(path) => path.display().to_string(),
        }
    }
}

/// Whether something is mounted at `place` in `data_dir`.
fn is_mount_point(data_dir: &Path, place: &Path) -> bool {
    match (fs::metadata(data_dir), fs::symlink_metadata(place)) {
        (Ok(above), Ok(there)) => there.is_dir() && above.dev() != there.dev(),
        _ => false,
    }
}

/// Unmounts a pool. The kernel frees the loop device with it.
fn detach(place: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(place, UnmountFlags::empty())?)
}

/// Why there is no pool, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BackingError {
    /// Mounting is root's.
    #[error("a storage pool is a filesystem that is mounted, which takes root")]
    NotRoot,
    /// The record is not one.
    #[error("{} cannot be read: {problem}", path.display())]
    Record {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file is not there.
    #[error("the storage pool {} is gone, and with it the files of all sandboxes", path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// Something is in the way.
    #[error("something else is mounted at {}", place.display())]
    Occupied {
        /// Where the pool belongs.
        place: PathBuf,
    },
    /// It is not the one that was made.
    #[error("{source_name} holds another filesystem than the pool that was made there")]
    Mistaken {
        /// The file or device.
        source_name: String,
    },
    /// The kernel does not mount it.
    #[error("could not mount the storage pool {source_name} ({})", filesystem.name())]
    Mount {
        /// Its kind.
        filesystem: Filesystem,
        /// The file or device.
        source_name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is a pool.
    #[error("there is a storage pool already: {source_name}")]
    Exists {
        /// The file or device.
        source_name: String,
    },
    /// There is none.
    #[error("there is no storage pool")]
    None,
    /// It needs none.
    #[error(
        "the data directory is on btrfs, where sandboxes have subvolumes already: a pool in a \
         file there would be slower"
    )]
    Needless,
    /// What runs cannot be moved.
    #[error("there are sandboxes in {} that run, and cannot be moved", directory.display())]
    Running {
        /// Where.
        directory: PathBuf,
    },
    /// Something could not be copied; all is as it was.
    #[error("could not {operation} {}, so nothing was moved", path.display())]
    NotMoved {
        /// The step.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A copy is not what it was copied from; all is as it was.
    #[error("the copy of {} differs ({what}), so nothing was moved", path.display())]
    Differs {
        /// Of what.
        path: PathBuf,
        /// In what.
        what: &'static str,
    },
    /// There is more than there is room; all is as it was.
    #[error("what is to be moved does not fit, so nothing was moved")]
    DoesNotFit,
    /// A limit would be lost.
    #[error("{} has a size limit, which nothing would enforce outside of the pool", path.display())]
    Unlimited {
        /// What has it.
        path: PathBuf,
    },
    /// There is something on the device.
    #[error("there is something on {} already: {said}", path.display())]
    Written {
        /// The device.
        path: PathBuf,
        /// What the program that looked says.
        said: String,
    },
    /// The host is too full.
    #[error(
        "the pool would take {wanted_bytes} bytes of {free_bytes} that are free, and {kept_bytes} \
         stay free for the host"
    )]
    NoRoom {
        /// What the pool would have.
        wanted_bytes: u64,
        /// What is free.
        free_bytes: u64,
        /// What must stay so.
        kept_bytes: u64,
    },
    /// A pool of that size is of no use.
    #[error("a pool has {least_bytes} bytes at least, got {got_bytes}")]
    TooSmall {
        /// The least.
        least_bytes: u64,
        /// What was asked for.
        got_bytes: u64,
    },
    /// It is not a device.
    #[error("{} is no block device", path.display())]
    NotADevice {
        /// What was named.
        path: PathBuf,
    },
    /// Somebody uses it.
    #[error("{} is in use, by a mount or another program", path.display())]
    Busy {
        /// What was named.
        path: PathBuf,
    },
    /// The program that makes filesystems is not there.
    #[error("{program} is not installed")]
    NoTool {
        /// Its name.
        program: String,
        /// The package that has it on most distributions.
        package: &'static str,
    },
    /// It did not do it.
    #[error("{program} failed: {said}")]
    Tool {
        /// Its name.
        program: String,
        /// The last of what it wrote.
        said: String,
    },
    /// Something of the host failed.
    #[error("could not {operation}")]
    Host {
        /// The step.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn failed<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> BackingError {
    move |source| BackingError::Host { operation, source: source.into() }
}
