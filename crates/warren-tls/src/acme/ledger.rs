//! What must not be forgotten between two servers: orders, failures, and records in zones.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::AcmeError;
use crate::{clock::DAY, dns::TextRecord, keep, parse::Validity};

/// How long orders count.
const WEEK: u64 = 7 * DAY;
/// How long is waited after a first failure; after each further one twice as long.
const FIRST_PAUSE: u64 = 15 * 60;
/// The longest pause between two attempts.
const LONGEST_PAUSE: u64 = DAY;

/// The file, read once and written at each change.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    kept: Kept,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    /// When orders were made, in seconds since 1970.
    orders: Vec<u64>,
    /// What went wrong for which group of names.
    failures: BTreeMap<String, Failure>,
    /// Records that may be in a zone still.
    records: Vec<TextRecord>,
}

/// How often it went wrong, and when to try again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) times: u32,
    pub(super) again_at: u64,
    pub(super) reason: String,
}

impl Ledger {
    pub(super) fn open(directory: &Path) -> Result<Self, AcmeError> {
        let path = directory.join("ledger.json");
        let bytes = keep::read(&path).map_err(AcmeError::file("read", &path))?;
        let kept = match bytes {
            None => Kept::default(),
            // To begin anew would be to forget the limits.
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| AcmeError::file("understand", &path)(error.into()))?,
        };
        Ok(Self { path, kept })
    }

    /// Counts an order that is about to be made, unless there were enough.
    pub(super) fn order(&mut self, now: u64, most: u32) -> Result<(), AcmeError> {
        // One from the future is of a clock that was wrong: it counts for a week from now.
        for at in &mut self.kept.orders {
            *at = (*at).min(now);
        }
        self.kept.orders.retain(|at| now - at < WEEK);
        if self.kept.orders.len() >= most as usize {
            return Err(AcmeError::Limit { orders: most });
        }
        self.kept.orders.push(now);
        self.write()
    }

    pub(super) fn failure(&self, group: &str) -> Option<&Failure> {
        self.kept.failures.get(group)
    }

    /// When a group may be tried again. A time that no pause leads to is of a clock that was wrong.
    pub(super) fn again_at(&self, group: &str, now: u64) -> u64 {
        let again_at = self.kept.failures.get(group).map_or(0, |it| it.again_at);
        if again_at > now + LONGEST_PAUSE + LONGEST_PAUSE / 8 { 0 } else { again_at }
    }

    /// Forgets the failures of groups that nobody wants, once they could be tried again: who takes
    /// a name back and adds it anew does not come sooner.
    pub(super) fn forget_all_but(
        &mut self,
        wanted: &BTreeSet<String>,
        now: u64,
    ) -> Result<(), AcmeError> {
        let gone = |group: &String| !wanted.contains(group) && self.again_at(group, now) <= now;
        let gone: Vec<String> = self.kept.failures.keys().filter(|it| gone(it)).cloned().collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.kept.failures.retain(|group, _| !gone.contains(group));
        self.write()
    }

    /// Puts a group off that has done nothing wrong: there were too many orders.
    pub(super) fn put_off(
        &mut self,
        group: &str,
        now: u64,
        reason: String,
    ) -> Result<(), AcmeError> {
        let times = self.kept.failures.get(group).map_or(0, |it| it.times);
        let again_at = now + FIRST_PAUSE + share(group, times.into(), FIRST_PAUSE);
        self.kept.failures.insert(group.to_owned(), Failure { times, again_at, reason });
        self.write()
    }

    pub(super) fn failures(&self) -> &BTreeMap<String, Failure> {
        &self.kept.failures
    }

    pub(super) fn failed(
        &mut self,
        group: &str,
        now: u64,
        reason: String,
    ) -> Result<(), AcmeError> {
        let times = self.kept.failures.get(group).map_or(0, |it| it.times).saturating_add(1);
        let again_at = now + pause(group, times);
        self.kept.failures.insert(group.to_owned(), Failure { times, again_at, reason });
        self.write()
    }

    pub(super) fn succeeded(&mut self, group: &str) -> Result<(), AcmeError> {
        match self.kept.failures.remove(group) {
            Some(_) => self.write(),
            None => Ok(()),
        }
    }

    /// Remembers a record that is about to be added.
    pub(super) fn adding(&mut self, record: &TextRecord) -> Result<(), AcmeError> {
        self.kept.records.push(record.clone());
        self.write()
    }

    /// Forgets a record that is gone.
    pub(super) fn removed(&mut self, record: &TextRecord) -> Result<(), AcmeError> {
        self.kept.records.retain(|it| it != record);
        self.write()
    }

    /// Records that may be in a zone still.
    pub(super) fn records(&self) -> Vec<TextRecord> {
        self.kept.records.clone()
    }

    fn write(&self) -> Result<(), AcmeError> {
        let bytes = serde_json::to_vec(&self.kept).unwrap_or_default();
        keep::write(&self.path, &bytes).map_err(AcmeError::file("write", &self.path))
    }
}

