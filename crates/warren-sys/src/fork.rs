//! Forking a child into new namespaces without leaving the program image.
//!
//! The child of [`fork_into`] goes on in this same program, so everything that a `fork` breaks in
//! a program with threads must be absent: the caller proves that it has one thread by holding a
//! [`SingleThreaded`].

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

/// Proof that this process had one thread when it was made.
///
/// A process that holds one must not start threads while it still forks.
#[derive(Debug)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// Counts the threads of this process.
    ///
    /// # Errors
    ///
    /// When there is more than one thread, or `/proc/self/task` cannot be read.
    pub fn check() -> io::Result<Self> {
        match std::fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(())),
            count => Err(io::Error::other(format!("{count} threads run, expected one"))),
        }
    }
}

/// Namespaces that a child is born into, as in `clone(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// None: a plain fork.
    pub const NONE: Self = Self(0);

    /// User, mount, pid, ipc and uts: all but the network, which is entered before, and the
    /// cgroup namespace, which a child makes once it is in its cgroup.
    pub const GUEST: Self = Self(
        (libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS) as u64,
    );
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Forked {
    /// The process that called.
    Parent {
        /// The child's pid in the caller's pid namespace.
        pid: i32,
        /// A handle on the child that no other process can come to mean.
        pidfd: OwnedFd,
    },
    /// The new process. It is pid 1 where a pid namespace was asked for.
    Child,
}

/// The first version of `struct clone_args`, 64 bytes, and the cgroup member, 88 bytes in all.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks a child into `namespaces`, and with `cgroup` (a cgroup v2 directory) directly into it.
///
/// The child has the caller's memory and descriptors. The C library's cached thread id is put
/// right in the child (`CLONE_CHILD_SETTID` at the address that the kernel clears on exit), without
/// which its set-id functions act on the wrong thread.
///
/// # Errors
///
/// The kernel's error: `EPERM` where namespaces are not allowed, `EAGAIN` at the process limit,
/// `ENOSPC` at a namespace limit.
///
/// # Source
///
/// `clone(2)`, section "clone3()"; `PR_GET_TID_ADDRESS(2const)`.
pub fn fork_into(
    _proof: &SingleThreaded,
    namespaces: Namespaces,
    cgroup: Option<RawFd>,
) -> io::Result<Forked> {
    let mut tid_address: u64 = 0;
    // SAFETY: PR_GET_TID_ADDRESS stores one pointer-sized value at its second argument, which
    // points to a live u64; an error leaves it alone.
    let known =
        unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut tid_address, 0, 0, 0) } == 0;
    let mut pidfd: RawFd = -1;
    let mut flags = namespaces.0 | libc::CLONE_PIDFD as u64;
    if known && tid_address != 0 {
        flags |= (libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID) as u64;
    }
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let args = CloneArgs {
        flags,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: tid_address,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.map_or(0, |fd| u64::try_from(fd).unwrap_or_default()),
        ..CloneArgs::default()
    };
    // SAFETY: `args` is a whole clone_args of the size given; without CLONE_VM the child runs on a
    // copy of this memory and stack, so none of its writes reach us; the process has one thread
    // (the proof), so no lock can be held by a thread that is missing in the child.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, &raw const args, std::mem::size_of::<CloneArgs>())
    };
    match pid {
        0 => Ok(Forked::Child),
        pid if pid > 0 => {
            // SAFETY: with CLONE_PIDFD a successful call stored a new descriptor that nobody else
            // owns; it is close-on-exec.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent { pid: i32::try_from(pid).unwrap_or(i32::MAX), pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// `CLONE_INTO_CGROUP`, which the `libc` crate has as a signed constant too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Closes every descriptor but `keep`, which must be sorted and without doubles.
///
/// # Errors
///
/// The kernel's error; none is expected for ranges that are in order.
///
/// # Source
///
/// `close_range(2)`.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut from: u32 = 0;
    for &fd in keep {
        let fd = u32::try_from(fd).map_err(|_negative| io::ErrorKind::InvalidInput)?;
        if fd > from {
            close_range(from, fd - 1)?;
        }
        from = fd + 1;
    }
    close_range(from, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: the call takes three integers. Descriptors that it closes may have owners in this
    // process's memory: callers are freshly forked children that use none of them again and leave
    // without running destructors of the parent's values.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends this process at once, without destructors or exit handlers.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit is safe at any time; it runs no handler and touches no memory.
    unsafe { libc::_exit(status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_test_threads_is_no_proof() {
        std::thread::scope(|scope| {
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || stopped.recv());
            assert!(SingleThreaded::check().is_err());
            drop(stop);
        });
    }
}
