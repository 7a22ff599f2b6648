//! The task that owns the connection: it gathers, writes, numbers events and announces them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Answer, Gauges, Key, Operation, StoreError, row, sql};
use crate::{
    events::{Draft, Event},
    id::SandboxId,
    sandbox::Sandbox,
};
use sqlx::SqliteConnection;
use tokio::{
    sync::{broadcast, mpsc},
    time::Instant,
};

/// How long a change that nobody waits for may wait for company.
const GATHER: Duration = Duration::from_millis(10);

/// How long after a failed write what is left of it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// After this many commits the log is copied into the database.
const CHECKPOINT_EVERY: u32 = 500;

/// How many events may wait for a disk that takes none; older ones are given up.
const WAITING_EVENTS: usize = 10_000;

/// The owner of the writing connection.
pub(super) struct Writer {
    connection: SqliteConnection,
    queue: mpsc::UnboundedReceiver<Operation>,
    events: broadcast::Sender<Arc<Event>>,
    last_event: u64,
    pending: Pending,
    commits: u32,
    gauges: Arc<Gauges>,
}

/// What the next transaction holds.
#[derive(Default)]
struct Pending {
    /// The newest form of each changed row; `None` for one to delete.
    sandboxes: HashMap<SandboxId, Option<Arc<Sandbox>>>,
    keys: Vec<Key>,
    events: VecDeque<Draft>,
    answers: Vec<Answer<()>>,
    /// Rows whose creators wait: not tried again when the transaction fails.
    inserted: HashSet<SandboxId>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.events.is_empty() && self.answers.is_empty()
    }

    /// What is kept of a transaction that failed, to be tried again.
    fn give_up(&mut self, error: &StoreError) {
        for answer in self.answers.drain(..) {
            // Whoever asked may have gone.
            answer.send(Err(error.clone())).ok();
        }
        for id in self.inserted.drain() {
            self.sandboxes.remove(&id);
            self.events.retain(|event| event.sandbox != id);
        }
        self.keys.clear();
        let excess = self.events.len().saturating_sub(WAITING_EVENTS);
        self.events.drain(..excess);
    }
}

impl Writer {
    pub(super) fn new(
        connection: SqliteConnection,
        queue: mpsc::UnboundedReceiver<Operation>,
        events: broadcast::Sender<Arc<Event>>,
        (last_event, gauges): (u64, Arc<Gauges>),
    ) -> Self {
        let pending = Pending::default();
        gauges.last_event.store(last_event, Ordering::Relaxed);
        Self { connection, queue, events, last_event, pending, commits: 0, gauges }
    }

    /// Works until the last handle of the store is gone.
    ///
    /// `checkpoint` is told when the log is long.
    pub(super) async fn run(mut self, checkpoint: Option<mpsc::Sender<()>>) {
        while let Some(operation) = self.next().await {
            let mut urgent = self.take(operation).await;
            let gathered = Instant::now() + GATHER;
            while !urgent {
                match tokio::time::timeout_at(gathered, self.queue.recv()).await {
                    Ok(Some(operation)) => urgent = self.take(operation).await,
                    Ok(None) | Err(_) => break,
                }
            }
            while let Ok(operation) = self.queue.try_recv() {
                self.take(operation).await;
            }
            self.commit().await;
            if self.commits >= CHECKPOINT_EVERY {
                self.commits = 0;
                if let Some(checkpoint) = &checkpoint {
                    // Full means that a checkpoint is due already.
                    checkpoint.try_send(()).ok();
                }
            }
        }
        if !self.pending.is_empty() {
            self.commit().await;
        }
    }

    /// The next operation; where a failed write waits, a flush when its time has come.
    async fn next(&mut self) -> Option<Operation> {
        if self.pending.is_empty() {
            return self.queue.recv().await;
        }
        match tokio::time::timeout(RETRY, self.queue.recv()).await {
            Ok(operation) => operation,
            Err(_elapsed) => Some(Operation::Flush { answer: tokio::sync::oneshot::channel().0 }),
        }
    }

