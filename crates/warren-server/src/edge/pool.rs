//! Connections to ports that wait for the next request.
//!
//! A connection holds the network of its guest: none may stay when the guest goes. So each sandbox
//! that has any is watched, and its connections are closed when it does not run any more.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::Poll,
    time::{Duration, Instant},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warren_core::{id::SandboxId, sandboxes::Visit, state::State};

use super::{h2c, link::Link};

/// For how long a connection waits.
const KEPT: Duration = Duration::from_secs(30);

/// How many of one port do.
const MOST: usize = 64;

/// The connections of all sandboxes.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    rooms: Arc<Mutex<HashMap<SandboxId, Arc<Room>>>>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// The connections of one sandbox, for as long as it runs.
#[derive(Debug, Default)]
pub(super) struct Room {
    ports: Mutex<Ports>,
    /// Cancelled when the sandbox does not run any more.
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Ports {
    closed: bool,
    of: HashMap<u16, Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    idle: Vec<(Link, Instant)>,
    /// What is known of the port's HTTP/2.
    h2: h2c::Known,
}

/// Where a connection goes when its answer has come.
#[derive(Debug)]
pub(super) struct Home {
    room: Weak<Room>,
    port: u16,
}

impl Pool {
    pub(super) fn new(tasks: TaskTracker, stopping: CancellationToken) -> Self {
        Self { rooms: Arc::default(), tasks, stopping }
    }

    /// The connections of a sandbox, which is watched from now on.
    pub(super) fn room(&self, visit: &Visit) -> Arc<Room> {
        let id = visit.sandbox().id;
        let mut rooms = lock(&self.rooms);
        if let Some(room) = rooms.get(&id) {
            return Arc::clone(room);
        }
        let room = Arc::new(Room::default());
        rooms.insert(id, Arc::clone(&room));
        drop(rooms);
        let (rooms, watched) = (Arc::clone(&self.rooms), Arc::clone(&room));
        let (visit, stopping) = (visit.clone(), self.stopping.clone());
        self.tasks.spawn(async move {
            stopping.run_until_cancelled(watched.until_unused(&visit)).await;
            lock(&rooms).remove(&id);
            watched.close();
        });
        room
    }
}

impl Room {
    /// A connection to this port that waits for a request, where there is one that still works.
    pub(super) async fn take(&self, port: u16) -> Option<Link> {
        loop {
            let mut link = lock(&self.ports).of.get_mut(&port)?.idle.pop()?.0;
            if poll_fn(|cx| Poll::Ready(link.is_ready(cx))).await {
                return Some(link);
            }
        }
    }

    /// The way back for a connection to this port.
    pub(super) fn home(self: &Arc<Self>, port: u16) -> Arc<Home> {
        Arc::new(Home { room: Arc::downgrade(self), port })
    }

    /// What is known of the port's HTTP/2.
    pub(super) fn h2(&self, port: u16) -> h2c::Known {
        lock(&self.ports).of.get(&port).map(|kept| kept.h2.clone()).unwrap_or_default()
    }

    /// Remembers it.
    pub(super) fn learn_h2(&self, port: u16, known: h2c::Known) {
        let mut ports = lock(&self.ports);
        if !ports.closed {
            ports.of.entry(port).or_default().h2 = known;
        }
    }

    /// Says when the sandbox does not run any more.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Returns when the sandbox does not run any more, or when none of its connections was used
    /// for a while.
    async fn until_unused(&self, visit: &Visit) {
        let mut published = visit.watch();
        loop {
            let rests = published.wait_for(|sandbox| sandbox.state != State::Running);
            match tokio::time::timeout(KEPT, rests).await {
                Ok(_rests_or_is_gone) => return,
                Err(_still_runs) if self.prune() => return,
                Err(_still_used) => {}
            }
        }
    }

    /// Closes what has waited for too long. Says whether nothing is left.
    fn prune(&self) -> bool {
        let mut ports = lock(&self.ports);
        for kept in ports.of.values_mut() {
            kept.idle.retain(|(_, since)| since.elapsed() < KEPT);
            if !kept.h2.is_open() {
                // Another server may listen by now: who asks next finds out anew.
                kept.h2 = h2c::Known::Nothing;
            }
        }
        ports.of.retain(|_, kept| !kept.idle.is_empty() || kept.h2.is_open());
        ports.closed = ports.of.is_empty();
        ports.closed
    }

    fn close(&self) {
        let mut ports = lock(&self.ports);
        ports.closed = true;
        ports.of.clear();
        self.closed.cancel();
    }
}

impl Home {
    /// Keeps a connection for the next request.
    pub(super) fn give_back(&self, link: Link) {
        let Some(room) = self.room.upgrade() else { return };
        let mut ports = lock(&room.ports);
        if ports.closed {
            return;
        }
        let kept = ports.of.entry(self.port).or_default();
        if kept.idle.len() < MOST {
            kept.idle.push((link, Instant::now()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_port_does_not_speak_is_forgotten_while_others_use_it() {
        let room = Arc::new(Room::default());
        let (near, _far) = tokio::io::duplex(1024);
        room.home(3000).give_back(Link::open(Box::new(near)).await.unwrap());
        room.learn_h2(3000, h2c::Known::Http1);
        assert!(!room.prune(), "a connection waits");
        assert!(matches!(room.h2(3000), h2c::Known::Nothing));
    }
}
