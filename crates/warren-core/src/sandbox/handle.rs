//! The way to a sandbox for everybody but its driver.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot, watch,
};
use tokio_util::task::TaskTracker;

use super::{Extension, Made, Sandbox};
use crate::{
    error::SandboxError,
    exec::{Signal, no_such_exec},
    exposure::ExposureChange,
    guest::{Guest, GuestError},
    id::{ExecId, SandboxId, SnapshotId},
    runtime::{DeadlineAction, Exit, Haste, Runtime},
    sandbox::{
        birth::Claim,
        past::{Capture, Target},
    },
    spec::Network,
    state::State,
};

/// How many requests may wait for a driver.
const MAILBOX: usize = 32;

/// The count of processes killed for want of memory, where it has not been looked at yet.
const NOT_LOOKED_AT: u64 = u64::MAX;

/// How long a broken stream waits for the news that its sandbox ended.
const NEWS: Duration = Duration::from_millis(500);

pub(crate) type Reply<T> = oneshot::Sender<Result<T, SandboxError>>;

/// What a driver is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Give a parked sandbox to an owner.
    Claim(Box<Claim>),
    /// Freeze it.
    Pause(Reply<Arc<Sandbox>>),
    /// Let it go on.
    Resume(Reply<Arc<Sandbox>>),
    /// Let it go on because somebody came to one of its ports.
    Wake(Reply<Arc<Sandbox>>),
    /// End its processes and keep its files.
    Stop(Reply<Arc<Sandbox>>),
    /// Make a guest on the files that were kept.
    Start(Reply<Made>),
    /// The same because somebody came to one of its ports.
    Boot(Reply<Made>),
    /// Give it another lifetime from now on.
    Extend(Extension, Reply<Arc<Sandbox>>),
    /// Do something else at the end of its lifetime.
    AtDeadline(DeadlineAction, Reply<Arc<Sandbox>>),
    /// Change what it may reach.
    SetNetwork(Network, Reply<Arc<Sandbox>>),
    /// Add variables to those of its commands, where they do not set them.
    Equip(BTreeMap<String, String>, Reply<()>),
    /// Let others reach its ports, or nobody.
    Expose(Box<ExposureChange>, Reply<Arc<Sandbox>>),
    /// Save its files as they are.
    Capture(SnapshotId, Haste, Reply<Capture>),
    /// Go back to what was saved.
    RollBack(Box<Target>, Reply<Made>),
    /// Its place in the tree of snapshots is another one from now on, where it is `from`, or
    /// wherever it is where there is none.
    Move { from: Option<SnapshotId>, to: Option<SnapshotId> },
    /// Make the files of a sandbox that is nobody's a layer, and forget it.
    Convert(SnapshotId, Reply<()>),
    /// Tell the runtime again what happens at the end of its lifetime.
    Retell(Reply<()>),
    /// Its work is saved: act on the end of its lifetime.
    Due,
    /// Remove it and forget it.
    Delete(Reply<()>),
    /// The runtime says that it ended.
    Exited(Exit),
}

/// One sandbox: what is published of it, its mailbox, and its agent.
#[derive(Debug)]
pub(crate) struct Handle {
    id: SandboxId,
    mailbox: mpsc::Sender<Command>,
    published: watch::Receiver<Arc<Sandbox>>,
    guest: Arc<Guest>,
    runtime: Arc<dyn Runtime>,
    /// The highest count of processes killed for want of memory that was seen so far.
    oom_kills: AtomicU64,
}

/// The driver's ends of what a handle holds.
#[derive(Debug)]
pub(crate) struct DriverEnds {
    pub(crate) mailbox: mpsc::Receiver<Command>,
    pub(crate) published: watch::Sender<Arc<Sandbox>>,
    pub(crate) guest: Arc<Guest>,
}

impl Handle {
    pub(crate) fn new(sandbox: Sandbox, runtime: Arc<dyn Runtime>) -> (Arc<Self>, DriverEnds) {
        let id = sandbox.id;
        let (sender, receiver) = mpsc::channel(MAILBOX);
        let (publisher, published) = watch::channel(Arc::new(sandbox));
        let guest = Arc::new(Guest::new(id, Arc::clone(&runtime)));
        let handle = Self {
            id,
            mailbox: sender,
            published,
            guest: Arc::clone(&guest),
            runtime,
            oom_kills: AtomicU64::new(0),
        };
        (Arc::new(handle), DriverEnds { mailbox: receiver, published: publisher, guest })
    }

