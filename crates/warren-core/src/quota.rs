//! How much there may be: a decision over counts, without I/O.

use crate::{access::ProjectQuota, error::SandboxError, spec::Limits};

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
    /// Whether one more sandbox may be, of what `whose` limits allow.
    fn check(
        &self,
        whose: &'static str,
        most: Option<u32>,
        most_memory: Option<u64>,
        limits: &Limits,
    ) -> Result<(), SandboxError> {
        if let Some(limit) = most
            && self.sandboxes >= limit
        {
            return Err(SandboxError::Limit { whose, what: "sandboxes", limit: limit.into() });
        }
        if let Some(limit) = most_memory
            && self.memory_bytes.saturating_add(limits.memory_bytes) > limit
        {
            return Err(SandboxError::Limit { whose, what: "bytes of memory", limit });
        }
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

    /// The sum of their memory limits in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
}

/// Counts one more sandbox, of the server and of its project.
///
/// # Errors
///
/// [`SandboxError::Limit`] when it would be too much for either; nothing is counted then.
pub(crate) fn admit(
    server: (&mut InUse, &Quota),
    project: (&mut InUse, &ProjectQuota),
    limits: &Limits,
) -> Result<(), SandboxError> {
    let (all, quota) = server;
    let (own, own_quota) = project;
    // A project that is full is told so, whatever the server could take.
    own.check("project's", own_quota.sandboxes, own_quota.memory_bytes, limits)?;
    all.check("server's", Some(quota.sandboxes), quota.memory_bytes, limits)?;
    own.adopt(limits);
    all.adopt(limits);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(memory_bytes: u64) -> Limits {
        Limits { memory_bytes, cpu_millis: 1000, pids: 64, open_files: 64, disk_bytes: None }
    }

    proptest! {
        #[test]
        fn no_sequence_passes_a_limit(
            steps in prop::collection::vec((any::<bool>(), 0..2_usize, 0_u64..100), 0..200),
        ) {
            let quota = Quota { sandboxes: 7, memory_bytes: Some(300) };
            let own = ProjectQuota { sandboxes: Some(4), memory_bytes: Some(200) };
            let (mut all, mut projects) = (InUse::default(), [InUse::default(); 2]);
            let mut living = Vec::new();
            for (add, which, memory) in steps {
                if add {
                    let project = (&mut projects[which], &own);
                    if admit((&mut all, &quota), project, &limits(memory)).is_ok() {
                        living.push((which, memory));
                    }
                } else if let Some((which, memory)) = living.pop() {
                    projects[which].release(&limits(memory));
                    all.release(&limits(memory));
                }
                prop_assert!(living.len() <= 7);
                prop_assert!(living.iter().map(|it| it.1).sum::<u64>() <= 300);
                for (which, in_use) in projects.iter().enumerate() {
                    let of_it = living.iter().filter(|it| it.0 == which);
                    let memory = of_it.clone().map(|it| it.1).sum::<u64>();
                    prop_assert!(of_it.clone().count() <= 4 && memory <= 200);
                    prop_assert_eq!(in_use.sandboxes() as usize, of_it.count());
                    prop_assert_eq!(in_use.memory_bytes(), memory);
                }
                prop_assert_eq!(all.sandboxes() as usize, living.len());
            }
        }
    }

    fn refusal(quota: Quota, own: ProjectQuota) -> String {
        let (mut all, mut project) = (InUse::default(), InUse::default());
        let refused = admit((&mut all, &quota), (&mut project, &own), &limits(2)).unwrap_err();
        assert_eq!((all, project), (InUse::default(), InUse::default()), "nothing is counted");
        refused.to_string()
    }

    #[test]
    fn a_refusal_names_the_limit_and_whose_it_is() {
        let none = ProjectQuota::default();
        let quota = Quota { sandboxes: 0, memory_bytes: None };
        assert_eq!(refusal(quota, none), "the server's limit of 0 sandboxes is reached");
        let own = ProjectQuota { memory_bytes: Some(1), ..none };
        let text = "the project's limit of 1 bytes of memory is reached";
        assert_eq!(refusal(Quota::default(), own), text);
    }
}
