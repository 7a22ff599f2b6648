//! What the edges call: every method takes a [`Caller`] and reaches that caller's sandboxes alone.
//!
//! Dropping the future of a method stops the waiting and not the work: the sandbox's driver
//! finishes or undoes what it began.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    caller::Caller,
    clock::{Clock, Timestamp},
    config::Config,
    error::SandboxError,
    events::{Draft, EventKind, EventStream},
    guest::GuestError,
    id::SandboxId,
    logs, memory, plan,
    pool::{self, Pool},
    ports, reap, reconcile,
    runtime::{Capabilities, DeadlineAction, Duplex, Port, Runtime, Usage},
    sandbox::{
        Extension, Made, Sandbox,
        handle::{Command, Handle, Reply},
    },
    shared::Shared,
    state::{Event, Refused, State},
    store::Store,
};

mod compare;
mod create;
pub(crate) mod credentials;
pub(crate) mod domains;
mod exec;
mod files;
pub(crate) mod git;
mod health;
mod images;
mod network;
pub(crate) mod rescues;
pub(crate) mod secrets;
mod snapshots;
mod transfer;
pub(crate) mod turns;
mod visits;
pub(crate) mod volumes;

pub use domains::{CertificateNews, NewDomain};
pub use files::{
    At, ChangeKind, Download, FileChange, FileInfo, FileKind, FileWatch, Matches, Range, Unpacked,
    Upload, Written,
};
pub use health::{Statistics, Unready};
pub use network::Learned;
pub use snapshots::{Forked, WantedFork, WantedSnapshot};
pub use transfer::Exported;
pub use visits::{Listening, Visit};
pub use volumes::{InVolume, NewVolume};

/// All sandboxes of this server. A clone is another handle to the same ones.
#[derive(Clone, Debug)]
pub struct Sandboxes {
    pub(crate) shared: Arc<Shared>,
    stop: CancellationToken,
    /// What runs in the background until [`Sandboxes::shut_down`].
    background: TaskTracker,
}

/// Which sandboxes to list; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// In any of these states; all that live or can be started again where empty.
    pub states: Vec<State>,
    /// With all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Of exactly this name.
    pub name: Option<String>,
    /// Behind this one in the order of the list.
    pub after: Option<(Timestamp, SandboxId)>,
    /// At most this many.
    pub limit: usize,
}

/// One page of a list, newest first.
#[derive(Clone, Debug)]
pub struct Page {
    /// The sandboxes.
    pub sandboxes: Vec<Arc<Sandbox>>,
    /// Whether there are more behind the last.
    pub more: bool,
}

impl Sandboxes {
    /// Opens the store's sandboxes on `runtime`: what lives is adopted, what ended meanwhile is
    /// noted, what is nobody's is removed. Then the pool fills in the background.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Store`] and [`SandboxError::Runtime`] when either cannot say what it has.
    pub async fn open(
        runtime: Arc<dyn Runtime>,
        store: Store,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Result<Self, SandboxError> {
        // Subscribed before the comparison, so that no exit falls between the two.
        let exits = runtime.events();
        let shared = Arc::new(Shared::new(runtime, store, clock, config));
        reconcile::reconcile(&shared).await?;
        credentials::tell_all(&shared).await;
        let stop = CancellationToken::new();
        let background = TaskTracker::new();
        let spawn = |task: futures::future::BoxFuture<'static, ()>| {
            let stop = stop.clone();
            background.spawn(async move { stop.run_until_cancelled(task).await });
        };
        spawn(Box::pin(reconcile::follow_exits(Arc::clone(&shared), exits)));
        spawn(Box::pin(reap::run(Arc::clone(&shared))));
        spawn(Box::pin(Pool::refill(Arc::clone(&shared))));
        spawn(Box::pin(snapshots::collect(Arc::clone(&shared))));
        spawn(Box::pin(ports::watch(Arc::clone(&shared))));
        spawn(Box::pin(credentials::renew_tokens(Arc::clone(&shared))));
        spawn(Box::pin(memory::watch(Arc::clone(&shared))));
        let known = shared.all().iter().map(|handle| handle.id()).collect();
        match shared.store.logs().retain(known).await {
            Ok(followed) => followed.into_iter().for_each(|followed| {
                spawn(Box::pin(logs::follow::resume(Arc::clone(&shared), followed)));
            }),
            Err(error) => tracing::error!(%error, "logs are not followed on"),
        }
        let sandboxes = Self { shared, stop, background };
        sandboxes.warm_up_templates().await;
        Ok(sandboxes)
    }

