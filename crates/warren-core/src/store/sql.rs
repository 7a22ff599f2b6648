//! The statements.
//!
//! A transaction is one text with one JSON array per table, whatever its size: it is prepared
//! once, and the whole of it costs one trip to the database's thread.

use std::sync::Arc;

use sqlx::{
    Row, SqlSafeStr, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteRow,
};

use super::{EventQuery, Key, Loaded, Prune, StoreError, row};
use crate::{
    caller::Owner,
    events::{Event, EventKind},
};

/// The steps from an empty database to today's, in order. A step that was released never changes.
const MIGRATIONS: [(i64, &str, &str); 3] = [
    (1, "sandboxes", include_str!("../../migrations/0001_sandboxes.sql")),
    (2, "access", include_str!("../../migrations/0002_access.sql")),
    (3, "objects", include_str!("../../migrations/0003_objects.sql")),
];

pub(super) fn migrations() -> Migrator {
    let step = |(version, name, text): (i64, &'static str, &'static str)| {
        let simple = MigrationType::Simple;
        Migration::new(version, name.into(), simple, text.into_sql_str(), false)
    };
    Migrator::with_migrations(MIGRATIONS.map(step).to_vec())
}

const WRITE: &str = "
BEGIN IMMEDIATE;
INSERT INTO sandboxes (id, owner, state, created_at, ended_at, record)
    SELECT value ->> 'id', value ->> 'owner', value ->> 'state', value ->> 'created_at',
        value ->> 'ended_at', value -> 'record' FROM json_each(?) WHERE true
    ON CONFLICT (id) DO UPDATE
        SET state = excluded.state, ended_at = excluded.ended_at, record = excluded.record;
INSERT OR REPLACE INTO idempotency_keys (owner, key, fingerprint, sandbox_id, created_at)
    SELECT value ->> 'owner', value ->> 'key', value ->> 'fingerprint', value ->> 'sandbox_id',
        value ->> 'created_at' FROM json_each(?);
INSERT INTO events (seq, time, kind, owner, sandbox_id, detail)
    SELECT value ->> 'seq', value ->> 'time', value ->> 'kind', value ->> 'owner',
        value ->> 'sandbox_id', value -> 'detail' FROM json_each(?);
COMMIT";

const WRITE_AND_DELETE: &str = "
BEGIN IMMEDIATE;
INSERT INTO sandboxes (id, owner, state, created_at, ended_at, record)
    SELECT value ->> 'id', value ->> 'owner', value ->> 'state', value ->> 'created_at',
        value ->> 'ended_at', value -> 'record' FROM json_each(?) WHERE true
    ON CONFLICT (id) DO UPDATE
        SET state = excluded.state, ended_at = excluded.ended_at, record = excluded.record;
INSERT OR REPLACE INTO idempotency_keys (owner, key, fingerprint, sandbox_id, created_at)
    SELECT value ->> 'owner', value ->> 'key', value ->> 'fingerprint', value ->> 'sandbox_id',
        value ->> 'created_at' FROM json_each(?);
INSERT INTO events (seq, time, kind, owner, sandbox_id, detail)
    SELECT value ->> 'seq', value ->> 'time', value ->> 'kind', value ->> 'owner',
        value ->> 'sandbox_id', value -> 'detail' FROM json_each(?);
DELETE FROM sandboxes WHERE id IN (SELECT value FROM json_each(?));
COMMIT";

/// One transaction's worth of rows, each a JSON array.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) sandboxes: String,
    pub(super) keys: String,
    pub(super) events: String,
    /// Ids; none for none to delete.
    pub(super) deleted: Option<String>,
}

/// Writes everything or nothing.
pub(super) async fn write(connection: &mut SqliteConnection, rows: Rows) -> Result<(), StoreError> {
    let text = if rows.deleted.is_some() { WRITE_AND_DELETE } else { WRITE };
    let mut query = sqlx::query(text).bind(rows.sandboxes).bind(rows.keys).bind(rows.events);
    if let Some(deleted) = rows.deleted {
        query = query.bind(deleted);
    }
    let Err(error) = query.execute(&mut *connection).await else { return Ok(()) };
    // SQLite may have rolled back by itself: then this fails, and that is all it does.
    if let Err(error) = sqlx::query("ROLLBACK").execute(connection).await {
        tracing::debug!(%error, "nothing to roll back");
    }
    Err(StoreError::query("write")(error))
}

