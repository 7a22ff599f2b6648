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
    config::{Defaults, PoolConfig},
    error::SandboxError,
    id::{SandboxId, TemplateId},
    plan::home,
    runtime::DeadlineAction,
    sandbox::{Lifetime, Program, Sandbox, Setup, birth::Birth, driver::Driver, handle::Handle},
    shared::Shared,
    spec::{Network, Spec},
    state::State,
    templates,
};

/// How long the server must have been without a create before the pool makes one.
const QUIET: Duration = Duration::from_millis(20);

/// How long the pool waits after it could not make one.
const RETRY: Duration = Duration::from_secs(10);

/// What parked sandboxes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) spec: Spec,
    /// What its agent was told when it was parked.
    pub(crate) setup: Setup,
    /// What it is for, and what was started in it.
    pub(crate) program: Program,
    /// The template that wants it.
    pub(crate) template: Option<TemplateId>,
}

impl Kind {
    /// Whether it is exactly what somebody asks for. What was started knows the environment that it
    /// was started in, and no other.
    fn serves(&self, spec: &Spec, setup: &Setup, program: &Program) -> bool {
        self.fits(spec)
            && self.program.start == program.start
            && (program.start.is_none() || self.setup.is_like(setup))
    }

    /// Whether it is made as it should be, or only its network has to be given rules.
    fn fits(&self, spec: &Spec) -> bool {
        match (&self.spec.network, &spec.network) {
            (Network::Open, Network::Rules(_)) => {
                let network = Network::Open;
                self.spec == Spec { network, ..spec.clone() }
            }
            _ => self.spec == *spec,
        }
    }
}

/// A sandbox from the shelf, and what it is.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) handle: Arc<Handle>,
    kind: Arc<Kind>,
}

#[derive(Debug)]
pub(crate) struct Pool {
    shelves: Mutex<Vec<Shelf>>,
    taken: Notify,
}

/// The parked sandboxes of one kind.
#[derive(Debug)]
struct Shelf {
    kind: Arc<Kind>,
    size: usize,
    parked: VecDeque<Arc<Handle>>,
}

impl Pool {
    pub(crate) fn new(config: PoolConfig, defaults: &Defaults) -> Self {
        let setup = Setup {
            env: Default::default(),
            image_env: Default::default(),
            user: defaults.user.clone(),
            workdir: defaults.workdir.clone().unwrap_or_else(|| home(&defaults.user)),
        };
        let shelf = |(spec, size)| {
            let kind =
                Kind { spec, setup: setup.clone(), program: Program::default(), template: None };
            Shelf { kind: Arc::new(kind), size, parked: VecDeque::new() }
        };
        let shelves = config.parked.into_iter().map(shelf).collect();
        Self { shelves: Mutex::new(shelves), taken: Notify::new() }
    }

    /// Takes a parked sandbox of exactly this kind: it is the caller's alone from here on.
    pub(crate) fn take(&self, spec: &Spec, setup: &Setup, program: &Program) -> Option<Taken> {
        let taken = {
            let mut shelves = self.lock();
            let fits = |shelf: &&mut Shelf| shelf.kind.serves(spec, setup, program);
            let shelf = shelves.iter_mut().find(fits)?;
            let mut taken = None;
            while let Some(handle) = shelf.parked.pop_front() {
                // One that ended on the shelf is passed over.
                if handle.sandbox().state == State::Parked {
                    taken = Some(Taken { handle, kind: Arc::clone(&shelf.kind) });
                    break;
                }
            }
            taken
        };
        self.taken.notify_one();
        taken
    }

    /// Puts one back that was taken and not asked for anything.
    pub(crate) fn put_back(&self, taken: Taken) {
        if let Err(handle) = self.put(&taken.kind, taken.handle) {
            // The pool was closed meanwhile: the next start removes it.
            tracing::debug!(sandbox.id = %handle.id(), "parked and left behind");
        }
    }

