//! A machine whose work is a branch.

mod bundle;
mod commit;
mod diff;
mod inspect;
mod integrate;
mod lifecycle;
mod push;
mod rescue;
mod run;
mod start;
mod turn;

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::task::TaskTracker;

use crate::{
    config::{Builder, Config, ConfigError},
    error::GitError,
    events::Event,
    git::Git,
    machine::{Machine, MachineState},
    name::BranchName,
};

pub use bundle::Bundle;
pub use commit::Commit;
pub use diff::Diff;
pub use inspect::{Branch, Logged, Status};
pub use integrate::Pull;
pub use lifecycle::{Forced, Saved};
pub use push::{Push, PushOutcome};
pub use run::{LogEntry, RunOptions};

use turn::{Nested, Turn};

/// A machine whose work is a branch of a repository.
///
/// Clones are the same machine. Every method may be called at any time, from any task: operations
/// wait for each other, in the order in which they were asked for; only [`GitMachine::run`] goes on
/// beside them. Who stops waiting for an operation does not stop it: it finishes by itself.
///
/// Operations of git wake a paused machine and pause it again, without hooks and events.
pub struct GitMachine<M: Machine> {
    inner: Arc<Inner<M>>,
    /// What a hook's handle has and others have not.
    nested: Option<Arc<Nested>>,
}

struct Inner<M: Machine> {
    machine: M,
    config: Config<M>,
    turn: Turn,
    shared: Mutex<Shared>,
    /// Operations under way: their callers may have left.
    tasks: TaskTracker,
}

#[derive(Default)]
struct Shared {
    env: BTreeMap<String, String>,
    logs: VecDeque<LogEntry>,
    /// Whether the machine runs only because an operation has woken it.
    woken: bool,
    /// The branch that is pushed to and pulled from.
    branch: Option<BranchName>,
}

impl<M: Machine> Clone for GitMachine<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), nested: self.nested.clone() }
    }
}

impl<M: Machine> std::fmt::Debug for GitMachine<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitMachine")
            .field("id", &self.id())
            .field("repository", &self.inner.config.repository)
            .field("session", &self.inner.config.session)
            .finish_non_exhaustive()
    }
}

impl<M: Machine> GitMachine<M> {
    /// Begins to say how a machine is to work with a repository, an address of `https`, `http` or
    /// `file` without a secret in it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Repository`] for any other address.
    pub fn builder(machine: M, repository: &str) -> Result<Builder<M>, ConfigError> {
        Builder::new(machine, repository)
    }

    pub(crate) fn new(machine: M, env: BTreeMap<String, String>, config: Config<M>) -> Self {
        let branch = config.session.clone();
        let shared = Shared { env, branch, ..Shared::default() };
        let inner = Inner {
            machine,
            config,
            turn: Turn::default(),
            shared: Mutex::new(shared),
            tasks: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner), nested: None }
    }

    /// The machine's id, once it was started.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.inner.machine.id()
    }

    /// What the machine does. One that an operation has woken for a moment is still paused.
    #[must_use]
    pub fn state(&self) -> MachineState {
        match self.inner.machine.state() {
            MachineState::Running if self.shared().woken => MachineState::Paused,
            state => state,
        }
    }

    /// Where the repository is inside the machine.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.inner.config.path
    }

    /// The branch that is pushed to and pulled from: the session's, else the one that was checked
    /// out at the start. `None` before the start, and where no branch was.
    #[must_use]
    pub fn branch(&self) -> Option<BranchName> {
        self.shared().branch.clone()
    }

    /// The machine itself.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.inner.machine
    }

    /// Waits until no operation is under way, also none whose caller has left.
    pub async fn settled(&self) {
        // A tracker says that it is empty only once it is closed; that refuses nothing.
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// The commit that is checked out, or `None` before the first one.
    ///
    /// # Errors
    ///
    /// [`GitError`] where the machine or git fails.
    pub async fn hash(&self) -> Result<Option<String>, GitError> {
        self.operate(|this| async move {
            this.awake("hash", async { this.git().resolve("HEAD^{commit}").await }).await
        })
        .await
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.inner.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The branch, where one is needed.
    fn needed_branch(&self) -> Result<BranchName, GitError> {
        self.branch().ok_or(GitError::NoBranch)
    }

    fn git(&self) -> Git<'_, M> {
        let config = &self.inner.config;
        Git {
            machine: &self.inner.machine,
            path: &config.path,
            repository: &config.repository,
            access: config.access.as_ref(),
            identity: &config.identity,
            timeout: config.git_timeout,
            deadline: None,
            partial: config.clone.blobless,
        }
    }

    fn emit(&self, event: &Event) {
        if let Some(listener) = &self.inner.config.on_event {
            let handle = Self { inner: Arc::clone(&self.inner), nested: None };
            // What a listener does wrong must not end half an operation.
            drop(catch_unwind(AssertUnwindSafe(|| listener(event, &handle))));
        }
    }
}
