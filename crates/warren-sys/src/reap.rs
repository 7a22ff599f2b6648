//! Children that have ended.

use std::io;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code, 0 to 255.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// Looks at a child of this process that has ended, without reaping it.
///
/// Gives its process id and how it ended; `None` when no child has ended, or there is none.
///
/// # Errors
///
/// The kernel's error; none is expected.
///
/// # Source
///
/// `waitid(2)`, `WNOWAIT`.
pub fn look_at_ended_child() -> io::Result<Option<(i32, Ended)>> {
    wait(libc::P_ALL, 0, libc::WNOWAIT)
}

/// Reaps the child `pid`, which must have been looked at: this does not wait.
///
/// # Errors
///
/// The kernel's error: it is no child of this process.
pub fn reap_child(pid: i32) -> io::Result<()> {
    wait(libc::P_PID, pid.unsigned_abs(), 0).map(drop)
}

fn wait(which: libc::idtype_t, id: u32, more: i32) -> io::Result<Option<(i32, Ended)>> {
    // SAFETY: all zero is a valid siginfo_t, and what the call leaves where nothing has ended.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | more;
    // SAFETY: `info` is a siginfo_t to write to; the other arguments are integers.
    if unsafe { libc::waitid(which, id, &raw mut info, options) } < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ECHILD) { Ok(None) } else { Err(error) };
    }
    // SAFETY: waitid has filled in the fields of SIGCHLD, or left them zero.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let ended = if info.si_code == libc::CLD_EXITED { Ended::Exit } else { Ended::Signal };
    Ok((pid != 0).then(|| (pid, ended(status))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_was_looked_at_can_be_reaped_once() {
        // Other tests of this process have children too: this one is found by its own number.
        #[expect(
            clippy::disallowed_methods,
            clippy::zombie_processes,
            reason = "the child is what is tested, and reaped by it"
        )]
        let child = std::process::Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let seen = loop {
            match wait(libc::P_PID, pid.unsigned_abs(), libc::WNOWAIT).unwrap() {
                Some(seen) => break seen,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(seen, (pid, Ended::Exit(7)));
        reap_child(pid).unwrap();
        assert!(matches!(wait(libc::P_PID, pid.unsigned_abs(), libc::WNOWAIT), Ok(None)));
    }
}
