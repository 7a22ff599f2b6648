//! Builds of templates that are killed, or find no room.

use std::time::Duration;

use serde_json::{Value, json};

use super::{disk, kept, killed::pause, random};
use crate::harness::{Home, attempt, skip, wait_until};

const ROUNDS: u64 = 5;

/// Steps that each leave something; all of them on what this machine has itself.
const STEPS: [&str; 5] = [
    "mkdir /srv/t; head -c 400000 /dev/urandom > /srv/t/1",
    "head -c 400000 /dev/urandom > /srv/t/2",
    "cp /srv/t/1 /srv/t/3",
    "mv /srv/t/2 /srv/t/4",
    "cd /srv/t; sha256sum 1 3 4 > sums",
];

fn request(steps: &[&str]) -> String {
    let steps: Vec<_> = steps.iter().map(|run| json!({"run": run, "user": "root"})).collect();
    json!({"name": "tool", "steps": {"from": "host", "steps": steps}}).to_string()
}

/// Builds to the end, and gives how it ended.
#[track_caller]
fn build(home: &Home, steps: &[&str]) -> Value {
    let build = home.api("POST", "/v1/builds", request(steps).as_bytes()).json();
    ended(home, build["id"].as_str().expect("an id"))
}

#[track_caller]
fn ended(home: &Home, id: &str) -> Value {
    let mut build = Value::Null;
    wait_until("the build has ended", || {
        build = home.api("GET", &format!("/v1/builds/{id}"), b"").json();
        !["waiting", "building"].contains(&build["status"].as_str().unwrap())
    });
    build
}

#[test]
fn a_build_is_whole_or_nothing_whenever_the_server_is_killed() {
    let home = Home::new();
    home.warren(&["list"]).good();
    for round in 0..ROUNDS {
        let socket = home.socket();
        let asked = attempt(&socket, "POST /v1/builds HTTP/1.1", &request(&STEPS));
        let id = asked.expect("an answer").json()["id"].as_str().unwrap().to_owned();
        pause(Duration::from_micros(random(300_000)));
        home.kill_server();
        home.warren(&["list"]).good();
        let known = home.api("GET", &format!("/v1/builds/{id}"), b"");
        if known.status == 200 {
            let status = ended(&home, &id)["status"].clone();
            assert!(["ready", "failed", "cancelled"].contains(&status.as_str().unwrap()));
        }
        let list = home.api("GET", "/v1/templates", b"").json();
        let there = list["templates"]
            .as_array()
            .unwrap()
            .iter()
            .any(|it| !it["tags"].is_null() && it["tags"]["latest"].is_u64());
        if there {
            check(&home);
        }
        let left = home.api("GET", "/v1/sandboxes", b"").json();
        assert_eq!(left["sandboxes"], json!([]), "a sandbox of a build is left");
        if round % 2 == 1 {
            assert_eq!(build(&home, &STEPS)["status"], "ready");
            check(&home);
            forget(&home);
        }
    }
    assert_eq!(build(&home, &STEPS)["status"], "ready");
    check(&home);
    forget(&home);
    wait_until("nothing of the builds is left", || {
        kept(&home).iter().all(|path| !path.to_string_lossy().contains("/snapshots/"))
    });
}

#[track_caller]
fn check(home: &Home) {
    let sandbox = home.create(&json!({"template": "tool"}));
    sandbox.root("cd /srv/t; sha256sum --check sums; [ ! -e 2 ]");
    home.warren(&["rm", "--all", "--force"]).good();
}

/// Takes the template away, and what its steps came to.
#[track_caller]
fn forget(home: &Home) {
    assert!(home.api("DELETE", "/v1/templates/tool", b"").status < 300);
    assert!(home.api("DELETE", "/v1/build-cache", b"").status < 300);
}

#[test]
fn a_build_that_does_not_fit_fails_and_leaves_nothing() {
    let Some(home) = disk::home(48) else { skip!("only root can mount") };
    home.warren(&["list"]).good();
    let large = "head -c 30000000 /dev/urandom > /srv/$(date +%N)";
    let failed = build(&home, &["echo small > /srv/file", large, large]);
    assert_eq!(failed["status"], "failed", "{failed}");
    let message = failed["failure"].to_string();
    assert!(message.contains("space") || message.contains("status"), "{message}");
    assert_eq!(home.api("GET", "/v1/sandboxes", b"").json()["sandboxes"], json!([]));
    let forgotten = home.api("DELETE", "/v1/build-cache", b"");
    assert!(forgotten.status < 300, "{}\n{}", forgotten.text(), home.log());
    wait_until("nothing of the build is left", || {
        kept(&home).iter().all(|path| !path.to_string_lossy().contains("/snapshots/"))
    });
    let next = build(&home, &["echo small > /srv/file"]);
    assert_eq!(next["status"], "ready", "{next}");
}
