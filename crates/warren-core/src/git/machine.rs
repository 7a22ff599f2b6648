//! A sandbox as a machine that git works in.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::TryStreamExt as _;
use warren_git::{Chunk, Command, Ended, Machine, MachineError, MachineState, Output};

use crate::{
    error::{GuestRefusal, SandboxError},
    exec::{self, Exec, ExecEnd, ExecEvent, OutputStream, Signal},
    id::SandboxId,
    sandbox::handle::{self, Handle},
    shared::Shared,
    state::State,
};

/// How much longer than its own limit a command may take to be ended by the agent.
const GRACE: Duration = Duration::from_secs(10);
/// The most that is read of one file.
const MOST_BYTES: usize = 64 << 20;

/// A sandbox. Commands run as its user.
#[derive(Debug)]
pub(crate) struct SandboxMachine {
    shared: Weak<Shared>,
    id: SandboxId,
    /// Whether it has its repository: before that it counts as one that was never started.
    begun: AtomicBool,
}

impl SandboxMachine {
    pub(crate) fn new(shared: &Arc<Shared>, id: SandboxId, begun: bool) -> Self {
        Self { shared: Arc::downgrade(shared), id, begun: AtomicBool::new(begun) }
    }

    fn handle(&self) -> Result<Arc<Handle>, SandboxError> {
        let shared = self.shared.upgrade().ok_or(SandboxError::ShuttingDown)?;
        shared.any(self.id).ok_or_else(|| SandboxError::not_found(self.id))
    }

    fn sandbox_state(&self) -> State {
        self.handle().map_or(State::Stopped, |handle| handle.sandbox().state)
    }

    async fn run(&self, command: Command) -> Result<Output, SandboxError> {
        let handle = self.handle()?;
        handle.require_running()?;
        let wanted = exec::Command {
            argv: command.argv,
            env: command.env,
            workdir: command.cwd,
            timeout: command.timeout,
            stdin_data: Some(command.stdin.bytes().to_vec().into()),
            ..exec::Command::default()
        };
        let exec = match Exec::start(Arc::clone(&handle), &wanted).await {
            // There is no such program inside.
            Err(SandboxError::Guest { kind: GuestRefusal::NotFound, message }) => {
                return Ok(Output {
                    ended: Ended::Exited(127),
                    stdout: Vec::new(),
                    stderr: message.into_bytes(),
                    truncated: false,
                });
            }
            started => started?,
        };
        let running = Running { exec, handle, ended: false };
        let followed = running.follow(command.keep_bytes, command.stream);
        match command.timeout {
            None => followed.await,
            // An agent that does not keep to the limit is not waited for.
            Some(limit) => tokio::time::timeout(limit + GRACE, followed)
                .await
                .unwrap_or(Err(SandboxError::Broken("a command outlived its limit"))),
        }
    }
}

/// A command under way. Dropped before its end, it is killed.
struct Running {
    exec: Exec,
    handle: Arc<Handle>,
    ended: bool,
}

impl Running {
    async fn follow(
        mut self,
        keep: usize,
        stream: Option<tokio::sync::mpsc::Sender<Chunk>>,
    ) -> Result<Output, SandboxError> {
        let (mut stdout, mut stderr, mut truncated) = (Vec::new(), Vec::new(), false);
        let mut stream = stream;
        while let Some(event) = self.exec.next().await? {
            match event {
                ExecEvent::Output { stream: from, bytes, .. } => {
                    let is_error = from == OutputStream::Stderr;
                    let kept = if is_error { &mut stderr } else { &mut stdout };
                    let room = keep.saturating_sub(kept.len());
                    truncated |= bytes.len() > room;
                    kept.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
                    if let Some(to) = &stream {
                        let bytes = bytes.to_vec();
                        let chunk =
                            if is_error { Chunk::Stderr(bytes) } else { Chunk::Stdout(bytes) };
                        if to.send(chunk).await.is_err() {
                            stream = None;
                        }
                    }
                }
                ExecEvent::End(end) => {
                    self.ended = true;
                    return Ok(Output { ended: ended(&end), stdout, stderr, truncated });
                }
                ExecEvent::Keepalive => {}
            }
        }
        Err(self.handle.explain_silence())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (handle, id) = (Arc::clone(&self.handle), self.exec.id());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { handle.signal(id, Signal::KILL).await.ok() });
        }
    }
}

