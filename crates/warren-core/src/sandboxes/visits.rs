//! What the edge may do with a sandbox: look at it, wake it, and dial its ports.
//!
//! It is the one way to a sandbox without a [`Caller`]: who comes to the edge is nobody's caller.
//! Whether a visitor is let in is the edge's to decide before it asks for anything here.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Sandboxes;
use crate::{
    caller::Caller,
    error::SandboxError,
    exposure::ExposureChange,
    id::SandboxId,
    runtime::{Duplex, Listen, Runtime, RuntimeError, Service},
    sandbox::{
        EndReason, Sandbox,
        handle::{Command, Handle},
    },
    shared::Shared,
    state::State,
};

/// A sandbox as the edge sees it.
#[derive(Clone, Debug)]
pub struct Visit {
    handle: Arc<Handle>,
    runtime: Arc<dyn Runtime>,
    /// A connection may last, and must not keep a server from ending.
    shared: Weak<Shared>,
    stop: CancellationToken,
    background: TaskTracker,
}

impl Sandboxes {
    /// The sandbox with this id, for a visitor whose right to it the edge has yet to look at. One
    /// that is nobody's is not there.
    #[must_use]
    pub fn visit(&self, id: SandboxId) -> Option<Visit> {
        let handle = self.shared.any(id)?;
        if handle.sandbox().owner.as_str().is_empty() {
            return None;
        }
        Some(self.visit_to(handle))
    }

    fn visit_to(&self, handle: Arc<Handle>) -> Visit {
        Visit {
            handle,
            runtime: Arc::clone(&self.shared.runtime),
            shared: Arc::downgrade(&self.shared),
            stop: self.stop.clone(),
            background: self.background.clone(),
        }
    }

