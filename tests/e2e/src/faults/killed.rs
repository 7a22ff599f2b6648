//! The server killed at any moment while files are fetched, saved, forked and thrown away.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use warren_test_registry::Proxy;

use super::{image, images, kept, random, registry};
use crate::{
    harness::{Home, Leftovers, Sandbox, attempt, wait_until},
    storage,
};

/// How often the server is killed on each kind of storage.
const ROUNDS: usize = 8;

const PULLS: usize = 8;

#[test]
fn a_pull_is_whole_or_nothing_whenever_the_server_is_killed() {
    let Some(registry) = registry() else { return };
    let image = image(4_000_000);
    registry.put("team/tool", "1", &image).unwrap();
    let all: u64 = image.blobs().map(|blob| blob.bytes.len() as u64).sum();
    let proxy = Proxy::start(registry.address()).unwrap();
    let reference = format!("{}/team/tool:1", proxy.address());
    let home = Home::new();
    home.warren(&["list"]).good();
    let before = kept(&home);
    for round in 0..PULLS {
        // Half of them in the midst of a blob, and half whenever it happens.
        match round % 2 {
            0 => proxy.stall_after(random(all)),
            _ => proxy.heal(),
        }
        let socket = home.socket();
        std::thread::scope(|scope| {
            let body = json!({"image": reference}).to_string();
            scope.spawn(move || attempt(&socket, "POST /v1/sandboxes HTTP/1.1", &body));
            if round % 2 == 0 {
                proxy.wait_until_cut_for(Duration::from_secs(1));
            } else {
                pause(Duration::from_micros(random(400_000)));
            }
            home.kill_server();
            proxy.heal();
        });
        home.warren(&["list"]).good();
        let listed = images::listed(&home);
        assert!(listed.is_empty() || listed == [reference.as_str()], "{listed:?}");
        if round % 3 == 2 {
            images::works(&home, &reference);
            home.warren(&["rm", "--all", "--force"]).good();
            home.warren(&["image", "rm", &reference]).good();
        }
    }
    home.warren(&["rm", "--all", "--force"]).good();
    home.warren(&["image", "pull", &reference]).good();
    images::works(&home, &reference);
    home.warren(&["image", "rm", &reference]).good();
    home.warren(&["image", "prune", "--all"]).good();
    wait_until("nothing of the image is left", || {
        kept(&home).difference(&before).all(|path| path.is_dir())
    });
}

#[test]
fn snapshots_forks_and_returns_are_whole_or_nothing_whenever_the_server_is_killed() {
    rounds(&Home::new());
}

#[test]
fn on_a_pool_snapshots_forks_and_returns_are_whole_or_nothing() {
    let Some(home) = storage::pool("btrfs", "512MiB") else { return };
    rounds(&home);
}

/// What callers were told.
#[derive(Debug, Default)]
struct Told {
    /// Snapshots that were answered, with what their file has.
    made: BTreeMap<String, String>,
}

/// Kills the server amid everything that saves files; then all of it must hold that was answered.
fn rounds(home: &Home) {
    let sandbox = home.create(&json!({"name": "parent"}));
    sandbox.root("mkdir /root/t; cd /root/t; i=0; while [ $i -lt 60 ]; do head -c 20000 /dev/urandom > $i; i=$((i+1)); done");
    let sums = sandbox.root("cd /root/t; cat * | sha256sum");
    let id = sandbox.id.clone();
    let second = Second::new(home);
    let mut told = Told::default();
    for round in 0..ROUNDS {
        told = play(home, &id, &second, round, told);
        home.warren(&["list"]).good();
        check(home, &[&id, &second.id], &sums, &told);
        second.check(home);
    }
    home.warren(&["rm", "--all", "--force"]).good();
    for snapshot in snapshots(home) {
        let id = snapshot["id"].as_str().unwrap();
        assert!(home.api("DELETE", &format!("/v1/snapshots/{id}"), b"").status < 300);
    }
    wait_until("nothing is left of the snapshots", || {
        let left = kept(home);
        left.iter().all(|path| !path.to_string_lossy().contains("/snapshots/"))
    });
    wait_until("nothing else is left", || Leftovers::of(home).0.iter().all(|it| is_pool(home, it)));
}

/// A sandbox that goes back and forth between two snapshots of its own.
struct Second {
    id: String,
    snapshots: Vec<String>,
}

impl Second {
    fn new(home: &Home) -> Self {
        let sandbox = home.create(&json!({"name": "second"}));
        let snapshots = ["a", "b"].map(|letter| {
            sandbox.root(&format!("cd /root; for f in 1 2 3 4 5 6; do echo {letter} > $f; done"));
            let made = sandbox.api("POST", "/snapshots", b"{}").json();
            made["id"].as_str().expect("an id").to_owned()
        });
        Self { id: sandbox.id.clone(), snapshots: snapshots.into() }
    }

    /// It is in one of both states, whole.
    #[track_caller]
    fn check(&self, home: &Home) {
        let sandbox = awake(home, &self.id);
        let found = sandbox.root("cd /root; cat 1 2 3 4 5 6 | tr -d '\\n'");
        assert!(["aaaaaa", "bbbbbb"].contains(&found.as_str()), "between two states: {found}");
    }
}

