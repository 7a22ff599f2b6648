//! What an idle sandbox costs.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::Size;
use crate::{
    api::{self, Source},
    machine::memory,
    samples::{Figures, Unit},
    server::{Server, pause},
};

/// Kernel memory that no process owns, by its names in `/proc/meminfo`.
const KERNEL: [&str; 4] = ["SUnreclaim:", "KernelStack:", "PageTables:", "Percpu:"];

/// Holds many sandboxes and compares the host before and after.
pub(super) fn run(server: &Server, size: Size, figures: &mut Figures) -> Result<()> {
    let name = format!("memory per idle sandbox, {} held", size.held);
    let whole = "the same, as the host's free memory tells it".to_owned();
    figures.declare(&name, Unit::Size, "2 MB", "PSS of its processes + kernel memory");
    figures.declare(&whole, Unit::Size, "", "page cache not counted as used");
    let mut client = server.client()?;
    let (kernel, free, processes) = (kernel_bytes(), free_bytes(), pids());
    let mut held = Vec::with_capacity(size.held);
    let made = (|| -> Result<()> {
        for _ in 0..size.held {
            held.push(api::create(&mut client, Source::OnDemand)?.0);
        }
        Ok(())
    })();
    if made.is_ok() {
        settle();
        let new: u64 = pids().difference(&processes).map(|pid| proportional_bytes(pid)).sum();
        let count = held.len().max(1) as u64;
        let used = new + kernel_bytes().saturating_sub(kernel);
        figures.add(&name, Unit::Size, used / count);
        figures.add(&whole, Unit::Size, free.saturating_sub(free_bytes()) / count);
    }
    for id in &held {
        api::destroy(&mut client, id)?;
    }
    made
}

fn kernel_bytes() -> u64 {
    KERNEL.iter().map(|name| memory(name)).sum()
}

fn free_bytes() -> u64 {
    ["MemFree:", "Buffers:", "Cached:", "SReclaimable:"].iter().map(|name| memory(name)).sum()
}

fn pids() -> BTreeSet<String> {
    let Ok(processes) = fs::read_dir("/proc") else { return BTreeSet::new() };
    let names = processes.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

/// What a process has of memory, shared pages by their share. Nothing for one that is gone.
fn proportional_bytes(pid: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0);
    kilobytes * 1024
}

fn settle() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        pause();
    }
}
