//! Limits of directories on xfs: project quotas.
//!
//! Other filesystems have them too, and let whoever may exceed resource limits write past them:
//! overlayfs writes with the rights of who mounted it, so in a sandbox they would not hold.
//!
//! A directory is given a number that everything made in it inherits, and the filesystem counts and
//! limits all that has the number. The kernel lets nobody in a user namespace change one.
//!
//! # Source
//!
//! `quotactl(2)`, `ioctl_fsgetxattr(2)`; `fs/quota/quota.c` for what `quotactl_fd` takes.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

pub use crate::btrfs::quota::Group;

/// `_IOR('X', 31, struct fsxattr)`
const GET_ATTRIBUTES: u64 = 0x801c_581f;
/// `_IOW('X', 32, struct fsxattr)`
const SET_ATTRIBUTES: u64 = 0x401c_5820;
/// `FS_XFLAG_PROJINHERIT`: what is made in the directory has its number.
const INHERIT: u32 = 0x200;
/// `PRJQUOTA`
const PROJECTS: u32 = 2;
/// `Q_GETQUOTA`
const GET: u32 = 0x80_0007;
/// `Q_SETQUOTA`
const SET: u32 = 0x80_0008;
/// `Q_XGETQSTAT`
const STATE: u32 = (b'X' as u32) << 8 | 5;
/// `QIF_BLIMITS`: the limits of space are set, and nothing else.
const SPACE: u32 = 1;
/// `XFS_SUPER_MAGIC`
const XFS: rustix::fs::FsWord = 0x5846_5342;
/// `FS_QUOTA_PDQ_ENFD`: projects are counted and their limits hold.
const ENFORCED: u16 = 1 << 5;
/// `QIF_DQBLKSIZE`: what limits are given in.
const UNIT: u64 = 1024;

/// `struct fsxattr`
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    unused: [u8; 8],
}

/// `struct if_dqblk`
#[repr(C)]
#[derive(Default)]
struct Quota {
    hard_units: u64,
    soft_units: u64,
    used_bytes: u64,
    hard_files: u64,
    soft_files: u64,
    used_files: u64,
    space_time: u64,
    files_time: u64,
    valid: u32,
}

/// Whether the filesystem that `directory` is on is an xfs that limits projects, and this process
/// may say how.
#[must_use]
pub fn works(directory: BorrowedFd<'_>) -> bool {
    if !rustix::fs::fstatfs(directory).is_ok_and(|it| it.f_type == XFS) {
        return false;
    }
    // `struct fs_quota_stat`, 80 bytes: a version, and 16 bits of flags at its third byte.
    let mut state = [0_u16; 64];
    // Whoever may ask for any project's numbers may set them.
    call(directory, STATE, 0, &mut state).is_ok()
        && state.get(1).is_some_and(|flags| flags & ENFORCED != 0)
        && look(directory, 1).is_ok()
}

/// The number of a directory; none where it has none.
///
/// # Errors
///
/// The kernel's error.
pub fn of(directory: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let project = attributes(directory)?.project;
    Ok((project != 0).then_some(project))
}

/// Gives a directory a number, which what is made in it from now on has as well.
///
/// # Errors
///
/// The kernel's error.
pub fn assign(directory: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = attributes(directory)?;
    attributes.project = project;
    attributes.flags |= INHERIT;
    // SAFETY: the request reads one whole struct fsxattr (28 bytes, as in its number) from the
    // pointer, which leads to one; the descriptor is borrowed for the call.
    let result = unsafe {
        libc::ioctl(directory.as_raw_fd(), SET_ATTRIBUTES, std::ptr::from_ref(&attributes))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether nothing has this number, and no limit is noted for it.
///
/// # Errors
///
/// The kernel's error.
pub fn is_free(directory: BorrowedFd<'_>, project: u32) -> io::Result<bool> {
    let found = look(directory, project)?;
    Ok(found.used_bytes == 0 && found.used_files == 0 && found.hard_units == 0)
}

/// Limits all that has a number, to so many bytes; `None` takes a limit back. It holds from the
/// next write on, also where there is more already: that stays, and nothing can be added.
///
/// # Errors
///
/// The kernel's error.
pub fn limit(directory: BorrowedFd<'_>, project: u32, bytes: Option<u64>) -> io::Result<()> {
    // No limit is written as none at all, so the least one is a unit.
    let hard_units = bytes.map_or(0, |it| it.div_ceil(UNIT).max(1));
    let mut quota = Quota { hard_units, valid: SPACE, ..Quota::default() };
    call(directory, SET, project, &mut quota)
}

/// What has a number: bytes it has, those on their way to the disk included, and may have.
///
/// # Errors
///
/// The kernel's error.
pub fn usage(directory: BorrowedFd<'_>, project: u32) -> io::Result<Group> {
    let found = look(directory, project)?;
    let limit_bytes = (found.hard_units != 0).then(|| found.hard_units.saturating_mul(UNIT));
    Ok(Group { used_bytes: found.used_bytes, limit_bytes })
}

fn look(directory: BorrowedFd<'_>, project: u32) -> io::Result<Quota> {
    let mut quota = Quota::default();
    match call(directory, GET, project, &mut quota) {
        // Nothing was ever counted for it.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
            Ok(Quota::default())
        }
        other => other.map(|()| quota),
    }
}

fn attributes(directory: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the request writes one whole struct fsxattr (28 bytes, as in its number) to the
    // pointer, which leads to one; every bit pattern is a valid one. The descriptor is borrowed.
    let result = unsafe { libc::ioctl(directory.as_raw_fd(), GET_ATTRIBUTES, &raw mut attributes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(attributes) }
}

/// One of the commands above, each of which reads and writes no more than `T` holds.
fn call<T>(directory: BorrowedFd<'_>, command: u32, project: u32, with: &mut T) -> io::Result<()> {
    let command = command << 8 | PROJECTS;
    // SAFETY: the commands of this file read and write one structure behind the last pointer, which
    // leads to one of that kind, or to more bytes than it has, that is ours alone; it holds plain
    // numbers, of which every bit pattern is a valid one. The descriptor is borrowed for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            directory.as_raw_fd(),
            command,
            project,
            std::ptr::from_mut(with),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<Quota>(), 72);
    }

    #[test]
    fn where_nothing_counts_it_is_said_and_nothing_fails() {
        let memory = std::fs::File::open("/proc").unwrap();
        assert!(!works(memory.as_fd()));
        assert!(limit(memory.as_fd(), 7, None).is_err());
    }
}
