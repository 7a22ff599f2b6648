//! How a sandbox comes to be: made for somebody, parked for nobody yet, claimed, or found again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Made, Sandbox, driver::Driver, handle::Reply};
use crate::{
    caller::Owner,
    error::SandboxError,
    events::EventKind,
    plan::Plan,
    runtime::{Created, RuntimeError},
    shared::Admission,
    state::Event,
    store::Key,
    templates,
};

/// How long a guest may need to be made: an image may have to be unpacked first.
const MAKE: Duration = Duration::from_secs(300);

/// What a new driver does first.
#[derive(Debug)]
pub(crate) enum Birth {
    /// Makes the sandbox and answers.
    Make { admission: Admission, key: Option<Key>, reply: Reply<Made> },
    /// Makes the sandbox for the pool.
    Park { reply: Reply<()> },
    /// Goes on with one that an earlier server made.
    Adopt {
        admission: Admission,
        /// Whether its agent may not have been told yet whose it is.
        initialise: bool,
    },
    /// Waits with one that has ended and whose files are kept.
    Rest { admission: Admission },
}

/// A parked sandbox finds its owner.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) owner: Owner,
    pub(crate) plan: Plan,
    pub(crate) admission: Admission,
    pub(crate) key: Option<Key>,
    pub(crate) reply: Reply<Made>,
}

