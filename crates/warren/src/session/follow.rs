//! Going on with a command whose server went away under the conversation.
//!
//! The command lives in the sandbox and not in the server, and its newest output is kept beside
//! it. So the next server is asked for what comes behind the last byte that was printed here.

use std::io;

use warren_api::{
    client::{Client, ClientError, ExecStream},
    exec::{ExecEnd, ExecEvent, OutputChunk},
};

use super::{Notice, OnSignal, Signals, interrupted};
use crate::{error::CliError, output::Output};

/// How often in a row a connection may break without having brought anything.
const ATTEMPTS: u32 = 3;

/// A command that is followed.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    pub(super) client: &'a Client,
    pub(super) sandbox: &'a str,
    pub(super) exec_id: &'a str,
    /// How many bytes of its output were printed.
    pub(super) printed: u64,
    pub(super) output: Output,
}

impl Follower<'_> {
    /// Prints what the command goes on to write, until it ends.
    pub(super) async fn follow(
        &mut self,
        on_signal: OnSignal,
        signals: &mut Signals,
    ) -> Result<ExecEnd, CliError> {
        let mut failures = 0;
        loop {
            let before = self.printed;
            let error = match self.follow_once(on_signal, signals).await? {
                Ok(end) => return Ok(end),
                Err(error) => error,
            };
            failures = if self.printed > before { 0 } else { failures + 1 };
            if failures == ATTEMPTS {
                return Err(error.into());
            }
        }
    }

    /// Follows over one connection; the inner error is one after which another may help.
    async fn follow_once(
        &mut self,
        on_signal: OnSignal,
        signals: &mut Signals,
    ) -> Result<Result<ExecEnd, ClientError>, CliError> {
        let opened = self.client.exec_output(self.sandbox, self.exec_id, self.printed).await;
        let mut stream: ExecStream = match opened {
            Ok(stream) => stream,
            Err(error @ ClientError::Refused(_)) => return Err(error.into()),
            Err(error) => return Ok(Err(error)),
        };
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                notice = signals.next() => {
                    self.signal(notice, on_signal).await?;
                    continue;
                }
            };
            match event {
                Ok(Some(ExecEvent::End(end))) => return Ok(Ok(end)),
                Ok(Some(ExecEvent::Stderr(chunk))) => {
                    self.print(&mut io::stderr().lock(), &chunk)?
                }
                Ok(Some(ExecEvent::Stdout(chunk) | ExecEvent::Tty(chunk))) => {
                    self.print(&mut io::stdout().lock(), &chunk)?;
                }
                Ok(Some(ExecEvent::Error(body))) => return Ok(Err(ClientError::Refused(body))),
                Ok(Some(ExecEvent::Start(_) | ExecEvent::Keepalive)) => {}
                Ok(None) => return Ok(Err(ClientError::ended_early())),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Prints what of a chunk was not printed yet.
    fn print(&mut self, to: &mut impl io::Write, chunk: &OutputChunk) -> Result<(), CliError> {
        let new = unprinted(self.printed, chunk);
        if chunk.offset > self.printed {
            let lost = chunk.offset - self.printed;
            self.output.warn(&format!("{lost} bytes of output are lost: more than is kept"));
        }
        self.output.bytes(to, new)?;
        self.printed = self.printed.max(chunk.offset + chunk.data.0.len() as u64);
        Ok(())
    }

    async fn signal(&self, notice: Notice, on_signal: OnSignal) -> Result<(), CliError> {
        match (notice, on_signal) {
            (Notice::Resize, _) => Ok(()),
            (Notice::End { name, number }, OnSignal::Leave) => Err(interrupted(name, number)),
            (Notice::End { name, .. }, OnSignal::Forward) => {
                Ok(self.client.signal_exec(self.sandbox, self.exec_id, name).await?)
            }
        }
    }
}

/// The part of a chunk behind the first `printed` bytes of all output.
fn unprinted(printed: u64, chunk: &OutputChunk) -> &[u8] {
    let skip = usize::try_from(printed.saturating_sub(chunk.offset)).unwrap_or(usize::MAX);
    chunk.data.0.get(skip..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use warren_api::Base64;

    use super::*;

    #[test]
    fn nothing_is_printed_twice() {
        let chunk = OutputChunk { data: Base64(b"abcdef".to_vec()), offset: 10 };
        assert_eq!(unprinted(10, &chunk), b"abcdef");
        assert_eq!(unprinted(13, &chunk), b"def");
        assert_eq!(unprinted(16, &chunk), b"");
        assert_eq!(unprinted(99, &chunk), b"");
        assert_eq!(unprinted(4, &chunk), b"abcdef");
    }
}
