//! How many requests to the ports of one sandbox are under way.

use warren_core::id::SandboxId;

use crate::streams::{StreamOf, StreamSlot, Streams};

/// The requests that are under way.
#[derive(Clone, Debug)]
pub(super) struct Slots(Streams);

impl Slots {
    pub(super) fn new(most: u32) -> Self {
        Self(Streams::new(most))
    }

    /// Counts one more request to this sandbox; none where there are too many.
    pub(super) fn open(&self, id: SandboxId) -> Option<StreamSlot> {
        self.0.open(StreamOf::Sandbox(id)).ok()
    }
}
