//! Reading what a test binary reports.

use super::process::Ended;

/// How a test says that it could not run here. The rest of the line is the reason.
const SKIPPED: &str = "SKIPPED: ";

/// What became of some tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) passed: usize,
    /// Their names.
    pub(super) failed: Vec<String>,
    /// Name and reason.
    pub(super) skipped: Vec<(String, String)>,
}

impl Report {
    /// Passed, failed, skipped.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.passed, self.failed.len(), self.skipped.len())
    }

    /// Takes another report in.
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }
}

/// Reads the output of one binary, or of several one after the other.
///
/// The sums that libtest prints decide; names are for people. A binary that ended badly without
/// saying which test failed counts as one failure.
pub(super) fn read(name: &str, ended: &Ended) -> Report {
    let mut report = Report::default();
    let (mut passed, mut failed, mut ignored, mut sums) = (0, 0, 0, 0);
    for line in ended.stdout.lines() {
        if let Some(sum) = line.strip_prefix("test result: ") {
            passed += count(sum, "passed");
            failed += count(sum, "failed");
            ignored += count(sum, "ignored");
            sums += 1;
        } else if let Some(test) = verdict(line, "FAILED") {
            report.failed.push(format!("{name}: {test}"));
        } else if let Some(test) = ignored_test(line) {
            report.skipped.push((format!("{name}: {}", test.0), test.1.to_owned()));
        }
    }
    let silent_skips = skips(&ended.stdout);
    report.passed = passed.saturating_sub(silent_skips.len());
    report
        .skipped
        .extend(silent_skips.into_iter().map(|(test, why)| (format!("{name}: {test}"), why)));
    for _ in report.failed.len()..failed {
        report.failed.push(format!("{name}: a test"));
    }
    for _ in 0..ignored.saturating_sub(count_ignored(&ended.stdout)) {
        report.skipped.push((name.to_owned(), "ignored".to_owned()));
    }
    if !ended.success && report.failed.is_empty() || sums == 0 && ended.success {
        report.failed.push(format!("{name}: {}", ended.how));
    }
    report
}

/// The number before `word` in `ok. 5 passed; 0 failed; ...`.
fn count(sum: &str, word: &str) -> usize {
    let mut words = sum.split([' ', ';', '.']).filter(|word| !word.is_empty());
    let mut before = words.next().unwrap_or_default();
    for next in words {
        if next == word {
            return before.parse().unwrap_or_default();
        }
        before = next;
    }
    0
}

/// The test's name, if the line is `test <name> ... <word>`.
fn verdict<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    line.strip_prefix("test ")?.strip_suffix(word)?.strip_suffix(" ... ")
}

/// Name and reason of an ignored test.
fn ignored_test(line: &str) -> Option<(&str, &str)> {
    let (test, reason) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    Some((test, reason.strip_prefix(", ").unwrap_or("ignored")))
}

fn count_ignored(stdout: &str) -> usize {
    stdout.lines().filter(|line| ignored_test(line).is_some()).count()
}

/// Tests that passed after saying that they could not run, with their reasons.
///
/// With `--show-output`, libtest prints the output of each test under `---- <name> stdout ----`: first
/// that of the successes, then, under `failures:`, of the others.
fn skips(stdout: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut test = None;
    for line in stdout.lines() {
        if line == "failures:" {
            test = None;
            continue;
        }
        if let Some(name) = section(line) {
            test = Some(name);
        } else if let (Some(name), Some(reason)) = (test, line.strip_prefix(SKIPPED)) {
            found.push((name.to_owned(), reason.to_owned()));
            test = None;
        }
    }
    let failed: Vec<&str> = stdout.lines().filter_map(|line| verdict(line, "FAILED")).collect();
    found.retain(|(name, _)| !failed.contains(&name.as_str()));
    found
}

fn section(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ended(stdout: &str, success: bool) -> Ended {
        Ended {
            stdout: stdout.to_owned(),
            stderr: String::new(),
            success,
            how: "exit status: 101".to_owned(),
            took: Duration::ZERO,
        }
    }

    const MIXED: &str = "\
running 4 tests
test a::good ... ok
test a::cannot ... ok
test a::never ... ignored, needs a moon
test b::bad ... FAILED

successes:

---- a::cannot stdout ----
some words
SKIPPED: no cgroup is writable
SKIPPED: said twice


successes:
    a::good
    a::cannot

failures:

---- b::bad stdout ----
SKIPPED: not a skip, it failed
panicked

failures:
    b::bad

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s
";

    #[test]
    fn a_test_that_could_not_run_is_not_passed() {
        let report = read("x", &ended(MIXED, false));
        assert_eq!(report.counts(), (1, 1, 2));
        assert_eq!(report.failed, ["x: b::bad"]);
        let skipped: Vec<_> = report.skipped.iter().map(|(_, reason)| reason.as_str()).collect();
        assert_eq!(skipped, ["needs a moon", "no cgroup is writable"]);
    }

    #[test]
    fn sums_of_several_binaries_are_added() {
        let text = "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
                    test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(read("x", &ended(text, true)).counts(), (5, 0, 1));
    }

    #[test]
    fn a_binary_that_dies_without_a_sum_has_failed() {
        let report = read("x", &ended("running 2 tests\ntest a ... ok\n", false));
        assert_eq!(report.counts(), (0, 1, 0));
        assert_eq!(report.failed, ["x: exit status: 101"]);
        assert_eq!(read("x", &ended("", true)).failed.len(), 1);
    }
}
