//! What a sandbox's driver does about its past: saves what its files are, and goes back to what
//! they were.

use std::{sync::Arc, time::Duration};

use super::{End, Made, driver::Driver};
use crate::{
    error::SandboxError,
    events::EventKind,
    id::SnapshotId,
    runtime::Haste,
    sandbox::Sandbox,
    spec::{Image, Stack},
    state::{Event, Refused, State},
};

/// How long a runtime may need to save a guest's files.
const CAPTURE: Duration = Duration::from_secs(600);

/// What was saved.
#[derive(Debug)]
pub(crate) struct Capture {
    /// The sandbox as it was then.
    pub(crate) sandbox: Arc<Sandbox>,
    /// What the saved files lie on, themselves included.
    pub(crate) stack: Stack,
    /// The last snapshot of the sandbox before this one.
    pub(crate) previous: Option<SnapshotId>,
    /// For how long the guest stood still.
    pub(crate) frozen: Duration,
}

/// Where a sandbox goes back to.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) stack: Stack,
    /// Its place in the tree of snapshots then; as it is where absent.
    pub(crate) snapshot: Option<SnapshotId>,
}

impl Driver {
    /// Saves the files as those of `snapshot`.
    pub(super) async fn capture(
        &mut self,
        snapshot: SnapshotId,
        haste: Haste,
    ) -> Result<Capture, SandboxError> {
        self.sandbox.state.on(Event::Capture)?;
        self.require_files(Event::Capture)?;
        let previous = self.sandbox.history.snapshot;
        let id = &self.sandbox.id;
        let captured = self.shared.runtime.capture(id, &snapshot, previous.as_ref(), haste);
        let captured = tokio::time::timeout(CAPTURE, captured).await;
        let captured = captured
            .map_err(|_elapsed| SandboxError::Broken("the files were not saved in time"))?
            .map_err(SandboxError::runtime("save the files of the sandbox"))?;
        Ok(Capture {
            sandbox: self.published(),
            stack: self.stack_of(snapshot).await?,
            previous,
            frozen: captured.frozen,
        })
    }

    /// What a new snapshot lies on: less, where that would be too much.
    async fn stack_of(&self, snapshot: SnapshotId) -> Result<Stack, SandboxError> {
        let stack = self.sandbox.spec.image.under(snapshot);
        if stack.layers.len() <= Stack::MOST_LAYERS {
            return Ok(stack);
        }
        let below = stack.layers.get(1..).unwrap_or_default();
        let flattened = self.shared.runtime.flatten(&snapshot, below).await;
        flattened.map_err(SandboxError::runtime("merge the layers of the snapshot"))?;
        Ok(Stack { layers: vec![snapshot], base: stack.base })
    }

    /// Ends the processes, gives the files up, and starts on what was saved.
    pub(super) async fn roll_back(&mut self, target: Target) -> Result<Made, SandboxError> {
        self.sandbox.state.on(Event::RollBack)?;
        self.require_files(Event::RollBack)?;
        // From here on a server that finds this row and no guest knows how to go on.
        self.sandbox.history.going_back = Some(target.stack.clone());
        self.publish();
        let saved = self.shared.store.insert(self.published(), None, Vec::new()).await;
        if let Err(error) = saved {
            self.sandbox.history.going_back = None;
            self.publish();
            return Err(SandboxError::store("store the sandbox")(error));
        }
        if self.sandbox.state != State::Stopped {
            let end = End::stopped(self.now());
            if let Err(error) = self.stop(end).await {
                self.sandbox.history.going_back = None;
                return Err(error);
            }
        }
        if let Err(error) = self.shared.runtime.reset(&self.sandbox.id).await {
            self.sandbox.history.going_back = None;
            self.publish();
            self.save([]);
            return Err(SandboxError::runtime("give up the files of the sandbox")(error));
        }
        self.sandbox.spec.image = Image::Snapshot(target.stack);
        self.sandbox.history.going_back = None;
        if target.snapshot.is_some() {
            self.sandbox.history.snapshot = target.snapshot;
        }
        self.publish();
        self.save([EventKind::RolledBack]);
        self.start_again(Duration::ZERO).await
    }

    /// Fails where there is neither a guest nor kept files.
    fn require_files(&self, event: Event) -> Result<(), SandboxError> {
        match self.sandbox.state {
            from @ State::Stopped if !self.sandbox.kept => Err(Refused { from, event }.into()),
            _ => Ok(()),
        }
    }
}
