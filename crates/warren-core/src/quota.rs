//! How much there may be: a decision over counts, without I/O.

use crate::{error::SandboxError, spec::Limits};

/// The limits of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Living sandboxes, parked ones not counted.
    pub sandboxes: u32,
    /// The sum of their memory limits in bytes; none for no limit.
    pub memory_bytes: Option<u64>,
}

impl Default for Quota {
    fn default() -> Self {
        Self { sandboxes: 2000, memory_bytes: None }
    }
}

/// What is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InUse {
    sandboxes: u32,
    memory_bytes: u64,
}

impl InUse {
    /// Counts one more sandbox.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Limit`] when it would be too much; nothing is counted then.
    pub(crate) fn admit(&mut self, quota: &Quota, limits: &Limits) -> Result<(), SandboxError> {
        if self.sandboxes >= quota.sandboxes {
            return Err(SandboxError::Limit { what: "sandboxes", limit: quota.sandboxes.into() });
        }
        let memory_bytes = self.memory_bytes.saturating_add(limits.memory_bytes);
        if let Some(limit) = quota.memory_bytes
            && memory_bytes > limit
        {
            return Err(SandboxError::Limit { what: "bytes of memory", limit });
        }
        self.adopt(limits);
        Ok(())
    }

    /// Counts one that exists already, whatever the limits are now.
    pub(crate) fn adopt(&mut self, limits: &Limits) {
        self.sandboxes += 1;
        self.memory_bytes = self.memory_bytes.saturating_add(limits.memory_bytes);
    }

    /// Counts one less.
    pub(crate) fn release(&mut self, limits: &Limits) {
        self.sandboxes = self.sandboxes.saturating_sub(1);
        self.memory_bytes = self.memory_bytes.saturating_sub(limits.memory_bytes);
    }

    /// How many sandboxes live.
    pub(crate) fn sandboxes(&self) -> u32 {
        self.sandboxes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(memory_bytes: u64) -> Limits {
        Limits { memory_bytes, cpu_millis: 1000, pids: 64, open_files: 64 }
    }

    proptest! {
        #[test]
        fn no_sequence_passes_a_limit(
            steps in prop::collection::vec((any::<bool>(), 0u64..100), 0..200),
        ) {
            let quota = Quota { sandboxes: 7, memory_bytes: Some(300) };
            let mut in_use = InUse::default();
            let mut living = Vec::new();
            for (admit, memory) in steps {
                if admit {
                    if in_use.admit(&quota, &limits(memory)).is_ok() {
                        living.push(memory);
                    }
                } else if let Some(memory) = living.pop() {
                    in_use.release(&limits(memory));
                }
                prop_assert!(living.len() <= 7);
                prop_assert!(living.iter().sum::<u64>() <= 300);
                prop_assert_eq!(in_use.sandboxes() as usize, living.len());
            }
        }
    }

    #[test]
    fn a_refusal_names_the_limit() {
        let quota = Quota { sandboxes: 0, memory_bytes: None };
        let error = InUse::default().admit(&quota, &limits(1)).unwrap_err();
        assert_eq!(error.to_string(), "the server's limit of 0 sandboxes is reached");
    }
}
