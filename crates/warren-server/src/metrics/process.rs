//! What this process uses, as the kernel tells it.

use std::fs;

/// What is known; nothing where `/proc` says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_descriptors: Option<u64>,
    pub(super) most_descriptors: Option<u64>,
    pub(super) threads: Option<u64>,
}

impl Usage {
    pub(super) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let descriptors = fs::read_dir("/proc/self/fd").ok().map(|found| found.count());
        Self {
            resident_bytes: number(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024),
            // Reading the directory opens one more.
            open_descriptors: descriptors.map(|count| count.saturating_sub(1) as u64),
            most_descriptors: number(&limits, "Max open files"),
            threads: number(&status, "Threads:"),
        }
    }
}

/// The first number behind `name` at the beginning of a line.
fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_names() {
        let text = "VmPeak:\t  9 kB\nVmRSS:\t    1234 kB\nThreads:\t5\n";
        assert_eq!(number(text, "VmRSS:"), Some(1234));
        assert_eq!(number(text, "Threads:"), Some(5));
        assert_eq!(number("Max open files            unlimited", "Max open files"), None);
        assert_eq!(number(text, "VmSwap:"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::now();
        assert!(usage.resident_bytes > Some(0) && usage.open_descriptors > Some(0), "{usage:?}");
    }
}
