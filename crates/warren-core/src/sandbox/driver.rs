//! The one task that owns a sandbox. It alone changes it, one request after the other.
//!
//! ```text
//!   requests (mailbox) ---+
//!   runtime's exits    ---+--> driver --> State::on --> published snapshot, row, event
//!   its own deadline   ---+       |
//!                                 +--> runtime, guest agent
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};

use super::{
    End, EndReason, Sandbox,
    birth::Birth,
    handle::{Command, DriverEnds, Handle, Reply},
};
use crate::{
    clock::{Clock, Timestamp},
    error::SandboxError,
    events::{Draft, EventKind},
    exposure::ExposureChange,
    guest::Guest,
    runtime::{Deadline, DeadlineAction},
    sandboxes::rescues,
    shared::{Admission, Shared},
    state::{Event, State},
};

/// How long a freeze or a thaw may take before it counts as failed.
const FREEZE: Duration = Duration::from_secs(5);

/// How long work may take to be saved at the end of a lifetime.
const SAVING: Duration = Duration::from_secs(60);

/// A deadline is compared with the clock at least this often: the clock also runs while the host
/// sleeps, timers do not.
const CLOCK_CHECK: Duration = Duration::from_secs(60);

/// How long a sandbox of E2B's clients lives at least that a visitor has woken.
const WOKEN: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(crate) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) sandbox: Sandbox,
    pub(super) guest: Arc<Guest>,
    pub(super) admission: Option<Admission>,
    /// Until when its work is being saved before the end of its lifetime is acted on.
    saving: Option<Timestamp>,
    mailbox: mpsc::Receiver<Command>,
    publisher: watch::Sender<Arc<Sandbox>>,
}

impl Driver {
    /// Starts the task that owns `sandbox`, and makes it known.
    pub(crate) fn start(shared: &Arc<Shared>, sandbox: Sandbox, birth: Birth) -> Arc<Handle> {
        let (handle, ends) = Handle::new(sandbox.clone(), Arc::clone(&shared.runtime));
        let DriverEnds { mailbox, published, guest } = ends;
        shared.register(Arc::clone(&handle));
        let driver = Self {
            shared: Arc::clone(shared),
            sandbox,
            guest,
            admission: None,
            saving: None,
            mailbox,
            publisher: published,
        };
        shared.store.tasks().spawn(driver.run(birth));
        handle
    }

