//! Stopped and started again: the processes end, the files stay, and a guest is made on them anew.

use std::{sync::Arc, time::Duration};

use super::{End, Extension, Made, Sandbox, driver::Driver};
use crate::{
    error::SandboxError,
    events::EventKind,
    id::SnapshotId,
    runtime::DeadlineAction,
    runtime::{Exit, ExitReason, GuestState},
    sandboxes::rescues,
    shared::Shared,
    state::{Event, Refused, State},
};

/// How long a guest may take to end and to have its files written to the disk.
const STOP: Duration = Duration::from_secs(120);

impl Driver {
    /// Ends the processes and keeps the files.
    pub(super) async fn stop(&mut self, end: End) -> Result<(), SandboxError> {
        self.change(Event::Stop)?;
        if let Err(error) = self.put_aside().await {
            self.lose("the guest could not be stopped").await;
            return Err(error);
        }
        self.sandbox.kept = true;
        self.end_and_save(end);
        Ok(())
    }

    /// Makes the files of a sandbox that is nobody's the layer `layer`. Nothing else of it is left,
    /// whether that succeeds or not.
    pub(super) async fn convert(&mut self, layer: &SnapshotId) -> Result<(), SandboxError> {
        if self.is_owned() {
            return Err(SandboxError::Broken("somebody's sandbox was to become a layer"));
        }
        self.change(Event::Stop)?;
        let runtime = Arc::clone(&self.shared.runtime);
        let converted = match self.put_aside().await {
            Ok(()) => runtime
                .convert(&self.sandbox.id, layer)
                .await
                .map_err(SandboxError::runtime("make a layer of the sandbox")),
            Err(error) => Err(error),
        };
        if converted.is_err() {
            self.clean_up().await;
        }
        self.guest.close_idle();
        self.shared.unregister(self.sandbox.id);
        self.sandbox.end = Some(End::stopped(self.now()));
        self.change(Event::Exited)?;
        converted
    }

    /// The guest ended without being asked to. Its files stay where the runtime can keep them,
    /// unless its lifetime was over and it was to go with that.
    pub(super) async fn exited(&mut self, exit: &Exit) {
        if !self.sandbox.state.is_living() {
            return;
        }
        let now = self.shared.runtime.state(&self.sandbox.id).await;
        if matches!(now, Ok(GuestState::Running | GuestState::Paused)) {
            // News of the guest before this one, which was stopped to be started again.
            return;
        }
        let end = End::from_exit(self.now(), exit, &self.sandbox.spec.limits);
        if !self.is_owned() {
            self.clean_up().await;
            // Nobody knew it, nobody hears of it.
            self.shared.unregister(self.sandbox.id);
            self.change(Event::Exited).ok();
            return;
        }
        if keeps(&self.shared, &self.sandbox, exit) && self.shared.runtime.capabilities().stop {
            match self.put_aside().await {
                Ok(()) => self.sandbox.kept = true,
                Err(error) => self.complain("its files are lost", &error),
            }
        }
        if !self.sandbox.kept {
            self.clean_up().await;
        }
        self.end_and_save(end);
    }

    /// Makes a guest on the kept files, for so long at least where its life has an end.
    pub(super) async fn start_again(&mut self, least: Duration) -> Result<Made, SandboxError> {
        if !self.sandbox.kept {
            return Err(Refused { from: self.sandbox.state, event: Event::Start }.into());
        }
        // What cannot be started in this state takes no place.
        self.sandbox.state.on(Event::Start)?;
        if let Some(admission) = &mut self.admission {
            admission.take_place()?;
        }
        self.change(Event::Start)?;
        // A server that finds this after a crash knows that the guest is to have its owner told.
        self.shared.store.save(self.published(), Vec::new());
        let Sandbox { id, spec, .. } = &self.sandbox;
        match self.meet(self.shared.runtime.start(id, spec), "start the sandbox").await {
            Ok(steps) => {
                self.sandbox.kept = false;
                self.sandbox.end = None;
                let now = self.now();
                let length = self.sandbox.lifetime.length;
                self.sandbox.expires_at = length.map(|length| now + length.max(least));
                self.change(Event::AgentReady)?;
                self.save([EventKind::Started]);
                self.tell_deadline().await;
                self.guest.connect_ahead().await;
                Ok(Made { sandbox: self.published(), steps })
            }
            Err(error) => {
                if let Err(error) = self.put_aside().await {
                    self.complain("not put aside again", &error);
                }
                self.guest.close_idle();
                self.change(Event::StartFailed)?;
                if let Some(admission) = &mut self.admission {
                    admission.rest();
                }
                self.save([]);
                Err(error)
            }
        }
    }

    /// Gives the sandbox another lifetime, from now on.
    pub(super) async fn extend(
        &mut self,
        extension: Extension,
    ) -> Result<Arc<Sandbox>, SandboxError> {
        let length = match extension {
            Extension::To(length) => length,
            Extension::AtLeast(length) => Some(length),
        };
        match self.sandbox.state {
            State::Running => {
                let until = length.map(|length| self.now() + length);
                let before = self.sandbox.expires_at;
                if matches!(extension, Extension::AtLeast(_))
                    && (before.is_none() || until <= before)
                {
                    return Ok(self.published());
                }
                self.sandbox.expires_at = until;
            }
            // Its lifetime begins when it goes on.
            State::Paused | State::Stopped => {}
            from => return Err(Refused { from, event: Event::Extend }.into()),
        }
        // What is to end at once has as long as before, should it go on one day.
        if length.is_none_or(|length| !length.is_zero()) {
            self.sandbox.lifetime.length = length;
        }
        self.change(Event::Extend)?;
        self.save([EventKind::Extended]);
        self.tell_deadline().await;
        Ok(self.published())
    }

    /// Does something else at the end of its lifetime.
    pub(super) async fn at_deadline(
        &mut self,
        action: DeadlineAction,
    ) -> Result<Arc<Sandbox>, SandboxError> {
        // What may be given another lifetime may be given another end.
        self.sandbox.state.on(Event::Extend)?;
        self.sandbox.lifetime.action = action;
        self.publish();
        self.save([]);
        self.tell_deadline().await;
        Ok(self.published())
    }

    async fn put_aside(&self) -> Result<(), SandboxError> {
        let stopped = self.shared.runtime.stop(&self.sandbox.id);
        match tokio::time::timeout(STOP, stopped).await {
            Ok(stopped) => stopped.map_err(SandboxError::runtime("stop the sandbox")),
            Err(_elapsed) => Err(SandboxError::Broken("the guest did not stop in time")),
        }
    }
}

/// Whether the files of a guest that ended stay.
pub(crate) fn keeps(shared: &Shared, sandbox: &Sandbox, exit: &Exit) -> bool {
    exit.reason != ExitReason::Deadline
        || sandbox.lifetime.action != DeadlineAction::Kill
        || rescues::keeps_files(shared, sandbox.id)
}
