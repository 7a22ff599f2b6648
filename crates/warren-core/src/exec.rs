//! Commands in a sandbox, as callers see them.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::FutureExt;
use warren_proto::process::process_event::{EndEvent, Event, data_event::Output};

use crate::{
    clock::Timestamp,
    error::SandboxError,
    guest::process::ProcessStream,
    id::{ExecId, SandboxId},
    sandbox::handle::Handle,
};

mod input;
mod signal;

pub use input::ExecInput;
pub use signal::Signal;

/// A command that is to be run.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// The program, found along `PATH` inside, and its arguments; empty for the one that the
    /// sandbox's image names.
    pub argv: Vec<String>,
    /// Added to the environment of the sandbox.
    pub env: BTreeMap<String, String>,
    /// Who it runs as; the sandbox's default where absent.
    pub user: Option<String>,
    /// Where it starts; the sandbox's default where absent.
    pub workdir: Option<String>,
    /// After this long its whole process tree is killed.
    pub timeout: Option<Duration>,
    /// Whether its standard input stays open for [`ExecInput::write`].
    pub stdin: bool,
    /// What it reads first from its standard input, which is closed behind it unless `stdin`.
    pub stdin_data: Option<Bytes>,
    /// Gives it a terminal of this size.
    pub terminal: Option<TerminalSize>,
}

impl fmt::Debug for Command {
    // A command line and its environment are secrets of the caller: no log may have them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("arguments", &self.argv.len()).finish_non_exhaustive()
    }
}

/// The size of a terminal in character cells, each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// A command that runs, and the stream of what it does.
///
/// Dropping it ends the stream and not the command.
pub struct Exec {
    id: ExecId,
    pid: u32,
    handle: Arc<Handle>,
    /// None once the stream has ended.
    stream: Option<ProcessStream>,
    /// Sends what the command reads first, while its output is read.
    feeding: Option<Feeding>,
    terminal: bool,
    /// When it was started, where that was now.
    started: Option<Instant>,
    oom_kills_before: u64,
}

type Feeding = Pin<Box<dyn Future<Output = ()> + Send>>;

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec").field("id", &self.id).field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecEvent {
    /// It wrote.
    Output {
        /// Where to.
        stream: OutputStream,
        /// What.
        bytes: Bytes,
        /// How many bytes of all its output came before these.
        offset: u64,
    },
    /// It ended; all output came before this.
    End(ExecEnd),
    /// Nothing, for a while.
    Keepalive,
}

/// Where a command writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Its terminal.
    Terminal,
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecEnd {
    /// Its exit status; 128 and the signal's number where a signal ended it.
    pub exit_code: i32,
    /// The number of the signal that ended it.
    pub signal: Option<u32>,
    /// Whether it was killed because its timeout was over.
    pub timed_out: bool,
    /// The sandbox's memory limit in bytes, where going over it killed the command.
    pub out_of_memory: Option<u64>,
    /// How long it ran, where this server started it and saw its end.
    pub duration: Option<Duration>,
}

/// A command that was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub end: ExecEnd,
    /// Standard output, or all output of a terminal.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Whether there was more than was kept.
    pub truncated: bool,
}

/// A command of a sandbox, in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecInfo {
    /// Its identity.
    pub id: ExecId,
    /// Its process id as seen inside.
    pub pid: u32,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// How it ended; none while it runs.
    pub end: Option<ExecEnd>,
}

impl Exec {
    /// Starts a command.
    pub(crate) async fn start(
        handle: Arc<Handle>,
        command: &Command,
    ) -> Result<Self, SandboxError> {
        let id = ExecId::mint();
        let started = Some(Instant::now());
        let oom_kills_before = handle.oom_kills_before().await;
        let stream = match handle.guest().start(id, command).await {
            Ok(stream) => stream,
            Err(error) => return Err(handle.explain_break(error).await),
        };
        let mut exec = Self {
            id,
            pid: 0,
            handle,
            stream: Some(stream),
            feeding: None,
            terminal: command.terminal.is_some(),
            started,
            oom_kills_before,
        };
        exec.read_start().await?;
        if let Some(data) = &command.stdin_data {
            exec.feeding = Some(exec.feed(data.clone(), !command.stdin));
        }
        Ok(exec)
    }

    /// Opens the stream of a command that was started before, from byte `offset` of its output on.
    pub(crate) async fn reconnect(
        handle: Arc<Handle>,
        id: ExecId,
        offset: u64,
    ) -> Result<Self, SandboxError> {
        let oom_kills_before = handle.oom_kills_before().await;
        let opened = handle.guest().reconnect(id, offset).await;
        let stream = opened.map_err(|error| no_such_exec(handle.explain(error), id))?;
        let mut exec = Self {
            id,
            pid: 0,
            handle,
            stream: Some(stream),
            feeding: None,
            terminal: false,
            started: None,
            oom_kills_before,
        };
        exec.read_start().await.map_err(|error| no_such_exec(error, id))?;
        Ok(exec)
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> ExecId {
        self.id
    }

    /// The sandbox it runs in.
    #[must_use]
    pub fn sandbox(&self) -> SandboxId {
        self.handle.id()
    }

    /// Its process id as seen inside.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The next thing it does; none behind its end. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Ended`] when the sandbox ended under it, [`SandboxError::Unresponsive`]
    /// when its agent broke the stream, [`SandboxError::Guest`] when the agent ended it so.
    pub async fn next(&mut self) -> Result<Option<ExecEvent>, SandboxError> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let event = match &mut self.feeding {
            None => stream.next().await,
            Some(feeding) => {
                let next = stream.next();
                tokio::pin!(next);
                tokio::select! {
                    biased;
                    event = &mut next => event,
                    () = feeding => {
                        self.feeding = None;
                        next.await
                    }
                }
            }
        };
        match event {
            Ok(Some(Event::Data(data))) => Ok(output(data)),
            Ok(Some(Event::End(end))) => {
                let (handle, before) = (Arc::clone(&self.handle), self.oom_kills_before);
                let end = account(&handle, &end, self.started, before).await;
                if let Some(stream) = self.stream.take() {
                    self.handle.guest().keep_stream(stream);
                }
                Ok(Some(ExecEvent::End(end)))
            }
            Ok(Some(Event::Start(_) | Event::Keepalive(_))) => Ok(Some(ExecEvent::Keepalive)),
            Ok(None) => {
                self.stream = None;
                Ok(None)
            }
            Err(error) => {
                self.stream = None;
                Err(self.handle.explain_break(error).await)
            }
        }
    }

