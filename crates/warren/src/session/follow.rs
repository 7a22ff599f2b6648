//! Going on with a command whose server went away under the conversation.
//!
//! The command lives in the sandbox and not in the server, and its newest output is kept beside
//! it. So the next server is asked for what comes behind the last byte that was printed here.

use std::io;

use warren_api::{
    Code,
    client::{Client, ClientError, ExecStream},
    exec::{ExecEnd, ExecEvent, OutputChunk},
};

use super::{Notice, OnSignal, Signals, interrupted};
use crate::{backoff::Backoff, error::CliError, output::Output};

/// A command that is followed.
#[derive(Debug)]
pub(crate) struct Follower<'a> {
    client: &'a Client,
    sandbox: &'a str,
    exec_id: &'a str,
    /// How many bytes of its output were printed.
    printed: u64,
    output: Output,
    /// Whether events are printed as lines of JSON, and not the output in them.
    as_lines: bool,
}

impl<'a> Follower<'a> {
    /// Of a command, the first `printed` bytes of whose output are known.
    pub(crate) fn new(
        client: &'a Client,
        sandbox: &'a str,
        exec_id: &'a str,
        printed: u64,
        output: Output,
    ) -> Self {
        Self { client, sandbox, exec_id, printed, output, as_lines: false }
    }

    /// How many bytes of its output are known.
    pub(crate) fn printed(&self) -> u64 {
        self.printed
    }

    /// Prints what there is and what comes, until the command ends or somebody wants to leave;
    /// with `--json` as the API's events, one on each line.
    pub(crate) async fn watch(&mut self, signals: &mut Signals) -> Result<ExecEnd, CliError> {
        self.as_lines = self.output.json;
        self.follow(OnSignal::Leave, signals).await
    }

    /// Prints what the command goes on to write, until it ends.
    pub(super) async fn follow(
        &mut self,
        on_signal: OnSignal,
        signals: &mut Signals,
    ) -> Result<ExecEnd, CliError> {
        let mut backoff = Backoff::default();
        loop {
            let before = self.printed;
            let error = match self.follow_once(on_signal, signals).await? {
                Ok(end) => return Ok(end),
                Err(error) => error,
            };
            if self.printed > before {
                backoff.reset();
            }
            tokio::select! {
                waited = backoff.after(error) => waited?,
                end = signals.end(), if on_signal == OnSignal::Leave => return Err(end),
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
            Err(error) if error.code() != Code::Unavailable => return Err(error.into()),
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
            if self.as_lines
                && let Ok(Some(event)) = &event
            {
                self.print_line(event)?;
            }
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
        if !self.as_lines {
            self.output.bytes(to, new)?;
        }
        self.printed = self.printed.max(chunk.offset + chunk.data.0.len() as u64);
        Ok(())
    }

    /// Prints an event as the API has it; a start was said before where this is not the first
    /// connection, and signs of life are for the connection alone.
    fn print_line(&self, event: &ExecEvent) -> Result<(), CliError> {
        if matches!(event, ExecEvent::Keepalive) {
            return Ok(());
        }
        let line = serde_json::to_string(event).map_err(CliError::local("write JSON"))?;
        self.output.line(&line)
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
