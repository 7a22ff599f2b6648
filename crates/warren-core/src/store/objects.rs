//! What is kept beside sandboxes: rows that the server holds in memory as well, each of a kind
//! that knows the form of its document.

use sqlx::{Row, SqliteConnection};

use super::{StoreError, access::synced, transaction::transaction};
use crate::caller::Owner;

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ObjectKind {
    Snapshot,
    Template,
    Volume,
    Build,
    BuildStep,
    Secret,
    Credentials,
    Domain,
    Git,
    Rescue,
    Identity,
}

impl ObjectKind {
    const ALL: [Self; 11] = [
        Self::Snapshot,
        Self::Template,
        Self::Volume,
        Self::Build,
        Self::BuildStep,
        Self::Secret,
        Self::Credentials,
        Self::Domain,
        Self::Git,
        Self::Rescue,
        Self::Identity,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Template => "template",
            Self::Volume => "volume",
            Self::Build => "build",
            Self::BuildStep => "build_step",
            Self::Secret => "secret",
            Self::Credentials => "credentials",
            Self::Domain => "domain",
            Self::Git => "git",
            Self::Rescue => "rescue",
            Self::Identity => "identity",
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) kind: ObjectKind,
    /// Unique within its kind.
    pub(crate) id: String,
    pub(crate) owner: Owner,
    /// JSON.
    pub(crate) record: String,
}

/// A change that somebody waits for: all of it or none.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectChange {
    /// Written, in place of what has the same kind and id.
    pub(crate) put: Vec<Object>,
    /// Removed; what is gone is no error.
    pub(crate) remove: Vec<(ObjectKind, String)>,
    /// Whether it must survive the machine and not this process alone.
    pub(crate) durable: bool,
}

/// Writes a change in one transaction, and syncs it where it is to be durable.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    change: ObjectChange,
) -> Result<(), StoreError> {
    match change.durable {
        true => synced(connection, async |connection| apply(connection, change).await).await,
        false => apply(connection, change).await,
    }
}

async fn apply(connection: &mut SqliteConnection, change: ObjectChange) -> Result<(), StoreError> {
    let written = transaction(connection, async |connection| rows(connection, change).await);
    written.await.map_err(StoreError::query("write"))
}

async fn rows(connection: &mut SqliteConnection, change: ObjectChange) -> Result<(), sqlx::Error> {
    for Object { kind, id, owner, record } in change.put {
        sqlx::query("INSERT OR REPLACE INTO objects (kind, id, owner, record) VALUES (?, ?, ?, ?)")
            .bind(kind.name())
            .bind(id)
            .bind(owner.as_str().to_owned())
            .bind(record)
            .execute(&mut *connection)
            .await?;
    }
    for (kind, id) in change.remove {
        sqlx::query("DELETE FROM objects WHERE kind = ? AND id = ?")
            .bind(kind.name())
            .bind(id)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Every row. One of a kind that this version does not know is left alone.
pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Vec<Object>, StoreError> {
    let rows = sqlx::query("SELECT kind, id, owner, record FROM objects")
        .fetch_all(connection)
        .await
        .map_err(StoreError::query("read"))?;
    let object = |row: &sqlx::sqlite::SqliteRow| {
        let name: &str = row.get(0);
        Some(Object {
            kind: ObjectKind::ALL.into_iter().find(|kind| kind.name() == name)?,
            id: row.get(1),
            owner: Owner::new(row.get(2)),
            record: row.get(3),
        })
    };
    Ok(rows.iter().filter_map(object).collect())
}
