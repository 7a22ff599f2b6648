//! Facts about processes, and signals that come as reads.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
};

/// The time at which `pid` started, in clock ticks since boot: with the boot id, what tells a
/// process from a later one of the same pid.
///
/// # Errors
///
/// `NotFound` when there is no such process.
///
/// # Source
///
/// `proc_pid_stat(5)`, field 22.
pub fn start_time(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_start_time(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// As [`start_time`], or `None` when the process has ended and only waits to be reaped.
///
/// # Errors
///
/// `NotFound` when there is no such process.
///
/// # Source
///
/// `proc_pid_stat(5)`, fields 3 and 22.
pub fn running_since(pid: i32) -> io::Result<Option<u64>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(parse_start_time(&stat).filter(|_| !has_ended(&stat)))
}

/// Zombie or dead, by the letter after the name.
fn has_ended(stat: &str) -> bool {
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('Z' | 'X'))
}

/// The name of a process may hold spaces and parentheses: fields count from the last `)`.
fn parse_start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The identity of this boot of the host, 36 characters.
///
/// # Errors
///
/// When `/proc` is not there.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Blocks SIGCHLD, SIGTERM and SIGINT and gives a descriptor that becomes readable when one came.
///
/// Only this thread's mask changes, and that of threads it starts later. [`restore_signals`] takes
/// the block back, in a child for instance.
///
/// # Errors
///
/// The kernel's error.
///
/// # Source
///
/// `signalfd(2)`.
pub fn signals_as_reads() -> io::Result<OwnedFd> {
    let set = signal_set(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT]);
    change_mask(libc::SIG_BLOCK, &set)?;
    // SAFETY: `set` is an initialised sigset_t that the call only reads; -1 asks for a new fd.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number of the signal that says a child has ended.
pub const SIGCHLD: u32 = libc::SIGCHLD as u32;

/// The signals that have come at a descriptor of [`signals_as_reads`], possibly none.
pub fn read_signals(signals: std::os::fd::BorrowedFd<'_>) -> Vec<u32> {
    // The kernel gives whole records of struct signalfd_siginfo, whose first field is the number.
    const RECORD: usize = 128;
    let mut buffer = [0; 8 * RECORD];
    let length = rustix::io::read(signals, &mut buffer).unwrap_or_default();
    let records = buffer.get(..length).unwrap_or_default().chunks_exact(RECORD);
    records.filter_map(|it| it.first_chunk().map(|number| u32::from_ne_bytes(*number))).collect()
}

/// Unblocks every signal for this thread.
///
/// # Errors
///
/// The kernel's error; none is expected.
pub fn restore_signals() -> io::Result<()> {
    change_mask(libc::SIG_SETMASK, &signal_set(&[]))
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the whole set that the pointer leads to.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised by the line above.
    let mut set = unsafe { set.assume_init() };
    for &signal in signals {
        // SAFETY: `set` is initialised and the signal numbers are the C library's own constants.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

fn change_mask(how: i32, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is initialised and only read; a null old set asks for nothing back.
    match unsafe { libc::pthread_sigmask(how, std::ptr::from_ref(set), std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Makes this process unreadable and untraceable for others of the same user.
///
/// # Errors
///
/// The kernel's error; none is expected.
///
/// # Source
///
/// `PR_SET_DUMPABLE(2const)`.
pub fn forbid_tracing() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let rest = (3..=21).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let stat = format!("7 (a) b ( c) {rest} 4242 0");
        assert_eq!(parse_start_time(&stat), Some(4242));
        assert_eq!(parse_start_time("nonsense"), None);
        assert!(has_ended("7 (a) Z) Z 1") && !has_ended("7 (a) Z) S 1"));
    }

    #[test]
    fn this_process_has_started() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(pid).unwrap() > 0);
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
