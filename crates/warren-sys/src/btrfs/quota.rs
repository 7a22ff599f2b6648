//! Limits of subvolumes, and the few calls about a whole btrfs filesystem.
//!
//! What a group has used and may use is read from `/sys/fs/btrfs`, which has the kernel's own
//! figures; the tree on the disk is behind by up to a commit (30 s).

use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
};

/// `_IOWR(0x94, 40, struct btrfs_ioctl_quota_ctl_args)`
const QUOTA_CONTROL: u64 = 0xc010_9428;
/// `BTRFS_QUOTA_CTL_ENABLE`: every extent is counted for each subvolume that shares it.
const ENABLE: u64 = 1;
/// `BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA`: an extent is counted for the subvolume that made it.
const ENABLE_SIMPLE: u64 = 4;
/// `_IOR(0x94, 43, struct btrfs_ioctl_qgroup_limit_args)`
const GROUP_LIMIT: u64 = 0x8030_942b;
/// `_IOW(0x94, 42, struct btrfs_ioctl_qgroup_create_args)`
const GROUP_CREATE: u64 = 0x4010_942a;
/// `BTRFS_QGROUP_LIMIT_MAX_RFER`
const MAX_REFERENCED: u64 = 1;
/// `_IOWR(0x94, 18, struct btrfs_ioctl_ino_lookup_args)`
const INODE_LOOKUP: u64 = 0xd000_9412;
/// `_IOR(0x94, 31, struct btrfs_ioctl_fs_info_args)`
const FILESYSTEM_INFO: u64 = 0x8400_941f;
/// `_IOW(0x94, 3, struct btrfs_ioctl_vol_args)`
const RESIZE: u64 = 0x5000_9403;
/// `BTRFS_FIRST_FREE_OBJECTID`: the number of every subvolume's root directory.
const FIRST_OBJECT: u64 = 256;

/// How a filesystem counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By who made each extent, Linux 6.7 and later: costs next to nothing.
    Simple,
    /// By who shares each extent, which makes snapshots slow.
    Full,
}

/// What a subvolume uses and may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Bytes it has, those on their way to the disk included.
    pub used_bytes: u64,
    /// The most it may have; `None` for no limit.
    pub limit_bytes: Option<u64>,
}

/// Switches counting on: simply where the kernel can, else in full. What counts already stays.
///
/// # Errors
///
/// The kernel's error.
///
/// # Source
///
/// `btrfs-ioctl(2)`, `BTRFS_IOC_QUOTA_CTL`; simple quotas are of Linux 6.7.
pub fn enable(directory: BorrowedFd<'_>) -> io::Result<Mode> {
    match control(directory, ENABLE_SIMPLE) {
        Ok(()) => Ok(Mode::Simple),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            control(directory, ENABLE).map(|()| Mode::Full)
        }
        Err(error) => Err(error),
    }
}

/// How the filesystem counts; `None` where counting is off.
///
/// # Errors
///
/// When it cannot be found out which filesystem it is.
pub fn mode(directory: BorrowedFd<'_>) -> io::Result<Option<Mode>> {
    let groups = groups_directory(&filesystem_id(directory)?);
    let Ok(enabled) = fs::read_to_string(groups.join("enabled")) else { return Ok(None) };
    if enabled.trim() != "1" {
        return Ok(None);
    }
    // Before Linux 6.7 there is one way and no file that names it.
    let mode = fs::read_to_string(groups.join("mode")).unwrap_or_default();
    Ok(Some(if mode.trim() == "squota" { Mode::Simple } else { Mode::Full }))
}