/// Removes what is too old.
pub(super) async fn prune(
    connection: &mut SqliteConnection,
    last_event: u64,
    prune: Prune,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM events WHERE seq <= ?")
        .bind(integer(last_event.saturating_sub(prune.events)))
        .execute(&mut *connection)
        .await
        .map_err(StoreError::query("write"))?;
    sqlx::query("DELETE FROM idempotency_keys WHERE created_at < ?")
        .bind(integer(prune.keys_before.as_millis()))
        .execute(connection)
        .await
        .map_err(StoreError::query("write"))?;
    Ok(())
}

/// The number of the last event ever written, 0 for none.
pub(super) async fn last_event(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT coalesce(max(seq), 0) FROM events")
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("read"))?;
    Ok(u64::try_from(row.get::<i64, _>(0)).unwrap_or_default())
}

/// Everything that a server needs to start.
pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Loaded, StoreError> {
    let rows = sqlx::query("SELECT id, owner, state, created_at, ended_at, record FROM sandboxes")
        .fetch_all(&mut *connection)
        .await
        .map_err(StoreError::query("read"))?;
    let mut loaded = Loaded::default();
    for row in rows {
        let columns = row::Columns {
            id: row.get(0),
            owner: row.get(1),
            state: row.get(2),
            created_at: row.get(3),
            ended_at: row.get(4),
            record: row.get(5),
        };
        let id = columns.id.clone();
        match columns.into_sandbox() {
            Some(sandbox) => loaded.sandboxes.push(sandbox),
            None => tracing::error!(sandbox.id = id, "a stored sandbox cannot be understood"),
        }
    }
    let rows =
        sqlx::query("SELECT owner, key, fingerprint, sandbox_id, created_at FROM idempotency_keys")
            .fetch_all(&mut *connection)
            .await
            .map_err(StoreError::query("read"))?;
    loaded.keys = rows.iter().filter_map(key).collect();
    (loaded.projects, loaded.api_keys) = super::access::load(&mut *connection).await?;
    loaded.objects = super::objects::load(connection).await?;
    Ok(loaded)
}

fn key(row: &SqliteRow) -> Option<Key> {
    Some(Key {
        owner: Owner::new(row.get(0)),
        key: row.get(1),
        fingerprint: row.get::<i64, _>(2).cast_unsigned(),
        sandbox: row.get::<String, _>(3).parse().ok()?,
        created_at: row::timestamp(row.get(4)),
    })
}

/// The events behind a number, in order.
pub(super) async fn events(
    connection: &mut SqliteConnection,
    query: EventQuery,
) -> Result<Vec<Arc<Event>>, StoreError> {
    let sandbox = query.sandbox.map(|id| id.to_string());
    let rows = sqlx::query(
        "SELECT seq, time, kind, owner, sandbox_id, detail FROM events
         WHERE seq > ?1 AND owner = ?2 AND (?3 IS NULL OR sandbox_id = ?3)
         ORDER BY seq LIMIT ?4",
    )
    .bind(integer(query.after))
    .bind(query.owner.as_str().to_owned())
    .bind(sandbox)
    .bind(query.limit)
    .fetch_all(connection)
    .await
    .map_err(StoreError::query("read"))?;
    rows.iter().map(event).collect()
}

fn event(row: &SqliteRow) -> Result<Arc<Event>, StoreError> {
    let seq: i64 = row.get(0);
    let unclear = || StoreError::Row { id: seq.to_string() };
    Ok(Arc::new(Event {
        seq: u64::try_from(seq).unwrap_or_default(),
        time: row::timestamp(row.get(1)),
        kind: EventKind::from_name(row.get(2)).ok_or_else(unclear)?,
        owner: Owner::new(row.get(3)),
        sandbox: row.get::<String, _>(4).parse().map_err(|_invalid| unclear())?,
        detail: serde_json::from_str(row.get(5)).map_err(|_invalid| unclear())?,
    }))
}

/// A number as SQLite's signed integer; what does not fit is as large as can be.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
