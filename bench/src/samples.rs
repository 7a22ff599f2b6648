//! Samples and what is said about them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What a figure's samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Nanoseconds; shown as milliseconds. Less is better.
    Time,
    /// Bytes per second; shown as MB/s (10^6).
    Throughput,
    /// Events per second.
    Rate,
    /// Bytes; shown as MB (10^6). Less is better.
    Size,
}

/// All samples of one figure.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    /// What is to be reached: the median, and the 99th percentile where one is named.
    pub(crate) target: String,
    /// In the order of measuring, in the unit's base.
    pub(crate) samples: Vec<u64>,
    /// What a reader must know, such as the size of a pool.
    pub(crate) note: String,
}

/// Figures in the order in which they were first named.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    list: Vec<Figure>,
    index: BTreeMap<String, usize>,
}

impl Figures {
    /// Names a figure before its first sample, with its target and what a reader must know.
    pub(crate) fn declare(&mut self, name: &str, unit: Unit, target: &str, note: &str) {
        let at = self.at(name, unit);
        if let Some(figure) = self.list.get_mut(at) {
            target.clone_into(&mut figure.target);
            note.clone_into(&mut figure.note);
        }
    }

    /// Says what a figure was to reach, where that is known only when others are measured.
    pub(crate) fn aim(&mut self, name: &str, target: &str) {
        let figure = self.list.iter_mut().find(|figure| figure.name == name);
        figure.into_iter().for_each(|figure| target.clone_into(&mut figure.target));
    }

    /// The figure of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Figure> {
        self.list.iter().find(|figure| figure.name == name)
    }

    /// Adds a duration to a figure.
    pub(crate) fn time(&mut self, name: &str, took: Duration) {
        self.add(name, Unit::Time, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds a sample to a figure.
    pub(crate) fn add(&mut self, name: &str, unit: Unit, sample: u64) {
        let at = self.at(name, unit);
        if let Some(figure) = self.list.get_mut(at) {
            figure.samples.push(sample);
        }
    }

    /// Puts the figures of another list after these.
    pub(crate) fn append(&mut self, others: Self) {
        for figure in others.list {
            let at = self.at(&figure.name, figure.unit);
            if let Some(place) = self.list.get_mut(at) {
                *place = figure;
            }
        }
    }

    /// The figures that have samples.
    pub(crate) fn measured(&self) -> impl Iterator<Item = &Figure> {
        self.list.iter().filter(|figure| !figure.samples.is_empty())
    }

    fn at(&mut self, name: &str, unit: Unit) -> usize {
        *self.index.entry(name.to_owned()).or_insert_with(|| {
            let (target, note) = (String::new(), String::new());
            self.list.push(Figure { name: name.to_owned(), unit, target, samples: vec![], note });
            self.list.len() - 1
        })
    }
}

impl Figure {
    /// The sample that `share` of all are not above, by nearest rank.
    pub(crate) fn percentile(&self, share: f64) -> u64 {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Whether a large sample is a good one.
    pub(crate) fn more_is_better(&self) -> bool {
        matches!(self.unit, Unit::Throughput | Unit::Rate)
    }

    /// The unit of the samples themselves.
    pub(crate) fn base(&self) -> &'static str {
        match self.unit {
            Unit::Time => "nanoseconds",
            Unit::Throughput => "bytes per second",
            Unit::Rate => "per second",
            Unit::Size => "bytes",
        }
    }

    /// A sample in the unit of the table.
    pub(crate) fn show(&self, sample: u64) -> String {
        let sample = sample as f64;
        match self.unit {
            Unit::Time if sample < 1e8 => format!("{:.2} ms", sample / 1e6),
            Unit::Time => format!("{:.0} ms", sample / 1e6),
            Unit::Throughput => format!("{:.0} MB/s", sample / 1e6),
            Unit::Rate => format!("{sample:.0} /s"),
            Unit::Size => format!("{:.2} MB", sample / 1e6),
        }
    }
}

/// Runs `work` and gives how long it took with what it gave.
pub(crate) fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(Duration, T)> {
    let start = Instant::now();
    let value = work()?;
    Ok((start.elapsed(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(samples: Vec<u64>) -> Figure {
        Figure { name: "x".into(), unit: Unit::Time, target: "".into(), samples, note: "".into() }
    }

    #[test]
    fn percentiles_are_samples() {
        let hundred = figure((1..=100).rev().collect());
        assert_eq!((hundred.percentile(0.5), hundred.percentile(0.99)), (50, 99));
        let one = figure(vec![7]);
        assert_eq!((one.percentile(0.0), one.percentile(0.5), one.percentile(0.99)), (7, 7, 7));
        assert_eq!(figure(vec![]).percentile(0.5), 0);
    }

    #[test]
    fn a_time_is_shown_in_milliseconds() {
        assert_eq!(figure(vec![]).show(1_234_567), "1.23 ms");
        assert_eq!(figure(vec![]).show(250_400_000), "250 ms");
    }

    #[test]
    fn figures_keep_the_order_they_were_named_in() {
        let mut figures = Figures::default();
        figures.declare("b", Unit::Time, "1 ms", "");
        figures.add("a", Unit::Size, 1);
        figures.time("b", Duration::from_nanos(5));
        let names: Vec<_> = figures.measured().map(|figure| figure.name.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
    }
}
