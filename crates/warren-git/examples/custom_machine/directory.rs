//! A machine that is a directory of this host, with programs as child processes.
//!
//! It isolates nothing and is for trusted programs alone.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin},
    sync::mpsc,
};
use warren_git::{Chunk, Command, Ended, Machine, MachineError, MachineState, Output, Stdin};

/// A directory with a life: its programs start in it, with it as their home.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    state: MachineState,
    /// Groups of processes that run, by their number.
    running: HashMap<i32, Pid>,
}

impl Directory {
    /// A machine in this directory, which is made at the start.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        let inside = Inside { state: MachineState::Idle, running: HashMap::new() };
        Self { root: root.into(), inside: Mutex::new(inside) }
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes to a state from another one, and sends a signal to all that runs.
    fn go(&self, from: MachineState, to: MachineState, signal: Signal) -> Result<(), MachineError> {
        let mut inside = self.inside();
        if inside.state != from {
            return Err(MachineError::State(inside.state));
        }
        inside.state = to;
        for group in inside.running.values() {
            // One that has ended meanwhile needs no signal.
            kill_process_group(*group, signal).ok();
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "this machine is nothing but child processes")]
    fn spawn(&self, command: &Command) -> Result<Option<Child>, MachineError> {
        let Some((program, arguments)) = command.argv.split_first() else {
            return Err(MachineError::failed(
                "start a program without a name",
                std::io::Error::other(""),
            ));
        };
        let mut child = tokio::process::Command::new(program);
        child.args(arguments).env_clear();
        // Programs of its own come first.
        let path = format!("{}/bin:/usr/local/bin:/usr/bin:/bin", self.root.display());
        child.env("PATH", path).env("HOME", &self.root);
        child.envs(&command.env);
        child.current_dir(command.cwd.as_ref().map_or(self.root.as_path(), Path::new));
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        child.process_group(0).kill_on_drop(true);
        let mut inside = self.inside();
        if inside.state != MachineState::Running {
            return Err(MachineError::State(inside.state));
        }
        match child.spawn() {
            Ok(child) => {
                let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
                inside.running.extend(group.map(|it| (it.as_raw_nonzero().get(), it)));
                Ok(Some(child))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(MachineError::failed(format!("start {program}"), error)),
        }
    }
}

/// A group of processes that is ended when nobody waits for it any more.
struct Group<'a> {
    machine: &'a Directory,
    group: Option<Pid>,
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            kill_process_group(group, Signal::KILL).ok();
            self.machine.inside().running.remove(&group.as_raw_nonzero().get());
        }
    }
}

#[async_trait::async_trait]
impl Machine for Directory {
    fn id(&self) -> Option<String> {
        let started = self.state() != MachineState::Idle;
        started.then(|| self.root.display().to_string())
    }

    fn state(&self) -> MachineState {
        self.inside().state
    }

    async fn start(&self) -> Result<(), MachineError> {
        let made = std::fs::create_dir_all(&self.root);
        made.map_err(|error| MachineError::failed("make the machine's directory", error))?;
        let mut inside = self.inside();
        match inside.state {
            MachineState::Idle | MachineState::Stopped => inside.state = MachineState::Running,
            state => return Err(MachineError::State(state)),
        }
        Ok(())
    }

    async fn pause(&self) -> Result<(), MachineError> {
        self.go(MachineState::Running, MachineState::Paused, Signal::STOP)
    }

    async fn resume(&self) -> Result<(), MachineError> {
        self.go(MachineState::Paused, MachineState::Running, Signal::CONT)
    }

    async fn stop(&self) -> Result<(), MachineError> {
        let state = self.state();
        self.go(state, MachineState::Stopped, Signal::KILL)
    }

    async fn execute(&self, command: Command) -> Result<Output, MachineError> {
        let Some(mut child) = self.spawn(&command)? else {
            let (stdout, stderr) = (Vec::new(), b"no such program or directory\n".to_vec());
            return Ok(Output { ended: Ended::Exited(127), stdout, stderr, truncated: false });
        };
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group = Group { machine: self, group };
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (keep, to) = (command.keep_bytes, &command.stream);
        let (mut out, mut err) = (Kept::default(), Kept::default());
        let work = async {
            tokio::join!(
                feed(stdin, &command.stdin),
                out.read(stdout, keep, to.as_ref(), Chunk::Stdout),
                err.read(stderr, keep, to.as_ref(), Chunk::Stderr),
            );
            child.wait().await
        };
        let limit = command.timeout.unwrap_or(Duration::MAX);
        let ended = match tokio::time::timeout(limit, work).await {
            Ok(Ok(status)) => ended(status),
            Ok(Err(error)) => return Err(MachineError::failed("wait for a program", error)),
            Err(_late) => Ended::TimedOut,
        };
        drop(group);
        let truncated = out.more || err.more;
        Ok(Output { ended, stdout: out.bytes, stderr: err.bytes, truncated })
    }

    async fn read_file(&self, path: &str) -> Result<Vec<u8>, MachineError> {
        std::fs::read(path).map_err(|error| MachineError::failed(format!("read {path}"), error))
    }

    async fn write_file(&self, path: &str, content: &[u8]) -> Result<(), MachineError> {
        let above = Path::new(path).parent().unwrap_or(Path::new("/"));
        let written = std::fs::create_dir_all(above).and_then(|()| std::fs::write(path, content));
        written.map_err(|error| MachineError::failed(format!("write {path}"), error))
    }

    async fn list_files(&self, path: &str) -> Result<Vec<String>, MachineError> {
        let failed = |error| MachineError::failed(format!("list {path}"), error);
        let entries = std::fs::read_dir(path).map_err(failed)?;
        entries
            .map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned()))
            .collect()
    }
}

/// Lets the program read; one that does not want to is no failure.
async fn feed(stdin: Option<ChildStdin>, bytes: &Stdin) {
    if let Some(mut stdin) = stdin {
        stdin.write_all(bytes.bytes()).await.ok();
    }
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    more: bool,
}

impl Kept {
    async fn read(
        &mut self,
        from: Option<impl AsyncRead + Unpin>,
        keep: usize,
        to: Option<&mpsc::Sender<Chunk>>,
        chunk: fn(Vec<u8>) -> Chunk,
    ) {
        let Some(mut from) = from else { return };
        let mut piece = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            let piece = piece.get(..length).unwrap_or_default();
            let fits = piece.get(..keep.saturating_sub(self.bytes.len()).min(length));
            self.bytes.extend_from_slice(fits.unwrap_or_default());
            self.more |= fits.is_none_or(|it| it.len() < length);
            if let Some(to) = to {
                to.send(chunk(piece.to_vec())).await.ok();
            }
        }
    }
}

fn ended(status: ExitStatus) -> Ended {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, signal) => Ended::Signalled(signal.unwrap_or_default()),
    }
}
