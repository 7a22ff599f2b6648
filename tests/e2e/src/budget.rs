//! Sizes that are promised.

use std::fs;

use serde_json::json;

use crate::harness::{Home, skip};

#[test]
fn the_agent_is_below_six_megabytes() {
    let bytes = warren_agent_image::AGENT.len();
    assert!(bytes < 6_000_000, "{bytes} bytes");
}

#[test]
fn an_idle_agent_has_below_three_megabytes_of_its_own() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    sandbox.exec(&["true"]);
    let record = fs::read_to_string(home.data().join("sandboxes").join(&sandbox.id).join("guest"));
    let record = record.expect("the journal entry");
    let pid = record.lines().find_map(|line| line.strip_prefix("pid ")).expect("a pid");
    let Ok(memory) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
        skip!("the memory of another user's process cannot be read");
    };
    let kilobytes: u64 = memory
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
        .sum();
    assert!(kilobytes < 3_000, "{kilobytes} kB private");
}
