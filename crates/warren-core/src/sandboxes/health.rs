//! Whether sandboxes can be made, and how many of what there is.

use std::{collections::BTreeMap, time::Duration};

use super::Sandboxes;

/// How long the database may take to answer before it counts as one that does not.
const PATIENCE: Duration = Duration::from_secs(5);

/// Numbers for those who watch the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Sandboxes that somebody owns, by state; states that none is in are absent.
    pub states: BTreeMap<&'static str, usize>,
    /// Sandboxes in the warm pool.
    pub parked: usize,
    /// The number of the last event.
    pub last_event: u64,
    /// Changes that the database did not take since the start; they are tried again.
    pub failed_commits: u64,
    /// What is weaker here than it could be: how many warnings the runtime gives.
    pub warnings: usize,
}

/// Why no sandbox can be made now. The text is for anybody; the log has the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unready {
    /// It does not take changes: the disk is full, or very slow.
    #[error("the database does not take changes")]
    Store,
    /// The machine cannot isolate any more.
    #[error("the runtime cannot start sandboxes")]
    Runtime,
    /// The server is going away.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl Sandboxes {
    /// Asks the database and the runtime whether a sandbox could be made now.
    ///
    /// # Errors
    ///
    /// What stands in the way.
    pub async fn check(&self) -> Result<(), Unready> {
        if self.stop.is_cancelled() {
            return Err(Unready::ShuttingDown);
        }
        match tokio::time::timeout(PATIENCE, self.shared.store.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(unready(Unready::Store, &error)),
            Err(elapsed) => return Err(unready(Unready::Store, &elapsed)),
        }
        match tokio::time::timeout(PATIENCE, self.shared.runtime.check()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unready(Unready::Runtime, &error)),
            Err(elapsed) => Err(unready(Unready::Runtime, &elapsed)),
        }
    }

    /// Counts what there is.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let mut states = BTreeMap::new();
        for handle in self.shared.all() {
            let sandbox = handle.sandbox();
            // Parked ones, and those on their way there, are nobody's.
            if !sandbox.owner.as_str().is_empty() {
                *states.entry(sandbox.state.name()).or_default() += 1;
            }
        }
        Statistics {
            states,
            parked: self.parked(),
            last_event: self.shared.store.last_event(),
            failed_commits: self.shared.store.failed_commits(),
            warnings: self.shared.runtime.capabilities().warnings.len(),
        }
    }
}

fn unready(unready: Unready, cause: &(dyn std::error::Error + 'static)) -> Unready {
    tracing::warn!(error = cause, "not ready: {unready}: {cause}");
    unready
}
