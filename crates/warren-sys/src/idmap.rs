//! A user namespace that exists only to say which ids stand for which.
//!
//! A mount is id-mapped by a user namespace, and a user namespace is made by a process. A thread of
//! a program with several cannot make one, and a fork of a large program is slow: the process here
//! shares the caller's memory, does nothing but wait, and is gone before the call returns.

use std::{
    ffi::{c_int, c_void},
    fs::{self, File},
    io,
    os::fd::{AsFd, FromRawFd, OwnedFd},
};

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

/// Bytes of the waiting process's stack: its one frame is a system call.
const STACK_BYTES: usize = 16 << 10;

/// One id for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The id on the filesystem.
    pub stored: u32,
    /// The id that it is shown as.
    pub shown: u32,
}

/// A user namespace that maps one user and one group, for [`crate::mount::map_ids`].
///
/// # Errors
///
/// The kernel's error: `EPERM` without the right to give ids away, `ENOSPC` at a namespace limit.
///
/// # Source
///
/// `clone(2)`, `user_namespaces(7)`, `mount_setattr(2)`.
pub fn user_namespace(user: Pair, group: Pair) -> io::Result<OwnedFd> {
    let waiting = Waiting::start()?;
    let made = waiting.map(user, group);
    // Whatever came of it, the process goes first.
    waiting.end()?;
    made
}

/// A process in a user namespace of its own that waits to be killed.
struct Waiting {
    pid: i32,
    pidfd: OwnedFd,
    /// Lives as long as the process.
    _stack: Box<Stack>,
}

#[repr(C, align(16))]
struct Stack([u8; STACK_BYTES]);

impl Waiting {
    fn start() -> io::Result<Self> {
        let mut stack = Box::new(Stack([0; STACK_BYTES]));
        let mut pidfd: c_int = -1;
        let flags = libc::CLONE_NEWUSER | libc::CLONE_VM | libc::CLONE_PIDFD;
        let top = stack.0.as_mut_ptr_range().end.cast::<c_void>();
        // SAFETY: `wait` makes one system call in a loop and touches no memory but its stack, which
        // is a live, aligned allocation that is kept until the process is reaped; with CLONE_PIDFD
        // the fifth argument points to a live integer; no thread state is shared (no CLONE_THREAD,
        // no CLONE_SETTLS), and `wait` uses none.
        let pid = unsafe { libc::clone(wait, top, flags, std::ptr::null_mut(), &raw mut pidfd) };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a successful clone with CLONE_PIDFD stored a new descriptor that nobody else owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Self { pid, pidfd, _stack: stack })
    }

    fn map(&self, user: Pair, group: Pair) -> io::Result<OwnedFd> {
        let file = |name: &str| format!("/proc/{}/{name}", self.pid);
        fs::write(file("uid_map"), format!("{} {} 1\n", user.stored, user.shown))?;
        fs::write(file("gid_map"), format!("{} {} 1\n", group.stored, group.shown))?;
        Ok(File::open(file("ns/user"))?.into())
    }

    fn end(&self) -> io::Result<()> {
        pidfd_send_signal(&self.pidfd, Signal::KILL)?;
        // It has no exit signal, which makes it a clone to be waited for by that name.
        loop {
            match wait_for_clone(&self.pidfd) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

fn wait_for_clone(pidfd: &OwnedFd) -> io::Result<()> {
    // `__WALL`, which rustix has no name for: the process is reaped whatever its exit signal is.
    let options =
        WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(libc::__WALL.cast_unsigned());
    waitid(WaitId::PidFd(pidfd.as_fd()), options)?;
    Ok(())
}

/// Waits for ever. Runs on the caller's memory: one system call, no allocation, no C library state.
extern "C" fn wait(_nothing: *mut c_void) -> c_int {
    loop {
        // SAFETY: `ppoll` on no descriptors, without a time-out and without a mask reads no memory
        // of ours. The C library's wrapper is not used, for it may touch its thread's state.
        unsafe {
            libc::syscall(libc::SYS_ppoll, std::ptr::null::<c_void>(), 0, 0, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_maps_what_it_was_told_and_its_process_is_gone() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: giving ids away needs root");
            return;
        }
        let user = Pair { stored: 1234, shown: 70_001 };
        let group = Pair { stored: 4321, shown: 70_002 };
        let waiting = Waiting::start().unwrap();
        let pid = waiting.pid;
        let namespace = waiting.map(user, group).unwrap();
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["1234", "70001", "1"]);
        let group = fs::read_to_string(format!("/proc/{pid}/gid_map")).unwrap();
        assert_eq!(group.split_whitespace().collect::<Vec<_>>(), ["4321", "70002", "1"]);
        waiting.end().unwrap();
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        drop(namespace);
    }

    #[test]
    fn ids_that_do_not_exist_leave_nothing_behind() {
        let bad = Pair { stored: u32::MAX, shown: u32::MAX };
        assert!(user_namespace(bad, bad).is_err());
    }
}
