//! Work that may block: opening files, starting programs, walking directories.
//!
//! Threads are few and bounded, so that a path which never answers (a dead network mount, a
//! userspace filesystem that hangs) takes one of them and not the daemon. Work on files may take
//! no more than [`FILE_WORK`] of them: programs can be started when all of those hang.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use warren_proto::{Code, Status};

/// Threads at most.
pub(crate) const THREADS: usize = 32;
/// How long an idle thread stays.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Stack of a thread, bytes: directory walks do not recurse.
pub(crate) const STACK_BYTES: usize = 256 << 10;
/// Threads that may be busy with files at once.
const FILE_WORK: usize = 24;
/// How long a request waits for one of them.
const PATIENCE: Duration = Duration::from_secs(30);

/// Hands out the threads.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    files: Arc<Semaphore>,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self { files: Arc::new(Semaphore::new(FILE_WORK)) }
    }

    /// One that runs nothing.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn that_refuses() -> Self {
        let pool = Self::new();
        pool.files.close();
        pool
    }

    /// Runs work on files on a thread of its own.
    pub(crate) async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let permit = Arc::clone(&self.files).acquire_owned();
        let permit = match tokio::time::timeout(PATIENCE, permit).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => {
                return Err(Status::new(Code::Unavailable, "too many paths do not answer"));
            }
        };
        run(move || {
            let result = work();
            drop(permit); // held by the thread, not by the request, which may be gone
            result
        })
        .await
    }

    /// Runs work that starts programs.
    pub(crate) async fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        if self.files.is_closed() {
            return Err(Status::new(Code::Unavailable, "nothing is started here"));
        }
        run(work).await
    }
}

async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Status::new(Code::Internal, io::Error::from(error).to_string())),
    }
}