/// How long to wait after so many failures, in seconds.
fn pause(group: &str, times: u32) -> u64 {
    let doubled = FIRST_PAUSE.checked_shl(times.saturating_sub(1).min(16)).unwrap_or(LONGEST_PAUSE);
    let pause = doubled.min(LONGEST_PAUSE);
    pause + share(group, times.into(), pause / 8)
}

/// When a certificate is to be renewed: at two thirds of its life and a little later, not when all
/// others are.
pub(super) fn renewal(group: &str, validity: Validity) -> u64 {
    let life = validity.until.saturating_sub(validity.from);
    validity.from + life / 3 * 2 + share(group, validity.from, life / 30)
}

/// A part of `most` that is another for each group and the same whenever it is asked for: a server
/// that is started again must not throw the dice again.
fn share(group: &str, salt: u64, most: u64) -> u64 {
    let digest = Sha256::new().chain_update(group).chain_update(salt.to_be_bytes()).finalize();
    let number = digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    number.checked_rem(most).unwrap_or(0)
}

/// How long until a time, never longer than `most`.
pub(super) fn until(now: u64, at: u64, most: Duration) -> Duration {
    Duration::from_secs(at.saturating_sub(now)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn orders_of_a_week_are_counted_also_by_the_next_server() {
        let base = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            Ledger::open(base.path()).unwrap().order(NOW, 3).unwrap();
        }
        let error = Ledger::open(base.path()).unwrap().order(NOW + WEEK - 1, 3).unwrap_err();
        assert!(matches!(error, AcmeError::Limit { orders: 3 }), "{error}");
        Ledger::open(base.path()).unwrap().order(NOW + WEEK, 3).unwrap();
    }

    #[test]
    fn a_clock_that_was_wrong_does_not_lock_for_ever() {
        let base = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(base.path()).unwrap();
        ledger.order(NOW + 100 * WEEK, 1).unwrap();
        ledger.order(NOW, 1).unwrap_err();
        ledger.order(NOW + WEEK, 1).unwrap();
    }

    #[test]
    fn a_pause_from_a_wrong_clock_is_none() {
        let base = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(base.path()).unwrap();
        ledger.failed("a", NOW + 100 * WEEK, "the authority's certificate".to_owned()).unwrap();
        assert_eq!(ledger.again_at("a", NOW), 0);
        ledger.failed("a", NOW, "it rained".to_owned()).unwrap();
        assert!(ledger.again_at("a", NOW) > NOW);
    }

    #[test]
    fn what_nobody_wants_is_forgotten_when_its_pause_is_over() {
        let base = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(base.path()).unwrap();
        for group in ["wanted", "removed"] {
            ledger.failed(group, NOW, "it rained".to_owned()).unwrap();
        }
        let wanted = BTreeSet::from(["wanted".to_owned()]);
        ledger.forget_all_but(&wanted, NOW).unwrap();
        assert_eq!(ledger.failures().len(), 2);
        ledger.forget_all_but(&wanted, NOW + DAY).unwrap();
        let left: Vec<_> = Ledger::open(base.path()).unwrap().failures().keys().cloned().collect();
        assert_eq!(left, ["wanted"]);
    }

    #[test]
    fn too_many_orders_are_nobodys_failure() {
        let base = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(base.path()).unwrap();
        for _ in 0..9 {
            ledger.put_off("a", NOW, "enough for a week".to_owned()).unwrap();
        }
        let again_at = ledger.again_at("a", NOW);
        assert!(again_at > NOW && again_at <= NOW + 2 * FIRST_PAUSE, "{}", again_at - NOW);
    }

    #[test]
    fn failures_are_further_and_further_apart_and_forgotten_after_a_success() {
        let base = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(base.path()).unwrap();
        let mut last = 0;
        for times in 1..=8 {
            ledger.failed("a", NOW, "it rained".to_owned()).unwrap();
            let failure = Ledger::open(base.path()).unwrap().failure("a").cloned().unwrap();
            let pause = failure.again_at - NOW;
            assert_eq!((failure.times, failure.reason.as_str()), (times, "it rained"));
            assert!(pause > last && pause <= LONGEST_PAUSE + LONGEST_PAUSE / 8 || times > 7);
            last = pause;
        }
        ledger.succeeded("a").unwrap();
        assert_eq!(Ledger::open(base.path()).unwrap().failure("a"), None);
    }

    #[test]
    fn a_ledger_that_cannot_be_read_is_an_error_and_no_new_beginning() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("ledger.json"), "{").unwrap();
        let error = Ledger::open(base.path()).unwrap_err();
        assert!(error.to_string().starts_with("could not understand "), "{error}");
    }

    #[test]
    fn renewal_is_at_two_thirds_of_the_life_and_not_at_the_same_moment_for_all() {
        let validity = Validity { from: NOW, until: NOW + 90 * DAY };
        let times: Vec<_> = ["a", "b", "c"].map(|group| renewal(group, validity)).into();
        for at in &times {
            assert!((NOW + 60 * DAY..NOW + 63 * DAY).contains(at), "{at}");
        }
        assert!(times[0] != times[1] || times[1] != times[2]);
        assert_eq!(times[0], renewal("a", validity), "asked again it is the same");
    }
}