    /// Starts a stopped sandbox for a visitor, to the end also when the visitor goes: it is not to
    /// run without what its requests are given.
    async fn boot(&self, handle: &Arc<Handle>) -> Result<(), SandboxError> {
        let (this, handle) = (self.clone(), Arc::clone(handle));
        self.to_the_end(async move {
            let owner = Caller::remote(handle.sandbox().owner.clone());
            match this.start_by(&owner, &handle, Command::Boot).await {
                // It runs, and what it starts is its owner's to look at.
                Ok(_) | Err(SandboxError::NotReady { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// The first sandbox that `is_it` holds for, for a visitor who names none.
    #[must_use]
    pub fn find_visit(&self, is_it: impl Fn(&Sandbox) -> bool) -> Option<Visit> {
        let mut handles = self.shared.all().into_iter();
        let handle = handles.find(|handle| {
            let sandbox = handle.sandbox();
            !sandbox.owner.as_str().is_empty() && is_it(&sandbox)
        })?;
        Some(self.visit_to(handle))
    }

    /// Changes who reaches the ports of a sandbox from outside.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::Invalid`]; [`SandboxError::Ended`] where it has
    /// ended and left nothing.
    pub async fn expose(
        &self,
        caller: &Caller,
        id_or_name: &str,
        change: ExposureChange,
    ) -> Result<Arc<Sandbox>, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        handle.ask(|reply| Command::Expose(Box::new(change), reply)).await
    }
}

/// A port of a sandbox on which this server listens, for as long as the sandbox has a guest.
#[derive(Debug)]
pub struct Listening {
    handle: Arc<Handle>,
    listener: Box<dyn Listen>,
}

impl Sandboxes {
    /// Listens on a TCP port of a running sandbox's own loopback: what runs in it connects there to
    /// whatever the caller has behind it.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::NotRunning`], [`SandboxError::Unsupported`];
    /// [`SandboxError::InUse`] where something listens there already.
    pub async fn listen(
        &self,
        caller: &Caller,
        id_or_name: &str,
        port: u16,
    ) -> Result<Listening, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        handle.require_running()?;
        let listener = self.shared.runtime.listen(&handle.id(), port).await;
        let listener = listener.map_err(|error| match error {
            RuntimeError::Unsupported { operation } => SandboxError::Unsupported { operation },
            error => {
                tracing::debug!(sandbox.id = %handle.id(), port, %error, "no listener inside");
                let (what, reason) = ("port", "is taken in the sandbox".to_owned());
                SandboxError::InUse { what, name: port.to_string(), reason }
            }
        })?;
        Ok(Listening { handle, listener })
    }
}

impl Listening {
    /// Which sandbox.
    #[must_use]
    pub fn id(&self) -> SandboxId {
        self.handle.id()
    }

    /// The next connection from inside; none when the sandbox has ended.
    pub async fn accept(&mut self) -> Option<Box<dyn Duplex>> {
        let mut published = self.handle.watch();
        let ended = published.wait_for(|sandbox| !sandbox.state.has_guest());
        tokio::select! {
            accepted = self.listener.accept() => match accepted {
                Ok(stream) => Some(stream),
                Err(error) => {
                    tracing::warn!(sandbox.id = %self.handle.id(), %error, "listens no more");
                    None
                }
            },
            _ = ended => None,
        }
    }
}

impl Visit {
    /// The sandbox as it was published last.
    #[must_use]
    pub fn sandbox(&self) -> Arc<Sandbox> {
        self.handle.sandbox()
    }

    /// What is published of the sandbox from now on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Sandbox>> {
        self.handle.watch()
    }

    /// Returns when the sandbox has no guest any more: whatever leads to one is to be closed then.
    pub async fn gone(&self) {
        let mut published = self.handle.watch();
        // Where nobody publishes any more there is nothing left of it either.
        drop(published.wait_for(|sandbox| !sandbox.state.has_guest()).await);
    }

    /// Waits until the sandbox runs, and lets a paused one go on where `may_wake` says so.
    ///
    /// # Errors
    ///
    /// The state it is in where it does not run, and does not come to within `patience`.
    pub async fn ready(&self, may_wake: bool, patience: Duration) -> Result<(), State> {
        let state = self.handle.sandbox().state;
        match state {
            State::Running => return Ok(()),
            State::Paused | State::Pausing if !may_wake => return Err(state),
            State::Stopped if !may_wake || !self.may_boot() => return Err(state),
            State::Stopping | State::Failed | State::Parked => return Err(state),
            _ => {}
        }
        let woken = tokio::time::timeout(patience, self.come_to_run(may_wake)).await;
        woken.unwrap_or_else(|_elapsed| Err(self.handle.sandbox().state))
    }

    /// Whether a visitor has a stopped sandbox start again: one of E2B's clients that visitors wake,
    /// and that would be paused with its memory if that could have been kept. Of one that was paused
    /// without it, its owner alone decides when it boots.
    fn may_boot(&self) -> bool {
        let sandbox = self.handle.sandbox();
        let lost = sandbox.end.as_ref().is_some_and(|end| end.reason == EndReason::Host);
        sandbox.kept
            && sandbox.exposure.wake
            && sandbox.exposure.e2b.is_some()
            && (lost || !self.runtime.capabilities().pause)
    }

    fn sandboxes(&self) -> Option<Sandboxes> {
        let (stop, background) = (self.stop.clone(), self.background.clone());
        Some(Sandboxes { shared: self.shared.upgrade()?, stop, background })
    }

    async fn come_to_run(&self, may_wake: bool) -> Result<(), State> {
        let mut published = self.handle.watch();
        loop {
            let state = published.borrow_and_update().state;
            match state {
                State::Running => return Ok(()),
                // Of many visitors one succeeds; the others find that it runs, or is about to.
                State::Paused if may_wake => match self.handle.ask(Command::Wake).await {
                    Ok(_) | Err(SandboxError::Refused(_)) => continue,
                    Err(error) => {
                        let cause = &error as &dyn std::error::Error;
                        tracing::warn!(sandbox.id = %self.handle.id(), error = cause, "not woken");
                        return Err(state);
                    }
                },
                State::Stopped if may_wake && self.may_boot() => {
                    let Some(all) = self.sandboxes() else { return Err(state) };
                    match all.boot(&self.handle).await {
                        Ok(()) | Err(SandboxError::Refused(_)) => continue,
                        Err(error) => {
                            let cause = &error as &dyn std::error::Error;
                            tracing::warn!(sandbox.id = %self.handle.id(), error = cause, "not woken");
                            return Err(state);
                        }
                    }
                }
                State::Creating | State::Starting | State::Pausing | State::Resuming => {}
                State::Paused
                | State::Stopping
                | State::Stopped
                | State::Failed
                | State::Parked => return Err(state),
            }
            if published.changed().await.is_err() {
                return Err(self.handle.sandbox().state);
            }
        }
    }

    /// Opens a byte stream to a TCP port on the loopback of a sandbox that runs.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotRunning`], [`SandboxError::Unsupported`]; [`SandboxError::PortClosed`]
    /// where nothing listens.
    pub async fn dial(&self, port: u16) -> Result<Box<dyn Duplex>, SandboxError> {
        dial(&self.handle, &*self.runtime, port).await
    }

    /// Opens a byte stream to the agent of a sandbox that runs, which speaks its own protocol
    /// there: commands and files, and nothing that is the host's alone.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotRunning`]; [`SandboxError::Unresponsive`] where the agent is not reached.
    pub async fn dial_agent(&self) -> Result<Box<dyn Duplex>, SandboxError> {
        self.handle.require_running()?;
        let id = self.handle.id();
        let dialled = self.runtime.connect(&id, Service::Envd).await;
        dialled.map_err(|error| SandboxError::Unresponsive { id, source: Box::new(error) })
    }
}

/// Opens a byte stream to a port of a sandbox that runs; a frozen one is never dialled.
pub(super) async fn dial(
    handle: &Handle,
    runtime: &dyn Runtime,
    port: u16,
) -> Result<Box<dyn Duplex>, SandboxError> {
    handle.require_running()?;
    runtime.dial(&handle.id(), port).await.map_err(|error| match error {
        RuntimeError::Unsupported { operation } => SandboxError::Unsupported { operation },
        // Whatever it is, it is between the guest and its port.
        error => {
            tracing::debug!(sandbox.id = %handle.id(), port, %error, "no stream to the port");
            SandboxError::PortClosed { port }
        }
    })
}
