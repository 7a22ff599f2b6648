//! What survives the server: one SQLite database, one task that writes it.
//!
//! Everything goes through that task, in order. It puts whatever waits into one transaction, so
//! that a hundred creates at once cost a few commits, and one create costs one. A commit reaches
//! the write-ahead log (`synchronous = NORMAL`): it survives the death of this process at once,
//! and of the machine after the next checkpoint. Sandboxes do not survive their machine either.
//! Checkpoints run on a connection of their own and never delay a commit.
//!
//! What is deliberately not here: what the rows mean, and any decision.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use sqlx::{
    ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::{
    access::{Project, StoredKey},
    caller::Owner,
    clock::Timestamp,
    events::{Draft, Event},
    id::{KeyId, SandboxId},
    logs::store::LogStore,
    sandbox::Sandbox,
};

mod access;
mod credentials;
mod domain;
mod git;
mod objects;
mod rescue;
mod row;
mod secret;
mod snapshot;
mod sql;
pub(crate) mod templates;
mod transaction;
mod volume;
mod writer;

pub(crate) use transaction::transaction;

pub(crate) use access::AccessChange;
pub use access::Backup;
pub(crate) use credentials::{credentials_object, object_credentials};
pub(crate) use domain::{domain_key, domain_object, object_domain};
pub(crate) use git::{git_object, object_git};
pub(crate) use objects::{Object, ObjectChange, ObjectKind};
pub(crate) use rescue::{object_rescue, rescue_object};
pub(crate) use secret::{object_secret, secret_object};
pub(crate) use snapshot::{object_snapshot, snapshot_object};
pub(crate) use volume::{object_volume, volume_object};

/// How many events a slow subscriber may be behind before it must read the table again.
const BROADCAST: usize = 1024;

/// The database. A clone is another handle to the same one.
#[derive(Clone, Debug)]
pub struct Store {
    operations: mpsc::UnboundedSender<Operation>,
    events: broadcast::WeakSender<Arc<Event>>,
    tasks: TaskTracker,
    gauges: Arc<Gauges>,
    /// None for one in memory.
    file: Option<Arc<DatabaseFile>>,
    logs: LogStore,
}

/// What the writer shows of itself.
#[derive(Debug, Default)]
struct Gauges {
    last_event: AtomicU64,
    failed_commits: AtomicU64,
}

/// How to open the database once more.
#[derive(Debug)]
struct DatabaseFile {
    path: PathBuf,
    options: SqliteConnectOptions,
}

/// The database cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// It could not be opened.
    #[error("could not open the database {path}")]
    Open {
        /// Where it is.
        path: String,
        /// Why.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// Its schema could not be brought up to date.
    #[error("could not migrate the database")]
    Migrate {
        /// Why.
        #[source]
        source: Arc<sqlx::migrate::MigrateError>,
    },
    /// A statement failed.
    #[error("could not {operation} the database")]
    Query {
        /// `read`, `write` or `copy`.
        operation: &'static str,
        /// Why.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// The database cannot be copied.
    #[error("could not make a copy of the database")]
    Copy {
        /// Why; none for a database in memory.
        #[source]
        source: Option<Arc<io::Error>>,
    },
    /// A row does not say what it should.
    #[error("row {id} of the database cannot be understood")]
    Row {
        /// Its key.
        id: String,
    },
    /// The writer has ended: the server is shutting down.
    #[error("the database is closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn query(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Query { operation, source: Arc::new(source) }
    }

    /// Whether there was no room for what was to be written.
    pub(crate) fn is_full(&self) -> bool {
        /// `SQLITE_FULL`.
        const FULL: &str = "13";
        let Self::Query { source, .. } = self else { return false };
        source.as_database_error().and_then(|it| it.code()).is_some_and(|code| code == FULL)
    }

    fn copy(source: io::Error) -> Self {
        Self::Copy { source: Some(Arc::new(source)) }
    }
}

/// What the database held when the server started.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) keys: Vec<Key>,
    pub(crate) projects: Vec<Project>,
    pub(crate) api_keys: Vec<StoredKey>,
    pub(crate) objects: Vec<Object>,
}

/// The first use of an idempotency key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) owner: Owner,
    pub(crate) key: String,
    /// A hash of the request it came with.
    pub(crate) fingerprint: u64,
    pub(crate) sandbox: SandboxId,
    pub(crate) created_at: Timestamp,
}

