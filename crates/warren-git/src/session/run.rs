//! Commands of the user.

use std::{
    collections::BTreeMap,
    future::Future,
    time::{Duration, SystemTime},
};

use tokio::sync::mpsc;

use super::GitMachine;
use crate::{
    error::GitError,
    machine::{Chunk, Command, Machine, MachineState, Output},
};

/// How many commands are remembered, and how many bytes of each output.
const ENTRIES: usize = 1000;
const ENTRY_BYTES: usize = 16 * 1024;
/// Pieces of output that wait for a callback.
const PIECES: usize = 16;

/// Takes pieces of output as they come.
pub(crate) type OnOutput = Box<dyn FnMut(&[u8]) + Send>;

/// How a command of [`GitMachine::run`] runs.
#[derive(Default)]
#[must_use]
pub struct RunOptions {
    cwd: Option<String>,
    env: BTreeMap<String, String>,
    timeout: Option<Duration>,
    on_stdout: Option<OnOutput>,
    on_stderr: Option<OnOutput>,
    on_exit: Option<Box<dyn FnOnce(i32) + Send>>,
}

impl RunOptions {
    /// In another directory than the repository's.
    pub fn cwd(mut self, path: impl Into<String>) -> Self {
        self.cwd = Some(path.into());
        self
    }

    /// With a variable, which wins over the machine's own.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// With a limit of its own on how long it takes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Shows standard output as it comes.
    pub fn on_stdout(mut self, callback: impl FnMut(&[u8]) + Send + 'static) -> Self {
        self.on_stdout = Some(Box::new(callback));
        self
    }

    /// Shows standard error as it comes.
    pub fn on_stderr(mut self, callback: impl FnMut(&[u8]) + Send + 'static) -> Self {
        self.on_stderr = Some(Box::new(callback));
        self
    }

    /// Is told the exit code.
    pub fn on_exit(mut self, callback: impl FnOnce(i32) + Send + 'static) -> Self {
        self.on_exit = Some(Box::new(callback));
        self
    }
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunOptions").field("cwd", &self.cwd).finish_non_exhaustive()
    }
}

/// A command that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// How it ended, with the first 16 KiB of each output.
    pub result: Output,
    /// When it ended.
    pub ended_at: SystemTime,
}

impl<M: Machine> GitMachine<M> {
    /// Runs a command in the repository and waits for its end: a line for the shell, or a
    /// [`Command`] of separate words.
    ///
    /// Commands run beside each other and beside operations of git. One whose caller leaves ends as
    /// [`Machine::execute`] says. A paused machine runs nothing: resume it first.
    ///
    /// # Errors
    ///
    /// [`GitError::State`] for a machine that does not run, [`GitError::Machine`] where it fails. A
    /// command that fails is a result.
    pub async fn run(
        &self,
        command: impl Into<Command> + Send,
        options: RunOptions,
    ) -> Result<Output, GitError> {
        let state = self.state();
        if state != MachineState::Running {
            return Err(GitError::State { operation: "run", wanted: "running", state });
        }
        let mut command = command.into();
        let own = std::mem::take(&mut command.env);
        command.env = self.shared().env.clone();
        command.env.extend(own);
        command.env.extend(options.env);
        command.cwd = options.cwd.or(command.cwd).or_else(|| Some(self.path().to_owned()));
        command.timeout = options.timeout.or(command.timeout).or(self.inner.config.timeout);
        let argv = command.argv.clone();
        let executed = if options.on_stdout.is_some() || options.on_stderr.is_some() {
            let (to, from) = mpsc::channel(PIECES);
            command.stream = Some(to);
            let shown = show(from, options.on_stdout, options.on_stderr);
            tokio::join!(self.inner.machine.execute(command), shown).0
        } else {
            self.inner.machine.execute(command).await
        };
        let output = executed
            .map_err(|source| GitError::Machine { operation: "run a command in", source })?;
        self.remember(argv, &output);
        if let Some(on_exit) = options.on_exit {
            on_exit(output.exit_code());
        }
        Ok(output)
    }

    /// The last 1000 commands of [`GitMachine::run`] that have ended, the oldest first.
    #[must_use]
    pub fn logs(&self) -> Vec<LogEntry> {
        self.shared().logs.iter().cloned().collect()
    }

    /// Adds variables for commands that begin from now on.
    pub fn update<I, K, V>(&self, env: I)
    where
        I: IntoIterator<Item = (K, V)>,
        K: Into<String>,
        V: Into<String>,
    {
        let env = env.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.shared().env.extend(env.collect::<Vec<_>>());
    }

    /// Adds variables and then does something with the machine, such as telling a program inside.
    ///
    /// # Errors
    ///
    /// Whatever `on_update` fails with.
    pub async fn update_with<I, K, V, F, R, E>(&self, env: I, on_update: F) -> Result<(), E>
    where
        I: IntoIterator<Item = (K, V)> + Send,
        K: Into<String>,
        V: Into<String>,
        F: FnOnce(Self) -> R + Send,
        R: Future<Output = Result<(), E>> + Send,
    {
        self.update(env);
        on_update(self.clone()).await
    }

    /// Takes variables away from commands that begin from now on.
    pub fn unset<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut shared = self.shared();
        for name in names {
            shared.env.remove(name);
        }
    }

    fn remember(&self, argv: Vec<String>, output: &Output) {
        let mut result = output.clone();
        for kept in [&mut result.stdout, &mut result.stderr] {
            result.truncated |= kept.len() > ENTRY_BYTES;
            kept.truncate(ENTRY_BYTES);
            kept.shrink_to_fit();
        }
        let mut shared = self.shared();
        if shared.logs.len() >= ENTRIES {
            shared.logs.pop_front();
        }
        shared.logs.push_back(LogEntry { argv, result, ended_at: now() });
    }
}

#[expect(clippy::disallowed_methods, reason = "when a command ended is for people to read")]
fn now() -> SystemTime {
    SystemTime::now()
}

async fn show(
    mut from: mpsc::Receiver<Chunk>,
    mut stdout: Option<OnOutput>,
    mut stderr: Option<OnOutput>,
) {
    while let Some(chunk) = from.recv().await {
        let (callback, bytes) = match chunk {
            Chunk::Stdout(bytes) => (&mut stdout, bytes),
            Chunk::Stderr(bytes) => (&mut stderr, bytes),
        };
        if let Some(callback) = callback {
            callback(&bytes);
        }
    }
}
