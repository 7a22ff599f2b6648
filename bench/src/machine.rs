//! What the numbers were measured on.

use std::fs;

use serde_json::{Value, json};

/// The machine, as it is now.
pub(crate) fn describe() -> Value {
    json!({
        "kernel": word("/proc/sys/kernel/osrelease"),
        "distribution": field("/etc/os-release", "PRETTY_NAME=").trim_matches('"'),
        "processor": field("/proc/cpuinfo", "model name").trim_start_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism().map(usize::from).unwrap_or(0),
        "memory_bytes": memory("MemTotal:"),
        "cgroups": cgroups(),
        "hypervisor": fs::read_to_string("/proc/cpuinfo").unwrap_or_default().contains(" hypervisor"),
        "root": is_root(),
        "load": load(),
    })
}

/// The load averages: 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    word("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// A line of `/proc/meminfo`, in bytes.
pub(crate) fn memory(name: &str) -> u64 {
    let value = field("/proc/meminfo", name);
    let kilobytes: u64 = value.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0);
    kilobytes * 1024
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    field("/proc/self/status", "Uid:").split_whitespace().nth(1) == Some("0")
}

/// Which generation of cgroups carries the memory controller.
fn cgroups() -> &'static str {
    let root = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if root.contains("memory") {
        "v2"
    } else if fs::exists("/sys/fs/cgroup/memory").unwrap_or(false) {
        "v1"
    } else {
        "none"
    }
}

/// What follows `name` on the first line that starts with it.
fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned()
}

fn word(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
