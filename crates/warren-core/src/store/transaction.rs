//! Transactions of more than one statement.

use sqlx::SqliteConnection;

/// Has all of what `work` does, or nothing.
///
/// Not by sqlx's own transactions: SQLite ends one by itself when the disk is full. sqlx counts
/// itself in one from then on, opens savepoints in place of transactions, and after the next
/// failure commits nothing any more.
///
/// # Errors
///
/// What `work` or a statement around it failed with; no transaction is open then.
pub(crate) async fn transaction<T>(
    connection: &mut SqliteConnection,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let done = match work(connection).await {
        Ok(done) => sqlx::query("COMMIT").execute(&mut *connection).await.map(|_rows| done),
        Err(error) => Err(error),
    };
    if done.is_err()
        && let Err(error) = sqlx::query("ROLLBACK").execute(connection).await
    {
        tracing::debug!(%error, "nothing to roll back");
    }
    done
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, Row as _};

    use super::*;

    async fn count(connection: &mut SqliteConnection) -> i64 {
        let row = sqlx::query("SELECT count(*) FROM t").fetch_one(connection).await;
        row.unwrap().get(0)
    }

    async fn insert(connection: &mut SqliteConnection, bytes: i64) -> Result<(), sqlx::Error> {
        let insert = sqlx::query("INSERT INTO t SELECT zeroblob(?)").bind(bytes);
        insert.execute(connection).await.map(drop)
    }

    #[tokio::test]
    async fn after_the_disk_was_full_the_next_transaction_is_committed() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::query("CREATE TABLE t (x)").execute(&mut connection).await.unwrap();
        sqlx::query("PRAGMA max_page_count = 8").execute(&mut connection).await.unwrap();
        for _ in 0..3 {
            let failed = transaction(&mut connection, async |connection| {
                insert(connection, 10).await?;
                insert(connection, 1_000_000).await
            });
            let error = failed.await.unwrap_err();
            assert_eq!(error.as_database_error().unwrap().code().unwrap(), "13", "{error}");
        }
        transaction(&mut connection, async |connection| insert(connection, 10).await)
            .await
            .unwrap();
        // Only outside of a transaction it may be changed.
        sqlx::query("PRAGMA synchronous = FULL").execute(&mut connection).await.unwrap();
        assert_eq!(count(&mut connection).await, 1);
    }
}
