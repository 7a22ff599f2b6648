//! Looking after the rules: they must be there for as long as sandboxes are.
//!
//! Somebody else may remove them (`nft flush ruleset`, the restart of a firewall). The kernel
//! announces every change of packet filters, and a thread puts back what is missing.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::Duration,
};

use warren_sys::netlink::{Socket, nftables};

use super::{
    NetError,
    rules::{self, Rules},
    worker::Workers,
};

const OPERATION: &str = "look after the rules of sandboxes";
/// How often the rules are looked for when nothing is announced; also how long the thread of a
/// guard that was dropped stays.
const INTERVAL: Duration = Duration::from_secs(30);

/// The rules of one instance, installed.
#[derive(Debug)]
pub(super) struct Guard {
    rules: Rules,
    workers: Arc<Workers>,
    /// Kept open: when a socket of this kind is closed, the kernel waits for what earlier changes
    /// left to be cleared away, 10 ms and more, and every other change waits with it.
    looking: Mutex<Socket>,
    /// Whether the rules should be there; locked while they are changed.
    wanted: Mutex<bool>,
}

impl Guard {
    /// Installs the rules, in place of those that are there, and looks after them until it is
    /// dropped. They stay even then.
    pub(super) fn start(rules: Rules, workers: &Arc<Workers>) -> Result<Arc<Self>, NetError> {
        let events = workers.run(OPERATION, |_home| {
            let events = Socket::netfilter()?;
            events.subscribe(nftables::EVENTS)?;
            Ok((events, Socket::netfilter()?))
        })?;
        let (events, looking) = events.map_err(NetError::netlink(OPERATION))?;
        let (workers, looking) = (Arc::clone(workers), Mutex::new(looking));
        let guard = Arc::new(Self { rules, workers, looking, wanted: Mutex::new(true) });
        guard.change(rules::install)?;
        let weak = Arc::downgrade(&guard);
        spawn(weak, events).map_err(NetError::host(OPERATION))?;
        Ok(guard)
    }

    /// Puts the rules back if they are missing; returns whether they were.
    pub(super) fn ensure(&self) -> Result<bool, NetError> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if !*wanted || rules::installed(&self.rules, &mut looking)? {
            return Ok(false);
        }
        drop(looking);
        self.change(rules::install)?;
        Ok(true)
    }

    /// Removes the rules for good.
    pub(super) fn remove(&self) -> Result<(), NetError> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        *wanted = false;
        self.change(rules::remove)
    }

    /// Does something to the rules from the host's namespace.
    fn change<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Rules) -> Result<T, NetError> + Send + 'static,
    ) -> Result<T, NetError> {
        let rules = self.rules.clone();
        self.workers.run(OPERATION, move |_home| what(&rules))?
    }
}

fn spawn(guard: Weak<Guard>, events: Socket) -> io::Result<()> {
    let thread = thread::Builder::new().name("warren-rules".into());
    thread.spawn(move || watch(&guard, events)).map(|_detached| ())
}

/// Looks for the rules each time something changed, and now and then in any case.
fn watch(guard: &Weak<Guard>, mut events: Socket) {
    loop {
        let waited = events.wait(INTERVAL);
        let Some(guard) = guard.upgrade() else { return };
        match guard.ensure() {
            Ok(true) => tracing::warn!("somebody removed the rules of sandboxes; they are back"),
            Ok(false) => {}
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                tracing::error!(error = cause, "the rules of sandboxes may be missing: {error}");
            }
        }
        if let Err(error) = waited {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(error = cause, "changes of packet filters are not seen any more");
            return;
        }
    }
}