/// What of the past may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prune {
    /// So many of the newest events stay.
    pub(crate) events: u64,
    /// Keys from before this moment go.
    pub(crate) keys_before: Timestamp,
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked to do.
#[derive(Debug)]
enum Operation {
    /// Writes a new row. Dropped when it fails: the creator undoes the sandbox.
    Insert { sandbox: Arc<Sandbox>, key: Option<Key>, events: Vec<Draft>, answer: Answer<()> },
    /// Writes a changed row; tried again until it is written.
    Save { sandbox: Arc<Sandbox>, events: Vec<Draft> },
    /// Removes a row and its keys; tried again until it is written.
    Delete { id: SandboxId, events: Vec<Draft>, answer: Option<Answer<()>> },
    /// Adds events.
    Announce { events: Vec<Draft> },
    /// Removes what is too old; tried again at the next pruning.
    Prune(Prune),
    /// Reads everything needed to start.
    Load { answer: Answer<Loaded> },
    /// Reads events.
    Events { query: EventQuery, answer: Answer<Vec<Arc<Event>>> },
    /// Writes a change of projects or keys and syncs it.
    Access { change: AccessChange, answer: Answer<()> },
    /// Writes a change of other rows.
    Objects { change: ObjectChange, answer: Answer<()> },
    /// Writes down when a key was used; not tried again.
    NoteUse { id: KeyId, at: Timestamp },
    /// Answers when everything before it was tried.
    Flush { answer: Answer<()> },
}

#[derive(Debug)]
struct EventQuery {
    after: u64,
    owner: Owner,
    sandbox: Option<SandboxId>,
    limit: u32,
}