    pub(crate) fn id(&self) -> SandboxId {
        self.id
    }

    /// What was published last.
    pub(crate) fn sandbox(&self) -> Arc<Sandbox> {
        Arc::clone(&self.published.borrow())
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Sandbox>> {
        self.published.clone()
    }

    pub(crate) fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Fails unless the sandbox runs.
    pub(crate) fn require_running(&self) -> Result<(), SandboxError> {
        match self.published.borrow().state {
            State::Running => Ok(()),
            state => Err(SandboxError::NotRunning { id: self.id, state }),
        }
    }

    /// Asks the driver for something and waits. Dropping the future stops the waiting alone.
    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, SandboxError> {
        let (reply, answer) = oneshot::channel();
        if self.mailbox.send(command(reply)).await.is_err() {
            return Err(self.gone());
        }
        answer.await.unwrap_or_else(|_dropped| Err(self.gone()))
    }

    /// Passes the runtime's news on, without waiting for a driver that is busy. One that is gone
    /// needs none.
    pub(crate) fn tell_exit(&self, exit: Exit, tasks: &TaskTracker) {
        self.tell(Command::Exited(exit), tasks);
    }

    /// Passes on what nobody waits for.
    pub(crate) fn tell(&self, command: Command, tasks: &TaskTracker) {
        if let Err(TrySendError::Full(news)) = self.mailbox.try_send(command) {
            let mailbox = self.mailbox.clone();
            tasks.spawn(async move { mailbox.send(news).await.ok() });
        }
    }

    pub(crate) async fn signal(&self, exec: ExecId, signal: Signal) -> Result<(), SandboxError> {
        let sent = self.guest.send_signal(exec, signal.number(), signal == Signal::KILL).await;
        sent.map_err(|error| no_such_exec(self.explain(error), exec))
    }

    /// What a failed call to the agent means, given what is known of the sandbox.
    pub(crate) fn explain(&self, error: GuestError) -> SandboxError {
        match (error, self.require_running()) {
            (error @ GuestError::Refused(_), _) | (error, Ok(())) => error.for_caller(self.id),
            (_, Err(not_running)) => self.ended().unwrap_or(not_running),
        }
    }

    /// What a stream that broke means. The news that the sandbox ended may still be on the way.
    pub(crate) async fn explain_break(&self, error: GuestError) -> SandboxError {
        let broken =
            matches!(error, GuestError::Connect(_) | GuestError::Http(_) | GuestError::Missing(_));
        if broken {
            let mut published = self.published.clone();
            let stopped = published.wait_for(|sandbox| !sandbox.state.is_living());
            // No news in time: then the agent is at fault.
            tokio::time::timeout(NEWS, stopped).await.ok();
        }
        self.explain(error)
    }

    /// What a stream means that ended well and too early.
    pub(crate) fn explain_silence(&self) -> SandboxError {
        self.explain(GuestError::Missing("end event"))
    }

    /// Says that this server has not seen all of the guest's life.
    pub(crate) fn adopted(&self) {
        self.oom_kills.store(NOT_LOOKED_AT, Ordering::Relaxed);
    }

    /// How many processes were killed for want of memory up to now, as far as was seen.
    pub(crate) async fn oom_kills_before(&self) -> u64 {
        match self.oom_kills.load(Ordering::Relaxed) {
            NOT_LOOKED_AT => self.count_oom_kills().await.unwrap_or(NOT_LOOKED_AT),
            seen => seen,
        }
    }

    /// Whether processes were killed for want of memory since the count was `before`.
    pub(crate) async fn lost_memory(&self, before: u64) -> bool {
        self.count_oom_kills().await.is_some_and(|now| now > before)
    }

    async fn count_oom_kills(&self) -> Option<u64> {
        match self.runtime.usage(&self.id).await {
            Ok(usage) => {
                self.oom_kills.store(usage.oom_kills, Ordering::Relaxed);
                Some(usage.oom_kills)
            }
            Err(error) => {
                tracing::debug!(sandbox.id = %self.id, %error, "usage is not known");
                None
            }
        }
    }

    /// Why a driver does not answer: its sandbox ended.
    fn gone(&self) -> SandboxError {
        self.ended().unwrap_or(SandboxError::ShuttingDown)
    }

    fn ended(&self) -> Option<SandboxError> {
        let sandbox = self.published.borrow();
        let end = sandbox.end.as_ref()?;
        Some(SandboxError::Ended { id: self.id, message: end.message.clone() })
    }
}
