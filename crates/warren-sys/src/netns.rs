//! Network namespaces: making one, and being in one.
//!
//! A namespace here has no name and no file: it lives as long as a descriptor or a process holds
//! it. All functions act on the calling **thread**, so they belong on threads that do nothing
//! else. See `network_namespaces(7)`.

use std::{
    fs::File,
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// The calling thread's network namespace.
///
/// # Errors
///
/// The kernel's; `/proc` must be mounted.
pub fn current() -> io::Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

/// Moves the calling thread into a new network namespace, owned by the thread's user namespace.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`, `ENOSPC` at the limit on namespaces. `unshare(2)`.
pub fn unshare() -> io::Result<()> {
    // SAFETY: of what unshare can take apart only the table of descriptors endangers other
    // threads' memory safety, and that flag is not given.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(io::Error::from)
}

/// Moves the calling thread into `namespace`.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN` in the user namespace that owns it and in the thread's own;
/// `EINVAL` when the descriptor is not a network namespace. `setns(2)`.
pub fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).map_err(io::Error::from)
}
