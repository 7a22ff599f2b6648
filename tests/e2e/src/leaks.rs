//! Two thousand sandboxes later the host is as it was.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use serde_json::Value;

use crate::harness::{Census, Home, attempt, memory, wait_until};

/// How many before the first count: pools are filled, buffers have grown.
const WARM_UP: usize = 200;
const ROUNDS: usize = 2000;
const AT_ONCE: usize = 8;

/// What the server may hold more: the allocator gives little back.
const MEMORY: u64 = 24 << 20;

/// Threads and descriptors that come and go with an event loop.
const MOODS: usize = 12;

#[test]
fn two_thousand_sandboxes_leave_nothing() {
    let home = Home::with(&[("WARREN_BLANKS", "4"), ("WARREN_PARKED", "2")]);
    home.warren(&["list"]).good();
    come_and_go(&home, WARM_UP);
    let before = settled(&home);
    let server = home.server_pid().expect("a server runs");
    let resident = memory(server);
    let start = Instant::now();
    come_and_go(&home, ROUNDS);
    let took = start.elapsed();
    let mut after = settled(&home);
    // The last ones are removed in the background.
    wait_until("what grew has gone", || {
        after = Census::of(&home);
        after.grown_since(&before, MOODS).is_empty()
    });
    assert_eq!(home.server_pid(), Some(server), "it is the same server");
    let grown = memory(server).saturating_sub(resident);
    println!("{ROUNDS} sandboxes in {took:?}, {AT_ONCE} at once");
    println!("before: {before}; {} kB", resident >> 10);
    println!("after: {after}; {} kB more", grown >> 10);
    assert!(grown < MEMORY, "the server holds {grown} bytes more");
}

/// A count with both pools full and nothing under way.
fn settled(home: &Home) -> Census {
    let mut census = Census::of(home);
    wait_until("pools are full and all else is gone", || {
        census = Census::of(home);
        // Blanks and parked ones have an entry each, and nothing else has.
        census.count("entries of blanks") == 4
            && census.count("entries of sandboxes") == 2
            && census.count("entries of trash") == 0
    });
    census
}

/// Makes and removes sandboxes; of four, one is made cold and runs a command.
fn come_and_go(home: &Home, rounds: usize) {
    let (socket, next) = (home.socket(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= rounds {
                        return;
                    }
                    let cold = round.is_multiple_of(4);
                    let wanted = if cold { r#"{"warm":false}"# } else { "{}" };
                    let made = attempt(&socket, "POST /v1/sandboxes HTTP/1.1", wanted);
                    let made = made.expect("an answer").json();
                    let path = format!("/v1/sandboxes/{}", made["id"].as_str().expect("an id"));
                    if cold {
                        let exec = format!("POST {path}/exec HTTP/1.1");
                        let ended = attempt(&socket, &exec, r#"{"command":["echo","x"]}"#);
                        let ended: Value = ended.expect("an answer").json();
                        assert_eq!(ended["stdout"], "x\n", "{ended}");
                    }
                    let gone = attempt(&socket, &format!("DELETE {path} HTTP/1.1"), "");
                    assert_eq!(gone.expect("an answer").status, 204);
                }
            });
        }
    });
}
