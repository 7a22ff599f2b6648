//! How many requests to the ports of one sandbox are under way, and how many of them are strangers'.
//!
//! Whoever learns the name of a public port may fill what it is given and no more: half of the
//! places are for those who have a token, and no neighbourhood has more than an eighth.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use warren_core::id::SandboxId;
use warren_http::neighbourhood;

type Rooms = HashMap<SandboxId, Room>;

/// The requests that are under way.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    most: u32,
    rooms: Arc<Mutex<Rooms>>,
}

/// Those of one sandbox.
#[derive(Debug, Default)]
struct Room {
    all: u32,
    strangers: u32,
    of: HashMap<IpAddr, u32>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Somebody with a token.
    Guest,
    /// Somebody without one, from this address.
    Stranger(IpAddr),
}

/// The right to one request, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    id: SandboxId,
    who: Who,
    rooms: Arc<Mutex<Rooms>>,
}

impl Slots {
    pub(super) fn new(most: u32) -> Self {
        Self { most, rooms: Arc::default() }
    }

    /// Counts one more request to this sandbox; none where there are too many.
    pub(super) fn open(&self, id: SandboxId, who: Who) -> Option<Slot> {
        let mut rooms = lock(&self.rooms);
        let empty = Room::default();
        let room = rooms.get(&id).unwrap_or(&empty);
        let has_room = room.all < self.most
            && match who {
                Who::Guest => true,
                Who::Stranger(address) => {
                    let own = room.of.get(&neighbourhood(address)).copied().unwrap_or_default();
                    // From this machine itself come those of a proxy that nobody told us of.
                    let near = address.to_canonical().is_loopback();
                    room.strangers < self.most.div_ceil(2) && (near || own < (self.most / 8).max(1))
                }
            };
        if !has_room {
            return None;
        }
        let room = rooms.entry(id).or_default();
        room.all += 1;
        if let Who::Stranger(address) = who {
            room.strangers += 1;
            *room.of.entry(neighbourhood(address)).or_default() += 1;
        }
        drop(rooms);
        Some(Slot { id, who, rooms: Arc::clone(&self.rooms) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut rooms = lock(&self.rooms);
        let Some(room) = rooms.get_mut(&self.id) else { return };
        room.all -= 1;
        if let Who::Stranger(address) = self.who {
            room.strangers -= 1;
            let of = neighbourhood(address);
            if let Some(own) = room.of.get_mut(&of) {
                *own -= 1;
                if *own == 0 {
                    room.of.remove(&of);
                }
            }
        }
        if room.all == 0 {
            rooms.remove(&self.id);
        }
    }
}

fn lock(rooms: &Mutex<Rooms>) -> MutexGuard<'_, Rooms> {
    rooms.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sb-aaaaaaaaaaaaaaaa";

    fn open(slots: &Slots, who: Who, count: usize) -> Vec<Slot> {
        (0..count).map_while(|_| slots.open(ID.parse().unwrap(), who)).collect()
    }

    fn stranger(address: &str) -> Who {
        Who::Stranger(address.parse().unwrap())
    }

    #[test]
    fn strangers_leave_room_for_those_with_a_token() {
        let slots = Slots::new(32);
        let first = open(&slots, stranger("192.0.2.1"), 32);
        assert_eq!(first.len(), 4, "an eighth for a neighbourhood");
        let others: Vec<Slot> =
            (2..32).flat_map(|it| open(&slots, stranger(&format!("192.0.2.{it}")), 32)).collect();
        assert_eq!(first.len() + others.len(), 16, "half for all of them");
        assert_eq!(open(&slots, stranger("127.0.0.1"), 1).len(), 0);
        let guests = open(&slots, Who::Guest, 32);
        assert_eq!(guests.len(), 16, "and everything that is left for the others");
        drop((first, others));
        assert_eq!(open(&slots, stranger("2001:db8::1"), 32).len(), 4);
        assert_eq!(open(&slots, stranger("127.0.0.1"), 32).len(), 16, "many are behind a proxy");
        drop(guests);
        assert!(lock(&slots.rooms).is_empty(), "nothing is kept of what has ended");
    }

    #[test]
    fn a_few_places_are_some_for_everybody() {
        let slots = Slots::new(1);
        assert_eq!(open(&slots, stranger("192.0.2.1"), 2).len(), 1);
        assert_eq!(open(&slots, Who::Guest, 2).len(), 1);
    }
}
