//! What the daemon knows.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::daemon::pool::Pool;
use crate::filesystem::Watchers;
use crate::http::metrics::Meter;
use crate::process::Processes;

/// Everything that requests share.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) processes: Processes,
    pub(crate) watchers: Watchers,
    pub(crate) pool: Pool,
    pub(crate) tasks: Tasks,
    pub(crate) meter: Meter,
    /// Whether other users' ids can be taken on; if not, all runs as the one there is.
    pub(crate) switches_users: bool,
    sandbox: Mutex<Arc<Sandbox>>,
}

/// What `/init` says. Nothing of it is secret from the sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sandbox {
    /// Environment of every process.
    pub(crate) environment: BTreeMap<String, String>,
    /// Whom requests without a name run as.
    pub(crate) default_user: Option<String>,
    /// Where processes start that name no directory.
    pub(crate) default_directory: Option<String>,
    /// The sandbox's id.
    pub(crate) id: Option<String>,
}

impl Agent {
    pub(crate) fn new() -> Self {
        Self {
            processes: Processes::new(),
            watchers: Watchers::new(),
            pool: Pool::new(),
            tasks: Tasks,
            meter: Meter::new(),
            switches_users: warren_sys::users::may_switch_users(),
            sandbox: Mutex::default(),
        }
    }

    /// One that does nothing that blocks or starts: it reads requests, and refuses them.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn that_refuses() -> Self {
        Self { pool: Pool::that_refuses(), ..Self::new() }
    }

    pub(crate) fn sandbox(&self) -> Arc<Sandbox> {
        Arc::clone(&lock(&self.sandbox))
    }

    pub(crate) fn set_sandbox(&self, sandbox: Sandbox) {
        *lock(&self.sandbox) = Arc::new(sandbox);
    }
}

/// The time of day, for people; nothing depends on it.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that asks, for values shown to people"
)]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// A name that nobody else has: `prefix` and 16 hexadecimal digits.
///
/// # Errors
///
/// When the kernel has no randomness.
pub(crate) fn random_id(prefix: &str) -> io::Result<String> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{prefix}{:016x}", u64::from_ne_bytes(random)))
}

/// Locks, whatever happened to another holder: the values behind locks here are whole at every
/// step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tasks of the daemon. They end with it: a daemon that ends takes its sandbox along.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tasks;

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::runtime::Handle::current().spawn(task));
    }
}
