//! Leaving namespaces, for threads and processes that make new ones around themselves.

use std::{io, os::fd::BorrowedFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Moves the calling thread into a new mount namespace, with a working directory of its own.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`. `unshare(2)`.
pub fn leave_mounts() -> io::Result<()> {
    leave(UnshareFlags::NEWNS | UnshareFlags::FS)
}

/// Moves the calling thread into a new cgroup namespace whose root is where it is now.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`. `unshare(2)`.
pub fn leave_cgroups() -> io::Result<()> {
    leave(UnshareFlags::NEWCGROUP)
}

/// Moves this process, which must have one thread, into a new user namespace without ids.
///
/// # Errors
///
/// `EINVAL` with more than one thread; `EPERM` or `ENOSPC` where the host forbids it.
/// `unshare(2)`.
pub fn leave_users() -> io::Result<()> {
    leave(UnshareFlags::NEWUSER)
}

/// Moves this process, which must have one thread, into `namespace`, a user namespace.
///
/// # Errors
///
/// `EPERM` when the caller neither owns it nor has `CAP_SYS_ADMIN` in it. `setns(2)`.
pub fn enter_users(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::User))?)
}

fn leave(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: of what unshare can take apart only the table of descriptors endangers other
    // threads' memory safety, and no caller here gives that flag.
    Ok(unsafe { unshare_unsafe(flags) }?)
}
