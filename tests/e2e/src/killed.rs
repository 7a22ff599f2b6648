//! Server and keeper killed at any moment, while sandboxes are made, used, paused and removed.

use std::{
    collections::BTreeSet,
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    harness::{Home, Leftovers, Sandbox, attempt, kill, wait_until},
    output::{lines, text_of},
};

/// Every third kills the server, the keeper, or both.
const ROUNDS: usize = 12;

const CLIENTS: usize = 6;

/// What callers were told in one round.
#[derive(Debug, Default)]
struct Told {
    /// Idempotency keys that were used, with the id where one was answered.
    keys: Vec<(String, Option<String>)>,
    /// Answered with 204.
    removed: BTreeSet<String>,
    /// Asked for and not answered: they may be there or not.
    doubtful: BTreeSet<String>,
}

#[test]
fn what_was_answered_holds_whoever_is_killed_whenever() {
    let mut home = Home::with(&[("WARREN_BLANKS", "2"), ("WARREN_PARKED", "1")]);
    let witness = home.create(&json!({"name": "witness", "warm": false}));
    let line = "i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo line $i; sleep 0.01; done; echo end; exit 6";
    let started = witness.exec_as(&json!({"command": ["sh", "-c", line], "detach": true}));
    let exec = started["exec_id"].as_str().unwrap().to_owned();
    let witness = witness.id.clone();
    let mut keepers = BTreeSet::new();
    for round in 0..ROUNDS {
        keepers.extend(Leftovers::keepers(&home));
        let told = play(&home, round, &keepers);
        home.warren(&["list"]).good();
        keepers.extend(Leftovers::keepers(&home));
        check(&home, &told, &witness);
    }
    let sandbox = Sandbox { home: &home, id: witness, created: Value::Null };
    sandbox.exec(&["touch", "/tmp/stop"]);
    let events = lines(&sandbox, "GET", &format!("/exec/{exec}/output?offset=0"), b"");
    let text = text_of(&events);
    let count = text.lines().count() - 1;
    let expected: String = (1..=count).map(|number| format!("line {number}\n")).collect();
    assert!(text == format!("{expected}end\n"), "not every line, or not in order: {text}");
    assert_eq!(events.last().unwrap()["exit_code"], 6, "{events:?}");
    println!("{ROUNDS} rounds, {count} lines of the witness, {} keepers", keepers.len());
    home.warren(&["rm", "--all", "--force"]).good();
    home.warren(&["serve", "--stop"]).good();
    home.set(&[("WARREN_BLANKS", "0"), ("WARREN_PARKED", "0")]);
    home.warren(&["list"]).good();
    keepers.extend(Leftovers::keepers(&home));
    wait_until("nothing is left", || Leftovers::of(&home).0.is_empty());
    home.warren(&["serve", "--stop"]).good();
    let living = || keepers.iter().filter(|pid| is_keeper(**pid)).count();
    wait_until("every keeper has ended", || living() == 0);
}

fn is_keeper(pid: u32) -> bool {
    // Nothing is left of one that has ended and waits for its parent.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"warren-keeper"))
}

/// Lets clients do all they can and kills somebody meanwhile.
fn play(home: &Home, round: usize, keepers: &BTreeSet<u32>) -> Told {
    let socket = home.socket();
    let (told, over) = (Mutex::new(Told::default()), AtomicBool::new(false));
    let answers = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (socket, told, over, answers) = (&socket, &told, &over, &answers);
            scope.spawn(move || {
                for turn in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = format!("r{round}c{client}t{turn}");
                    one_life(socket, &key, told, turn % 3 != 0);
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Some are through, and others in the midst of it.
        let some = 2 + random(12);
        wait_until("clients are busy", || answers.load(Ordering::Relaxed) >= some);
        pause(Duration::from_micros(random(40_000) as u64));
        if round % 3 != 1 {
            home.kill_server();
        }
        if !round.is_multiple_of(3) {
            keepers.iter().filter(|pid| is_keeper(**pid)).for_each(|pid| kill(*pid));
        }
        pause(Duration::from_micros(random(20_000) as u64));
        over.store(true, Ordering::Relaxed);
    });
    told.into_inner().unwrap()
}

