//! The few btrfs calls that a storage pool needs.

pub mod quota;

use std::{
    fs::File,
    io,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::Path,
};

/// `struct btrfs_ioctl_vol_args`: 4,096 bytes, a descriptor and a name of at most 4,087 bytes.
#[repr(C)]
struct VolumeArguments {
    fd: i64,
    name: [u8; 4088],
}

/// `_IOW(0x94, 14, struct btrfs_ioctl_vol_args)`
const SUBVOLUME_CREATE: u64 = 0x5000_940e;
/// `_IOW(0x94, 15, struct btrfs_ioctl_vol_args)`
const SNAPSHOT_DESTROY: u64 = 0x5000_940f;
/// `_IOW(0x94, 23, struct btrfs_ioctl_vol_args_v2)`
const SNAPSHOT_CREATE: u64 = 0x5000_9417;

/// `struct btrfs_ioctl_vol_args_v2`: 4,096 bytes, with a name of at most 4,039 bytes.
#[repr(C)]
struct SnapshotArguments {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// The inode number of every subvolume's root.
const ROOT_INODE: u64 = 256;
/// `BTRFS_SUPER_MAGIC`
const MAGIC: u64 = 0x9123_683e;

/// Whether `path` is on a btrfs filesystem.
///
/// # Errors
///
/// When `path` cannot be looked at.
pub fn is_btrfs(path: &Path) -> io::Result<bool> {
    Ok(u64::try_from(rustix::fs::statfs(path)?.f_type).is_ok_and(|kind| kind == MAGIC))
}

/// Whether `path` is the root of a btrfs subvolume.
#[must_use]
pub fn is_subvolume(path: &Path) -> bool {
    let root =
        std::fs::symlink_metadata(path).is_ok_and(|it| it.is_dir() && it.ino() == ROOT_INODE);
    root && is_btrfs(path).unwrap_or(false)
}

/// Makes an empty subvolume at `path`.
///
/// # Errors
///
/// The kernel's error; `AlreadyExists` when there is something at `path`.
///
/// # Source
///
/// `btrfs-ioctl(2)`, `BTRFS_IOC_SUBVOL_CREATE`.
pub fn create_subvolume(path: &Path) -> io::Result<()> {
    named_call(SUBVOLUME_CREATE, path)
}

/// Makes a subvolume at `place` that shares everything with the one at `source`, as it is at one
/// moment; what is in memory alone is part of it.
///
/// # Errors
///
/// The kernel's error; `AlreadyExists` when there is something at `place`.
///
/// # Source
///
/// `btrfs-ioctl(2)`, `BTRFS_IOC_SNAP_CREATE_V2`.
pub fn snapshot_subvolume(source: &Path, place: &Path) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let source = File::open(source)?;
    let parent = File::open(place.parent().ok_or_else(invalid)?)?;
    let mut arguments = SnapshotArguments {
        fd: i64::from(source.as_raw_fd()),
        transaction: 0,
        flags: 0,
        unused: [0; 4],
        name: [0; 4040],
    };
    put_name(&mut arguments.name, place)?;
    // SAFETY: the request reads and writes one whole btrfs_ioctl_vol_args_v2 (4,096 bytes, as
    // encoded in its number) behind the pointer, which leads to one that is ours alone; both
    // descriptors are open for the call. Elsewhere it is unknown and fails with ENOTTY.
    let result = unsafe { libc::ioctl(parent.as_raw_fd(), SNAPSHOT_CREATE, &raw mut arguments) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts the last part of a path into a field of a kernel's structure, ended by a zero.
fn put_name(field: &mut [u8], path: &Path) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let name = path.file_name().ok_or_else(invalid)?.as_bytes();
    let last = field.len() - 1;
    let place = field.get_mut(..name.len()).filter(|it| it.len() <= last).ok_or_else(invalid)?;
    place.copy_from_slice(name);
    Ok(())
}

/// Deletes the subvolume at `path` with all it holds; the space comes back in the background.
///
/// # Errors
///
/// The kernel's error.
///
/// # Source
///
/// `btrfs-ioctl(2)`, `BTRFS_IOC_SNAP_DESTROY`.
pub fn delete_subvolume(path: &Path) -> io::Result<()> {
    named_call(SNAPSHOT_DESTROY, path)
}

fn named_call(request: u64, path: &Path) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let parent = File::open(path.parent().ok_or_else(invalid)?)?;
    let mut arguments = VolumeArguments { fd: 0, name: [0; 4088] };
    put_name(&mut arguments.name, path)?;
    // SAFETY: both requests read one whole btrfs_ioctl_vol_args (4,096 bytes, as encoded in their
    // numbers) from the pointer, which leads to one; the descriptor is open for the call. On other
    // filesystems the request is unknown and fails with ENOTTY.
    let result = unsafe { libc::ioctl(parent.as_raw_fd(), request, &raw const arguments) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
