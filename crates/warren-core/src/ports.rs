//! Ports that are opened and closed in sandboxes, noticed while somebody follows the events.
//!
//! The kernel tells nobody that a port is listened on, so there is no way but to look. Only the
//! sandboxes of those who follow are looked at, and for a small part of the time alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    caller::Owner,
    events::{Draft, EventKind},
    id::SandboxId,
    runtime::{Port, RuntimeError},
    sandbox::Sandbox,
    shared::Shared,
    state::State,
};

/// How often ports are looked at.
const EVERY: Duration = Duration::from_millis(500);

/// A look at all of them is followed by a pause this many times as long, at least.
const REST: u32 = 40;

/// How many changes of one sandbox are told at once, and how many more with each look that follows.
/// A guest may open and close as many ports as it likes, and the history of events is everybody's.
const BURST: usize = 64;
const MORE: usize = 1;

/// One sandbox of an owner, or all.
type Followed = (Owner, Option<SandboxId>);

/// Who follows events, and of which sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Followers {
    /// How many follow each.
    following: Arc<Mutex<HashMap<Followed, u32>>>,
    /// How many there are.
    count: watch::Sender<usize>,
}

/// Somebody who follows, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Following {
    what: Followed,
    followers: Followers,
}

impl Default for Followers {
    fn default() -> Self {
        Self { following: Arc::default(), count: watch::Sender::new(0) }
    }
}

impl Followers {
    /// Counts somebody who follows one sandbox of an owner, or all of them.
    pub(crate) fn follow(&self, owner: &Owner, sandbox: Option<SandboxId>) -> Following {
        let what = (owner.clone(), sandbox);
        self.change(|following| *following.entry(what.clone()).or_default() += 1);
        Following { what, followers: self.clone() }
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Followed, u32>)) {
        let mut following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut following);
        self.count.send_replace(following.len());
    }

    /// Whether somebody follows this sandbox.
    fn follow_this(&self, sandbox: &Sandbox) -> bool {
        let following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        [None, Some(sandbox.id)]
            .into_iter()
            .any(|which| following.contains_key(&(sandbox.owner.clone(), which)))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.followers.change(|following| {
            if let Some(count) = following.get_mut(&self.what) {
                *count -= 1;
                if *count == 0 {
                    following.remove(&self.what);
                }
            }
        });
    }
}

/// What was told of each sandbox.
type Known = HashMap<SandboxId, Told>;

/// The ports of a sandbox as far as they were told.
#[derive(Debug)]
struct Told {
    ports: BTreeSet<Port>,
    /// How many changes may be told now.
    allowance: usize,
}

impl Default for Told {
    fn default() -> Self {
        Self { ports: BTreeSet::new(), allowance: BURST }
    }
}

impl Told {
    /// The changes to `now` that may be told: kind and port. The rest come with later looks, where
    /// they are changes still.
    fn take(&mut self, now: &BTreeSet<Port>) -> Vec<(EventKind, Port)> {
        let has = |ports: &BTreeSet<Port>, number| ports.iter().any(|port| port.number == number);
        let gone = self.ports.iter().filter(|port| !has(now, port.number));
        let new = now.iter().filter(|port| !has(&self.ports, port.number));
        let gone = gone.map(|port| (EventKind::PortClosed, *port));
        let all = gone.chain(new.map(|port| (EventKind::PortOpened, *port)));
        let changes: Vec<_> = all.take(self.allowance).collect();
        for (kind, port) in &changes {
            match kind {
                EventKind::PortClosed => self.ports.remove(port),
                _ => self.ports.insert(*port),
            };
        }
        self.allowance = BURST.min(self.allowance.saturating_sub(changes.len()) + MORE);
        changes
    }
}

/// Looks, for as long as somebody follows, until dropped.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut count = shared.followers.count.subscribe();
    let mut known = Known::new();
    while count.wait_for(|count| *count > 0).await.is_ok() {
        let began = Instant::now();
        match look(&shared, &mut known).await {
            Ok(()) => {}
            // It never can.
            Err(RuntimeError::Unsupported { .. }) => return,
            Err(error) => tracing::debug!(%error, "ports are not looked at"),
        }
        tokio::time::sleep(EVERY.max(began.elapsed() * REST)).await;
    }
}

/// Looks once at all that somebody follows.
async fn look(shared: &Shared, known: &mut Known) -> Result<(), RuntimeError> {
    let handles = shared.all();
    known.retain(|id, _| handles.iter().any(|handle| handle.id() == *id));
    for handle in handles {
        let sandbox = handle.sandbox();
        match sandbox.state {
            State::Running if shared.followers.follow_this(&sandbox) => {}
            // Its ports are as they were.
            State::Running | State::Pausing | State::Paused | State::Resuming => continue,
            // That it has ended says that they are closed.
            _ => {
                known.remove(&sandbox.id);
                continue;
            }
        }
        let now: BTreeSet<Port> = match shared.runtime.ports(&sandbox.id).await {
            Ok(ports) => ports.into_iter().collect(),
            Err(error @ RuntimeError::Unsupported { .. }) => return Err(error),
            // It has ended meanwhile.
            Err(_gone) => continue,
        };
        let changes = known.entry(sandbox.id).or_default().take(&now);
        if !changes.is_empty() {
            // Not with the row: it may have changed while the ports were read.
            let events = changes.into_iter().map(|change| event(shared, &sandbox, change));
            shared.store.announce(events.collect());
        }
    }
    Ok(())
}

fn event(shared: &Shared, sandbox: &Sandbox, (kind, port): (EventKind, Port)) -> Draft {
    let mut detail = BTreeMap::from([
        ("port".to_owned(), port.number.to_string()),
        ("loopback".to_owned(), port.loopback.to_string()),
    ]);
    detail.extend(sandbox.name.clone().map(|name| ("name".to_owned(), name)));
    let time = shared.clock.now();
    Draft { time, kind, owner: sandbox.owner.clone(), sandbox: sandbox.id, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(numbers: impl IntoIterator<Item = u16>) -> BTreeSet<Port> {
        numbers.into_iter().map(|number| Port { number, loopback: true }).collect()
    }

    #[test]
    fn a_guest_that_opens_all_ports_is_told_of_bit_by_bit() {
        let mut told = Told::default();
        assert_eq!(told.take(&ports(1..=20_000)).len(), BURST);
        for _look in 0..100 {
            assert_eq!(told.take(&ports(1..=20_000)).len(), MORE);
        }
        // What has gone before it was told is not told at all.
        let mut left = told.take(&ports([])).len();
        for _look in 0..300 {
            left += told.take(&ports([])).len();
        }
        assert_eq!(left, BURST + 100 * MORE);
        assert_eq!(told.take(&ports(1..=100)).len(), BURST, "quiet times count");
    }
}
