//! Making a pool and taking it away.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{FallocateFlags, OFlags, fallocate};
use warren_sys::{btrfs, loopback};

use super::{
    Backing, BackingError, FILE, Filesystem, PLACE, Source, detach, failed, grow, is_mount_point,
    record, tool,
};

/// What a pool has at least: mkfs.xfs makes nothing smaller than 300 MB.
const LEAST_BYTES: u64 = 320 << 20;
/// How long the kernel may take to let go of a device after the pool was unmounted.
const LETTING_GO: Duration = Duration::from_secs(10);

/// Directories of a storage directory whose content nothing can make again, and what people call
/// it.
pub const KEPT: [(&str, &str); 4] = [
    ("sandboxes", "sandboxes"),
    ("stopped", "stopped sandboxes"),
    ("snapshots", "snapshots"),
    ("volumes", "volumes"),
];
/// Directories that are made again when they are needed, or are about to be removed.
const MADE_AGAIN: [&str; 3] = ["images", "blanks", "trash"];

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which filesystem.
    pub filesystem: Filesystem,
    /// Where: a file, or a device, whose content is lost.
    pub source: Source,
    /// How large it is at first; a device is taken whole.
    pub size_bytes: u64,
    /// How large it may become; at least the size.
    pub most_bytes: u64,
    /// Overwrite a filesystem that is on the device.
    pub force: bool,
}

/// Makes a pool, mounts it, switches limits on and writes it down. On an error nothing of it is
/// left.
///
/// Images that are in the data directory are removed: they are made again in the pool.
///
/// # Errors
///
/// [`BackingError`]; [`BackingError::InUse`] when the data directory has what would be out of
/// sight then.
pub fn make(data_dir: &Path, wanted: &Wanted) -> Result<Backing, BackingError> {
    if !rustix::process::geteuid().is_root() {
        return Err(BackingError::NotRoot);
    }
    if let Some(found) = record::read(data_dir)? {
        return Err(BackingError::Exists { source_name: found.source_name() });
    }
    if wanted.source == Source::File
        && btrfs::is_btrfs(data_dir).map_err(failed("look at the data directory"))?
    {
        return Err(BackingError::Needless);
    }
    refuse_what_is_kept(data_dir)?;
    clear_leftovers(data_dir)?;
    let made = try_make(data_dir, wanted);
    if made.is_err() {
        // The first error is the one to tell; what stays has no record and is no pool.
        drop(record::forget(data_dir).and_then(|()| clear_leftovers(data_dir)));
    }
    made
}

fn try_make(data_dir: &Path, wanted: &Wanted) -> Result<Backing, BackingError> {
    let target = match &wanted.source {
        Source::File => set_aside(data_dir, wanted.size_bytes)?,
        Source::Device(path) => check_device(path)?,
    };
    tool::make_filesystem(wanted.filesystem, &target, wanted.force)?;
    let mut backing = Backing {
        data_dir: data_dir.to_owned(),
        filesystem: wanted.filesystem,
        source: wanted.source.clone(),
        most_bytes: wanted.most_bytes.max(wanted.size_bytes),
        id: String::new(),
    };
    backing.attach()?;
    let place = File::open(backing.place()).map_err(failed("open the pool"))?;
    let id = backing.filesystem.id_of(&place);
    backing.id = id.ok_or_else(|| BackingError::Mistaken { source_name: backing.source_name() })?;
    if backing.filesystem == Filesystem::Btrfs {
        btrfs::quota::enable(place.as_fd()).map_err(failed("switch limits on in the pool"))?;
    }
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    place.set_permissions(closed).map_err(failed("close the pool to others"))?;
    record::write(&backing)?;
    for name in MADE_AGAIN.iter().chain(KEPT.iter().map(|(name, _)| name)) {
        // Out of use from now on; one that stays does no harm and goes with the data directory.
        drop(fs::remove_dir_all(data_dir.join(name)));
    }
    Ok(backing)
}

/// Makes the file of a pool, with all its blocks: one that is larger than what the host has would
/// fail writes inside when the host is full.
fn set_aside(data_dir: &Path, bytes: u64) -> Result<PathBuf, BackingError> {
    if bytes < LEAST_BYTES {
        return Err(BackingError::TooSmall { least_bytes: LEAST_BYTES, got_bytes: bytes });
    }
    grow::check_room(data_dir, bytes)?;
    let path = data_dir.join(FILE);
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let file = file.map_err(failed("make the pool's file"))?;
    fallocate(&file, FallocateFlags::empty(), 0, bytes)
        .map_err(failed("set space aside for the pool"))?;
    Ok(path)
}

