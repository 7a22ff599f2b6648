//! How long things take, in few numbers.

use std::time::Duration;

/// Counts of durations up to each bound.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// One per bound and one for what is beyond; not cumulative.
    counts: Vec<u64>,
    sum: Duration,
}

impl Histogram {
    /// With these bounds in seconds, ascending.
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: Duration::ZERO }
    }

    pub(super) fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum += took;
    }

    /// How many were as short as each bound or shorter.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let sums = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        self.bounds.iter().copied().zip(sums)
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn sum_seconds(&self) -> f64 {
        self.sum.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_at_its_bound_and_above() {
        let mut histogram = Histogram::new(&[0.1, 1.0]);
        for millis in [100, 101, 5_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(0.1, 1), (1.0, 2)]);
        assert_eq!(histogram.count(), 3);
        assert!((histogram.sum_seconds() - 5.201).abs() < 1e-9);
    }
}
