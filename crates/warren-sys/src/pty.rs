//! Pseudo-terminals.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A terminal's two ends.
#[derive(Debug)]
pub struct Terminal {
    /// The end that a person or a program in their place holds. Not blocking.
    pub controller: OwnedFd,
    /// The end that becomes a process's terminal.
    pub user: OwnedFd,
}

/// Opens a new terminal of `columns` by `rows` character cells.
///
/// # Errors
///
/// The kernel's error: no `/dev/ptmx`, or too many terminals.
///
/// # Source
///
/// `pty(7)`.
pub fn open_terminal(columns: u16, rows: u16) -> io::Result<Terminal> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let controller = openpt(flags)?;
    grantpt(&controller)?;
    unlockpt(&controller)?;
    let name = ptsname(&controller, Vec::new())?;
    let user = rustix::fs::open(
        name.as_c_str(),
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let status = rustix::fs::fcntl_getfl(&controller)?;
    rustix::fs::fcntl_setfl(&controller, status | OFlags::NONBLOCK)?;
    resize_terminal(&controller, columns, rows)?;
    Ok(Terminal { controller, user })
}

/// Changes a terminal's size; its foreground processes get SIGWINCH.
///
/// # Errors
///
/// The kernel's error: the other end is gone.
///
/// # Source
///
/// `TIOCSWINSZ(2const)`.
pub fn resize_terminal(controller: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(controller, size)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_the_size_it_was_given() {
        let terminal = open_terminal(100, 30).unwrap();
        let size = rustix::termios::tcgetwinsize(&terminal.user).unwrap();
        assert_eq!((size.ws_col, size.ws_row), (100, 30));
        resize_terminal(&terminal.controller, 7, 5).unwrap();
        let size = rustix::termios::tcgetwinsize(&terminal.user).unwrap();
        assert_eq!((size.ws_col, size.ws_row), (7, 5));
    }
}