/// Makes a sandbox and uses it, and may remove it; notes what was answered.
fn one_life(socket: &std::path::Path, key: &str, told: &Mutex<Told>, remove: bool) {
    let head = format!("POST /v1/sandboxes HTTP/1.1\r\nidempotency-key: {key}");
    let made = attempt(socket, &head, &wanted(key));
    let id = made.filter(|it| it.status == 201 || it.status == 200);
    let id = id.map(|it| it.json()["id"].as_str().expect("an id").to_owned());
    told.lock().unwrap().keys.push((key.to_owned(), id.clone()));
    let Some(id) = id else { return };
    let ask = |method: &str, path: &str, body: &str| {
        attempt(socket, &format!("{method} /v1/sandboxes/{id}{path} HTTP/1.1"), body)
    };
    if let Some(ended) = ask("POST", "/exec", r#"{"command":["echo","here"]}"#)
        && ended.status == 200
    {
        assert_eq!(ended.json()["stdout"], "here\n");
    }
    if let Some(paused) = ask("POST", "/pause", "")
        && paused.status == 200
    {
        drop(ask("POST", "/resume", "")); // may be killed before it is through
    }
    if remove {
        let answer = ask("DELETE", "", "");
        let mut told = told.lock().unwrap();
        match answer.map(|it| it.status) {
            Some(204 | 404) => told.removed.insert(id),
            _ => told.doubtful.insert(id),
        };
    }
}

fn wanted(key: &str) -> String {
    json!({"labels": {"key": key}}).to_string()
}

/// Compares what callers were told with what there is, and removes it.
#[track_caller]
fn check(home: &Home, told: &Told, witness: &str) {
    let list = home.api("GET", "/v1/sandboxes?limit=1000", b"").json();
    let living: Vec<_> = list["sandboxes"].as_array().unwrap().iter().collect();
    let ids: BTreeSet<_> = living.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect();
    assert!(ids.contains(witness), "the witness is lost: {list}");
    for (key, id) in &told.keys {
        let of_key = living.iter().filter(|it| it["labels"]["key"] == key.as_str()).count();
        assert!(of_key <= 1, "{of_key} sandboxes of one key: {list}");
        let Some(id) = id else { continue };
        if told.removed.contains(id) {
            assert!(!ids.contains(id), "{id} was removed, and is there: {list}");
        } else if !told.doubtful.contains(id) {
            assert!(ids.contains(id), "{id} was made, and is lost: {told:?} {list}");
            let again = home.api_with(
                "POST",
                "/v1/sandboxes",
                &format!("idempotency-key: {key}"),
                wanted(key).as_bytes(),
            );
            assert_eq!(again.json()["id"], id.as_str(), "its key makes another one");
            alive(home, id);
        }
    }
    for id in ids.iter().filter(|id| *id != witness) {
        let gone = home.api("DELETE", &format!("/v1/sandboxes/{id}"), b"");
        assert_eq!(gone.status, 204, "{id}: {}\n{}", gone.text(), home.log());
    }
}

/// It runs commands, after a resume where it was killed between pause and resume.
#[track_caller]
fn alive(home: &Home, id: &str) {
    let sandbox = Sandbox { home, id: id.to_owned(), created: Value::Null };
    if sandbox.get()["state"] == "paused" {
        sandbox.api("POST", "/resume", b"").json();
    }
    assert_eq!(sandbox.exec(&["echo", "on"])["stdout"], "on\n");
}

/// A number below `limit` that nobody can foresee.
fn random(limit: usize) -> usize {
    usize::try_from(RandomState::new().build_hasher().finish()).unwrap_or(0) % limit
}

#[expect(clippy::disallowed_methods, reason = "a moment that no event announces is the point")]
fn pause(length: Duration) {
    std::thread::sleep(length);
}
