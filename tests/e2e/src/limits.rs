//! Limits bite, inside the sandbox and nowhere else, and are reported as what they are.

use serde_json::json;

use crate::harness::{Home, Sandbox, skip, wait_until};

/// Why a limit cannot be tested here, if the sandbox says so.
fn weaker(sandbox: &Sandbox<'_>, word: &str) -> Option<String> {
    let warnings = sandbox.created["warnings"].as_array().expect("warnings");
    let found =
        warnings.iter().filter_map(|warning| warning.as_str()).find(|text| text.contains(word));
    found.map(str::to_owned)
}

#[test]
fn going_over_memory_is_reported_with_the_limit() {
    crate::harness::needs!("python3");
    let home = Home::new();
    let sandbox = home.create(&json!({"memory_bytes": 67_108_864}));
    if let Some(why) = weaker(&sandbox, "cgroup") {
        skip!("{why}");
    }
    let outcome = sandbox.exec(&["python3", "-c", "x = bytearray(500_000_000); print(len(x))"]);
    assert_ne!(outcome["exit_code"], 0, "{outcome}");
    assert_eq!(outcome["out_of_memory"]["limit_bytes"], 67_108_864, "{outcome}");
    assert_eq!(sandbox.exec(&["echo", "alive"])["stdout"], "alive\n");
}

#[test]
fn the_command_line_says_out_of_memory() {
    crate::harness::needs!("python3");
    let home = Home::new();
    let line = "x = bytearray(500_000_000); print(len(x))";
    let ended = home.warren(&["run", "--memory", "64MiB", "--", "python3", "-c", line]);
    if ended.code() == 0 {
        skip!("no memory limit is enforced here: {}", ended.errors());
    }
    assert!(ended.errors().contains("out of memory"), "{}", ended.errors());
    assert!(ended.errors().contains("64 MiB"), "{}", ended.errors());
}

#[test]
fn a_fork_bomb_stays_inside() {
    crate::harness::needs!("python3");
    let home = Home::new();
    let sandbox = home.create(&json!({"pids": 40}));
    if let Some(why) = weaker(&sandbox, "cgroup") {
        skip!("{why}");
    }
    let bomb = "import os, time\nn = 0\n\
                try:\n  while True:\n    if os.fork() == 0: time.sleep(60); os._exit(0)\n    n += 1\n\
                except OSError: print(n)";
    let outcome =
        sandbox.exec_as(&json!({"command": ["python3", "-c", bomb], "timeout_ms": 20_000}));
    let made: u32 = outcome["stdout"].as_str().unwrap().trim().parse().unwrap();
    assert!(made < 40, "{made} processes");
    assert_eq!(home.create(&json!({})).exec(&["echo", "fine"])["stdout"], "fine\n");
    assert_eq!(sandbox.api("DELETE", "", b"").status, 204);
    wait_until("the bomb is gone", || crate::harness::processes_named("bomb").is_empty());
}

#[test]
fn processor_time_is_dealt_out() {
    crate::harness::needs!("python3");
    let home = Home::new();
    let sandbox = home.create(&json!({"cpu_millis": 200}));
    if let Some(why) = weaker(&sandbox, "cgroup") {
        skip!("{why}");
    }
    let burn = "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass\n\
                print(time.process_time())";
    let outcome = sandbox.exec(&["python3", "-c", burn]);
    let used: f64 = outcome["stdout"].as_str().unwrap().trim().parse().unwrap();
    assert!(used < 0.8, "{used} s of processor time in 2 s at a fifth of a core");
}

#[test]
fn open_files_are_limited() {
    let home = Home::new();
    let sandbox = home.create(&json!({"open_files": 64}));
    assert_eq!(sandbox.exec(&["sh", "-c", "ulimit -Hn"])["stdout"], "64\n");
}
