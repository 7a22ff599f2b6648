//! What a hostile guest must not reach. Every test is an attempt that has to fail.
//!
//! Attacks that can be made anywhere belong to `warren selftest`, which [`escapes`] runs; here are
//! those that need the host's own hands.
//!
//! Both profiles are attacked: `default` as the sandbox's root, which is the most a guest can be, and
//! `strict` as its user.

mod agent;
mod escapes;
mod host_files;
mod network;
mod processes;

use serde_json::{Value, json};

use crate::harness::{Home, Sandbox};

/// A sandbox of each profile with the user that may do most in it.
fn profiles(home: &Home) -> [(Sandbox<'_>, &'static str); 2] {
    [
        (home.create(&json!({"profile": "default"})), "root"),
        (home.create(&json!({"profile": "strict"})), "user"),
    ]
}

/// Runs a Python program in the sandbox and reads the JSON that it prints.
#[track_caller]
fn python(sandbox: &Sandbox<'_>, user: &str, program: &str) -> Value {
    let request =
        json!({"command": ["python3", "-c", program], "user": user, "timeout_ms": 60_000});
    let outcome = sandbox.exec_as(&request);
    assert_eq!(outcome["exit_code"], 0, "{outcome}");
    serde_json::from_str(outcome["stdout"].as_str().expect("text")).expect("JSON")
}