fn ended(end: &ExecEnd) -> Ended {
    if end.timed_out {
        return Ended::TimedOut;
    }
    match end.signal.and_then(|signal| i32::try_from(signal).ok()) {
        Some(signal) => Ended::Signalled(signal),
        None => Ended::Exited(end.exit_code),
    }
}

fn failed(operation: &str) -> impl FnOnce(SandboxError) -> MachineError {
    move |error| MachineError::failed(operation, error)
}

#[async_trait]
impl Machine for SandboxMachine {
    fn id(&self) -> Option<String> {
        Some(self.id.to_string())
    }

    fn state(&self) -> MachineState {
        match self.sandbox_state() {
            State::Running | State::Pausing | State::Resuming if !self.has_begun() => {
                MachineState::Idle
            }
            State::Paused | State::Pausing => MachineState::Paused,
            state if state.is_living() => MachineState::Running,
            _ => MachineState::Stopped,
        }
    }

    async fn start(&self) -> Result<(), MachineError> {
        // It was started by whoever made it.
        let handle = self.handle().map_err(failed("find the sandbox"))?;
        handle.require_running().map_err(failed("start the sandbox"))?;
        self.begin();
        Ok(())
    }

    async fn pause(&self) -> Result<(), MachineError> {
        let handle = self.handle().map_err(failed("find the sandbox"))?;
        handle.ask(handle::Command::Pause).await.map_err(failed("pause the sandbox"))?;
        Ok(())
    }

    async fn resume(&self) -> Result<(), MachineError> {
        let handle = self.handle().map_err(failed("find the sandbox"))?;
        handle.ask(handle::Command::Resume).await.map_err(failed("resume the sandbox"))?;
        Ok(())
    }

    async fn stop(&self) -> Result<(), MachineError> {
        let handle = self.handle().map_err(failed("find the sandbox"))?;
        handle.ask(handle::Command::Stop).await.map_err(failed("stop the sandbox"))?;
        Ok(())
    }

    async fn execute(&self, command: Command) -> Result<Output, MachineError> {
        self.run(command).await.map_err(failed("run a command in the sandbox"))
    }

    async fn read_file(&self, path: &str) -> Result<Vec<u8>, MachineError> {
        let operation = format!("read {path}");
        let handle = self.handle().map_err(failed(&operation))?;
        let opened = handle.guest().read_file(None, path, None).await;
        let opened = opened.map_err(|error| handle.explain(error));
        let contents = opened.map_err(failed(&operation))?;
        let read = contents.try_fold(Vec::new(), async |mut all: Vec<u8>, piece| {
            all.extend_from_slice(&piece);
            match all.len() <= MOST_BYTES {
                true => Ok(all),
                false => Err(std::io::Error::other("the file is larger than 64 MiB")),
            }
        });
        read.await.map_err(|error| MachineError::failed(operation, error))
    }

    async fn write_file(&self, path: &str, content: &[u8]) -> Result<(), MachineError> {
        let operation = format!("write {path}");
        let handle = self.handle().map_err(failed(&operation))?;
        let bytes = bytes::Bytes::copy_from_slice(content);
        let contents = Box::pin(futures::stream::once(async move { Ok(bytes) }));
        let length = Some(content.len() as u64);
        let upload = crate::sandboxes::Upload { contents, length, mode: None };
        let written = handle.guest().write_file(None, path, upload).await;
        let written = written.map_err(|error| handle.explain(error));
        written.map(drop).map_err(failed(&operation))
    }

    async fn list_files(&self, path: &str) -> Result<Vec<String>, MachineError> {
        let operation = format!("list {path}");
        let handle = self.handle().map_err(failed(&operation))?;
        let listed = handle.guest().list_directory(None, path, 1).await;
        let listed = listed.map_err(|error| handle.explain(error));
        let listed = listed.map_err(failed(&operation))?;
        Ok(listed.into_iter().map(|file| file.name).collect())
    }
}

impl SandboxMachine {
    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }
}
