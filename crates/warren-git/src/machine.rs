//! What a machine must do: the seam between git and whatever runs programs.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// Bytes of each output that a command keeps when nothing else is said.
pub const KEPT_BYTES: usize = 1024 * 1024;

/// What runs programs and keeps files: a sandbox, a virtual machine, a directory.
///
/// Methods may be called at the same time, and from several tasks. A [`GitMachine`] never starts,
/// pauses, resumes or stops a machine while one of its own git commands runs, but commands of
/// [`GitMachine::run`] may be under way at any time.
///
/// [`GitMachine`]: crate::GitMachine
/// [`GitMachine::run`]: crate::GitMachine::run
#[async_trait]
pub trait Machine: Send + Sync + 'static {
    /// The name by which the machine is found again, or `None` before it was started.
    fn id(&self) -> Option<String>;

    /// What the machine does now.
    fn state(&self) -> MachineState;

    /// Makes the machine run, for the first time or again after a stop.
    async fn start(&self) -> Result<(), MachineError>;

    /// Holds the machine: what it has stays, and nothing in it goes on.
    async fn pause(&self) -> Result<(), MachineError>;

    /// Lets a paused machine go on.
    async fn resume(&self) -> Result<(), MachineError>;

    /// Ends the machine. Its files may be gone afterwards.
    async fn stop(&self) -> Result<(), MachineError>;

    /// Runs a program and waits for its end.
    ///
    /// The program is `command.argv`, as it is: no shell reads it. A program that fails, or that is
    /// not found (exit code 127), is a result; an error is a machine that could not run it. A program
    /// that takes longer than `command.timeout` is ended together with what it has started, and what
    /// it wrote until then is in the result. Dropping the future ends the program as far as the
    /// machine can.
    async fn execute(&self, command: Command) -> Result<Output, MachineError>;

    /// Reads a whole file.
    async fn read_file(&self, path: &str) -> Result<Vec<u8>, MachineError>;

    /// Writes a whole file, and the directories above it where they are missing.
    async fn write_file(&self, path: &str, content: &[u8]) -> Result<(), MachineError>;

    /// The names in a directory, without `.` and `..`, in any order.
    async fn list_files(&self, path: &str) -> Result<Vec<String>, MachineError>;
}

/// What a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineState {
    /// It was never started.
    Idle,
    /// It runs programs.
    Running,
    /// It keeps what it has and does nothing.
    Paused,
    /// It has ended.
    Stopped,
}

impl MachineState {
    /// The state as one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for MachineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A program to run, and how.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program and its arguments. A program without a slash is looked up as the machine does.
    pub argv: Vec<String>,
    /// The directory it starts in; the machine's own choice without one.
    pub cwd: Option<String>,
    /// Variables on top of those that programs in this machine have.
    pub env: BTreeMap<String, String>,
    /// How long it may take; without one, as long as it likes.
    pub timeout: Option<Duration>,
    /// What it reads from its standard input, which then ends.
    pub stdin: Stdin,
    /// How many bytes of standard output, and of standard error, are kept for the result.
    pub keep_bytes: usize,
    /// Where output goes piece by piece, all of it. The machine waits while the channel is full, and
    /// goes on without it when nobody receives.
    pub stream: Option<mpsc::Sender<Chunk>>,
}

impl Command {
    /// A program with its arguments.
    pub fn new<I, S>(argv: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            cwd: None,
            env: BTreeMap::new(),
            timeout: None,
            stdin: Stdin::default(),
            keep_bytes: KEPT_BYTES,
            stream: None,
        }
    }

    /// A line for `/bin/sh`. The caller answers for every word of it.
    #[must_use]
    pub fn shell(line: &str) -> Self {
        Self::new(["/bin/sh", "-c", line])
    }

    /// Starts it in this directory.
    #[must_use]
    pub fn cwd(mut self, path: impl Into<String>) -> Self {
        self.cwd = Some(path.into());
        self
    }

    /// Gives it a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Ends it when it takes longer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Lets it read these bytes.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Stdin::new(bytes.into());
        self
    }

    /// Keeps so many bytes of each output.
    #[must_use]
    pub fn keep(mut self, bytes: usize) -> Self {
        self.keep_bytes = bytes;
        self
    }

    /// Sends output here as it comes.
    #[must_use]
    pub fn stream(mut self, to: mpsc::Sender<Chunk>) -> Self {
        self.stream = Some(to);
        self
    }
}

impl From<&str> for Command {
    /// A line for the shell, as people type it.
    fn from(line: &str) -> Self {
        Self::shell(line)
    }
}

impl From<String> for Command {
    fn from(line: String) -> Self {
        Self::shell(&line)
    }
}

/// What a program reads. It may be a secret, so nothing prints it and nothing is left of it in memory.
#[derive(Clone, Default)]
pub struct Stdin(Zeroizing<Vec<u8>>);

impl Stdin {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for whoever writes them to the program.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stdin({} bytes)", self.0.len())
    }
}

/// A piece of output, in the order in which it was written to its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// From standard output.
    Stdout(Vec<u8>),
    /// From standard error.
    Stderr(Vec<u8>),
}

/// How a program ended, and what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub ended: Ended,
    /// The first bytes of standard output, at most as many as were asked for.
    pub stdout: Vec<u8>,
    /// The same of standard error.
    pub stderr: Vec<u8>,
    /// Whether there was more.
    pub truncated: bool,
}

impl Output {
    /// Whether it ended by itself with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.ended == Ended::Exited(0)
    }

    /// The exit code as a shell shows it: 124 after a time-out, 128 and more after a signal.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self.ended {
            Ended::Exited(code) => code,
            Ended::Signalled(signal) => 128 + signal,
            Ended::TimedOut => 124,
        }
    }

    /// Standard output as text, with a replacement for what is none.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal.
    Signalled(i32),
    /// It took too long and was ended.
    TimedOut,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signalled(signal) => write!(f, "signal {signal}"),
            Self::TimedOut => f.write_str("took too long"),
        }
    }
}

/// Why a machine could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// It is in a state in which it cannot.
    #[error("the machine is {0}")]
    State(MachineState),
    /// It never can.
    #[error("this kind of machine cannot {0}")]
    Unsupported(&'static str),
    /// It failed; the cause says how.
    #[error("{operation}")]
    Failed {
        /// What was done, to what.
        operation: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl MachineError {
    /// A failure with its cause.
    pub fn failed(
        operation: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed { operation: operation.into(), source: source.into() }
    }
}