/// A device that nobody uses.
fn check_device(path: &Path) -> Result<PathBuf, BackingError> {
    if !loopback::is_block_device(path).map_err(failed("look at the device"))? {
        return Err(BackingError::NotADevice { path: path.to_owned() });
    }
    // Exclusively means for a block device that nobody has mounted it.
    let exclusively = i32::try_from(OFlags::EXCL.bits()).unwrap_or_default();
    let opened = File::options().read(true).write(true).custom_flags(exclusively).open(path);
    match opened {
        Ok(device) => {
            let bytes =
                loopback::device_bytes(device.as_fd()).map_err(failed("look at the device"))?;
            if bytes < LEAST_BYTES {
                return Err(BackingError::TooSmall { least_bytes: LEAST_BYTES, got_bytes: bytes });
            }
            Ok(path.to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            Err(BackingError::Busy { path: path.to_owned() })
        }
        Err(error) => Err(failed("open the device")(error)),
    }
}

/// Takes the pool of a data directory away, with what can be made again in it. On a device the
/// filesystem stays, and nothing knows of it. What an interrupted [`make`] left goes too.
///
/// With `lost` a pool that cannot be mounted any more is given up, with what was kept in it.
///
/// # Errors
///
/// [`BackingError`]; [`BackingError::InUse`] when something is kept in it.
pub fn remove(data_dir: &Path, lost: bool) -> Result<(), BackingError> {
    if !rustix::process::geteuid().is_root() {
        return Err(BackingError::NotRoot);
    }
    let found = record::read(data_dir)?;
    let leftover = data_dir.join(FILE).exists();
    match &found {
        None if !leftover => return Err(BackingError::None),
        None => {}
        Some(backing) => match backing.mount() {
            Ok(place) => refuse_what_is_kept(&place)?,
            Err(error) if !lost => return Err(error),
            Err(_given_up) => {}
        },
    }
    let place = data_dir.join(PLACE);
    if is_mount_point(data_dir, &place) {
        detach(&place).map_err(failed("unmount the pool"))?;
    }
    record::forget(data_dir)?;
    clear_leftovers(data_dir)
}

/// Removes what of a pool is there without a record.
fn clear_leftovers(data_dir: &Path) -> Result<(), BackingError> {
    let (place, path) = (data_dir.join(PLACE), data_dir.join(FILE));
    if is_mount_point(data_dir, &place) {
        detach(&place).map_err(failed("unmount what is left of a pool"))?;
    }
    if let Ok(file) = File::open(&path) {
        wait_until_let_go(&file);
    }
    for gone in [fs::remove_file(&path), fs::remove_dir(&place)] {
        match gone {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove what is left of a pool")(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Waits until no loop device has the file, so that its space is free when it is removed.
pub(super) fn wait_until_let_go(file: &File) {
    let start = Instant::now();
    while start.elapsed() < LETTING_GO && matches!(loopback::Device::of(file), Ok(Some(_))) {
        std::thread::park_timeout(Duration::from_millis(10)); // nothing announces it
    }
}

fn refuse_what_is_kept(directory: &Path) -> Result<(), BackingError> {
    for (name, what) in KEPT {
        let entries = fs::read_dir(directory.join(name)).into_iter().flatten().flatten();
        // What begins with a dot is half-made and nobody's.
        if entries.into_iter().any(|it| !it.file_name().as_encoded_bytes().starts_with(b".")) {
            return Err(BackingError::InUse { what, directory: directory.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(size_bytes: u64) -> Wanted {
        Wanted {
            filesystem: Filesystem::Btrfs,
            source: Source::File,
            size_bytes,
            most_bytes: size_bytes,
            force: false,
        }
    }

    #[test]
    fn what_would_be_out_of_sight_is_refused_by_name() {
        let data = tempfile::tempdir().unwrap();
        for (name, what) in KEPT {
            fs::create_dir_all(data.path().join(name).join("x")).unwrap();
            let error = refuse_what_is_kept(data.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("there are {what} in")), "{error}");
            fs::remove_dir(data.path().join(name).join("x")).unwrap();
        }
        fs::create_dir(data.path().join("volumes/.half")).unwrap();
        refuse_what_is_kept(data.path()).unwrap();
    }

    #[test]
    fn a_pool_that_cannot_be_made_leaves_nothing() {
        let data = tempfile::tempdir().unwrap();
        for size in [1 << 20, 1 << 60] {
            let error = make(data.path(), &wanted(size)).unwrap_err();
            let expected = match error {
                BackingError::NotRoot | BackingError::Needless => return,
                BackingError::TooSmall { .. } => size < LEAST_BYTES,
                BackingError::NoRoom { .. } => size > LEAST_BYTES,
                _ => false,
            };
            assert!(expected, "{error}");
            assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
        }
        let device = Wanted { source: Source::Device("/dev/null".into()), ..wanted(0) };
        let error = make(data.path(), &device).unwrap_err();
        assert!(matches!(error, BackingError::NotADevice { .. }), "{error}");
        assert!(matches!(remove(data.path(), false).unwrap_err(), BackingError::None));
    }
}
