//! Who may work with the machine now.
//!
//! Operations take turns. A hook runs within the turn of the operation that calls it, so its handle
//! has turns of its own, which end with the hook; from then on that handle waits like every other.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::GitMachine;
use crate::{
    config::Hook,
    error::GitError,
    machine::{Machine, MachineState},
};

/// One operation at a time, the first that asked first.
pub(super) type Turn = Arc<Mutex<()>>;

/// The turns within a hook.
#[derive(Default)]
pub(super) struct Nested {
    turn: Turn,
    over: AtomicBool,
}

impl<M: Machine> GitMachine<M> {
    /// Runs an operation when it is its turn, to its end, whoever waits for it.
    pub(super) async fn operate<T, F, R>(&self, operation: F) -> Result<T, GitError>
    where
        T: Send + 'static,
        F: FnOnce(Self) -> R + Send + 'static,
        R: Future<Output = Result<T, GitError>> + Send + 'static,
    {
        let this = self.clone();
        let task = self.inner.tasks.spawn(async move {
            let _turn = this.turn().await;
            operation(this.clone()).await
        });
        match task.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => Err(GitError::Ended),
            },
        }
    }

    /// The same, for what a hook must not ask for.
    pub(super) async fn live<T, F, R>(
        &self,
        name: &'static str,
        operation: F,
    ) -> Result<T, GitError>
    where
        T: Send + 'static,
        F: FnOnce(Self) -> R + Send + 'static,
        R: Future<Output = Result<T, GitError>> + Send + 'static,
    {
        if self.nested.as_ref().is_some_and(|nested| !nested.over.load(Ordering::Acquire)) {
            return Err(GitError::InHook(name));
        }
        self.operate(operation).await
    }

    async fn turn(&self) -> OwnedMutexGuard<()> {
        if let Some(nested) = &self.nested {
            let turn = Arc::clone(&nested.turn).lock_owned().await;
            if !nested.over.load(Ordering::Acquire) {
                return turn;
            }
        }
        Arc::clone(&self.inner.turn).lock_owned().await
    }

    /// Runs a hook, and waits for what it has left under way.
    pub(super) async fn hook(
        &self,
        name: &'static str,
        hook: Option<&Hook<M>>,
    ) -> Result<(), GitError> {
        let Some(hook) = hook else { return Ok(()) };
        let nested = Arc::new(Nested::default());
        let handle = Self { inner: Arc::clone(&self.inner), nested: Some(Arc::clone(&nested)) };
        let result = hook(handle).await;
        let _last = nested.turn.lock().await;
        nested.over.store(true, Ordering::Release);
        result.map_err(|source| GitError::Hook { hook: name, source })
    }

    /// Does something with a machine that runs; a paused one is woken for it and paused again.
    pub(super) async fn awake<T>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, GitError>> + Send,
    ) -> Result<T, GitError> {
        if !self.wake(name).await? {
            return work.await;
        }
        let result = work.await;
        let slept = self.sleep().await;
        let value = result?;
        slept.map(|()| value)
    }

    /// Makes sure that the machine runs; whether it was paused.
    pub(super) async fn wake(&self, name: &'static str) -> Result<bool, GitError> {
        let machine = &self.inner.machine;
        match machine.state() {
            MachineState::Running => Ok(false),
            MachineState::Paused => {
                self.shared().woken = true;
                let resumed = machine.resume().await;
                resumed.map_err(|source| {
                    self.shared().woken = false;
                    GitError::Machine { operation: "resume", source }
                })?;
                Ok(true)
            }
            state => Err(GitError::State { operation: name, wanted: "running or paused", state }),
        }
    }

    /// Pauses a machine that was woken.
    pub(super) async fn sleep(&self) -> Result<(), GitError> {
        let paused = self.inner.machine.pause().await;
        self.shared().woken = false;
        paused.map_err(|source| GitError::Machine { operation: "pause", source })
    }
}