type Steps = Vec<(&'static str, Duration)>;

impl Driver {
    /// Does what `birth` says. Says whether there is a sandbox to drive afterwards.
    pub(super) async fn be_born(&mut self, birth: Birth) -> bool {
        match birth {
            Birth::Make { admission, key, reply } => {
                self.admission = Some(admission);
                let made = self.make_for_owner(key).await;
                self.announce(made, reply).await
            }
            Birth::Park { reply } => self.park(reply).await,
            Birth::Adopt { admission, initialise } => {
                self.admission = Some(admission);
                self.adopt(initialise).await;
                true
            }
            Birth::Rest { admission } => {
                self.admission = Some(admission);
                true
            }
        }
    }

    async fn park(&mut self, reply: Reply<()>) -> bool {
        let parked = self.make_guest().await.map(drop);
        if parked.is_ok() {
            // A sandbox that did not warm up serves as well, only not as fast.
            self.guest.warm_up().await.ok();
        }
        let parked = parked.and_then(|()| self.change(Event::ParkReady));
        let good = parked.is_ok();
        // A pool that is gone was closed meanwhile, and wants none any more.
        let kept = reply.send(parked).is_ok() && good;
        if !kept {
            self.undo().await;
        }
        kept
    }

    /// Gives this parked sandbox to an owner. Says whether there is a sandbox to drive afterwards.
    pub(super) async fn claim(&mut self, claim: Claim) -> bool {
        let Claim { owner, plan, admission, key, reply } = claim;
        self.admission = Some(admission);
        let made = self.hand_out(owner, plan, key).await;
        self.announce(made, reply).await
    }

    async fn make_for_owner(&mut self, key: Option<Key>) -> Result<Steps, SandboxError> {
        let stored = self.store_new(key);
        // The row is written while the guest is made. It says `creating`: a server that finds it
        // so after a crash tells the agent again whose it is.
        let (stored, made) = futures::join!(timed("store", stored), self.make_guest());
        let mut steps = made?;
        steps.push(stored?);
        self.change(Event::AgentReady)?;
        Ok(steps)
    }

    /// Makes the guest and waits for its agent's first answer.
    async fn make_guest(&self) -> Result<Steps, SandboxError> {
        let Sandbox { id, spec, .. } = &self.sandbox;
        self.meet(self.shared.runtime.create(id, spec), "make the sandbox").await
    }

    /// Waits for a guest that is being made, and for its agent's first answer.
    pub(super) async fn meet(
        &self,
        guest: impl Future<Output = Result<Created, RuntimeError>>,
        operation: &'static str,
    ) -> Result<Steps, SandboxError> {
        let made = tokio::time::timeout(MAKE, guest)
            .await
            .map_err(|_elapsed| SandboxError::Broken("the runtime took too long to make a guest"))?
            .map_err(SandboxError::runtime(operation))?;
        let mut steps = made.steps;
        let ready = self.guest.initialise(&self.sandbox.setup);
        let ready = timed("agent", ready).await;
        steps.push(ready.map_err(|error| error.for_caller(self.sandbox.id))?);
        Ok(steps)
    }

    async fn hand_out(
        &mut self,
        owner: Owner,
        plan: Plan,
        key: Option<Key>,
    ) -> Result<Steps, SandboxError> {
        self.change(Event::Claim)?;
        let told = plan.setup == self.sandbox.setup;
        let now = self.shared.clock.now();
        if plan.spec.network != self.sandbox.spec.network {
            // Nothing of its owner's runs in it yet: nobody sees the moment between.
            let set = self.shared.runtime.set_network(&self.sandbox.id, &plan.spec.network).await;
            set.map_err(SandboxError::runtime("set the rules of the network"))?;
            self.sandbox.spec.network = plan.spec.network;
        }
        self.sandbox.owner = owner;
        self.sandbox.name = plan.name;
        self.sandbox.labels = plan.labels;
        self.sandbox.setup = plan.setup;
        self.sandbox.lifetime = plan.lifetime;
        self.sandbox.program = plan.program;
        self.sandbox.history = plan.history;
        self.sandbox.exposure = plan.exposure;
        self.sandbox.created_at = now;
        self.sandbox.expires_at = plan.lifetime.length.map(|length| now + length);
        self.sandbox.warm = true;
        let stored = self.store_new(key);
        let initialised = async {
            match told {
                // Its agent knows everything already: it answered the same when it was parked.
                true => Ok(()),
                false => self.guest.initialise(&self.sandbox.setup).await,
            }
        };
        let (stored, ready) = futures::join!(timed("store", stored), timed("agent", initialised));
        let steps = vec![ready.map_err(|error| error.for_caller(self.sandbox.id))?, stored?];
        self.change(Event::AgentReady)?;
        Ok(steps)
    }

    /// Writes the new row; the work starts with the call.
    fn store_new(
        &self,
        key: Option<Key>,
    ) -> impl Future<Output = Result<(), SandboxError>> + Send + use<> {
        let created = self.event(EventKind::Created, []);
        let inserted = self.shared.store.insert(Arc::new(self.sandbox.clone()), key, vec![created]);
        async { inserted.await.map_err(SandboxError::store("store the sandbox")) }
    }

    /// Answers whoever asked for this sandbox, and does afterwards what need not be waited for.
    async fn announce(&mut self, made: Result<Steps, SandboxError>, reply: Reply<Made>) -> bool {
        match made {
            Ok(steps) => {
                let made = Made { sandbox: self.published(), steps };
                // Whoever asked may have gone; the sandbox stays until its lifetime is over.
                reply.send(Ok(made)).ok();
                // The answer goes out first; what follows is in nobody's way.
                tokio::task::yield_now().await;
                self.save([EventKind::Running]);
                self.tell_deadline().await;
                self.guest.connect_ahead().await;
                true
            }
            Err(error) => {
                self.undo().await;
                let failed = self.event(EventKind::Failed, []);
                self.shared.store.forget(self.sandbox.id, vec![failed]);
                reply.send(Err(error)).ok();
                false
            }
        }
    }

    /// Removes what there is of a guest that could not be made.
    async fn undo(&mut self) {
        let destroyed = self.shared.runtime.destroy(&self.sandbox.id).await;
        if let Err(error) = destroyed {
            self.complain("not removed", &error);
        }
        self.shared.unregister(self.sandbox.id);
        self.admission = None;
        self.change(Event::Fault).ok();
    }

    /// Starts what is to be started, where an earlier server may not have come to it. Whoever had
    /// asked is not there any more to hear how that goes.
    fn begin_again(&self) {
        let (Some(start), Some(handle)) =
            (self.sandbox.program.start.clone(), self.shared.any(self.sandbox.id))
        else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        self.shared.store.tasks().spawn(async move {
            if let Err(error) = templates::start(&shared, &handle, &start).await {
                let cause = &error as &dyn std::error::Error;
                tracing::warn!(sandbox.id = %handle.id(), error = cause, "found, and not ready");
            }
        });
    }

    async fn adopt(&mut self, initialise: bool) {
        if initialise {
            match self.guest.initialise(&self.sandbox.setup).await {
                Ok(()) => {
                    self.change(Event::AgentReady).ok();
                    self.save([EventKind::Running]);
                    self.begin_again();
                }
                Err(error) => {
                    self.complain("lost", &error);
                    self.lose("the server ended while the sandbox was being made").await;
                    return;
                }
            }
        }
        self.restore_network().await;
        self.tell_deadline().await;
    }
}

/// How long something took, under a name, where it succeeded.
async fn timed<E>(
    name: &'static str,
    work: impl Future<Output = Result<(), E>>,
) -> Result<(&'static str, Duration), E> {
    let started = Instant::now();
    work.await?;
    Ok((name, started.elapsed()))
}
