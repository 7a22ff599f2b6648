//! How many connections there are, in all and of each neighbour.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::rate::neighbourhood;

/// The connections of TCP listeners.
#[derive(Clone, Debug)]
pub(crate) struct Crowd {
    most: u32,
    most_of_one: u32,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    of: HashMap<IpAddr, u32>,
}

/// A place for one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    of: IpAddr,
    counts: Arc<Mutex<Counts>>,
}

impl Crowd {
    pub(crate) fn new(most: u32, most_of_one: u32) -> Self {
        Self { most, most_of_one, counts: Arc::default() }
    }

    /// A place for a connection from this address, if there is one left.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Place> {
        let of = neighbourhood(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.of.get(&of).copied().unwrap_or_default();
        if counts.all >= self.most || own >= self.most_of_one {
            return None;
        }
        counts.all += 1;
        counts.of.insert(of, own + 1);
        Some(Place { of, counts: Arc::clone(&self.counts) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(own) = counts.of.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                counts.of.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places() {
        let crowd = Crowd::new(3, 2);
        let enter = |address: &str| crowd.enter(address.parse().unwrap());
        let (first, _second) = (enter("192.0.2.1").unwrap(), enter("192.0.2.1").unwrap());
        assert!(enter("192.0.2.1").is_none(), "its own are taken");
        let _third = enter("192.0.2.2").unwrap();
        assert!(enter("192.0.2.3").is_none(), "all are taken");
        drop(first);
        assert!(enter("192.0.2.1").is_some());
        assert_eq!(crowd.counts.lock().unwrap().all, 2);
    }
}
