//! The person's terminal: raw while a command in a sandbox has it, and put back on every path.

use std::{
    io::{self, IsTerminal as _},
    os::fd::{AsFd, OwnedFd},
};

use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use warren_api::exec::TerminalSize;

/// A terminal in raw mode. Dropping it, also by a panic, puts the old mode back.
#[derive(Debug)]
pub(crate) struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Makes the terminal at standard input raw.
    ///
    /// # Errors
    ///
    /// The kernel's; `ENOTTY` when it is no terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned()?;
        let before = termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before).ok();
    }
}

/// A terminal that does not show what is typed. Dropping it puts the old mode back.
#[derive(Debug)]
pub(crate) struct NoEcho {
    terminal: OwnedFd,
    before: Termios,
}

impl NoEcho {
    /// Has the terminal at standard input show nothing but the end of a line.
    ///
    /// # Errors
    ///
    /// The kernel's; `ENOTTY` when it is no terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned()?;
        let before = termios::tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        termios::tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before).ok();
    }
}

/// Whether standard input is a terminal.
pub(crate) fn is_input() -> bool {
    io::stdin().is_terminal()
}

/// Whether standard output is a terminal.
pub(crate) fn is_output() -> bool {
    io::stdout().is_terminal()
}

/// The size of the terminal of this process, else 80 columns and 24 rows.
pub(crate) fn size() -> TerminalSize {
    size_of(&io::stdout())
        .or_else(|| size_of(&io::stdin()))
        .unwrap_or(TerminalSize { cols: 80, rows: 24 })
}

fn size_of(stream: &impl AsFd) -> Option<TerminalSize> {
    let size = termios::tcgetwinsize(stream).ok()?;
    let known = size.ws_col > 0 && size.ws_row > 0;
    known.then_some(TerminalSize { cols: size.ws_col, rows: size.ws_row })
}
