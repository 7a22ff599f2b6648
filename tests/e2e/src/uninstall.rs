//! The end of an installation: nothing of it is on the host, whatever state it was in, and
//! everything of its neighbour is.

use std::fs;

use serde_json::json;

use crate::harness::{Home, Leftovers, is_root, skip};

/// What of a home is on the host, but for the names of what it is made of.
fn found(home: &Home) -> Vec<String> {
    let mut found: Vec<String> = Leftovers::of(home).0.into_iter().collect();
    for path in [home.run_directory(), home.data()] {
        if path.exists() {
            found.push(format!("directory {}", path.display()));
        }
    }
    let owner = home.run_directory().display().to_string();
    for block in fs::read_dir("/run/warren/slots").into_iter().flatten().flatten() {
        if fs::read_to_string(block.path()).is_ok_and(|text| text == owner) {
            found.push(format!("slots {}", block.path().display()));
        }
    }
    let tables = crate::harness::command("nft").args(["list", "tables"]).output();
    let tables = tables.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
    if tables.is_ok_and(|it| it.contains(&format!("warren-{}", home.instance()))) {
        found.push("table of packet filters".to_owned());
    }
    found
}

/// Whether the host has this address.
fn has_address(address: &str) -> bool {
    let trie = fs::read_to_string("/proc/net/fib_trie").expect("the kernel's routes");
    let lines: Vec<_> = trie.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| {
        matches!(pair, [name, kind] if *name == format!("|-- {address}") && *kind == "/32 host LOCAL")
    })
}

/// Whether another server has the number of this address by now: its last part is that and one.
fn is_taken_again(address: &str) -> bool {
    let last = address.rsplit('.').next().and_then(|it| it.parse::<u32>().ok());
    last.is_some_and(|it| fs::exists(format!("/run/warren/slots/{}", it - 1)).unwrap_or(true))
}

/// The address of the host that a sandbox sends its look-ups to, if it has a network.
fn gateway(sandbox: &crate::harness::Sandbox<'_>) -> Option<String> {
    let outcome = sandbox.exec(&["cat", "/etc/resolv.conf"]);
    let text = outcome["stdout"].as_str()?;
    Some(text.lines().find_map(|line| line.strip_prefix("nameserver "))?.trim().to_owned())
}

/// A home with a running, a paused and a busy sandbox, its keepers, and its address on the host.
fn inhabited() -> (Home, Vec<u32>, Option<String>) {
    let home = Home::with(&[("WARREN_BLANKS", "1"), ("WARREN_PARKED", "1")]);
    let sandbox = home.create(&json!({}));
    let gateway = gateway(&sandbox);
    let busy = json!({"command": ["sh", "-c", "sleep 1000 & sleep 1000"], "detach": true});
    sandbox.api("POST", "/exec", busy.to_string().as_bytes());
    let other = home.create(&json!({"name": "paused"}));
    let paused = other.api("POST", "/pause", b"");
    assert_eq!(paused.json()["state"], "paused");
    let keepers = Leftovers::keepers(&home);
    assert!(!keepers.is_empty());
    (home, keepers, gateway)
}

/// Removes all of a home, and compares with a host on which it never was.
#[track_caller]
fn uninstall(home: &Home, keepers: &[u32], gateway: Option<&str>) {
    home.warren(&["setup", "uninstall", "--yes"]).good();
    assert_eq!(found(home), Vec::<String>::new());
    for keeper in keepers {
        let path = format!("/proc/{keeper}/cmdline");
        let line = fs::read(path).unwrap_or_default();
        assert!(!line.starts_with(b"warren-keeper"), "keeper {keeper} lives");
    }
    let left = gateway.is_some_and(|address| has_address(address) && !is_taken_again(address));
    assert!(!left, "{gateway:?} is still the host's");
    home.warren(&["serve", "--stop"]).good();
    let again = home.warren(&["setup", "uninstall", "--yes"]).good();
    assert!(again.errors().contains("there is nothing of a server"), "{}", again.errors());
}

#[test]
fn a_server_with_sandboxes_goes_without_a_trace() {
    let (home, keepers, gateway) = inhabited();
    assert!(gateway.as_deref().is_none_or(has_address));
    uninstall(&home, &keepers, gateway.as_deref());
}

#[test]
fn a_server_that_is_dead_goes_without_a_trace() {
    if !is_root() {
        skip!("an ordinary user's server is started again");
    }
    let (home, keepers, gateway) = inhabited();
    home.kill_server();
    uninstall(&home, &keepers, gateway.as_deref());
}

#[test]
fn a_server_whose_data_is_gone_goes_without_a_trace() {
    if !is_root() {
        skip!("an ordinary user's sandboxes are found by their data");
    }
    let (home, keepers, gateway) = inhabited();
    home.kill_server();
    fs::remove_dir_all(home.data()).expect("remove the data");
    uninstall(&home, &keepers, gateway.as_deref());
}

#[test]
fn a_server_whose_directories_and_keepers_are_gone_goes_without_a_trace() {
    if !is_root() {
        skip!("an ordinary user's sandboxes are found by their data");
    }
    let (home, keepers, gateway) = inhabited();
    home.kill_server();
    keepers.iter().copied().for_each(crate::harness::kill);
    fs::remove_dir_all(home.data()).expect("remove the data");
    fs::remove_dir_all(home.run_directory()).expect("remove the run directory");
    uninstall(&home, &keepers, gateway.as_deref());
}

#[test]
fn a_server_that_does_not_answer_is_ended() {
    let (home, keepers, gateway) = inhabited();
    let pid = home.server_pid().expect("a server runs").to_string();
    let stopped = crate::harness::command("kill").args(["-STOP", &pid]).status();
    assert!(stopped.expect("kill").success());
    uninstall(&home, &keepers, gateway.as_deref());
}

#[test]
fn the_neighbour_keeps_everything() {
    let (home, keepers, gateway) = inhabited();
    let (neighbour, ..) = inhabited();
    let server = neighbour.server_pid();
    let before = found(&neighbour);
    home.kill_server();
    uninstall(&home, &keepers, gateway.as_deref());
    // Its pool may have been filled up meanwhile.
    let after = found(&neighbour);
    let lost: Vec<_> = before.iter().filter(|it| !after.contains(it)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(neighbour.server_pid(), server);
    let said = neighbour.warren(&["run", "--", "echo", "still here"]).good();
    assert_eq!(said.text(), "still here\n");
    neighbour.warren(&["resume", "paused"]).good();
    neighbour.warren(&["exec", "paused", "--", "true"]).good();
}

#[test]
fn nothing_goes_unless_somebody_agrees() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let refused = home.warren(&["setup", "uninstall"]);
    assert_eq!(refused.code(), 2, "{}", refused.errors());
    assert!(refused.errors().contains(&sandbox.id), "it names what would go: {}", refused.errors());
    home.warren(&["exec", &sandbox.id, "--", "true"]).good();
}
