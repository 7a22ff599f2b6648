//! Disks that are full, at every stage.

use serde_json::{Value, json};

use super::{image, images, kept, registry};
use crate::harness::{Home, Sandbox, http::Answer, skip, wait_until};

/// A data directory with so many megabytes, none of which is held back.
pub(super) fn home(megabytes: u64) -> Option<Home> {
    let settings = [("WARREN_BLANKS", "0"), ("WARREN_PARKED", "0"), ("WARREN_DISK_RESERVE", "0")];
    Home::on_disk(megabytes << 20, &settings)
}

/// What a request says that found no room.
#[track_caller]
fn full(home: &Home, answer: &Answer) {
    let text = answer.text();
    assert_eq!(answer.error_code(), "resource_exhausted", "{text}\n{}", home.log());
    assert!(text.contains("space") || text.contains("full"), "{text}");
}

#[test]
fn an_image_that_does_not_fit_is_refused_and_leaves_nothing() {
    let Some(registry) = registry() else { return };
    registry.put("team/large", "1", &image(18 << 20)).unwrap();
    registry.put("team/tool", "1", &image(1_000)).unwrap();
    let Some(home) = home(16) else { skip!("only root can mount") };
    let sandbox = home.create(&json!({}));
    let before = kept(&home);
    let error = images::refused(&home, &format!("{}/team/large:1", registry.address()));
    assert!(error.contains("space") || error.contains("full"), "{error}");
    home.warren(&["image", "prune", "--all"]).good();
    let left: Vec<_> = kept(&home).difference(&before).filter(|it| it.is_file()).cloned().collect();
    assert!(left.is_empty(), "{left:?}");
    // Nobody else is harmed, and what fits goes on.
    assert_eq!(sandbox.root("echo on > /root/x; cat /root/x"), "on\n");
    images::works(&home, &format!("{}/team/tool:1", registry.address()));
}