impl Store {
    /// Opens the database at `path`, makes it where there is none, and brings its schema up to
    /// date. `tasks` runs the writer; it ends when the last handle is gone.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`], [`StoreError::Migrate`].
    pub async fn open(path: &Path, tasks: &TaskTracker) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            // The writer's own log must not stop a commit for a checkpoint.
            .pragma("wal_autocheckpoint", "0")
            .disable_statement_logging();
        let name = path.display().to_string();
        let checkpoints = connect(&options, &name).await?;
        if let Err(error) = access::remove_copies(path) {
            tracing::warn!(%error, "what is left of a backup was not removed");
        }
        let logs = LogStore::open(Some(&path.with_file_name("logs.db")), tasks).await?;
        let mut store =
            Self::start(connect(&options, &name).await?, Some(checkpoints), logs, tasks).await?;
        store.file = Some(Arc::new(DatabaseFile { path: path.to_owned(), options }));
        Ok(store)
    }

    /// Opens a database that lives and dies with its handles; for tests.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`], [`StoreError::Migrate`].
    pub async fn in_memory(tasks: &TaskTracker) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new().filename(":memory:").disable_statement_logging();
        let logs = LogStore::open(None, tasks).await?;
        Self::start(connect(&options, ":memory:").await?, None, logs, tasks).await
    }

    async fn start(
        mut connection: SqliteConnection,
        checkpoints: Option<SqliteConnection>,
        logs: LogStore,
        tasks: &TaskTracker,
    ) -> Result<Self, StoreError> {
        sql::migrations()
            .run(&mut connection)
            .await
            .map_err(|source| StoreError::Migrate { source: Arc::new(source) })?;
        let last = sql::last_event(&mut connection).await?;
        let (operations, queue) = mpsc::unbounded_channel();
        let (sender, _) = broadcast::channel(BROADCAST);
        let events = sender.downgrade();
        let gauges = Arc::<Gauges>::default();
        let writer = writer::Writer::new(connection, queue, sender, (last, Arc::clone(&gauges)));
        let checkpoint = checkpoints.map(|connection| {
            let (due, queue) = mpsc::channel(1);
            tasks.spawn(writer::checkpoint(connection, queue));
            due
        });
        tasks.spawn(writer.run(checkpoint));
        Ok(Self { operations, events, tasks: tasks.clone(), gauges, file: None, logs })
    }

    /// Everything needed to start, and the end of what cannot be read: such rows are passed over
    /// with a line in the log, for one bad row must not keep all sandboxes out of reach.
    pub(crate) async fn load(&self) -> Result<Loaded, StoreError> {
        let (answer, loaded) = oneshot::channel();
        self.send(Operation::Load { answer })?;
        loaded.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Writes a new row, its key and its events in one transaction.
    ///
    /// The work starts with the call; the future answers when it is committed.
    pub(crate) fn insert(
        &self,
        sandbox: Arc<Sandbox>,
        key: Option<Key>,
        events: Vec<Draft>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let (answer, done) = oneshot::channel();
        let sent = self.send(Operation::Insert { sandbox, key, events, answer });
        async move {
            sent?;
            done.await.unwrap_or(Err(StoreError::Closed))
        }
    }

    /// Writes a changed row soon; nobody waits for it.
    pub(crate) fn save(&self, sandbox: Arc<Sandbox>, events: Vec<Draft>) {
        self.send_or_log(Operation::Save { sandbox, events });
    }

    /// Removes a row, its key, and adds the events; the future answers when it is committed.
    pub(crate) fn delete(
        &self,
        id: SandboxId,
        events: Vec<Draft>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        self.logs.forget(id);
        let (answer, done) = oneshot::channel();
        let sent = self.send(Operation::Delete { id, events, answer: Some(answer) });
        async move {
            sent?;
            done.await.unwrap_or(Err(StoreError::Closed))
        }
    }

    /// Adds events soon that come with no change of a row.
    pub(crate) fn announce(&self, events: Vec<Draft>) {
        self.send_or_log(Operation::Announce { events });
    }

    /// Removes a row soon; nobody waits for it.
    pub(crate) fn forget(&self, id: SandboxId, events: Vec<Draft>) {
        self.logs.forget(id);
        self.send_or_log(Operation::Delete { id, events, answer: None });
    }

    /// Removes what is too old, soon.
    pub(crate) fn prune(&self, prune: Prune) {
        self.send_or_log(Operation::Prune(prune));
    }

    /// The events behind `after`, at most `limit`, in order.
    pub(crate) async fn events_after(
        &self,
        after: u64,
        owner: &Owner,
        sandbox: Option<SandboxId>,
        limit: u32,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let (answer, found) = oneshot::channel();
        let query = EventQuery { after, owner: owner.clone(), sandbox, limit };
        self.send(Operation::Events { query, answer })?;
        found.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Waits until everything asked for before this was written or failed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Query`] when something is still unwritten.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let (answer, done) = oneshot::channel();
        self.send(Operation::Flush { answer })?;
        done.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Writes a change of projects or keys; it is on the disk when this answers.
    pub(crate) async fn change_access(&self, change: AccessChange) -> Result<(), StoreError> {
        let (answer, done) = oneshot::channel();
        self.send(Operation::Access { change, answer })?;
        done.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Writes a change of other rows; it is committed when this answers, and on the disk where it
    /// is to be durable.
    pub(crate) async fn change_objects(&self, change: ObjectChange) -> Result<(), StoreError> {
        let (answer, done) = oneshot::channel();
        self.send(Operation::Objects { change, answer })?;
        done.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Writes down soon when a key was used.
    pub(crate) fn note_use(&self, id: KeyId, at: Timestamp) {
        self.send_or_log(Operation::NoteUse { id, at });
    }

    /// Copies everything that was asked for before this. Nobody waits for it but the caller: a
    /// connection of its own reads.
    pub(crate) async fn backup(&self) -> Result<Backup, StoreError> {
        let Some(file) = &self.file else { return Err(StoreError::Copy { source: None }) };
        self.flush().await?;
        let mut connection = connect(&file.options, &file.path.display().to_string()).await?;
        access::copy(&mut connection, &file.path).await
    }

    /// The number of the last event that is committed.
    pub(crate) fn last_event(&self) -> u64 {
        self.gauges.last_event.load(Ordering::Relaxed)
    }

    /// How many transactions failed since the start.
    pub(crate) fn failed_commits(&self) -> u64 {
        self.gauges.failed_commits.load(Ordering::Relaxed)
    }

    /// What is committed from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        match self.events.upgrade() {
            Some(sender) => sender.subscribe(),
            // The writer has ended: a receiver that is closed from the start.
            None => broadcast::channel(1).1,
        }
    }

    /// What detached commands wrote.
    pub(crate) fn logs(&self) -> &LogStore {
        &self.logs
    }

    /// The tasks of the server; for the rest of core.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    fn send(&self, operation: Operation) -> Result<(), StoreError> {
        self.operations.send(operation).map_err(|_closed| StoreError::Closed)
    }

    fn send_or_log(&self, operation: Operation) {
        if self.send(operation).is_err() {
            tracing::warn!("a change came after the database was closed and is not stored");
        }
    }
}

async fn connect(
    options: &SqliteConnectOptions,
    path: &str,
) -> Result<SqliteConnection, StoreError> {
    options
        .connect()
        .await
        .map_err(|source| StoreError::Open { path: path.to_owned(), source: Arc::new(source) })
}
