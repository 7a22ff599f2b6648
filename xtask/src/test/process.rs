//! Running one child to its end, with a limit, keeping what it says.

use std::{
    io::Read,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::shell;

/// How long output is waited for once the child is gone: something it started may hold the pipe.
const DRAIN: Duration = Duration::from_secs(5);

/// A child that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) success: bool,
    /// How it ended, for people.
    pub(super) how: String,
    pub(super) took: Duration,
}

/// Runs `command`; kills it when it takes longer than `limit`.
pub(super) fn run(command: &mut Command, limit: Duration) -> Result<Ended> {
    let start = Instant::now();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    let stdout = Collector::start(child.stdout.take());
    let stderr = Collector::start(child.stderr.take());
    let pid = child.id();
    let (send, ended) = mpsc::channel();
    thread::spawn(move || send.send(child.wait()));
    let (status, overdue) = match ended.recv_timeout(limit) {
        Ok(status) => (status, false),
        Err(_) => {
            // The waiter has not reaped it, so the number is still this child's.
            shell::run(shell::command("kill").args(["-KILL", &pid.to_string()]))?;
            (ended.recv().context("wait for a killed child")?, true)
        }
    };
    let status = status.context("wait for a child")?;
    let how = if overdue { format!("killed after {limit:?}") } else { status.to_string() };
    Ok(Ended {
        stdout: stdout.finish(),
        stderr: stderr.finish(),
        success: status.success(),
        how,
        took: start.elapsed(),
    })
}

/// Reads a pipe in the background.
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    done: mpsc::Receiver<()>,
}

impl Collector {
    fn start(pipe: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (send, done) = mpsc::channel();
        let shared = Arc::clone(&bytes);
        thread::spawn(move || {
            let mut block = [0; 16 * 1024];
            let Some(mut pipe) = pipe else { return };
            while let Ok(size @ 1..) = pipe.read(&mut block) {
                let read = block.get(..size).unwrap_or_default();
                shared.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(read);
            }
            drop(send);
        });
        Self { bytes, done }
    }

    fn finish(self) -> String {
        // Either the reader is done and has hung up, or something still holds the pipe.
        let _hung_up_or_late = self.done.recv_timeout(DRAIN);
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outputs_and_the_status_are_kept() {
        let mut command = shell::command("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let ended = run(&mut command, Duration::from_secs(60)).unwrap();
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!((ended.success, ended.how.as_str()), (false, "exit status: 3"));
    }

    #[test]
    fn a_child_that_hangs_is_killed() {
        let mut command = shell::command("sleep");
        let ended = run(command.arg("600"), Duration::from_millis(50)).unwrap();
        assert!(!ended.success && ended.how.starts_with("killed after"), "{}", ended.how);
    }
}
