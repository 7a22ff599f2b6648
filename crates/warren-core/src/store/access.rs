//! Projects and keys as they are stored, and copies of the whole database.
//!
//! Unlike sandboxes, these survive their machine: each change is synced to the disk before it is
//! answered.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{StoreError, row::timestamp, sql::integer, transaction::transaction};
use crate::{
    access::{ApiKey, KeyHash, KeyScope, Project, ProjectName, ProjectQuota, StoredKey},
    clock::Timestamp,
    id::KeyId,
};

/// How files of copies begin that are being made.
const COPY: &str = "backup-";

/// A change that somebody waits for.
#[derive(Clone, Debug)]
pub(crate) enum AccessChange {
    AddProject(Project),
    SetQuota(ProjectName, ProjectQuota),
    /// What is kept of its past becomes nobody's: events stay, so that no number of theirs is
    /// given twice.
    RemoveProject(ProjectName),
    AddKey(StoredKey),
    RenameKey(KeyId, String),
    RemoveKey(KeyId),
}

/// Writes a change and syncs it.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    change: AccessChange,
) -> Result<(), StoreError> {
    synced(connection, async |connection| apply(connection, change).await).await
}

/// Has on the disk what `write` commits, when it returns.
pub(super) async fn synced(
    connection: &mut SqliteConnection,
    write: impl AsyncFnOnce(&mut SqliteConnection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    run(connection, "PRAGMA synchronous = FULL").await?;
    let written = write(connection).await;
    if let Err(error) = run(connection, "PRAGMA synchronous = NORMAL").await {
        // Later commits are slower than they need to be; this one is what was asked for.
        tracing::warn!(error = &error as &dyn std::error::Error, "{error}");
    }
    written
}

async fn run(connection: &mut SqliteConnection, text: &'static str) -> Result<(), StoreError> {
    sqlx::query(text).execute(connection).await.map(drop).map_err(StoreError::query("write"))
}

/// Each is one transaction.
async fn apply(connection: &mut SqliteConnection, change: AccessChange) -> Result<(), StoreError> {
    let query = match change {
        AccessChange::AddProject(Project { name, created_at, quota, .. }) => sqlx::query(
            "INSERT INTO projects (name, created_at, sandboxes, memory_bytes) VALUES (?, ?, ?, ?)",
        )
        .bind(name.to_string())
        .bind(integer(created_at.as_millis()))
        .bind(quota.sandboxes)
        .bind(quota.memory_bytes.map(integer)),
        AccessChange::SetQuota(name, quota) => {
            sqlx::query("UPDATE projects SET sandboxes = ?, memory_bytes = ? WHERE name = ?")
                .bind(quota.sandboxes)
                .bind(quota.memory_bytes.map(integer))
                .bind(name.to_string())
        }
        AccessChange::RemoveProject(name) => {
            return remove_project(connection, name.as_str()).await;
        }
        AccessChange::AddKey(StoredKey { key, hash }) => sqlx::query(
            "INSERT INTO api_keys (id, name, project, hash, prefix, created_at, expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(key.id.to_string())
        .bind(key.name)
        .bind(match key.scope {
            KeyScope::Project(name) => Some(name.to_string()),
            KeyScope::Metrics => None,
        })
        .bind(hash.0.to_vec())
        .bind(key.prefix)
        .bind(integer(key.created_at.as_millis()))
        .bind(key.expires_at.map(|end| integer(end.as_millis()))),
        AccessChange::RenameKey(id, name) => {
            sqlx::query("UPDATE api_keys SET name = ? WHERE id = ?").bind(name).bind(id.to_string())
        }
        AccessChange::RemoveKey(id) => {
            sqlx::query("DELETE FROM api_keys WHERE id = ?").bind(id.to_string())
        }
    };
    query.execute(connection).await.map(drop).map_err(StoreError::query("write"))
}

async fn remove_project(connection: &mut SqliteConnection, name: &str) -> Result<(), StoreError> {
    let removed = transaction(connection, async |connection| {
        for text in [
            "UPDATE events SET owner = '' WHERE owner = ?",
            "DELETE FROM idempotency_keys WHERE owner = ?",
            "DELETE FROM projects WHERE name = ?",
        ] {
            sqlx::query(text).bind(name.to_owned()).execute(&mut *connection).await?;
        }
        Ok(())
    });
    removed.await.map_err(StoreError::query("write"))
}

/// Writes down when a key was used.
pub(super) async fn note_use(
    connection: &mut SqliteConnection,
    id: KeyId,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE api_keys SET last_used_at = ? WHERE id = ?")
        .bind(integer(at.as_millis()))
        .bind(id.to_string())
        .execute(connection)
        .await
        .map(drop)
        .map_err(StoreError::query("write"))
}

/// All projects and keys. What cannot be understood is passed over with a line in the log.
pub(super) async fn load(
    connection: &mut SqliteConnection,
) -> Result<(Vec<Project>, Vec<StoredKey>), StoreError> {
    let rows = sqlx::query("SELECT name, created_at, sandboxes, memory_bytes FROM projects")
        .fetch_all(&mut *connection)
        .await
        .map_err(StoreError::query("read"))?;
    let projects = rows.iter().filter_map(|row| logged(row, "project", project(row))).collect();
    let rows = sqlx::query(
        "SELECT id, name, project, hash, prefix, created_at, expires_at, last_used_at FROM api_keys",
    )
    .fetch_all(connection)
    .await
    .map_err(StoreError::query("read"))?;
    let keys = rows.iter().filter_map(|row| logged(row, "API key", key(row))).collect();
    Ok((projects, keys))
}

fn logged<T>(row: &SqliteRow, what: &'static str, read: Option<T>) -> Option<T> {
    if read.is_none() {
        let id: String = row.get(0);
        tracing::error!(id, "a stored {what} cannot be understood");
    }
    read
}

fn project(row: &SqliteRow) -> Option<Project> {
    Some(Project {
        name: row.get::<String, _>(0).parse().ok()?,
        created_at: timestamp(row.get(1)),
        quota: ProjectQuota {
            sandboxes: row.get::<Option<i64>, _>(2).and_then(|it| u32::try_from(it).ok()),
            memory_bytes: row.get::<Option<i64>, _>(3).and_then(|it| u64::try_from(it).ok()),
        },
        sandboxes: 0,
        memory_bytes: 0,
        keys: 0,
    })
}

fn key(row: &SqliteRow) -> Option<StoredKey> {
    let key = ApiKey {
        id: row.get::<String, _>(0).parse().ok()?,
        name: row.get(1),
        scope: match row.get::<Option<String>, _>(2) {
            Some(name) => KeyScope::Project(name.parse().ok()?),
            None => KeyScope::Metrics,
        },
        prefix: row.get(4),
        created_at: timestamp(row.get(5)),
        expires_at: row.get::<Option<i64>, _>(6).map(timestamp),
        last_used_at: row.get::<Option<i64>, _>(7).map(timestamp),
    };
    let hash: Vec<u8> = row.get(3);
    Some(StoredKey { key, hash: KeyHash(hash.try_into().ok()?) })
}

/// A copy of the database. Its file has no name any more: what is not read of it goes when this is
/// dropped.
#[derive(Debug)]
pub struct Backup {
    /// The copy, an SQLite database.
    pub file: File,
    /// How long it is, in bytes.
    pub length: u64,
}

/// Copies the database that `connection` reads into a nameless file beside it.
///
/// Only this user can read the copy: it holds environments of sandboxes.
pub(super) async fn copy(
    connection: &mut SqliteConnection,
    database: &Path,
) -> Result<Backup, StoreError> {
    let file = CopyFile::make(database).map_err(StoreError::copy)?;
    // It fills an empty file that it finds, whose mode stays.
    sqlx::query("VACUUM INTO ?")
        .bind(file.0.display().to_string())
        .execute(connection)
        .await
        .map_err(StoreError::query("copy"))?;
    file.open().map_err(StoreError::copy)
}

/// A copy under way; removed when dropped.
struct CopyFile(PathBuf);

impl CopyFile {
    fn make(database: &Path) -> io::Result<Self> {
        let name = format!("{COPY}{}", KeyId::mint());
        let path = database.with_file_name(name);
        File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self(path))
    }

    fn open(self) -> io::Result<Backup> {
        let file = File::open(&self.0)?;
        let length = file.metadata()?.len();
        Ok(Backup { file, length })
    }
}

impl Drop for CopyFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(%error, "a copy of the database was not removed; the next start does");
        }
    }
}

/// Removes the copies of a server that died while it made them.
pub(super) fn remove_copies(database: &Path) -> io::Result<()> {
    let Some(directory) = database.parent().filter(|it| !it.as_os_str().is_empty()) else {
        return Ok(());
    };
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(COPY.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
