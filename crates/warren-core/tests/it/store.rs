use tokio_util::task::TaskTracker;
use warren_core::store::{Store, StoreError};

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("warren.db");
    std::fs::write(&path, "this is not a database, however long it is".repeat(100)).unwrap();
    let error = Store::open(&path, &TaskTracker::new()).await.unwrap_err();
    assert!(matches!(error, StoreError::Open { .. } | StoreError::Migrate { .. }), "{error}");
}

#[tokio::test]
async fn a_database_opens_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("warren.db");
    for _ in 0..3 {
        let tasks = TaskTracker::new();
        let store = Store::open(&path, &tasks).await.unwrap();
        store.flush().await.unwrap();
        drop(store);
        tasks.close();
        tasks.wait().await;
    }
    assert!(path.exists());
}
