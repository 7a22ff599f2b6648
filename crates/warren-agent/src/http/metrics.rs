//! `GET /metrics`: what the sandbox uses of what it may use.
//!
//! Limits are those of the sandbox's own cgroup where it can see it (version 2, or the two
//! controllers of version 1), else what the kernel says of the whole machine.

use std::sync::Mutex;
use std::time::Instant;

use serde_json::{Value, json};

use crate::daemon::state::{lock, now};
use crate::users::read;

const MIB: u64 = 1 << 20;
/// Version 1 says "no limit" with a number near the largest.
const NO_LIMIT: u64 = 1 << 60;

/// The processor time at some moment, for the next answer to compare with.
#[derive(Debug)]
pub(crate) struct Meter(Mutex<(Instant, u64, f64)>);

impl Meter {
    pub(crate) fn new() -> Self {
        Self(Mutex::new((Instant::now(), processor_us(), 0.0)))
    }

    /// Percent of one processor, since the last answer; of the last one when asked again at once.
    fn used_percent(&self) -> f64 {
        let mut last = lock(&self.0);
        let elapsed = last.0.elapsed().as_micros();
        if elapsed > 50_000 {
            let used = processor_us();
            let percent = used.saturating_sub(last.1) as f64 * 100.0 / elapsed as f64;
            *last = (Instant::now(), used, (percent * 100.0).round() / 100.0);
        }
        last.2
    }
}

/// The answer. Reads files, so it belongs on a thread that may block.
pub(crate) fn measure(meter: &Meter) -> Value {
    let memory = Memory::now();
    let disk = rustix::fs::statvfs("/").ok();
    let disk_total = disk.as_ref().map_or(0, |it| it.f_blocks.saturating_mul(it.f_frsize));
    let disk_free = disk.as_ref().map_or(0, |it| it.f_bfree.saturating_mul(it.f_frsize));
    let seconds = now().duration_since(std::time::UNIX_EPOCH).map_or(0, |it| it.as_secs());
    json!({
        "ts": seconds,
        "cpu_count": processors(),
        "cpu_used_pct": meter.used_percent(),
        "mem_total": memory.total,
        "mem_used": memory.used,
        "mem_cache": memory.cache,
        "mem_total_mib": memory.total / MIB,
        "mem_used_mib": memory.used / MIB,
        "disk_total": disk_total,
        "disk_used": disk_total.saturating_sub(disk_free),
    })
}

/// Bytes.
struct Memory {
    total: u64,
    used: u64,
    cache: u64,
}

impl Memory {
    fn now() -> Self {
        let machine = read("/proc/meminfo");
        let kib = |name| field(&machine, name).unwrap_or_default().saturating_mul(1024);
        let limit = first_number(&[
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ]);
        let usage = first_number(&[
            "/sys/fs/cgroup/memory.current",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ]);
        let Some(usage) = usage else {
            let total = kib("MemTotal:");
            let cache = kib("Cached:").saturating_add(kib("Buffers:"));
            return Self { total, used: total.saturating_sub(kib("MemAvailable:")), cache };
        };
        let stat = read("/sys/fs/cgroup/memory.stat") + &read("/sys/fs/cgroup/memory/memory.stat");
        let cache =
            field(&stat, "file").or_else(|| field(&stat, "total_cache")).unwrap_or_default();
        let total = limit.filter(|it| *it < NO_LIMIT).unwrap_or_else(|| kib("MemTotal:"));
        Self { total, used: usage.saturating_sub(cache), cache }
    }
}

/// Processors that may be used: the quota, rounded up, where there is one.
fn processors() -> u64 {
    let quota = read("/sys/fs/cgroup/cpu.max");
    let two =
        quota.split_once(' ').and_then(|(quota, period)| Some((number(quota)?, number(period)?)));
    let one = || {
        let quota = first_number(&["/sys/fs/cgroup/cpu/cpu.cfs_quota_us"])?;
        Some((quota, first_number(&["/sys/fs/cgroup/cpu/cpu.cfs_period_us"])?))
    };
    match two.or_else(one) {
        Some((quota, period)) if quota > 0 && period > 0 => quota.div_ceil(period),
        _ => std::thread::available_parallelism().map_or(1, |it| it.get() as u64),
    }
}

/// Processor time of the sandbox so far, microseconds.
fn processor_us() -> u64 {
    let two = field(&read("/sys/fs/cgroup/cpu.stat"), "usage_usec");
    let one = || {
        let files = ["/sys/fs/cgroup/cpu/cpuacct.usage", "/sys/fs/cgroup/cpuacct/cpuacct.usage"];
        first_number(&files).map(|it| it / 1000)
    };
    two.or_else(one).unwrap_or_else(|| {
        let stat = read("/proc/stat");
        let line = stat.lines().next().unwrap_or_default();
        let ticks = line.split_ascii_whitespace().skip(1).take(3).filter_map(number);
        ticks.fold(0, u64::saturating_add).saturating_mul(10_000) // 100 ticks a second
    })
}

fn first_number(paths: &[&str]) -> Option<u64> {
    paths.iter().find_map(|path| number(read(path).trim()))
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number after a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_ascii_whitespace);
    let mut words = lines.find(|words| words.clone().next() == Some(name))?;
    words.nth(1).and_then(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let text = "MemTotal:  24 kB\nMemFree: x\nfile 7\nfile_mapped 8\n";
        assert_eq!(field(text, "MemTotal:"), Some(24));
        assert_eq!(field(text, "MemFree:"), None);
        assert_eq!(field(text, "file"), Some(7));
    }

    #[test]
    fn an_answer_has_every_number() {
        let value = measure(&Meter::new());
        for name in ["ts", "cpu_count", "mem_total", "mem_used", "disk_total", "disk_used"] {
            assert!(value[name].as_u64().unwrap() > 0, "{name}: {value}");
        }
        assert!(value["cpu_used_pct"].as_f64().unwrap() >= 0.0);
        assert!(value["mem_total"].as_u64().unwrap() >= value["mem_used"].as_u64().unwrap());
    }
}