    /// Says when the server is told to end.
    pub(crate) fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// The caller's sandboxes that `filter` lets pass, newest first.
    #[must_use]
    pub fn list(&self, caller: &Caller, filter: &Filter) -> Page {
        let mut found: Vec<_> = self
            .shared
            .all()
            .into_iter()
            .map(|handle| handle.sandbox())
            .filter(|sandbox| sandbox.owner == *caller.owner() && filter.passes(sandbox))
            .collect();
        found.sort_unstable_by_key(|sandbox| std::cmp::Reverse((sandbox.created_at, sandbox.id)));
        let more = found.len() > filter.limit;
        found.truncate(filter.limit);
        Page { sandboxes: found, more }
    }

    /// The caller's sandbox with this id or name.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`].
    pub fn get(&self, caller: &Caller, id_or_name: &str) -> Result<Arc<Sandbox>, SandboxError> {
        Ok(self.find(caller, id_or_name)?.sandbox())
    }

    /// Freezes a running sandbox; its memory is kept, its lifetime stands still.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::Refused`], [`SandboxError::Unsupported`].
    pub async fn pause(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<Arc<Sandbox>, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        if !self.shared.runtime.capabilities().pause {
            return Err(SandboxError::Unsupported { operation: "pause" });
        }
        if handle.sandbox().state == State::Running
            && let Some(session) = self.saving(&handle)
        {
            self.pause_session(&session).await?;
            return Ok(handle.sandbox());
        }
        handle.ask(Command::Pause).await
    }

    /// Lets a paused sandbox go on; its lifetime starts anew.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::Refused`].
    pub async fn resume(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<Arc<Sandbox>, SandboxError> {
        self.find(caller, id_or_name)?.ask(Command::Resume).await
    }

    /// Ends a sandbox's processes and keeps its files, so that it can be started again. It takes no
    /// memory then and counts for no quota; its name stays its own.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::Refused`], [`SandboxError::Unsupported`].
    pub async fn stop(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<Arc<Sandbox>, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        if !self.shared.runtime.capabilities().stop {
            return Err(SandboxError::Unsupported { operation: "stop and keep the files" });
        }
        if matches!(handle.sandbox().state, State::Running | State::Paused)
            && let Some(session) = self.saving(&handle)
        {
            self.stop_session(&session).await?;
            return Ok(handle.sandbox());
        }
        match handle.ask(Command::Stop).await {
            // It had ended, and nothing of it is left to be stopped.
            Err(SandboxError::Ended { .. }) => {
                let from = handle.sandbox().state;
                Err(Refused { from, event: Event::Stop }.into())
            }
            other => other,
        }
    }

    /// Makes a stopped sandbox run again, on its files; its lifetime starts anew.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`]; [`SandboxError::Refused`] where it is not stopped, or its files
    /// were not kept; [`SandboxError::Limit`], and why the runtime or the guest failed. Its files
    /// are still there then. [`SandboxError::NotReady`] where what is started in it did not become
    /// ready: the sandbox runs all the same.
    pub async fn start(&self, caller: &Caller, id_or_name: &str) -> Result<Made, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        self.start_by(caller, &handle, Command::Start).await
    }

    async fn start_by(
        &self,
        caller: &Caller,
        handle: &Arc<Handle>,
        command: impl FnOnce(Reply<Made>) -> Command,
    ) -> Result<Made, SandboxError> {
        let _creating = self.shared.creating();
        match handle.ask(command).await {
            Ok(made) => {
                // Its guest is another one, whose losses are counted anew.
                handle.adopted();
                self.renew_credentials(caller, handle.id()).await?;
                self.go_on_with_git(handle.id()).await;
                self.begin(handle, made, false).await
            }
            Err(SandboxError::Ended { .. }) => {
                let from = handle.sandbox().state;
                Err(Refused { from, event: Event::Start }.into())
            }
            other => other,
        }
    }