#[test]
fn snapshots_and_forks_that_do_not_fit_are_refused_and_leave_nothing() {
    let Some(home) = home(64) else { skip!("only root can mount") };
    let sandbox = home.create(&json!({}));
    sandbox.root("head -c 36000000 /dev/urandom > /root/half; sha256sum /root/half > /root/sum");
    let before = kept(&home);
    let refused = sandbox.api("POST", "/snapshots", b"{}");
    full(&home, &refused);
    assert!(refused.text().contains("disk space for the snapshot"), "{}", refused.text());
    full(&home, &sandbox.api("POST", "/fork", br#"{"count": 2}"#));
    assert_eq!(snapshots(&home), 0);
    wait_until("nothing is left", || kept(&home).difference(&before).next().is_none());
    assert_eq!(sandbox.get()["state"], "running");
    sandbox.root("sha256sum --check /root/sum");
    // As soon as there is room, it is done.
    sandbox.root("rm /root/half; echo small > /root/file");
    let made = sandbox.api("POST", "/snapshots", b"{}");
    assert_eq!(made.status, 201, "{}\n{}", made.text(), home.log());
    let made = made.json();
    let child = home.create(&json!({"snapshot": made["id"]}));
    assert_eq!(child.root("cat /root/file"), "small\n");
}

fn snapshots(home: &Home) -> usize {
    let list = home.api("GET", "/v1/snapshots", b"").json();
    list["snapshots"].as_array().unwrap_or_else(|| panic!("{list}")).len()
}

#[test]
fn on_a_full_ext4_it_is_enospc_inside_an_event_outside_and_nobody_is_harmed() {
    let settings = [("WARREN_BLANKS", "0"), ("WARREN_PARKED", "0"), ("WARREN_DISK_RESERVE", "0")];
    let Some(home) = Home::on_ext4(96 << 20, &settings) else {
        skip!("it takes root and loop devices");
    };
    home.warren(&["volume", "create", "data"]).good();
    let volume = json!({"volumes": [{"volume": "data", "target": "/data"}]});
    let (writer, other) = (home.create(&volume), home.create(&volume));
    other.root("head -c 1000000 /dev/urandom > /root/own; sha256sum /root/own > /root/sum");
    fills(&home, &writer, "/root/all", &[&writer, &other]);
    // What is there is there, and what needs no room goes on.
    other.root("sha256sum --check /root/sum");
    let refused = other.exec_as(&json!({"command": ["sh", "-c", "cat /dev/zero > /data/x"],
        "user": "root"}));
    assert!(refused["stderr"].as_str().unwrap().contains("No space left"), "{refused}");
    let upload = vec![7; 1 << 20];
    let refused = home.warren_with(&["volume", "put", "-", "data", "large"], &upload);
    assert!(refused.errors().contains("is full"), "{}", refused.errors());
    let listed = home.warren(&["volume", "ls", "data", "--quiet"]).good().text();
    assert_eq!(listed, "/x\n", "nothing half-made stays");
    for sandbox in [&writer, &other] {
        assert_eq!(sandbox.get()["state"], "running");
    }
    home.warren(&["stop", &writer.id]).good();
    home.warren(&["rm", "--force", &writer.id]).good();
    home.warren(&["volume", "remove", "data", "x"]).good();
    wait_until("there is room again", || {
        home.warren_with(&["volume", "put", "-", "data", "large"], &upload).code() == 0
    });
    other.root("echo on > /root/more; sha256sum --check /root/sum");
}

#[test]
fn on_a_full_pool_it_is_an_event_for_everybody() {
    for driver in ["btrfs", "xfs"] {
        let Some(home) = crate::storage::pool(driver, "512MiB") else { continue };
        let (writer, other) = (home.create(&json!({})), home.create(&json!({})));
        other.root("echo kept > /root/file");
        fills(&home, &writer, "/root/all", &[&writer, &other]);
        assert_eq!(other.root("cat /root/file"), "kept\n");
        home.warren(&["rm", "--force", &writer.id]).good();
        wait_until("there is room again", || {
            let line = "head -c 50000000 /dev/zero > /root/more && sync /root/more";
            other.exec_as(&json!({"command": ["sh", "-c", line], "user": "root"}))["exit_code"] == 0
        });
    }
}

/// Writes inside until there is next to nothing left, waits for what is said outside, and writes
/// until nothing more goes. The database is on the same disk: what nobody could write down is told
/// when there is room again.
fn fills(home: &Home, writer: &Sandbox<'_>, path: &str, all: &[&Sandbox<'_>]) {
    writer.root(&format!(
        "free=$(df --output=avail -k / | tail -1); \
         head -c $((free - 1200))K /dev/zero > {path}; sync {path}"
    ));
    for sandbox in all {
        let kinds = home.events(&sandbox.id, "disk.full");
        assert_eq!(kinds.last().expect("an event"), "disk.full");
    }
    let line = format!("cat /dev/zero >> {path}");
    let filled = writer.exec_as(&json!({"command": ["sh", "-c", line], "user": "root"}));
    let said = filled["stderr"].as_str().expect("text");
    assert!(said.contains("No space left on device"), "{filled}");
}

#[test]
fn on_a_full_disk_sandboxes_are_refused_and_removed() {
    let Some(home) = home(48) else { skip!("only root can mount") };
    let sandbox = home.create(&json!({}));
    let fill = json!({"command": ["sh", "-c", "cat /dev/zero > /root/all"], "user": "root"});
    let filled = sandbox.exec_as(&fill);
    let said = filled["stderr"].as_str().unwrap();
    assert!(said.contains("No space left on device"), "{filled}");
    let refused = home.api("POST", "/v1/sandboxes", b"{}");
    if refused.status != 201 {
        full(&home, &refused);
    } else {
        let id = refused.json()["id"].as_str().unwrap().to_owned();
        let other = Sandbox { home: &home, id, created: Value::Null };
        assert_eq!(other.api("DELETE", "", b"").status, 204);
    }
    assert_eq!(sandbox.api("DELETE", "", b"").status, 204);
    // What was removed is thrown away in the background.
    let mut id = Value::Null;
    wait_until("there is room again", || {
        let made = home.api("POST", "/v1/sandboxes", b"{}");
        if made.status == 201 {
            id = made.json()["id"].clone();
        } else {
            full(&home, &made);
        }
        !id.is_null()
    });
    let id = id.as_str().unwrap().to_owned();
    let next = Sandbox { home: &home, id, created: Value::Null };
    assert_eq!(next.root("echo on > /root/x; cat /root/x"), "on\n");
}
