//! Threads that may change their network namespace.
//!
//! A namespace is a property of a thread. A thread that entered one and could not come back would
//! do the next piece of work in a stranger's network; so such work has threads of its own, and
//! one that cannot return ends, and with it its queue. Threads are kept for the next piece of
//! work, because starting one costs more than what it does.

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

use warren_sys::netns;

use super::NetError;

/// How many idle threads are kept.
const KEPT: usize = 4;

type Job = Box<dyn FnOnce(BorrowedFd<'_>) + Send>;

/// The threads of one host namespace.
pub(super) struct Workers {
    home: Arc<OwnedFd>,
    idle: Mutex<Vec<Sender<Job>>>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Workers").field("home", &self.home).finish_non_exhaustive()
    }
}

impl Workers {
    /// Threads that start in, and return to, the namespace `home`.
    pub(super) fn new(home: OwnedFd) -> Self {
        Self { home: Arc::new(home), idle: Mutex::default() }
    }

    /// Runs `work` on a thread of its own, which may enter any network namespace in it.
    pub(super) fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(BorrowedFd<'_>) -> T + Send + 'static,
    ) -> Result<T, NetError> {
        let (answer, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |home| {
            let value = work(home);
            // The thread that asked waits below; if it is gone, so is the need for the value.
            let _nobody_waits = answer.send(value);
        });
        let worker = self.dispatch(job).map_err(NetError::host("start a thread"))?;
        let value = result.recv().map_err(|_ended| NetError::Worker { operation })?;
        self.give_back(worker);
        Ok(value)
    }

    /// Hands the job to an idle thread, or to a new one.
    fn dispatch(&self, mut job: Job) -> std::io::Result<Sender<Job>> {
        while let Some(worker) = self.take_idle() {
            match worker.send(job) {
                Ok(()) => return Ok(worker),
                Err(ended) => job = ended.0, // it could not return home
            }
        }
        let (worker, jobs) = mpsc::channel();
        let home = Arc::clone(&self.home);
        // Cannot fail: the other end is still here.
        let _queued = worker.send(job);
        thread::Builder::new().name("warren-netns".into()).spawn(move || work(&home, &jobs))?;
        Ok(worker)
    }

    fn take_idle(&self) -> Option<Sender<Job>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, worker: Sender<Job>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(worker);
        }
    }
}

/// Works until nobody can send any more, or until the way home is lost.
fn work(home: &OwnedFd, jobs: &Receiver<Job>) {
    // A thread starts in the namespace of the one that started it, whichever that is.
    while go_home(home) {
        let Ok(job) = jobs.recv() else { return };
        job(home.as_fd());
    }
}

fn go_home(home: &OwnedFd) -> bool {
    let returned = netns::enter(home.as_fd());
    if let Err(error) = &returned {
        tracing::error!(%error, "a thread cannot return to the host's network namespace");
    }
    returned.is_ok()
}
