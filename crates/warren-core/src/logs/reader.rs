//! Reading a log, and waiting for what comes.

use std::sync::Arc;

use tokio::sync::watch;

use super::{LogEntry, LogQuery};
use crate::{
    error::SandboxError, id::SandboxId, sandbox::Sandbox, sandbox::handle::Handle, store::Store,
};

/// How many entries one read fetches while following.
const PAGE: u32 = 64;

/// The log of one sandbox from some place on: first what is kept, then what is written, until the
/// sandbox has ended.
#[derive(Debug)]
pub struct LogReader {
    store: Store,
    sandbox: SandboxId,
    query: LogQuery,
    page: std::vec::IntoIter<LogEntry>,
    written: watch::Receiver<u64>,
    published: watch::Receiver<Arc<Sandbox>>,
}

impl LogReader {
    pub(crate) fn open(store: Store, handle: &Handle, query: LogQuery) -> Self {
        let written = store.logs().written();
        let page = Vec::new().into_iter();
        Self { store, sandbox: handle.id(), query, page, written, published: handle.watch() }
    }

    /// The next entry; waits for one. `None` when the sandbox has ended and all was read, or the
    /// server shuts down. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Store`] when the database cannot be read.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, SandboxError> {
        loop {
            if let Some(entry) = self.page.next() {
                self.query.after = entry.seq;
                return Ok(Some(entry));
            }
            // Looked at before reading: what is written behind this read wakes the wait below.
            self.written.mark_unchanged();
            let ended = !self.published.borrow_and_update().state.is_living();
            let found = self.store.logs().read(self.sandbox, self.query, PAGE).await;
            let found = found.map_err(SandboxError::store("read the log"))?;
            if !found.is_empty() {
                self.page = found.into_iter();
                continue;
            }
            if ended {
                return Ok(None);
            }
            tokio::select! {
                changed = self.written.changed() => if changed.is_err() { return Ok(None) },
                changed = self.published.changed() => if changed.is_err() { return Ok(None) },
            }
        }
    }
}
