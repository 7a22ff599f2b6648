//! How much at once, in all and for one source.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How much there may be, and how much of it one source has.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// How much in all.
    most: usize,
    /// How much one source has at most.
    most_of_one: usize,
    /// How much it has as long as there is any.
    few: usize,
}

impl Share {
    /// Whether a source may have one more that has `its` of `all`. Whoever has more than few leaves
    /// as much as it has, and a quarter of the whole: however many take what they can, there is
    /// something for the next.
    fn admits(self, all: usize, its: usize) -> bool {
        let free = self.most.saturating_sub(all);
        let shared = free.saturating_sub(self.most / 4);
        free > 0 && its < self.most_of_one && (its < self.few || its < shared)
    }
}

/// Counts what is under way.
#[derive(Debug)]
pub(in crate::net) struct Limits {
    share: Share,
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
        let few = (most_of_one / 32).max(2);
        let share = Share { most, most_of_one, few };
        Arc::new(Self { share, counts: Mutex::default() })
    }

    /// Leave for `source` to do one more thing, unless there is too much already.
    pub(in crate::net) fn admit(self: &Arc<Self>, source: IpAddr) -> Option<Permit> {
        let mut counts = self.counts();
        let of_one = counts.of_one.get(&source).copied().unwrap_or(0);
        if !self.share.admits(counts.all, of_one) {
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
    fn however_many_take_what_they_can_the_next_has_some() {
        let limits = Limits::new(1024, 128);
        let mut all = Vec::new();
        for number in 1..=60 {
            let source = IpAddr::from([10, 0, 0, number]);
            let own: Vec<_> = std::iter::from_fn(|| limits.admit(source)).collect();
            assert!((4..=128).contains(&own.len()), "{number}: {}", own.len());
            all.push(own);
        }
        assert_eq!(all[0].len(), 128);
    }

    #[test]
    fn nothing_is_kept_about_sources_that_are_done() {
        let limits = Limits::new(10, 10);
        drop(limits.admit([10, 0, 0, 1].into()));
        assert!(limits.counts().of_one.is_empty());
    }
}
