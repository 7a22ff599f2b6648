//! Writing to a process.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;
use warren_proto::process::ProcessInput;
use warren_proto::process::process_input::Input as Bytes;
use warren_proto::{Code, Status};

/// A process's input. Writers take turns, each with all of its bytes.
#[derive(Debug)]
pub(crate) enum Input {
    /// There is none: it reads the null device.
    None,
    /// A pipe; `None` once closed.
    Pipe(Mutex<Option<AsyncFd<File>>>),
    /// Keystrokes of a terminal.
    Terminal(Mutex<Arc<AsyncFd<File>>>),
}

impl Input {
    /// Writes all bytes, and waits as long as the process does not read them.
    ///
    /// # Errors
    ///
    /// `failed_precondition` when there is no such input, it was closed, or nobody reads any more.
    pub(crate) async fn write(&self, input: ProcessInput) -> Result<(), Status> {
        match (self, input.input) {
            (_, None) => Err(Status::new(Code::InvalidArgument, "input is missing")),
            (Self::None, Some(_)) => Err(refused("the process was started without an input")),
            (Self::Pipe(pipe), Some(Bytes::Stdin(bytes))) => {
                let pipe = pipe.lock().await;
                let pipe = pipe.as_ref().ok_or_else(|| refused("the input was closed"))?;
                write_all(pipe, &bytes).await
            }
            (Self::Terminal(terminal), Some(Bytes::Pty(bytes))) => {
                write_all(&*terminal.lock().await, &bytes).await
            }
            (Self::Pipe(_), Some(Bytes::Pty(_))) => Err(refused("the process has no terminal")),
            (Self::Terminal(_), Some(Bytes::Stdin(_))) => {
                Err(refused("the process has a terminal: send its input as pty"))
            }
        }
    }

    /// Closes a pipe; a second time is fine.
    ///
    /// # Errors
    ///
    /// `failed_precondition` for a terminal, whose end of input is a keystroke, and where there is
    /// no input.
    pub(crate) async fn close(&self) -> Result<(), Status> {
        match self {
            Self::None => Err(refused("the process was started without an input")),
            Self::Terminal(_) => Err(refused("a terminal has no input to close: send ^D")),
            Self::Pipe(pipe) => {
                *pipe.lock().await = None;
                Ok(())
            }
        }
    }
}

fn refused(message: &str) -> Status {
    Status::new(Code::FailedPrecondition, message)
}

async fn write_all(file: &AsyncFd<File>, mut bytes: &[u8]) -> Result<(), Status> {
    while !bytes.is_empty() {
        let mut ready = file.writable().await.map_err(unwritable)?;
        match ready.try_io(|file| file.get_ref().write(bytes)) {
            Ok(Ok(written)) => bytes = bytes.get(written..).unwrap_or_default(),
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(unwritable(error)),
            Err(_would_block) => {}
        }
    }
    Ok(())
}

fn unwritable(error: io::Error) -> Status {
    Status::new(Code::FailedPrecondition, format!("the process does not read its input: {error}"))
}
