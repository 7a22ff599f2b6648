//! A newer server takes over the sandboxes of an older one, with their old agents.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Home, Leftovers, wait_until};

/// A copy of the binary that is another build to itself: with another build id, and an agent whose
/// bytes differ where no loader looks.
fn other_build(warren: &std::path::Path) -> (TempDir, PathBuf) {
    let mut bytes = fs::read(warren).expect("read the binary");
    // The note's head: sizes of name and value, type, name.
    let note = [4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0];
    let id = find(&bytes[..4096], &note).expect("a build id") + note.len();
    bytes[id] ^= 0xff;
    let agent = find(&bytes, warren_agent_image::AGENT).expect("the agent's image");
    // The last of the identification's bytes of padding.
    bytes[agent + 15] ^= 1;
    let directory = tempfile::Builder::new().prefix("warren-build-").tempdir().expect("a place");
    let path = directory.path().join("warren");
    fs::write(&path, bytes).expect("write the other build");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
    (directory, path)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, length) = (needle[0], needle.len());
    let starts = haystack.iter().enumerate().filter(|(_, byte)| **byte == first);
    starts.map(|(at, _)| at).find(|at| haystack[*at..].get(..length) == Some(needle))
}

/// The process that a sandbox's first one was forked from.
fn keeper_of(home: &Home, id: &str) -> u32 {
    let record = fs::read_to_string(home.data().join("sandboxes").join(id).join("guest"));
    let record = record.expect("the journal's entry");
    let pid = record.lines().find_map(|line| line.strip_prefix("pid ")).expect("a pid");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the guest lives");
    let rest = stat.rsplit(')').next().expect("the fields");
    rest.split_whitespace().nth(1).expect("the parent").parse().expect("a number")
}

#[test]
fn a_newer_server_takes_over_sandboxes_with_older_agents() {
    let mut home = Home::new();
    let old = home.create(&json!({"name": "old"}));
    let short = home.create(&json!({"name": "short", "lifetime_seconds": 6}));
    let line = "echo before; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo after; exit 3";
    let started = old.exec_as(&json!({"command": ["sh", "-c", line], "detach": true}));
    let exec = started["exec_id"].as_str().unwrap().to_owned();
    old.api("PUT", "/files?path=/home/user/f", b"written before").json();
    let version = home.api("GET", "/v1/version", b"").json()["version"].clone();
    let (old, short) = (old.id.clone(), short.id.clone());
    let old_keeper = keeper_of(&home, &old);

    let (_place, newer) = other_build(home.binary());
    home.use_binary(newer);
    home.warren(&["list"]).good();
    assert_ne!(home.api("GET", "/v1/version", b"").json()["version"], version, "the same server");
    let sandbox =
        |id: &str| crate::harness::Sandbox { home: &home, id: id.into(), created: json!(null) };
    let (old, short) = (sandbox(&old), sandbox(&short));

    // Everything goes on for the old one, by its old agent and keeper.
    assert_eq!(old.get()["state"], "running");
    assert_eq!(old.api("GET", "/files?path=/home/user/f", b"").text(), "written before");
    old.api("PUT", "/files?path=/tmp/go", b"").json();
    let events = crate::output::lines(&old, "GET", &format!("/exec/{exec}/output?offset=0"), b"");
    assert_eq!(crate::output::text_of(&events), "before\nafter\n");
    assert_eq!(events.last().unwrap()["exit_code"], 3, "{events:?}");
    if old.api("POST", "/pause", b"").status == 200 {
        assert_eq!(old.get()["state"], "paused");
        assert_eq!(old.api("POST", "/resume", b"").json()["state"], "running");
    }
    assert_eq!(old.exec(&["cat", "/home/user/f"])["stdout"], "written before");
    assert_eq!(keeper_of(&home, &old.id), old_keeper);

    // New ones have the new keeper.
    let new = home.create(&json!({}));
    assert_eq!(new.exec(&["echo", "new"])["stdout"], "new\n");
    let new_keeper = keeper_of(&home, &new.id);
    assert_ne!(new_keeper, old_keeper);
    assert!(Leftovers::keepers(&home).contains(&new_keeper));

    // Deadlines of before hold, and the old keeper ends with its last sandbox.
    wait_until("its time is over", || {
        let now = short.api("GET", "", b"");
        now.status == 404 || now.json()["end"]["reason"] == "timeout"
    });
    assert!(fs::exists(format!("/proc/{old_keeper}")).unwrap(), "it has a sandbox yet");
    assert_eq!(old.api("DELETE", "", b"").status, 204);
    let ended = || {
        !fs::read_to_string(format!("/proc/{old_keeper}/comm"))
            .is_ok_and(|it| it.starts_with("warren-keeper"))
    };
    wait_until("the old keeper has ended", || ended() || is_zombie(old_keeper));
    assert_eq!(new.exec(&["echo", "on"])["stdout"], "on\n");
    assert_eq!(new.api("DELETE", "", b"").status, 204);
    wait_until("nothing is left", || Leftovers::of(&home).0.is_empty());
}

/// Whether it has ended and nobody has asked how: in a container nobody may.
fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}