    /// Keeps so many of a kind for a template, in place of what it wanted before; none for nothing
    /// any more. Gives those that are too many.
    pub(crate) fn provide(
        &self,
        template: TemplateId,
        wanted: Option<(Kind, usize)>,
    ) -> Vec<Arc<Handle>> {
        let mut over = Vec::new();
        {
            let mut shelves = self.lock();
            let same = |shelf: &Shelf| wanted.as_ref().is_some_and(|it| it.0 == *shelf.kind);
            shelves.retain_mut(|shelf| {
                let goes = shelf.kind.template == Some(template) && !same(shelf);
                if goes {
                    over.extend(shelf.parked.drain(..));
                }
                !goes
            });
            if let Some((kind, size)) = wanted {
                match shelves.iter_mut().find(|shelf| *shelf.kind == kind) {
                    Some(shelf) => {
                        shelf.size = size;
                        let keep = size.min(shelf.parked.len());
                        over.extend(shelf.parked.split_off(keep));
                    }
                    None => {
                        let parked = VecDeque::new();
                        shelves.push(Shelf { kind: Arc::new(kind), size, parked });
                    }
                }
            }
        }
        self.taken.notify_one();
        over
    }

    /// Takes all that is left, for good.
    pub(crate) fn close(&self) -> Vec<Arc<Handle>> {
        self.lock().drain(..).flat_map(|shelf| shelf.parked).collect()
    }

    /// Keeps the shelves full, until dropped.
    pub(crate) async fn refill(shared: Arc<Shared>) {
        loop {
            let Some(kind) = shared.pool.missing() else {
                shared.pool.taken.notified().await;
                continue;
            };
            shared.quiet().await;
            if let Err(error) = park(&shared, &kind).await {
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
    fn missing(&self) -> Option<Arc<Kind>> {
        let mut shelves = self.lock();
        for shelf in shelves.iter_mut() {
            shelf.parked.retain(|handle| handle.sandbox().state == State::Parked);
            if shelf.parked.len() < shelf.size {
                return Some(Arc::clone(&shelf.kind));
            }
        }
        None
    }

    /// Puts a parked sandbox on its shelf; gives it back where there is none any more.
    fn put(&self, kind: &Arc<Kind>, handle: Arc<Handle>) -> Result<(), Arc<Handle>> {
        match self.lock().iter_mut().find(|shelf| Arc::ptr_eq(&shelf.kind, kind)) {
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

/// Makes one more parked sandbox, and starts in it what is to be started.
async fn park(shared: &Arc<Shared>, kind: &Arc<Kind>) -> Result<(), SandboxError> {
    let sandbox = Sandbox {
        id: SandboxId::mint(),
        // No caller has this name: until it is claimed, nobody finds it.
        owner: Owner::new(""),
        name: None,
        state: State::Creating,
        spec: kind.spec.clone(),
        labels: Default::default(),
        setup: kind.setup.clone(),
        lifetime: Lifetime { length: None, action: DeadlineAction::Kill },
        created_at: shared.clock.now(),
        expires_at: None,
        end: None,
        runtime: shared.runtime.name().into(),
        warm: true,
        kept: false,
        history: Default::default(),
        program: kind.program.clone(),
        exposure: Default::default(),
    };
    let (reply, parked) = oneshot::channel();
    let handle = Driver::start(shared, sandbox, Birth::Park { reply });
    parked.await.unwrap_or(Err(SandboxError::ShuttingDown))?;
    if let Some(start) = &kind.program.start
        && let Err(error) = templates::start(shared, &handle, start).await
    {
        remove(&handle).await;
        return Err(error);
    }
    if let Err(handle) = shared.pool.put(kind, handle) {
        // The pool was closed meanwhile, or wants none of these any more.
        remove(&handle).await;
    }
    Ok(())
}

/// Removes a sandbox that nobody has yet.
pub(crate) async fn remove(handle: &Handle) {
    use crate::sandbox::handle::Command;
    if let Err(error) = handle.ask(Command::Delete).await
        && handle.sandbox().state.is_living()
    {
        let cause = &error as &dyn std::error::Error;
        tracing::warn!(sandbox.id = %handle.id(), error = cause, "not removed: {error}");
    }
}