    /// Waits for its end, and keeps at most `limit_bytes` of each of its outputs.
    ///
    /// # Errors
    ///
    /// As [`Exec::next`].
    pub async fn outcome(&mut self, limit_bytes: usize) -> Result<Outcome, SandboxError> {
        let (mut stdout, mut stderr, mut truncated) = (Vec::new(), Vec::new(), false);
        while let Some(event) = self.next().await? {
            match event {
                ExecEvent::Output { stream, bytes, .. } => {
                    let kept =
                        if stream == OutputStream::Stderr { &mut stderr } else { &mut stdout };
                    let room = limit_bytes.saturating_sub(kept.len()).min(bytes.len());
                    kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
                    truncated |= room < bytes.len();
                }
                ExecEvent::End(end) => return Ok(Outcome { end, stdout, stderr, truncated }),
                ExecEvent::Keepalive => {}
            }
        }
        Err(self.handle.explain_silence())
    }

    /// What is left of sending it its first input, for a caller who will not read its events. It
    /// must be awaited, or the command misses some of its input.
    pub fn take_feeding(&mut self) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.feeding.take()
    }

    /// The way to influence it while its events are awaited.
    #[must_use]
    pub fn input(&self) -> ExecInput {
        ExecInput { id: self.id, handle: Arc::clone(&self.handle), terminal: self.terminal }
    }

    /// Waits for the first event, which is the proof that it runs.
    async fn read_start(&mut self) -> Result<(), SandboxError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        match stream.next().await {
            Ok(Some(Event::Start(start))) => {
                self.pid = start.pid;
                Ok(())
            }
            Ok(_) => Err(self.handle.explain_silence()),
            Err(error) => Err(self.handle.explain_break(error).await),
        }
    }

    fn feed(&self, data: Bytes, close: bool) -> Feeding {
        let input = self.input();
        async move {
            let fed = input.write(data).await;
            // A command that ends without reading everything is no failure.
            if fed.is_ok() && close {
                input.close_stdin().await.ok();
            }
        }
        .boxed()
    }
}

/// How a command ended, with what the host knows about it.
async fn account(
    handle: &Handle,
    event: &EndEvent,
    started: Option<Instant>,
    oom_kills_before: u64,
) -> ExecEnd {
    let mut end = convert_end(event);
    end.duration = started.map(|started| started.elapsed());
    let perhaps = end.signal == Some(9) || end.exit_code == 128 + 9;
    if perhaps && !end.timed_out && handle.lost_memory(oom_kills_before).await {
        end.out_of_memory = Some(handle.sandbox().spec.limits.memory_bytes);
    }
    end
}

fn output(data: warren_proto::process::process_event::DataEvent) -> Option<ExecEvent> {
    let offset = data.offset;
    Some(match data.output {
        Some(Output::Stdout(bytes)) => {
            ExecEvent::Output { stream: OutputStream::Stdout, bytes, offset }
        }
        Some(Output::Stderr(bytes)) => {
            ExecEvent::Output { stream: OutputStream::Stderr, bytes, offset }
        }
        Some(Output::Pty(bytes)) => {
            ExecEvent::Output { stream: OutputStream::Terminal, bytes, offset }
        }
        None => ExecEvent::Keepalive,
    })
}

/// The agent's account of an end, as shells write it.
pub(crate) fn convert_end(event: &EndEvent) -> ExecEnd {
    let signal = (1..=64).contains(&event.signal).then_some(event.signal);
    let exit_code = match signal {
        Some(signal) => 128 + i32::try_from(signal).unwrap_or_default(),
        None => event.exit_code,
    };
    ExecEnd { exit_code, signal, timed_out: event.timed_out, out_of_memory: None, duration: None }
}

/// The agent knows processes: what it does not find is the command that was asked for.
pub(crate) fn no_such_exec(error: SandboxError, id: ExecId) -> SandboxError {
    use crate::error::GuestRefusal;
    match error {
        SandboxError::Guest { kind: GuestRefusal::NotFound, .. } => {
            SandboxError::NoSuchExec { name: id.to_string() }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_becomes_an_exit_code_like_in_a_shell() {
        let event = EndEvent { exit_code: -1, signal: 9, ..EndEvent::default() };
        assert_eq!(convert_end(&event).exit_code, 137);
        let event = EndEvent { exit_code: 3, ..EndEvent::default() };
        assert_eq!(convert_end(&event), ExecEnd { exit_code: 3, ..ExecEnd::default() });
    }

    #[test]
    fn a_signal_that_cannot_be_is_not_believed() {
        let event = EndEvent { exit_code: 0, signal: 4_000_000_000, ..EndEvent::default() };
        assert_eq!(convert_end(&event).signal, None);
    }
}