    /// Adds an operation to the transaction, or does what cannot be gathered. Says whether
    /// somebody waits for it.
    async fn take(&mut self, operation: Operation) -> bool {
        match operation {
            Operation::Insert { sandbox, key, events, answer } => {
                self.pending.inserted.insert(sandbox.id);
                self.pending.sandboxes.insert(sandbox.id, Some(sandbox));
                self.pending.keys.extend(key);
                self.pending.events.extend(events);
                self.pending.answers.push(answer);
                true
            }
            Operation::Save { sandbox, events } => {
                self.pending.sandboxes.insert(sandbox.id, Some(sandbox));
                self.pending.events.extend(events);
                false
            }
            Operation::Delete { id, events, answer } => {
                self.pending.sandboxes.insert(id, None);
                self.pending.events.extend(events);
                let urgent = answer.is_some();
                self.pending.answers.extend(answer);
                urgent
            }
            Operation::Announce { events } => {
                self.pending.events.extend(events);
                false
            }
            Operation::Flush { answer } => {
                self.pending.answers.push(answer);
                true
            }
            Operation::Prune(prune) => {
                if let Err(error) = sql::prune(&mut self.connection, self.last_event, prune).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "{error}");
                }
                false
            }
            // What comes before it is written before it.
            Operation::Access { change, answer } => {
                self.commit().await;
                answer.send(super::access::change(&mut self.connection, change).await).ok();
                false
            }
            Operation::Objects { change, answer } => {
                self.commit().await;
                answer.send(super::objects::change(&mut self.connection, change).await).ok();
                false
            }
            Operation::NoteUse { id, at } => {
                if let Err(error) = super::access::note_use(&mut self.connection, id, at).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "{error}");
                }
                false
            }
            // A reader sees everything that was asked for before it.
            Operation::Load { answer } => {
                self.commit().await;
                answer.send(sql::load(&mut self.connection).await).ok();
                false
            }
            Operation::Events { query, answer } => {
                self.commit().await;
                answer.send(sql::events(&mut self.connection, query).await).ok();
                false
            }
        }
    }

    /// Writes the transaction and answers those who wait for it.
    async fn commit(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let numbered = self.number_events();
        let outcome = match self.rows(&numbered) {
            // A flush of nothing.
            Ok(None) => Ok(()),
            Ok(Some(rows)) => sql::write(&mut self.connection, rows).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                self.commits += 1;
                self.last_event += numbered.len() as u64;
                self.gauges.last_event.store(self.last_event, Ordering::Relaxed);
                let done = std::mem::take(&mut self.pending);
                for answer in done.answers {
                    answer.send(Ok(())).ok();
                }
                for event in numbered {
                    // No subscriber is no failure.
                    self.events.send(event).ok();
                }
            }
            Err(error) => {
                self.gauges.failed_commits.fetch_add(1, Ordering::Relaxed);
                let cause = &error as &dyn std::error::Error;
                tracing::error!(error = cause, "{error}; changes are kept and tried again");
                self.pending.give_up(&error);
            }
        }
    }

    /// The pending events with the numbers they will have once this transaction is committed.
    fn number_events(&self) -> Vec<Arc<Event>> {
        let number = |(index, draft): (usize, &Draft)| {
            Arc::new(Event {
                seq: self.last_event + 1 + index as u64,
                time: draft.time,
                kind: draft.kind,
                owner: draft.owner.clone(),
                sandbox: draft.sandbox,
                detail: draft.detail.clone(),
            })
        };
        self.pending.events.iter().enumerate().map(number).collect()
    }

    /// The pending changes as JSON arrays; none where there is nothing to write.
    fn rows(&self, events: &[Arc<Event>]) -> Result<Option<sql::Rows>, StoreError> {
        let Pending { sandboxes, keys, .. } = &self.pending;
        if sandboxes.is_empty() && keys.is_empty() && events.is_empty() {
            return Ok(None);
        }
        let changed: Vec<_> =
            sandboxes.values().flatten().map(|sandbox| row::SandboxRow::from(&**sandbox)).collect();
        let deleted: Vec<_> = sandboxes
            .iter()
            .filter_map(|(id, sandbox)| sandbox.is_none().then_some(id.as_str()))
            .collect();
        let keys: Vec<_> = keys.iter().map(key_row).collect();
        let events: Vec<_> = events.iter().map(|event| event_row(event)).collect();
        Ok(Some(sql::Rows {
            sandboxes: json(&changed)?,
            keys: json(&keys)?,
            events: json(&events)?,
            deleted: if deleted.is_empty() { None } else { Some(json(&deleted)?) },
        }))
    }
}

fn key_row(key: &Key) -> row::KeyRow<'_> {
    row::KeyRow {
        owner: key.owner.as_str(),
        key: &key.key,
        fingerprint: key.fingerprint.cast_signed(),
        sandbox_id: key.sandbox.as_str(),
        created_at: key.created_at.as_millis(),
    }
}

fn event_row(event: &Event) -> row::EventRow<'_> {
    row::EventRow {
        seq: event.seq,
        time: event.time.as_millis(),
        kind: event.kind.name(),
        owner: event.owner.as_str(),
        sandbox_id: event.sandbox.as_str(),
        detail: &event.detail,
    }
}

fn json<T: serde::Serialize>(rows: &[T]) -> Result<String, StoreError> {
    serde_json::to_string(rows)
        .map_err(|error| StoreError::query("write")(sqlx::Error::Encode(error.into())))
}

/// Copies the log into the database whenever `due` says so, and once more at the end.
pub(super) async fn checkpoint(mut connection: SqliteConnection, mut due: mpsc::Receiver<()>) {
    let mut open = true;
    while open {
        open = due.recv().await.is_some();
        let copied = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut connection).await;
        if let Err(error) = copied {
            tracing::warn!(error = &error as &dyn std::error::Error, "no checkpoint: {error}");
        }
    }
}
