//! A core to test against, in a tokio runtime of its own: dropping that one is a kill -9.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::runtime::{Builder, Runtime as Tokio};
use tokio_util::task::TaskTracker;
use warren_core::{
    Caller, Sandboxes,
    access::ProjectQuota,
    config::Config,
    events::EventKind,
    fake::{FakeClock, FakeRuntime},
    sandbox::{Sandbox, Wanted},
    store::Store,
};

/// A moment in 2023.
const START: u64 = 1_700_000_000_000;

pub(crate) struct World {
    pub(crate) sandboxes: Sandboxes,
    pub(crate) runtime: Arc<FakeRuntime>,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) caller: Caller,
    config: Config,
    tokio: Option<Tokio>,
    pub(crate) directory: tempfile::TempDir,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::on(config, "", |_| {})
    }

    /// A core on what an earlier server has left: its database as statements, and its guests.
    pub(crate) fn on(
        config: Config,
        database: &'static str,
        plant: impl FnOnce(&FakeRuntime),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = Arc::new(FakeRuntime::default());
        plant(&runtime);
        let clock = Arc::new(FakeClock::at(START));
        let tokio = tokio();
        let path = directory.path().join("warren.db");
        if !database.is_empty() {
            tokio.block_on(write_database(&path, database));
        }
        let sandboxes = tokio.block_on(open(path, &runtime, &clock, &config));
        let caller = Caller::local();
        Self { sandboxes, runtime, clock, caller, config, tokio: Some(tokio), directory }
    }

    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.tokio.as_ref().unwrap().block_on(work)
    }

    /// Ends the server in an orderly way, lets something happen, and starts the next.
    pub(crate) fn restart(&mut self, meanwhile: impl FnOnce(&FakeRuntime)) {
        self.run(self.sandboxes.shut_down());
        self.crash(meanwhile);
    }

    /// Lets the server die at once, lets something happen, and starts the next.
    pub(crate) fn crash(&mut self, meanwhile: impl FnOnce(&FakeRuntime)) {
        self.tokio.take().unwrap().shutdown_timeout(Duration::from_secs(5));
        meanwhile(&self.runtime);
        let tokio = tokio();
        let path = self.directory.path().join("warren.db");
        self.sandboxes = tokio.block_on(open(path, &self.runtime, &self.clock, &self.config));
        self.tokio = Some(tokio);
    }

    /// Does something to the database behind the server's back.
    pub(crate) fn meddle(&self, statement: &'static str) {
        use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
        let options = SqliteConnectOptions::new().filename(self.directory.path().join("warren.db"));
        self.run(async {
            let mut connection = options.connect().await.unwrap();
            sqlx::query(statement).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    }

    pub(crate) fn create(&self) -> Arc<Sandbox> {
        self.create_as(Wanted::default())
    }

    pub(crate) fn create_as(&self, wanted: Wanted) -> Arc<Sandbox> {
        self.run(self.sandboxes.create(&self.caller, wanted, None)).unwrap().sandbox
    }

    /// Makes a project.
    pub(crate) fn project(&self, name: &str, quota: ProjectQuota) {
        self.run(self.sandboxes.create_project(&self.caller, name, quota)).unwrap();
    }

    pub(crate) fn get(&self, sandbox: &Sandbox) -> Arc<Sandbox> {
        self.sandboxes.get(&self.caller, sandbox.id.as_str()).unwrap()
    }

    /// The kinds of the first events of a sandbox.
    pub(crate) fn events(&self, sandbox: &Sandbox, count: usize) -> Vec<EventKind> {
        let mut events = self.sandboxes.events(&self.caller, Some(sandbox.id), Some(0));
        let mut kinds = Vec::new();
        let read = async {
            while kinds.len() < count {
                kinds.push(events.next().await.unwrap().unwrap().kind);
            }
        };
        self.run(async { tokio::time::timeout(Duration::from_secs(10), read).await }).unwrap();
        kinds
    }

    /// Waits until something is true, or fails the test.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let reached = async {
            while !holds(self) {
                tokio::task::yield_now().await;
            }
        };
        let reached =
            self.run(async { tokio::time::timeout(Duration::from_secs(10), reached).await });
        assert!(reached.is_ok(), "{what}");
    }
}

async fn write_database(path: &std::path::Path, statements: &'static str) {
    use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn tokio() -> Tokio {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn open(
    path: PathBuf,
    runtime: &Arc<FakeRuntime>,
    clock: &Arc<FakeClock>,
    config: &Config,
) -> Sandboxes {
    let store = Store::open(&path, &TaskTracker::new()).await.unwrap();
    Sandboxes::open(runtime.clone(), store, clock.clone(), config.clone()).await.unwrap()
}
