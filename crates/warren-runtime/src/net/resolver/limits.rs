//! How much at once, in all and for one source.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts what is under way.
#[derive(Debug)]
pub(in crate::net) struct Limits {
    most: usize,
    most_of_one: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    of_one: HashMap<IpAddr, usize>,
}

/// Leave to do one thing; given back on drop.
#[derive(Debug)]
pub(in crate::net) struct Permit {
    limits: Arc<Limits>,
    source: IpAddr,
}

impl Limits {
    pub(in crate::net) fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_one, counts: Mutex::default() })
    }

    /// Leave for `source` to do one more thing, unless there is too much already.
    pub(in crate::net) fn admit(self: &Arc<Self>, source: IpAddr) -> Option<Permit> {
        let mut counts = self.counts();
        let of_one = counts.of_one.get(&source).copied().unwrap_or(0);
        if counts.all >= self.most || of_one >= self.most_of_one {
            return None;
        }
        counts.all += 1;
        counts.of_one.insert(source, of_one + 1);
        drop(counts);
        Some(Permit { limits: Arc::clone(self), source })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.limits.counts();
        counts.all = counts.all.saturating_sub(1);
        if let Some(of_one) = counts.of_one.get_mut(&self.source) {
            *of_one = of_one.saturating_sub(1);
            if *of_one == 0 {
                counts.of_one.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_take_everything_and_gets_its_share_back() {
        let limits = Limits::new(3, 2);
        let (greedy, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = limits.admit(greedy).unwrap();
        let _second = limits.admit(greedy).unwrap();
        assert!(limits.admit(greedy).is_none());
        let _others = limits.admit(other).unwrap();
        assert!(limits.admit(other).is_none(), "three in all");
        drop(first);
        assert!(limits.admit(other).is_some());
        assert!(limits.admit(greedy).is_some());
    }

    #[test]
    fn nothing_is_kept_about_sources_that_are_done() {
        let limits = Limits::new(10, 10);
        drop(limits.admit([10, 0, 0, 1].into()));
        assert!(limits.counts().of_one.is_empty());
    }
}
