//! The warm pool: sandboxes that are fully started and nobody's, for those who ask for exactly
//! such a one.
//!
//! A parked sandbox never ran anything for anybody, is in no list and in no event, and does not
//! outlive the server: a guest without a row is removed at the next start. It is handed out at most
//! once, for taking it from the shelf is what hands it out. The shelf is refilled in the background
//! while no create is under way.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use crate::{
    caller::Owner,
    config::PoolConfig,
    error::SandboxError,
    id::SandboxId,
    plan::home,
    runtime::DeadlineAction,
    sandbox::{Lifetime, Sandbox, Setup, birth::Birth, driver::Driver, handle::Handle},
    shared::Shared,
    spec::Spec,
    state::State,
};

/// How long the server must have been without a create before the pool makes one.
const QUIET: Duration = Duration::from_millis(20);

/// How long the pool waits after it could not make one.
const RETRY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Pool {
    shelves: Mutex<Vec<Shelf>>,
    taken: Notify,
}

/// The parked sandboxes of one kind.
#[derive(Debug)]
struct Shelf {
    spec: Spec,
    size: usize,
    parked: VecDeque<Arc<Handle>>,
}

impl Pool {
    pub(crate) fn new(config: PoolConfig) -> Self {
        let shelf = |(spec, size)| Shelf { spec, size, parked: VecDeque::new() };
        let shelves = config.parked.into_iter().map(shelf).collect();
        Self { shelves: Mutex::new(shelves), taken: Notify::new() }
    }

    /// Takes a parked sandbox of exactly this kind: it is the caller's alone from here on.
    pub(crate) fn take(&self, spec: &Spec) -> Option<Arc<Handle>> {
        let taken = {
            let mut shelves = self.lock();
            let shelf = shelves.iter_mut().find(|shelf| shelf.spec == *spec)?;
            let mut taken = None;
            while let Some(handle) = shelf.parked.pop_front() {
                // One that ended on the shelf is passed over.
                if handle.sandbox().state == State::Parked {
                    taken = Some(handle);
                    break;
                }
            }
            taken
        };
        self.taken.notify_one();
        taken
    }

    /// Puts one back that was taken and not asked for anything.
    pub(crate) fn put_back(&self, handle: Arc<Handle>) {
        if let Err(handle) = self.put(handle) {
            // The pool was closed meanwhile: the next start removes it.
            tracing::debug!(sandbox.id = %handle.id(), "parked and left behind");
        }
    }

    /// Takes all that is left, for good.
    pub(crate) fn close(&self) -> Vec<Arc<Handle>> {
        self.lock().drain(..).flat_map(|shelf| shelf.parked).collect()
    }

    /// Keeps the shelves full, until dropped.
    pub(crate) async fn refill(shared: Arc<Shared>) {
        loop {
            let Some(spec) = shared.pool.missing() else {
                shared.pool.taken.notified().await;
                continue;
            };
            shared.quiet().await;
            if let Err(error) = park(&shared, spec).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the warm pool stays short for now: {error}"
                );
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// How many are parked.
    pub(crate) fn parked(&self) -> usize {
        self.lock().iter().map(|shelf| shelf.parked.len()).sum()
    }

    /// A kind that has fewer than it should.
    fn missing(&self) -> Option<Spec> {
        let mut shelves = self.lock();
        for shelf in shelves.iter_mut() {
            shelf.parked.retain(|handle| handle.sandbox().state == State::Parked);
            if shelf.parked.len() < shelf.size {
                return Some(shelf.spec.clone());
            }
        }
        None
    }

    /// Puts a parked sandbox on its shelf; gives it back where there is none any more.
    fn put(&self, handle: Arc<Handle>) -> Result<(), Arc<Handle>> {
        let spec = handle.sandbox().spec.clone();
        match self.lock().iter_mut().find(|shelf| shelf.spec == spec) {
            Some(shelf) => {
                shelf.parked.push_back(handle);
                Ok(())
            }
            None => Err(handle),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Waits until no create was under way for a while.
    async fn quiet(&self) {
        let mut creating = self.creating.subscribe();
        loop {
            // The sender is ours: it cannot be gone.
            creating.wait_for(|count| *count == 0).await.ok();
            if tokio::time::timeout(QUIET, creating.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// Makes one more parked sandbox.
async fn park(shared: &Arc<Shared>, spec: Spec) -> Result<(), SandboxError> {
    let defaults = &shared.config.defaults;
    let sandbox = Sandbox {
        id: SandboxId::mint(),
        // No caller has this name: until it is claimed, nobody finds it.
        owner: Owner::new(""),
        name: None,
        state: State::Creating,
        spec,
        labels: Default::default(),
        setup: Setup {
            env: Default::default(),
            image_env: Default::default(),
            user: defaults.user.clone(),
            workdir: defaults.workdir.clone().unwrap_or_else(|| home(&defaults.user)),
        },
        lifetime: Lifetime { length: None, action: DeadlineAction::Kill },
        created_at: shared.clock.now(),
        expires_at: None,
        end: None,
        runtime: shared.runtime.name().into(),
        warm: true,
        kept: false,
        history: Default::default(),
    };
    let (reply, parked) = oneshot::channel();
    let handle = Driver::start(shared, sandbox, Birth::Park { reply });
    parked.await.unwrap_or(Err(SandboxError::ShuttingDown))?;
    if let Err(handle) = shared.pool.put(handle) {
        // The pool was closed meanwhile.
        remove(&handle).await;
    }
    Ok(())
}

/// Removes a parked sandbox.
pub(crate) async fn remove(handle: &Handle) {
    use crate::sandbox::handle::Command;
    if let Err(error) = handle.ask(Command::Delete).await {
        let cause = &error as &dyn std::error::Error;
        tracing::warn!(sandbox.id = %handle.id(), error = cause, "parked and not removed: {error}");
    }
}