    /// Gives a sandbox another lifetime, from now on, or from when it goes on; zero for no limit.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::Refused`]; [`SandboxError::Invalid`] for more
    /// than the server allows.
    pub async fn extend(
        &self,
        caller: &Caller,
        id_or_name: &str,
        length: Duration,
    ) -> Result<Arc<Sandbox>, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        let length = plan::lifetime(Some(length), &self.shared.config.defaults)?;
        Self::lengthen(&handle, Extension::To(length)).await
    }

    /// Lets a sandbox end after `left`, at once where nothing is left; with `only_longer` what is
    /// longer already stays as it is. One that is paused or stopped has so long when it goes on.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::extend`].
    pub async fn set_time_left(
        &self,
        caller: &Caller,
        id_or_name: &str,
        left: Duration,
        only_longer: bool,
    ) -> Result<Arc<Sandbox>, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        if !left.is_zero() {
            plan::lifetime(Some(left), &self.shared.config.defaults)?;
        }
        let extension = match only_longer {
            true => Extension::AtLeast(left),
            false => Extension::To(Some(left)),
        };
        Self::lengthen(&handle, extension).await
    }

    /// Has something else happen at the end of a sandbox's lifetime.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::Refused`].
    pub async fn set_on_deadline(
        &self,
        caller: &Caller,
        id_or_name: &str,
        action: DeadlineAction,
    ) -> Result<Arc<Sandbox>, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        match handle.ask(|reply| Command::AtDeadline(action, reply)).await {
            Err(SandboxError::Ended { .. }) => {
                let from = handle.sandbox().state;
                Err(Refused { from, event: Event::Extend }.into())
            }
            other => other,
        }
    }

    /// Asks the agent of a running sandbox for something small, to see whether it answers.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::NotRunning`]; [`SandboxError::Unresponsive`]
    /// where it does not answer within `patience`.
    pub async fn check_agent(
        &self,
        caller: &Caller,
        id_or_name: &str,
        patience: Duration,
    ) -> Result<(), SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        handle.require_running()?;
        let answered = tokio::time::timeout(patience, handle.guest().processes()).await;
        match answered.unwrap_or(Err(GuestError::Late(patience))) {
            // A refusal is an answer too.
            Ok(_) | Err(GuestError::Refused(_)) => Ok(()),
            Err(error) => Err(handle.explain(error)),
        }
    }

    async fn lengthen(handle: &Handle, extension: Extension) -> Result<Arc<Sandbox>, SandboxError> {
        match handle.ask(|reply| Command::Extend(extension, reply)).await {
            Err(SandboxError::Ended { .. }) => {
                let from = handle.sandbox().state;
                Err(Refused { from, event: Event::Extend }.into())
            }
            other => other,
        }
    }

    /// What a sandbox uses now.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::NotRunning`] where it has no guest,
    /// [`SandboxError::Unsupported`].
    pub async fn usage(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<(Arc<Sandbox>, Usage), SandboxError> {
        let handle = self.find_with_guest(caller, id_or_name)?;
        let usage = self.shared.runtime.usage(&handle.id()).await;
        let usage = usage.map_err(SandboxError::runtime("measure the sandbox"))?;
        Ok((handle.sandbox(), usage))
    }

    /// The TCP ports on which something in a sandbox listens, in order.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::usage`].
    pub async fn ports(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<Vec<Port>, SandboxError> {
        let handle = self.find_with_guest(caller, id_or_name)?;
        let ports = self.shared.runtime.ports(&handle.id()).await;
        ports.map_err(SandboxError::runtime("list the ports of the sandbox"))
    }

    /// Opens a byte stream to a TCP port on a running sandbox's own loopback.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::NotRunning`], [`SandboxError::Unsupported`];
    /// [`SandboxError::PortClosed`] where nothing listens.
    pub async fn dial(
        &self,
        caller: &Caller,
        id_or_name: &str,
        port: u16,
    ) -> Result<Box<dyn Duplex>, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        visits::dial(&handle, &*self.shared.runtime, port).await
    }

    fn find_with_guest(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<Arc<Handle>, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        let state = handle.sandbox().state;
        match state {
            State::Running | State::Pausing | State::Paused | State::Resuming => Ok(handle),
            _ => Err(SandboxError::NotRunning { id: handle.id(), state }),
        }
    }

    /// Removes a sandbox, whatever it is doing, and forgets it. Work in the repository of a session
    /// of git goes to its remote first, or to a bundle where that does not answer.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], also when somebody else removed it first.
    pub async fn delete(&self, caller: &Caller, id_or_name: &str) -> Result<(), SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        let Some(session) = self.saving(&handle) else {
            return self.delete_now(&handle, id_or_name).await;
        };
        let (this, caller, name) = (self.clone(), caller.clone(), id_or_name.to_owned());
        // Whoever asked may not wait as long as this takes.
        self.to_the_end(async move {
            this.save_before_removal(&caller, &session).await;
            this.delete_now(&handle, &name).await
        })
        .await
    }

    async fn delete_now(&self, handle: &Arc<Handle>, id_or_name: &str) -> Result<(), SandboxError> {
        self.drop_credentials(handle.id()).await;
        self.forget_git(handle.id()).await;
        let sandbox = handle.sandbox();
        if sandbox.state.is_living() || sandbox.kept {
            match handle.ask(Command::Delete).await {
                // It ended by itself before its driver came to this.
                Err(SandboxError::Ended { .. }) if self.shared.any(handle.id()).is_some() => {}
                Err(SandboxError::Ended { .. }) => return Err(SandboxError::not_found(id_or_name)),
                other => return other,
            }
        }
        self.delete_ended(handle).await
    }

    /// What happens to the caller's sandboxes from event `after` on, or from now on.
    #[must_use]
    pub fn events(
        &self,
        caller: &Caller,
        sandbox: Option<SandboxId>,
        after: Option<u64>,
    ) -> EventStream {
        let following = self.shared.followers.follow(caller.owner(), sandbox);
        EventStream::open(self.shared.store.clone(), caller, sandbox, after).with(following)
    }

    /// The time on the clock that sandboxes live by.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// The runtime's name and what it can do here.
    #[must_use]
    pub fn runtime(&self) -> (&'static str, Capabilities) {
        (self.shared.runtime.name(), self.shared.runtime.capabilities())
    }

    /// How many sandboxes live; parked ones do not count.
    #[must_use]
    pub fn living(&self) -> usize {
        self.shared.living() as usize
    }

    /// How many sandboxes wait in the warm pool.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.shared.pool.parked()
    }

    /// Ends what this server does and leaves its sandboxes alone: they live on, and the next
    /// server finds them. Parked ones are removed. Everything is written when this returns.
    ///
    /// What running sandboxes with sessions of git have is committed and pushed first, as far as
    /// that takes seconds.
    pub async fn shut_down(&self) {
        self.save_all().await;
        self.stop.cancel();
        self.background.close();
        self.background.wait().await;
        futures::future::join_all(self.shared.pool.close().iter().map(|it| pool::remove(it))).await;
        self.shared.close();
        if let Err(error) = self.shared.store.flush().await {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(error = cause, "the last changes are not stored: {error}");
        }
    }

    /// Runs something until it or the server ends.
    fn in_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.background.spawn(async move { stop.run_until_cancelled(task).await });
    }

    pub(crate) fn find(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<Arc<Handle>, SandboxError> {
        self.shared.find(caller, id_or_name)
    }

    async fn delete_ended(&self, handle: &Handle) -> Result<(), SandboxError> {
        let sandbox = handle.sandbox();
        if sandbox.state == State::Failed {
            // Perhaps something of it could not be removed before.
            let destroyed = self.shared.runtime.destroy(&sandbox.id).await;
            destroyed.map_err(SandboxError::runtime("remove the sandbox"))?;
        }
        self.shared.unregister(sandbox.id);
        let deleted = Draft {
            time: self.shared.clock.now(),
            kind: EventKind::Deleted,
            owner: sandbox.owner.clone(),
            sandbox: sandbox.id,
            detail: BTreeMap::new(),
        };
        if let Err(error) = self.shared.store.delete(sandbox.id, vec![deleted]).await {
            tracing::warn!(sandbox.id = %sandbox.id, %error, "removed, its row is not yet");
        }
        Ok(())
    }
}

impl Filter {
    fn passes(&self, sandbox: &Sandbox) -> bool {
        let state = match self.states.is_empty() {
            true => sandbox.state.is_living() || sandbox.kept,
            false => self.states.contains(&sandbox.state),
        };
        state
            && self.name.as_ref().is_none_or(|name| sandbox.name.as_ref() == Some(name))
            && self.labels.iter().all(|(key, value)| sandbox.labels.get(key) == Some(value))
            && self.after.is_none_or(|after| (sandbox.created_at, sandbox.id) < after)
    }
}