/// Limits the subvolume that `directory` is in to this many bytes; `None` takes a limit back.
/// It holds from the next write on, also where there is more already: that stays, and nothing
/// can be added.
///
/// # Errors
///
/// The kernel's error: `ENOTCONN` where counting is off.
///
/// # Source
///
/// `btrfs-ioctl(2)`, `BTRFS_IOC_QGROUP_LIMIT`.
pub fn limit(directory: BorrowedFd<'_>, bytes: Option<u64>) -> io::Result<()> {
    // Group 0 stands for that of the subvolume itself; all ones take a limit back.
    let arguments = [0, MAX_REFERENCED, bytes.unwrap_or(u64::MAX), 0, 0, 0];
    // SAFETY: the request reads 48 bytes (its size is in its number) from the pointer, which leads
    // to six u64; the descriptor is borrowed for the call.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), GROUP_LIMIT, arguments.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The number of the subvolume that `directory` is in; that of its group too.
///
/// # Errors
///
/// The kernel's error.
///
/// # Source
///
/// `btrfs-ioctl(2)`, `BTRFS_IOC_INO_LOOKUP`.
pub fn subvolume(directory: BorrowedFd<'_>) -> io::Result<u64> {
    let mut arguments = [0_u64; 512];
    arguments[1] = FIRST_OBJECT;
    // SAFETY: the request reads and writes 4,096 bytes (its size is in its number) at the pointer,
    // which leads to so many; the descriptor is borrowed for the call.
    let result =
        unsafe { libc::ioctl(directory.as_raw_fd(), INODE_LOOKUP, arguments.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(arguments[0]) }
}

/// What a subvolume uses, by its number ([`subvolume`]) and its filesystem's ([`filesystem_id`]).
/// A subvolume without a group, such as where counting is off, is a `NotFound`.
///
/// # Errors
///
/// The system's error.
pub fn usage(filesystem: &str, subvolume: u64) -> io::Result<Group> {
    let group = groups_directory(filesystem).join(format!("0_{subvolume}"));
    let number = |name: &str| -> io::Result<u64> {
        let text = fs::read_to_string(group.join(name))?;
        text.trim().parse().map_err(|_other| io::Error::from(io::ErrorKind::InvalidData))
    };
    let used_bytes = number("referenced")?.saturating_add(number("rsv_data").unwrap_or(0));
    let limited = number("limit_flags")? & MAX_REFERENCED != 0;
    let limit_bytes = if limited { Some(number("max_referenced")?) } else { None };
    Ok(Group { used_bytes, limit_bytes })
}

/// Removes the group of a subvolume that is gone. One that still counts something stays: it goes
/// with the last extent.
///
/// # Errors
///
/// The kernel's error: `EBUSY` where it still counts, `NotFound` where it is gone.
///
/// # Source
///
/// `btrfs-ioctl(2)`, `BTRFS_IOC_QGROUP_CREATE`.
pub fn remove_group(directory: BorrowedFd<'_>, subvolume: u64) -> io::Result<()> {
    let arguments = [0_u64, subvolume];
    // SAFETY: the request reads 16 bytes (its size is in its number) from the pointer, which leads
    // to two u64; the descriptor is borrowed for the call.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), GROUP_CREATE, arguments.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The identity of the filesystem, as in `/sys/fs/btrfs`: a UUID in lower case.
///
/// # Errors
///
/// The kernel's error: it is not btrfs.
///
/// # Source
///
/// `btrfs-ioctl(2)`, `BTRFS_IOC_FS_INFO`.
pub fn filesystem_id(directory: BorrowedFd<'_>) -> io::Result<String> {
    let mut arguments = [0_u64; 128];
    // SAFETY: the request writes 1,024 bytes (its size is in its number) to the pointer, which
    // leads to so many; the descriptor is borrowed for the call.
    let result =
        unsafe { libc::ioctl(directory.as_raw_fd(), FILESYSTEM_INFO, arguments.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let halves = [arguments[2].to_ne_bytes(), arguments[3].to_ne_bytes()];
    Ok(crate::uuid_text(halves.as_flattened()))
}

/// Bytes of data that were written and have no place on the disk yet: `statfs(2)` counts them as
/// free.
///
/// # Errors
///
/// The system's error.
pub fn unplaced_bytes(filesystem: &str) -> io::Result<u64> {
    let path = Path::new("/sys/fs/btrfs").join(filesystem).join("allocation/data/bytes_may_use");
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|_other| io::Error::from(io::ErrorKind::InvalidData))
}

/// Makes the filesystem as large as its device is.
///
/// # Errors
///
/// The kernel's error.
///
/// # Source
///
/// `btrfs-ioctl(2)`, `BTRFS_IOC_RESIZE`.
pub fn grow(directory: BorrowedFd<'_>) -> io::Result<()> {
    let mut arguments = [0_u8; 4096];
    arguments[8..11].copy_from_slice(b"max");
    // SAFETY: the request reads one btrfs_ioctl_vol_args (4,096 bytes) from the pointer, which
    // leads to so many; its name ends with a zero. The descriptor is borrowed for the call.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), RESIZE, arguments.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn control(directory: BorrowedFd<'_>, command: u64) -> io::Result<()> {
    let mut arguments = [command, 0_u64];
    // SAFETY: the request reads and writes 16 bytes (its size is in its number) at the pointer,
    // which leads to two u64; the descriptor is borrowed for the call.
    let result =
        unsafe { libc::ioctl(directory.as_raw_fd(), QUOTA_CONTROL, arguments.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn groups_directory(filesystem: &str) -> PathBuf {
    Path::new("/sys/fs/btrfs").join(filesystem).join("qgroups")
}