    async fn run(mut self, birth: Birth) {
        // Boxed: what is large and rare must not be a part of every idle task.
        if !Box::pin(self.be_born(birth)).await {
            return;
        }
        while self.sandbox.state.is_living() || self.sandbox.kept {
            let deadline = reaches(&*self.shared.clock, self.sandbox.expires_at);
            let command = tokio::select! {
                command = self.mailbox.recv() => Some(command),
                () = deadline => None,
            };
            match command {
                Some(Some(command)) => Box::pin(self.obey(command)).await,
                // The server shuts down; the sandbox lives on.
                Some(None) => return,
                None if Box::pin(self.saves_first()).await => {}
                None => Box::pin(self.act_on_deadline()).await,
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Claim(claim) => {
                self.claim(*claim).await;
            }
            Command::Pause(reply) => {
                let paused = self.pause().await;
                answer(reply, paused.map(|()| self.published()));
            }
            Command::Resume(reply) => {
                let resumed = self.resume(Duration::ZERO).await;
                answer(reply, resumed.map(|()| self.published()));
            }
            Command::Wake(reply) => {
                let woken = self.wake().await;
                answer(reply, woken.map(|()| self.published()));
            }
            Command::Stop(reply) => {
                let end = End::stopped(self.now());
                let stopped = self.stop(end).await;
                answer(reply, stopped.map(|()| self.published()));
            }
            Command::Start(reply) => {
                let made = self.start_again(Duration::ZERO).await;
                answer(reply, made);
            }
            Command::Boot(reply) => {
                let made = self.start_again(self.stay()).await;
                answer(reply, made);
            }
            Command::Extend(extension, reply) => {
                let extended = self.extend(extension).await;
                answer(reply, extended);
            }
            Command::AtDeadline(action, reply) => {
                let changed = self.at_deadline(action).await;
                answer(reply, changed);
            }
            Command::SetNetwork(network, reply) => {
                let changed = self.set_network(network).await;
                answer(reply, changed);
            }
            Command::Equip(variables, reply) => {
                let equipped = self.equip(variables).await;
                answer(reply, equipped);
            }
            Command::Expose(change, reply) => {
                let exposed = self.expose(*change).await;
                answer(reply, exposed.map(|()| self.published()));
            }
            Command::Capture(snapshot, haste, reply) => {
                let captured = self.capture(snapshot, haste).await;
                answer(reply, captured);
            }
            Command::RollBack(target, reply) => {
                let made = self.roll_back(*target).await;
                answer(reply, made);
            }
            Command::Move { from, to } => {
                if from.is_none() || self.sandbox.history.snapshot == from {
                    self.sandbox.history.snapshot = to;
                    self.publish();
                    self.save([]);
                }
            }
            Command::Convert(layer, reply) => {
                let converted = self.convert(&layer).await;
                answer(reply, converted);
            }
            Command::Retell(reply) => {
                self.tell_deadline().await;
                answer(reply, Ok(()));
            }
            Command::Due => self.act_on_saved().await,
            Command::Delete(reply) => {
                let deleted = self.delete().await;
                answer(reply, deleted);
            }
            Command::Exited(exit) => self.exited(&exit).await,
        }
    }

    async fn pause(&mut self) -> Result<(), SandboxError> {
        self.change(Event::Pause)?;
        let frozen = self.shared.runtime.pause(&self.sandbox.id);
        let frozen = match tokio::time::timeout(FREEZE, frozen).await {
            Ok(frozen) => frozen.map_err(SandboxError::runtime("pause the sandbox")),
            Err(_elapsed) => {
                // It may be half frozen.
                if let Err(error) = self.shared.runtime.resume(&self.sandbox.id).await {
                    tracing::error!(sandbox.id = %self.sandbox.id, %error, "still half frozen");
                }
                Err(SandboxError::Broken("the guest did not freeze in time"))
            }
        };
        if let Err(error) = frozen {
            self.change(Event::PauseFailed)?;
            return Err(error);
        }
        self.sandbox.expires_at = None;
        self.change(Event::Frozen)?;
        self.save([EventKind::Paused]);
        self.tell_deadline().await;
        Ok(())
    }

    /// Lets it go on for a visitor.
    async fn wake(&mut self) -> Result<(), SandboxError> {
        self.resume(self.stay()).await
    }

    /// For how long it stays at least that goes on for a visitor. Clients of E2B expect it to stay
    /// for a while, however short the lifetime is that it was made with.
    fn stay(&self) -> Duration {
        let least = self.sandbox.exposure.e2b.map_or(Duration::ZERO, |_| WOKEN);
        let longest = self.shared.config.defaults.longest_lifetime;
        longest.map_or(least, |longest| least.min(longest))
    }

    /// Lets it go on, for so long at least where its life has an end.
    async fn resume(&mut self, least: Duration) -> Result<(), SandboxError> {
        self.change(Event::Resume)?;
        let thawed = self.shared.runtime.resume(&self.sandbox.id);
        let thawed = match tokio::time::timeout(FREEZE, thawed).await {
            Ok(thawed) => thawed.map_err(SandboxError::runtime("resume the sandbox")),
            Err(_elapsed) => Err(SandboxError::Broken("the guest did not thaw in time")),
        };
        if let Err(error) = thawed {
            self.change(Event::ResumeFailed)?;
            return Err(error);
        }
        let now = self.shared.clock.now();
        let length = self.sandbox.lifetime.length;
        self.sandbox.expires_at = length.map(|length| now + length.max(least));
        self.change(Event::Resumed)?;
        self.save([EventKind::Resumed]);
        self.tell_deadline().await;
        Ok(())
    }

    /// Changes who reaches its ports from outside.
    async fn expose(&mut self, change: ExposureChange) -> Result<(), SandboxError> {
        self.sandbox.exposure = self.sandbox.exposure.after(change)?;
        self.publish();
        self.save([]);
        // Whoever was told that a link is good for nothing must not find it good after a crash.
        let stored = self.shared.store.flush().await;
        stored.map_err(SandboxError::store("store who reaches the ports"))
    }

    /// Removes the sandbox and its row.
    async fn delete(&mut self) -> Result<(), SandboxError> {
        if self.sandbox.kept {
            return self.delete_kept().await;
        }
        self.change(Event::Stop)?;
        let why = [("reason", "killed".to_owned())];
        let events = match self.is_owned() {
            true => vec![self.event(EventKind::Stopped, why), self.event(EventKind::Deleted, [])],
            false => Vec::new(),
        };
        // The row goes while the guest goes. Should the server end in between, a guest without a
        // row is removed at the next start.
        let forgotten = self.shared.store.delete(self.sandbox.id, events);
        let destroyed = self.shared.runtime.destroy(&self.sandbox.id);
        let (forgotten, destroyed) = futures::join!(forgotten, destroyed);
        if let Err(error) = destroyed {
            let error = SandboxError::runtime("remove the sandbox")(error);
            self.lose("the guest could not be removed").await;
            return Err(error);
        }
        if let Err(error) = forgotten {
            // A full disk must not keep a guest alive; the writer tries again.
            tracing::warn!(sandbox.id = %self.sandbox.id, %error, "removed, its row is not yet");
        }
        self.shared.unregister(self.sandbox.id);
        let message = "the sandbox was removed on request".to_owned();
        self.end(End { at: self.now(), reason: EndReason::Killed, message, exit_code: None })
    }

    /// Removes the files of a stopped sandbox, and then its row: files that no row knows are kept,
    /// for they may be all that is left after the database was lost.
    async fn delete_kept(&mut self) -> Result<(), SandboxError> {
        let destroyed = self.shared.runtime.destroy(&self.sandbox.id).await;
        destroyed.map_err(SandboxError::runtime("remove the files of the sandbox"))?;
        self.sandbox.kept = false;
        self.admission = None;
        self.shared.unregister(self.sandbox.id);
        let deleted = self.event(EventKind::Deleted, []);
        if let Err(error) = self.shared.store.delete(self.sandbox.id, vec![deleted]).await {
            tracing::warn!(sandbox.id = %self.sandbox.id, %error, "removed, its row is not yet");
        }
        Ok(())
    }

    /// Gives work in the repository of a session of git the time to be saved, once, before the end
    /// of the lifetime is acted on.
    async fn saves_first(&mut self) -> bool {
        let id = self.sandbox.id;
        if self.saving.take() == self.sandbox.expires_at || self.sandbox.state != State::Running {
            return false;
        }
        let session = self.shared.git.get(id).filter(|it| it.settings.saves_at_deadline());
        let Some(session) = session else { return false };
        self.saving = Some(self.now() + SAVING);
        self.sandbox.expires_at = self.saving;
        self.publish();
        self.save([]);
        self.tell_deadline().await;
        let shared = Arc::clone(&self.shared);
        self.shared.store.tasks().spawn(async move {
            rescues::save_at_deadline(&shared, &session).await;
        });
        true
    }

    /// Its work is saved. Somebody may have given it more time meanwhile.
    async fn act_on_saved(&mut self) {
        if self.saving.is_some() && self.saving.take() == self.sandbox.expires_at {
            self.act_on_deadline().await;
        }
    }

    async fn act_on_deadline(&mut self) {
        let done = match self.sandbox.lifetime.action {
            DeadlineAction::Kill => self.remove_at_deadline().await,
            DeadlineAction::Stop if self.shared.runtime.capabilities().stop => {
                let end = End::timeout(self.now());
                self.stop(end).await
            }
            DeadlineAction::Stop => self.remove_at_deadline().await,
            DeadlineAction::Pause => match self.pause().await {
                // What cannot be frozen must not run on for ever. Its files stay where they can:
                // somebody wants to come back to it.
                Err(error) if self.sandbox.state == State::Running => {
                    tracing::warn!(sandbox.id = %self.sandbox.id, %error, "not paused but stopped");
                    match self.shared.runtime.capabilities().stop {
                        true => self.stop(End::timeout(self.now())).await,
                        false => self.remove_at_deadline().await,
                    }
                }
                other => other,
            },
        };
        if let Err(error) = done {
            self.complain("deadline", &error);
        }
    }

    async fn remove_at_deadline(&mut self) -> Result<(), SandboxError> {
        self.change(Event::Stop)?;
        if let Err(error) = self.shared.runtime.destroy(&self.sandbox.id).await {
            self.lose("the guest could not be removed at the end of its lifetime").await;
            return Err(SandboxError::runtime("remove the sandbox")(error));
        }
        self.end_and_save(End::timeout(self.now()));
        Ok(())
    }

    /// Gives the sandbox up as failed.
    pub(super) async fn lose(&mut self, message: &str) {
        self.clean_up().await;
        self.sandbox.expires_at = None;
        self.sandbox.end = Some(End::host(self.now(), message));
        self.change(Event::Fault).ok();
        self.admission = None;
        let why = [("message", message.to_owned())];
        let failed = self.event(EventKind::Failed, why);
        self.shared.store.save(self.published(), vec![failed]);
    }

    pub(super) fn end_and_save(&mut self, end: End) {
        let why = [("reason", end.reason.name().to_owned()), ("message", end.message.clone())];
        if self.end(end).is_ok() {
            let stopped = self.event(EventKind::Stopped, why);
            self.shared.store.save(self.published(), vec![stopped]);
        }
    }

    /// The end of it, as everybody sees it.
    fn end(&mut self, end: End) -> Result<(), SandboxError> {
        self.sandbox.end = Some(end);
        self.sandbox.expires_at = None;
        self.guest.close_idle();
        match &mut self.admission {
            // It takes no room, and is still found by its name.
            Some(admission) if self.sandbox.kept => admission.rest(),
            _ => self.admission = None,
        }
        self.change(Event::Exited)
    }

    /// Whether somebody has it: a parked one is nobody's.
    pub(super) fn is_owned(&self) -> bool {
        !self.sandbox.owner.as_str().is_empty()
    }

    /// Removes what the host still holds of a guest that ended.
    pub(super) async fn clean_up(&self) {
        if let Err(error) = self.shared.runtime.destroy(&self.sandbox.id).await {
            self.complain("not removed", &error);
        }
    }

    /// Changes the state and publishes the sandbox as it is now.
    pub(super) fn change(&mut self, event: Event) -> Result<(), SandboxError> {
        self.sandbox.state = self.sandbox.state.on(event)?;
        self.publish();
        tracing::debug!(sandbox.id = %self.sandbox.id, state = %self.sandbox.state, "changed");
        Ok(())
    }

    /// Shows the sandbox as it is now.
    pub(super) fn publish(&self) {
        self.publisher.send_replace(Arc::new(self.sandbox.clone()));
    }

    /// The sandbox as it was published last.
    pub(super) fn published(&self) -> Arc<Sandbox> {
        Arc::clone(&self.publisher.borrow())
    }

    /// Writes the row soon, with one event of each kind.
    pub(super) fn save<const N: usize>(&self, kinds: [EventKind; N]) {
        let events = kinds.into_iter().map(|kind| self.event(kind, [])).collect();
        self.shared.store.save(self.published(), events);
    }

    pub(super) fn event<const N: usize>(
        &self,
        kind: EventKind,
        detail: [(&str, String); N],
    ) -> Draft {
        let mut detail: BTreeMap<_, _> =
            detail.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if let Some(name) = &self.sandbox.name {
            detail.insert("name".to_owned(), name.clone());
        }
        Draft {
            time: self.now(),
            kind,
            owner: self.sandbox.owner.clone(),
            sandbox: self.sandbox.id,
            detail,
        }
    }

    /// Lets the runtime know when to act should no server be there to do it.
    pub(super) async fn tell_deadline(&self) {
        let keeps = rescues::keeps_files(&self.shared, self.sandbox.id);
        let action = match self.sandbox.lifetime.action {
            // Without a server nobody saves its work: the next one does, from its files.
            DeadlineAction::Kill if keeps && self.shared.runtime.capabilities().stop => {
                DeadlineAction::Stop
            }
            action => action,
        };
        let after = |at: Timestamp| at.since(self.now());
        let deadline = self.sandbox.expires_at.map(|at| Deadline { after: after(at), action });
        if let Err(error) = self.shared.runtime.set_deadline(&self.sandbox.id, deadline).await {
            tracing::warn!(sandbox.id = %self.sandbox.id, %error, "no deadline beyond the server");
        }
    }

    /// Logs a failure that no caller hears of.
    pub(super) fn complain(&self, what: &str, error: &(dyn std::error::Error + 'static)) {
        tracing::error!(sandbox.id = %self.sandbox.id, error, "{what}: {error}");
    }

    pub(super) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }
}

/// Waits until the clock shows `deadline`; for ever where there is none.
async fn reaches(clock: &dyn Clock, deadline: Option<Timestamp>) {
    let Some(deadline) = deadline else { return std::future::pending().await };
    loop {
        let left = deadline.since(clock.now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(CLOCK_CHECK)).await;
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T, SandboxError>) {
    // Whoever asked may have stopped waiting; the work is done all the same.
    reply.send(result).ok();
}
