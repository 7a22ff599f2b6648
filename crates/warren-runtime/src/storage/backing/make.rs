//! Making a pool and taking it away.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FallocateFlags, OFlags, fallocate},
    mount::UnmountFlags,
};
use warren_sys::{btrfs, loopback, tree};

use super::{
    Backing, BackingError, FILE, Filesystem, PLACE, Source, carry, detach, failed, grow,
    is_mount_point,
    record::{self, Intent},
    tool,
};

/// What a pool has at least: mkfs.xfs makes nothing smaller than 300 MB.
const LEAST_BYTES: u64 = 320 << 20;
/// How long the kernel may take to let go of a device after the pool was unmounted.
const LETTING_GO: Duration = Duration::from_secs(10);

/// Where what a pool held is put together when it is taken away, in the data directory.
const RETURN: &str = "pool.return";

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
    /// Overwrite what is on the device.
    pub force: bool,
}

/// A pool that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The pool.
    pub backing: Backing,
    /// What was moved into it, for people.
    pub moved: Vec<&'static str>,
}

/// Makes a pool, mounts it, switches limits on, copies what is in the data directory into it,
/// compares it, and writes the pool down: from then on it counts. On an error nothing of it is
/// left, and after a crash the old or the new one counts, whole.
///
/// # Errors
///
/// [`BackingError`]; [`BackingError::Running`] when there are sandboxes that run.
pub fn make(data_dir: &Path, wanted: &Wanted) -> Result<Made, BackingError> {
    if !rustix::process::geteuid().is_root() {
        return Err(BackingError::NotRoot);
    }
    settle(data_dir)?;
    if let Some(found) = record::read(data_dir)? {
        return Err(BackingError::Exists { source_name: found.source_name() });
    }
    if wanted.source == Source::File
        && btrfs::is_btrfs(data_dir).map_err(failed("look at the data directory"))?
    {
        return Err(BackingError::Needless);
    }
    carry::refuse_what_runs(data_dir)?;
    clear_leftovers(data_dir)?;
    record::intend(data_dir, Intent::Make)?;
    let made = try_make(data_dir, wanted);
    // An error so far is the one to tell; what cannot be done now is done at the next start.
    let settled = settle(data_dir);
    made.and_then(|made| settled.map(|()| made))
}

fn try_make(data_dir: &Path, wanted: &Wanted) -> Result<Made, BackingError> {
    let target = match &wanted.source {
        Source::File => set_aside(data_dir, wanted.size_bytes)?,
        Source::Device(path) => check_device(path)?,
    };
    let made = tool::make_filesystem(wanted.filesystem, &target, wanted.force);
    made.map_err(|error| tool::name_refusal(error, wanted))?;
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
    drop(place);
    let moved = carry::carry(data_dir, &backing.place())?;
    record::write(&backing)?;
    Ok(Made { backing, moved })
}

/// Brings to its end what was under way with a pool when somebody died: the one storage directory
/// that counts stays, and what is left of the other goes. Whoever calls holds the locks of the data
/// directory's server.
///
/// # Errors
///
/// [`BackingError`]; what counts is whole all the same, and the next call goes on.
pub fn settle(data_dir: &Path) -> Result<(), BackingError> {
    let Some(intent) = record::intent(data_dir)? else { return Ok(()) };
    if !rustix::process::geteuid().is_root() {
        return Err(BackingError::NotRoot);
    }
    match (intent, record::read(data_dir)?.is_some()) {
        (Intent::Make, false) => clear_leftovers(data_dir)?,
        (Intent::Make, true) => {
            for name in carry::names() {
                // Out of use; one that stays does no harm and goes with the data directory.
                drop(tree::remove(&data_dir.join(name)));
            }
        }
        (Intent::Leave, true) => remove_old(&data_dir.join(RETURN))?,
        (Intent::Leave, false) => take_back(data_dir)?,
    }
    record::done(data_dir)
}

/// Gives what a pool held its place in the data directory.
fn take_back(data_dir: &Path) -> Result<(), BackingError> {
    let returned = data_dir.join(RETURN);
    for name in carry::names() {
        let (from, to) = (returned.join(name), data_dir.join(name));
        if from.is_dir() {
            // There was a pool, so it is nobody's.
            remove_old(&to)?;
            fs::rename(from, to).map_err(failed("give files their place"))?;
        }
    }
    record::sync(data_dir).map_err(failed("have everything on the disk"))?;
    clear_leftovers(data_dir)?;
    remove_old(&returned)
}

