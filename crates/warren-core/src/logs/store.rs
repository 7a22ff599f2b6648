//! The database of logs: one connection, one task that owns it.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use sqlx::{
    ConnectOptions, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::{LogEntry, LogQuery, LogSource};
use crate::{
    clock::Timestamp,
    id::{ExecId, SandboxId},
    store::{StoreError, transaction},
};

/// How many requests may wait; whoever writes more waits with them.
const QUEUE: usize = 64;

/// What an entry costs beside its bytes.
const OVERHEAD_BYTES: u64 = 128;

/// How much more than allowed may be kept before the oldest is removed.
const SLACK: u64 = 8;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS entries (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    sandbox TEXT    NOT NULL,
    time    INTEGER NOT NULL,
    exec    TEXT    NOT NULL,
    source  INTEGER NOT NULL,
    data    BLOB    NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS entries_by_sandbox ON entries (sandbox, seq);
CREATE TABLE IF NOT EXISTS followed (
    exec    TEXT    NOT NULL PRIMARY KEY,
    sandbox TEXT    NOT NULL,
    next    INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS sizes (
    sandbox TEXT    NOT NULL PRIMARY KEY,
    bytes   INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
PRAGMA user_version = 1;";

/// The logs of all sandboxes. A clone is another handle to the same ones.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    operations: mpsc::Sender<Operation>,
    written: watch::Receiver<u64>,
    /// Those that have a log: most sandboxes never get one, and nothing is done for them.
    having: Arc<Mutex<HashSet<SandboxId>>>,
}

/// What of a command's output is to be written down.
#[derive(Debug)]
pub(crate) struct Portion {
    pub(crate) sandbox: SandboxId,
    pub(crate) exec: ExecId,
    pub(crate) time: Timestamp,
    pub(crate) pieces: Vec<(LogSource, Bytes)>,
    /// Where the next portion begins in the command's output; none when it has ended.
    pub(crate) next: Option<u64>,
    /// So many bytes of the sandbox's log are kept.
    pub(crate) most_bytes: u64,
}

/// A command whose output was being followed when the last server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Followed {
    pub(crate) sandbox: SandboxId,
    pub(crate) exec: ExecId,
    pub(crate) next: u64,
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

#[derive(Debug)]
enum Operation {
    Append { portion: Portion, answer: Answer<()> },
    Read { sandbox: SandboxId, query: LogQuery, limit: u32, answer: Answer<Vec<LogEntry>> },
    Forget { sandbox: SandboxId },
    Retain { sandboxes: HashSet<SandboxId>, answer: Answer<Vec<Followed>> },
}

impl LogStore {
    /// Opens the database at `path`, or one in memory.
    pub(crate) async fn open(path: Option<&Path>, tasks: &TaskTracker) -> Result<Self, StoreError> {
        let options = match path {
            Some(path) => SqliteConnectOptions::new()
                .filename(path)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Normal),
            None => SqliteConnectOptions::new().filename(":memory:"),
        };
        let name = path.unwrap_or(Path::new(":memory:")).display().to_string();
        let failed = |source| StoreError::Open { path: name, source: Arc::new(source) };
        let opened = async {
            let mut connection = options.disable_statement_logging().connect().await?;
            sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
            Ok(connection)
        };
        let connection = opened.await.map_err(failed)?;
        let (operations, queue) = mpsc::channel(QUEUE);
        let (written, seen) = watch::channel(0);
        tasks.spawn(work(connection, queue, written));
        Ok(Self { operations, written: seen, having: Arc::default() })
    }

    /// Writes a portion down.
    pub(crate) async fn append(&self, portion: Portion) -> Result<(), StoreError> {
        self.having().insert(portion.sandbox);
        self.ask(|answer| Operation::Append { portion, answer }).await
    }

    /// At most `limit` entries of a sandbox, in order.
    pub(crate) async fn read(
        &self,
        sandbox: SandboxId,
        query: LogQuery,
        limit: u32,
    ) -> Result<Vec<LogEntry>, StoreError> {
        self.ask(|answer| Operation::Read { sandbox, query, limit, answer }).await
    }

    /// Removes all that a sandbox's log holds, soon.
    pub(crate) fn forget(&self, sandbox: SandboxId) {
        if self.having().remove(&sandbox) {
            // Full or closed: what stays is removed at the next start.
            self.operations.try_send(Operation::Forget { sandbox }).ok();
        }
    }

    /// Removes the logs of all other sandboxes, and says which commands are still to be followed.
    pub(crate) async fn retain(
        &self,
        sandboxes: HashSet<SandboxId>,
    ) -> Result<Vec<Followed>, StoreError> {
        self.having().clone_from(&sandboxes);
        self.ask(|answer| Operation::Retain { sandboxes, answer }).await
    }

    fn having(&self) -> MutexGuard<'_, HashSet<SandboxId>> {
        self.having.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever something was written, and ends with the store.
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.written.clone()
    }

    async fn ask<T>(
        &self,
        operation: impl FnOnce(Answer<T>) -> Operation,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.operations.send(operation(answer)).await;
        sent.map_err(|_closed| StoreError::Closed)?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// Does what is asked until the last handle is gone.
async fn work(
    mut connection: SqliteConnection,
    mut queue: mpsc::Receiver<Operation>,
    written: watch::Sender<u64>,
) {
    while let Some(operation) = queue.recv().await {
        match operation {
            Operation::Append { portion, answer } => {
                let done = append(&mut connection, &portion).await;
                if done.is_ok() {
                    written.send_modify(|count| *count += 1);
                }
                // Whoever asked may have gone.
                answer.send(done.map_err(StoreError::query("write"))).ok();
            }
            Operation::Read { sandbox, query, limit, answer } => {
                let found = read(&mut connection, sandbox, query, limit).await;
                answer.send(found.map_err(StoreError::query("read"))).ok();
            }
            Operation::Forget { sandbox } => {
                if let Err(error) = forget(&mut connection, sandbox.as_str()).await {
                    tracing::warn!(sandbox.id = %sandbox, %error, "its log is not removed yet");
                }
            }
            Operation::Retain { sandboxes, answer } => {
                let kept = retain(&mut connection, &sandboxes).await;
                answer.send(kept.map_err(StoreError::query("read"))).ok();
            }
        }
    }
}

async fn append(connection: &mut SqliteConnection, portion: &Portion) -> Result<(), sqlx::Error> {
    transaction(connection, async |connection| add(connection, portion).await).await
}

async fn add(connection: &mut SqliteConnection, portion: &Portion) -> Result<(), sqlx::Error> {
    let sandbox = portion.sandbox.as_str();
    let mut bytes = 0;
    for (source, data) in &portion.pieces {
        sqlx::query(
            "INSERT INTO entries (sandbox, time, exec, source, data) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(sandbox)
        .bind(signed(portion.time.as_millis()))
        .bind(portion.exec.as_str())
        .bind(source.number())
        .bind(&data[..])
        .execute(&mut *connection)
        .await?;
        bytes += data.len() as u64 + OVERHEAD_BYTES;
    }
    match portion.next {
        Some(next) => {
            sqlx::query("INSERT OR REPLACE INTO followed (exec, sandbox, next) VALUES (?, ?, ?)")
                .bind(portion.exec.as_str())
                .bind(sandbox)
                .bind(signed(next))
        }
        None => sqlx::query("DELETE FROM followed WHERE exec = ?").bind(portion.exec.as_str()),
    }
    .execute(&mut *connection)
    .await?;
    let size: i64 = sqlx::query(
        "INSERT INTO sizes (sandbox, bytes) VALUES (?, ?)
         ON CONFLICT (sandbox) DO UPDATE SET bytes = bytes + excluded.bytes RETURNING bytes",
    )
    .bind(sandbox)
    .bind(signed(bytes))
    .fetch_one(&mut *connection)
    .await?
    .get(0);
    let most = portion.most_bytes;
    if size > signed(most.saturating_add(most / SLACK)) {
        shorten(connection, sandbox, signed(most)).await?;
    }
    Ok(())
}

/// Removes the oldest entries of a sandbox until at most `most` bytes are left.
async fn shorten(
    connection: &mut SqliteConnection,
    sandbox: &str,
    most: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM entries WHERE sandbox = ?1 AND seq <= (
             SELECT max(seq) FROM (
                 SELECT seq, sum(length(data) + ?3) OVER (ORDER BY seq DESC) AS behind
                 FROM entries WHERE sandbox = ?1
             ) WHERE behind > ?2
         )",
    )
    .bind(sandbox)
    .bind(most)
    .bind(signed(OVERHEAD_BYTES))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE sizes SET bytes = (
             SELECT coalesce(sum(length(data) + ?2), 0) FROM entries WHERE sandbox = ?1
         ) WHERE sandbox = ?1",
    )
    .bind(sandbox)
    .bind(signed(OVERHEAD_BYTES))
    .execute(connection)
    .await?;
    Ok(())
}

async fn read(
    connection: &mut SqliteConnection,
    sandbox: SandboxId,
    query: LogQuery,
    limit: u32,
) -> Result<Vec<LogEntry>, sqlx::Error> {
    let exec = query.exec.map(|exec| exec.to_string());
    let rows = sqlx::query(
        "SELECT seq, time, exec, source, data FROM entries
         WHERE sandbox = ?1 AND seq > ?2 AND (?3 IS NULL OR exec = ?3) ORDER BY seq LIMIT ?4",
    )
    .bind(sandbox.as_str())
    .bind(signed(query.after))
    .bind(exec)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows.iter().filter_map(entry).collect())
}

