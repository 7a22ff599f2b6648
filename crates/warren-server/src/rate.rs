//! How often: buckets that fill at a steady rate and are emptied by requests.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many buckets are kept before full ones are let go.
const KEPT: usize = 1024;

/// The most that are kept: whoever comes from more addresses than this is not told apart.
const MOST: usize = 64 << 10;

/// A bucket for each of some callers.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    /// Requests a second.
    rate: f64,
    /// Requests at once.
    burst: f64,
    levels: Mutex<HashMap<K, Level>>,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    tokens: f64,
    at: Instant,
}

impl<K: Eq + Hash> Buckets<K> {
    pub(crate) fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, levels: Mutex::default() }
    }

    /// Takes one request out of the caller's bucket; an error says how long to wait for the next.
    pub(crate) fn take(&self, caller: K, now: Instant) -> Result<(), Duration> {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        if levels.len() >= KEPT && !levels.contains_key(&caller) {
            levels.retain(|_, level| self.filled(*level, now) < self.burst);
            if levels.len() >= MOST {
                levels.clear();
            }
        }
        let level = levels.entry(caller).or_insert(Level { tokens: self.burst, at: now });
        let tokens = self.filled(*level, now);
        if tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - tokens) / self.rate));
        }
        *level = Level { tokens: tokens - 1.0, at: now };
        Ok(())
    }

    /// How full a bucket is by now.
    fn filled(&self, level: Level, now: Instant) -> f64 {
        let since = now.saturating_duration_since(level.at).as_secs_f64();
        (level.tokens + since * self.rate).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (buckets, start) = (Buckets::new(2.0, 4.0), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        for _ in 0..4 {
            buckets.take("a", at(0)).unwrap();
        }
        assert_eq!(buckets.take("a", at(0)), Err(Duration::from_millis(500)));
        buckets.take("b", at(0)).unwrap();
        buckets.take("a", at(500)).unwrap();
        assert!(buckets.take("a", at(501)).is_err());
        for _ in 0..4 {
            buckets.take("a", at(60_000)).unwrap();
        }
        assert!(buckets.take("a", at(60_000)).is_err(), "more than a burst is never saved up");
    }

    #[test]
    fn full_buckets_are_let_go() {
        let (buckets, start) = (Buckets::new(1.0, 1.0), Instant::now());
        for caller in 0..KEPT {
            buckets.take(caller, start).unwrap();
        }
        buckets.take(KEPT, start + Duration::from_secs(2)).unwrap();
        assert_eq!(buckets.levels.lock().unwrap().len(), 1);
    }
}
