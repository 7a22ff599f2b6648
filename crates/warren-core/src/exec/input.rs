//! The way into a command that runs.

use std::sync::Arc;

use bytes::Bytes;

use super::{Signal, TerminalSize};
use crate::{error::SandboxError, id::ExecId, sandbox::handle::Handle};

/// How many bytes of standard input go to the agent in one call.
const INPUT_BYTES: usize = 256 << 10;

/// Standard input, terminal and signals of a command.
#[derive(Clone, Debug)]
pub struct ExecInput {
    pub(super) id: ExecId,
    pub(super) handle: Arc<Handle>,
    pub(super) terminal: bool,
}

impl ExecInput {
    /// Writes to its standard input, or to its terminal.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] when it has no standard input any more.
    pub async fn write(&self, bytes: Bytes) -> Result<(), SandboxError> {
        let (handle, terminal) = (&self.handle, self.terminal);
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(INPUT_BYTES));
            let sent = handle.guest().send_input(self.id, piece, terminal).await;
            sent.map_err(|error| handle.explain(error))?;
        }
        Ok(())
    }

    /// Ends its standard input.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] when it has a terminal, or none.
    pub async fn close_stdin(&self) -> Result<(), SandboxError> {
        let closed = self.handle.guest().close_stdin(self.id).await;
        closed.map_err(|error| self.handle.explain(error))
    }

    /// Sends it a signal; [`Signal::KILL`] reaches everything it started.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuchExec`] when it has ended.
    pub async fn signal(&self, signal: Signal) -> Result<(), SandboxError> {
        self.handle.signal(self.id, signal).await
    }

    /// Changes the size of its terminal.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] when it has none.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), SandboxError> {
        let resized = self.handle.guest().resize(self.id, size).await;
        resized.map_err(|error| self.handle.explain(error))
    }
}