fn entry(row: &SqliteRow) -> Option<LogEntry> {
    Some(LogEntry {
        seq: unsigned(row.get(0)),
        time: Timestamp::from_millis(unsigned(row.get(1))),
        exec: row.get::<&str, _>(2).parse().ok()?,
        source: LogSource::from_number(row.get(3))?,
        data: row.get::<Vec<u8>, _>(4).into(),
    })
}

async fn forget(connection: &mut SqliteConnection, sandbox: &str) -> Result<(), sqlx::Error> {
    let forgotten = transaction(connection, async |connection| {
        for statement in [
            "DELETE FROM entries WHERE sandbox = ?",
            "DELETE FROM followed WHERE sandbox = ?",
            "DELETE FROM sizes WHERE sandbox = ?",
        ] {
            sqlx::query(statement).bind(sandbox).execute(&mut *connection).await?;
        }
        Ok(())
    });
    forgotten.await
}

async fn retain(
    connection: &mut SqliteConnection,
    sandboxes: &HashSet<SandboxId>,
) -> Result<Vec<Followed>, sqlx::Error> {
    let known = sqlx::query("SELECT sandbox FROM sizes").fetch_all(&mut *connection).await?;
    for row in known {
        let sandbox: String = row.get(0);
        if !sandbox.parse().is_ok_and(|id| sandboxes.contains(&id)) {
            forget(connection, &sandbox).await?;
        }
    }
    let rows =
        sqlx::query("SELECT sandbox, exec, next FROM followed").fetch_all(connection).await?;
    let followed = |row: &SqliteRow| {
        Some(Followed {
            sandbox: row.get::<&str, _>(0).parse().ok()?,
            exec: row.get::<&str, _>(1).parse().ok()?,
            next: unsigned(row.get(2)),
        })
    };
    Ok(rows.iter().filter_map(followed).collect())
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portion(sandbox: SandboxId, exec: ExecId, text: &str, most_bytes: u64) -> Portion {
        let pieces = vec![(LogSource::Stdout, Bytes::copy_from_slice(text.as_bytes()))];
        let time = Timestamp::from_millis(7);
        Portion { sandbox, exec, time, pieces, next: Some(text.len() as u64), most_bytes }
    }

    async fn open() -> LogStore {
        LogStore::open(None, &TaskTracker::new()).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_written_is_read_in_order_and_by_command() {
        let logs = open().await;
        let sandbox = SandboxId::mint();
        let execs = [ExecId::mint(), ExecId::mint()];
        for (exec, text) in [(execs[0], "a"), (execs[1], "b"), (execs[0], "c")] {
            logs.append(portion(sandbox, exec, text, 1 << 20)).await.unwrap();
        }
        logs.append(portion(SandboxId::mint(), execs[0], "elsewhere", 1 << 20)).await.unwrap();
        let read = async |query| {
            let entries = logs.read(sandbox, query, 10).await.unwrap();
            let text = |entry: &LogEntry| String::from_utf8_lossy(&entry.data).into_owned();
            (entries.iter().map(text).collect::<String>(), entries)
        };
        let (text, entries) = read(LogQuery::default()).await;
        assert_eq!(text, "abc");
        assert_eq!((entries[0].exec, entries[0].source), (execs[0], LogSource::Stdout));
        let query = LogQuery { exec: Some(execs[0]), ..LogQuery::default() };
        assert_eq!(read(query).await.0, "ac");
        let query = LogQuery { after: entries[0].seq, ..LogQuery::default() };
        assert_eq!(read(query).await.0, "bc");
    }

    #[tokio::test]
    async fn the_oldest_goes_when_there_is_too_much() {
        let logs = open().await;
        let (sandbox, exec) = (SandboxId::mint(), ExecId::mint());
        for number in 0..100 {
            let text = format!("{number:0>872}");
            logs.append(portion(sandbox, exec, &text, 10_000)).await.unwrap();
        }
        let kept = logs.read(sandbox, LogQuery::default(), 1000).await.unwrap();
        assert!((10..=12).contains(&kept.len()), "{}", kept.len());
        assert!(kept.last().unwrap().data.ends_with(b"99"));
    }

    #[tokio::test]
    async fn a_command_is_followed_until_it_has_ended() {
        let logs = open().await;
        let (sandbox, gone) = (SandboxId::mint(), SandboxId::mint());
        let execs = [ExecId::mint(), ExecId::mint(), ExecId::mint()];
        logs.append(portion(sandbox, execs[0], "four", 100)).await.unwrap();
        logs.append(portion(sandbox, execs[1], "", 100)).await.unwrap();
        let ended = Portion { next: None, ..portion(sandbox, execs[1], "", 100) };
        logs.append(ended).await.unwrap();
        logs.append(portion(gone, execs[2], "x", 100)).await.unwrap();
        let followed = logs.retain(HashSet::from([sandbox])).await.unwrap();
        assert_eq!(followed, [Followed { sandbox, exec: execs[0], next: 4 }]);
        assert!(logs.read(gone, LogQuery::default(), 9).await.unwrap().is_empty());
    }
}