/// A sandbox that runs, after a start or a resume where the server was killed in between.
#[track_caller]
fn awake<'a>(home: &'a Home, id: &str) -> Sandbox<'a> {
    let sandbox = Sandbox { home, id: id.to_owned(), created: Value::Null };
    match sandbox.get()["state"].as_str() {
        Some("stopped") => {
            let started = sandbox.api("POST", "/start", b"");
            let (text, log) = (started.text(), home.log());
            assert!(started.status < 300, "{text} {}\n{log}", sandbox.get());
        }
        Some("paused") => drop(sandbox.api("POST", "/resume", b"").json()),
        _ => {}
    }
    sandbox
}

/// The pool's own mount is no leftover.
fn is_pool(home: &Home, line: &str) -> bool {
    line.starts_with("mount") && line.contains(&format!("{}/pool ", home.data().display()))
}

fn play(home: &Home, id: &str, second: &Second, round: usize, told: Told) -> Told {
    let socket = home.socket();
    let (told, over, asked) = (Mutex::new(told), AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..3 {
            let (socket, told, over, asked) = (&socket, &told, &over, &asked);
            scope.spawn(move || {
                for turn in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let ask = |method: &str, path: &str, body: &Value| {
                        let head = format!("{method} {path} HTTP/1.1");
                        attempt(socket, &head, &body.to_string())
                    };
                    let name = format!("r{round}c{client}t{turn}");
                    one_turn(&ask, id, &name, told);
                    match (round + client + turn) % 4 {
                        0 => drop(ask(
                            "POST",
                            &format!("/v1/sandboxes/{id}/fork"),
                            &json!({"count": 2}),
                        )),
                        1 => throw_away(&ask, told),
                        2 => second.go_back(&ask, turn),
                        _ => {}
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let some = 1 + random(4) as usize;
        wait_until("clients are busy", || asked.load(Ordering::Relaxed) >= some);
        pause(Duration::from_micros(random(60_000)));
        home.kill_server();
        over.store(true, Ordering::Relaxed);
    });
    told.into_inner().unwrap()
}

type Ask<'a> = &'a dyn Fn(&str, &str, &Value) -> Option<crate::harness::http::Answer>;

/// Writes a file and makes a snapshot that has it.
fn one_turn(ask: Ask<'_>, id: &str, name: &str, told: &Mutex<Told>) {
    let path = format!("/v1/sandboxes/{id}");
    let write = json!({"command": ["sh", "-c", format!("echo {name} > /home/user/{name}")]});
    let written = ask("POST", &format!("{path}/exec"), &write).filter(|it| it.status == 200);
    if written.is_none_or(|it| it.json()["exit_code"] != 0) {
        return; // killed
    }
    let made = ask("POST", &format!("{path}/snapshots"), &json!({"name": name}));
    if let Some(made) = made.filter(|it| (200..300).contains(&it.status)) {
        let snapshot = made.json()["id"].as_str().unwrap().to_owned();
        told.lock().unwrap().made.insert(snapshot, name.to_owned());
    }
}

fn throw_away(ask: Ask<'_>, told: &Mutex<Told>) {
    // From now on it may be there or not.
    let oldest = told.lock().unwrap().made.pop_first();
    if let Some((snapshot, _)) = oldest {
        drop(ask("DELETE", &format!("/v1/snapshots/{snapshot}"), &json!({})));
    }
}

impl Second {
    fn go_back(&self, ask: Ask<'_>, turn: usize) {
        let body = json!({"snapshot": self.snapshots[turn % 2]});
        drop(ask("POST", &format!("/v1/sandboxes/{}/rollback", self.id), &body)); // may be killed
    }
}

fn snapshots(home: &Home) -> Vec<Value> {
    let list = home.api("GET", "/v1/snapshots", b"").json();
    list["snapshots"].as_array().unwrap_or_else(|| panic!("{list}")).clone()
}

/// Everything that was answered is there, and everything that is there is whole.
#[track_caller]
fn check(home: &Home, keep: &[&str], sums: &str, told: &Told) {
    assert_eq!(
        awake(home, keep[0]).root("cd /root/t; cat * | sha256sum"),
        sums,
        "the parent lost files"
    );
    let there = snapshots(home);
    let ids: Vec<_> = there.iter().map(|it| it["id"].as_str().unwrap()).collect();
    for (snapshot, name) in &told.made {
        assert!(ids.contains(&snapshot.as_str()), "{snapshot} {name} is lost: {ids:?}");
    }
    // One that was answered and one that perhaps was not: all of them would take minutes.
    let answered = told.made.iter().next_back().map(|(id, name)| (id.clone(), Some(name.clone())));
    let other = ids.iter().rev().find(|id| !told.made.contains_key(**id));
    for (snapshot, name) in answered.into_iter().chain(other.map(|it| ((*it).to_owned(), None))) {
        let child = home.create(&json!({"snapshot": snapshot}));
        if child.root("ls /root").contains('1') {
            continue; // one of the second sandbox
        }
        assert_eq!(child.root("cd /root/t; cat * | sha256sum"), sums, "{snapshot} is not whole");
        if let Some(name) = name {
            assert_eq!(child.root(&format!("cat /home/user/{name}")), format!("{name}\n"));
        }
    }
    let list = home.api("GET", "/v1/sandboxes?limit=1000", b"").json();
    for sandbox in list["sandboxes"].as_array().unwrap().iter() {
        let other = sandbox["id"].as_str().unwrap();
        if keep.contains(&other) {
            continue;
        }
        assert_eq!(home.api("DELETE", &format!("/v1/sandboxes/{other}"), b"").status, 204);
    }
}

#[expect(clippy::disallowed_methods, reason = "a moment that no event announces is the point")]
pub(super) fn pause(length: Duration) {
    std::thread::sleep(length);
}
