//! What runs beside the requests of a connection.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::JoinSet;

/// Tasks that end with the connection. Those that have ended before are forgotten when the next
/// begins: a client may send requests for days, each over another connection to the other side.
#[derive(Debug, Default)]
pub(super) struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Those that run now, for whoever waits for them.
    pub(super) fn take(&self) -> JoinSet<()> {
        std::mem::take(&mut *self.lock())
    }

    pub(super) fn end(&self) {
        self.lock().abort_all();
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_that_have_ended_are_forgotten() {
        let tasks = Tasks::default();
        for _ in 0..10 {
            tasks.spawn(async {});
            // The only thread runs what was spawned meanwhile.
            tokio::task::yield_now().await;
        }
        assert_eq!(tasks.take().len(), 1);
    }
}
