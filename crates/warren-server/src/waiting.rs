//! Connections from inside of sandboxes that wait to be taken by their callers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use warren_core::{id::SandboxId, runtime::Duplex};

/// How many of one listener wait.
const MOST: usize = 64;

type Place = (SandboxId, u16);

/// Those of all listeners.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    of: Arc<Mutex<HashMap<Place, Connections>>>,
    last: Arc<AtomicU64>,
}

/// Those of one listener, by their numbers.
type Connections = HashMap<u64, Held>;

/// One connection.
struct Held {
    stream: Box<dyn Duplex>,
    since: Instant,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("since", &self.since).finish_non_exhaustive()
    }
}

/// The way of one listener to those who take its connections. They go when it goes.
#[derive(Debug)]
pub(crate) struct Way {
    place: Place,
    waiting: Waiting,
}

impl Waiting {
    /// The way of a listener.
    pub(crate) fn way(&self, id: SandboxId, port: u16) -> Way {
        Way { place: (id, port), waiting: self.clone() }
    }

    /// A connection, once.
    pub(crate) fn take(&self, place: Place, number: u64) -> Option<Box<dyn Duplex>> {
        Some(self.lock().get_mut(&place)?.remove(&number)?.stream)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Connections>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Way {
    /// Whether one more may wait.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.lock().get(&self.place).is_none_or(|held| held.len() < MOST)
    }

    /// Lets a connection wait, and gives its number.
    pub(crate) fn put(&self, stream: Box<dyn Duplex>) -> u64 {
        let number = self.waiting.last.fetch_add(1, Ordering::Relaxed) + 1;
        let held = Held { stream, since: Instant::now() };
        self.waiting.lock().entry(self.place).or_default().insert(number, held);
        number
    }

    /// Closes those that nobody has taken.
    pub(crate) fn forget_older_than(&self, patience: Duration) {
        if let Some(held) = self.waiting.lock().get_mut(&self.place) {
            held.retain(|_, held| held.since.elapsed() < patience);
        }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_taken_once_and_goes_with_its_listener() {
        let waiting = Waiting::default();
        let place = ("sb-aaaaaaaaaaaaaaaa".parse().unwrap(), 80);
        let stream = || Box::new(tokio::io::duplex(1).0) as Box<dyn Duplex>;
        let way = waiting.way(place.0, place.1);
        let (one, two) = (way.put(stream()), way.put(stream()));
        assert!(waiting.take((place.0, 81), one).is_none());
        assert!(waiting.take(place, one).is_some());
        assert!(waiting.take(place, one).is_none());
        assert!(way.has_room());
        (2..=MOST).for_each(|_| assert!(way.put(stream()) > two));
        assert!(!way.has_room());
        way.forget_older_than(Duration::ZERO);
        assert!(way.has_room() && waiting.take(place, two).is_none());
        way.put(stream());
        drop(way);
        assert!(waiting.lock().is_empty());
    }
}
