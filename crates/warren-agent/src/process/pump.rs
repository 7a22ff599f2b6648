//! Reading what a process writes.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex};

use hyper::body::Bytes;
use tokio::io::unix::AsyncFd;

use super::record::Process;
use super::spool::Source;
use crate::daemon::Agent;
use crate::daemon::state::lock;

/// The largest chunk of a pipe, bytes.
const PIPE_CHUNK: usize = 32 << 10;
/// The largest chunk of a terminal, bytes.
const TERMINAL_CHUNK: usize = 16 << 10;
/// Chunks taken of what is left after a kill: more than any pipe holds.
const DRAIN_CHUNKS: usize = 40;
/// How long the rest of a terminal's output may take after its process has ended: the kernel hands
/// it over by a worker of its own, and other processes may hold the terminal open for ever.
const TERMINAL_GRACE: std::time::Duration = std::time::Duration::from_millis(500);

/// Where a process's output can be read.
#[derive(Debug)]
pub(crate) enum Outputs {
    Pipes { stdout: AsyncFd<File>, stderr: AsyncFd<File> },
    Terminal(Arc<AsyncFd<File>>),
}

/// One read at a time runs on this thread, so one buffer serves every process.
static SCRATCH: Mutex<[u8; PIPE_CHUNK]> = Mutex::new([0; PIPE_CHUNK]);

/// Reads until the process has ended and its output too, and tells everybody.
pub(crate) async fn run(agent: Arc<Agent>, process: Arc<Process>, outputs: Outputs) {
    match &outputs {
        Outputs::Terminal(terminal) => read_terminal(&process, terminal).await,
        Outputs::Pipes { stdout, stderr } => read_pipes(&process, stdout, stderr).await,
    }
    drop(outputs); // a descendant that writes on gets SIGPIPE, not a full pipe
    let exit = process.wait().await;
    agent.processes.ended(&agent, &process);
    process.publish_end(exit).await;
}

// Chunks are published one after the other, so that every subscriber has them in order, and never
// inside of `select!`, which would drop one that waits for a slow reader.

async fn read_pipes(process: &Process, stdout: &AsyncFd<File>, stderr: &AsyncFd<File>) {
    let (mut stdout_open, mut stderr_open) = (true, true);
    while stdout_open || stderr_open {
        let (source, chunk) = tokio::select! {
            chunk = next_chunk(stdout, Source::Stdout), if stdout_open => (Source::Stdout, chunk),
            chunk = next_chunk(stderr, Source::Stderr), if stderr_open => (Source::Stderr, chunk),
            () = process.wait_cut() => {
                drain(process, stdout, Source::Stdout).await;
                return drain(process, stderr, Source::Stderr).await;
            }
        };
        match chunk {
            Some(bytes) => process.publish(source, bytes).await,
            None if source == Source::Stdout => stdout_open = false,
            None => stderr_open = false,
        }
    }
}

async fn read_terminal(process: &Process, terminal: &AsyncFd<File>) {
    loop {
        let chunk = tokio::select! {
            chunk = next_chunk(terminal, Source::Terminal) => chunk,
            () = terminal_is_left(process) => {
                return drain(process, terminal, Source::Terminal).await;
            }
        };
        let Some(bytes) = chunk else { return };
        process.publish(Source::Terminal, bytes).await;
    }
}

/// A terminal's end does not wait for ever for those that a shell left running.
async fn terminal_is_left(process: &Process) {
    process.wait().await;
    tokio::time::sleep(TERMINAL_GRACE).await;
}

/// Takes what is there without waiting for more.
async fn drain(process: &Process, file: &AsyncFd<File>, source: Source) {
    for _ in 0..DRAIN_CHUNKS {
        let Ok(Some(bytes)) = read_chunk(file.get_ref(), source) else { return };
        process.publish(source, bytes).await;
    }
}

/// The next chunk, or `None` at the end.
async fn next_chunk(file: &AsyncFd<File>, source: Source) -> Option<Bytes> {
    loop {
        let mut ready = file.readable().await.ok()?;
        match ready.try_io(|file| read_chunk(file.get_ref(), source)) {
            Ok(Ok(chunk)) => return chunk,
            // A terminal whose other end is closed answers EIO.
            Ok(Err(_)) => return None,
            Err(_would_block) => {}
        }
    }
}

/// The next chunk, or `None` at the end.
fn read_chunk(mut file: &File, source: Source) -> io::Result<Option<Bytes>> {
    let limit = if source == Source::Terminal { TERMINAL_CHUNK } else { PIPE_CHUNK };
    let mut scratch = lock(&SCRATCH);
    let buffer = scratch.get_mut(..limit).unwrap_or_default();
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(None),
            Ok(length) => {
                return Ok(buffer.get(..length).map(Bytes::copy_from_slice));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