/// Removes what does not count any more.
fn remove_old(place: &Path) -> Result<(), BackingError> {
    match tree::remove(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove what was moved")(error))
        }
        _ => Ok(()),
    }
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

/// Takes the pool of a data directory away, after what is in it was copied back and compared. On a
/// device the filesystem stays, and nothing knows of it. What an interrupted [`make`] left goes too.
///
/// With `lost` a pool that cannot be mounted any more is given up, with what was kept in it.
///
/// # Errors
///
/// [`BackingError`]; [`BackingError::Running`] when there are sandboxes that run.
pub fn remove(data_dir: &Path, lost: bool) -> Result<(), BackingError> {
    if !rustix::process::geteuid().is_root() {
        return Err(BackingError::NotRoot);
    }
    settle(data_dir)?;
    match record::read(data_dir)? {
        None if !data_dir.join(FILE).exists() => return Err(BackingError::None),
        None => {}
        Some(backing) => match backing.mount() {
            Ok(place) => return leave(data_dir, &place),
            Err(error) if !lost => return Err(error),
            Err(_given_up) => {}
        },
    }
    record::forget(data_dir)?;
    clear_leftovers(data_dir)
}

/// Copies what is in a pool back and takes it away.
fn leave(data_dir: &Path, place: &Path) -> Result<(), BackingError> {
    carry::refuse_what_runs(place)?;
    let held = grow::Room::of(place).map_err(failed("look at the pool"))?;
    grow::check_room(data_dir, held.total_bytes.saturating_sub(held.free_bytes))?;
    record::intend(data_dir, Intent::Leave)?;
    let left = || {
        let returned = data_dir.join(RETURN);
        fs::create_dir(&returned).map_err(failed("make a directory for what is in the pool"))?;
        carry::carry(place, &returned)?;
        detach(place).map_err(failed("unmount the pool"))?;
        record::forget(data_dir)
    };
    let left = left();
    // As when a pool is made.
    let settled = settle(data_dir);
    left.and(settled)
}

/// Removes what of a pool is there without a record.
fn clear_leftovers(data_dir: &Path) -> Result<(), BackingError> {
    let (place, path) = (data_dir.join(PLACE), data_dir.join(FILE));
    if is_mount_point(data_dir, &place) {
        // Whoever is in it has no business there, and keeps it until it ends.
        detach(&place)
            .or_else(|_busy| Ok(rustix::mount::unmount(&place, UnmountFlags::DETACH)?))
            .map_err(failed::<io::Error>("unmount what is left of a pool"))?;
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
    fn what_was_under_way_is_brought_to_its_end() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: a pool takes root");
            return;
        }
        let data = tempfile::tempdir().unwrap();
        let at = |name: &str| data.path().join(name);
        // Died before the pool counted.
        fs::create_dir_all(at("volumes/old")).unwrap();
        fs::write(at(FILE), "half").unwrap();
        record::intend(data.path(), Intent::Make).unwrap();
        settle(data.path()).unwrap();
        assert!(at("volumes/old").exists() && !at(FILE).exists());
        // Died after it was gone, amid the renames.
        fs::create_dir_all(at("pool.return/volumes/new")).unwrap();
        fs::create_dir_all(at("stopped/done")).unwrap();
        record::intend(data.path(), Intent::Leave).unwrap();
        settle(data.path()).unwrap();
        assert!(at("volumes/new").exists() && !at("volumes/old").exists());
        assert!(at("stopped/done").exists() && !at(RETURN).exists());
        assert_eq!(record::intent(data.path()).unwrap(), None);
        settle(data.path()).unwrap();
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
            assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0, "after {size}");
        }
        let device = Wanted { source: Source::Device("/dev/null".into()), ..wanted(0) };
        let error = make(data.path(), &device).unwrap_err();
        assert!(matches!(error, BackingError::NotADevice { .. }), "{error}");
        assert!(matches!(remove(data.path(), false).unwrap_err(), BackingError::None));
    }
}
