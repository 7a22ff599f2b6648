//! The server killed at any moment while volumes are made, written to, copied, resized and removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{killed::pause, random};
use crate::{
    harness::{Home, attempt, http::Answer, wait_until},
    storage,
};

/// How often the server is killed on each kind of storage.
const ROUNDS: usize = 8;
const CLIENTS: usize = 4;
/// The size of every file, in bytes.
const SIZE: usize = 150_000;

/// What callers were told.
#[derive(Debug, Default)]
struct Told {
    /// Volumes that were answered, and those of their files that were.
    made: BTreeMap<String, BTreeSet<String>>,
    /// Removed for certain.
    gone: BTreeSet<String>,
    /// Asked to go, and not answered: there or not.
    doubtful: BTreeSet<String>,
}

#[test]
fn volumes_and_their_files_are_whole_or_nothing_whenever_the_server_is_killed() {
    rounds(&Home::new(), false);
}

#[test]
fn on_pools_volumes_are_whole_or_nothing() {
    for driver in ["btrfs", "xfs"] {
        let Some(home) = storage::pool(driver, "512MiB") else { continue };
        let sized = storage::has_limits(&home);
        rounds(&home, sized);
    }
}

fn rounds(home: &Home, sized: bool) {
    let mut told = Told::default();
    home.warren(&["list"]).good();
    for round in 0..ROUNDS {
        told = play(home, round, sized, told);
        home.warren(&["list"]).good();
        check(home, &told, sized);
        // What is removed needs no look later, and there is room for more.
        for name in std::mem::take(&mut told.made).into_keys().chain(told.doubtful.clone()) {
            let removed = home.api("DELETE", &format!("/v1/volumes/{name}"), b"");
            assert!([204, 404].contains(&removed.status), "{name}: {}", removed.text());
        }
        told = Told::default();
        for volume in volumes(home) {
            let name = volume["name"].as_str().expect("a name");
            let removed = home.api("DELETE", &format!("/v1/volumes/{name}"), b"");
            assert_eq!(removed.status, 204, "{}", removed.text());
        }
        let places = [home.data(), home.data().join("pool")].map(|it| it.join("volumes"));
        let left: Vec<_> = places
            .iter()
            .flat_map(|place| std::fs::read_dir(place).into_iter().flatten().flatten())
            .collect();
        assert!(left.is_empty(), "{left:?}\n{}", home.log());
    }
}

fn volumes(home: &Home) -> Vec<Value> {
    let list = home.api("GET", "/v1/volumes", b"").json();
    list["volumes"].as_array().unwrap_or_else(|| panic!("{list}")).clone()
}

fn play(home: &Home, round: usize, sized: bool, told: Told) -> Told {
    let socket = home.socket();
    let (told, over, asked) = (Mutex::new(told), AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (socket, told, over, asked) = (&socket, &told, &over, &asked);
            scope.spawn(move || {
                for turn in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let ask = |method: &str, path: &str, body: &str| {
                        attempt(socket, &format!("{method} /v1/volumes{path} HTTP/1.1"), body)
                    };
                    one_life(&ask, &format!("r{round}c{client}t{turn}"), turn, sized, told);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let some = 1 + random(5) as usize;
        wait_until("clients are busy", || asked.load(Ordering::Relaxed) >= some);
        pause(Duration::from_micros(random(60_000)));
        home.kill_server();
        over.store(true, Ordering::Relaxed);
    });
    told.into_inner().unwrap()
}

type Ask<'a> = &'a dyn Fn(&str, &str, &str) -> Option<Answer>;

/// Whether it was done, for all that is known.
fn done(answer: Option<Answer>) -> bool {
    answer.is_some_and(|it| (200..300).contains(&it.status))
}

/// A volume that is made, written to, copied twice, and perhaps removed.
fn one_life(ask: Ask<'_>, name: &str, turn: usize, sized: bool, told: &Mutex<Told>) {
    let size = sized.then_some(32 << 20);
    let wanted = json!({"name": name, "size_bytes": size}).to_string();
    if !done(ask("POST", "", &wanted)) {
        return;
    }
    told.lock().unwrap().made.insert(name.to_owned(), BTreeSet::new());
    for file in ["f", "d/f"] {
        let path = format!("/{name}/files?path=/{file}");
        if done(ask("PUT", &path, &content(name))) {
            let mut told = told.lock().unwrap();
            told.made.get_mut(name).expect("made").insert(file.to_owned());
        }
    }
    if sized {
        ask("POST", &format!("/{name}/resize"), r#"{"size_bytes": 50000000}"#);
    }
    let files = told.lock().unwrap().made[name].clone();
    for (way, copy) in [("snapshot", format!("{name}s")), ("clone", format!("{name}c"))] {
        let wanted = json!({"name": copy}).to_string();
        if done(ask("POST", &format!("/{name}/{way}"), &wanted)) {
            told.lock().unwrap().made.insert(copy, files.clone());
        }
    }
    if turn.is_multiple_of(2) {
        let removed = ask("DELETE", &format!("/{name}"), "").map(|it| it.status);
        let mut told = told.lock().unwrap();
        told.made.remove(name);
        match removed {
            Some(204 | 404) => told.gone.insert(name.to_owned()),
            _ => told.doubtful.insert(name.to_owned()),
        };
    }
}

/// What every file of a volume and its copies holds.
fn content(name: &str) -> String {
    let origin = name.trim_end_matches(['s', 'c']);
    origin.chars().cycle().take(SIZE).collect()
}

/// Everything that was answered is there, and everything that is there is whole.
#[track_caller]
fn check(home: &Home, told: &Told, sized: bool) {
    let there = volumes(home);
    let names: BTreeSet<_> = there.iter().map(|it| it["name"].as_str().unwrap()).collect();
    for (name, files) in &told.made {
        assert!(names.contains(name.as_str()), "{name} is lost: {names:?}\n{}", home.log());
        for file in files {
            assert!(read(home, name, file).is_some(), "{name}/{file} is lost");
        }
    }
    for name in &told.gone {
        assert!(!names.contains(name.as_str()), "{name} was removed, and is there");
    }
    for volume in &there {
        let name = volume["name"].as_str().unwrap();
        if sized {
            let size = volume["size_bytes"].as_u64();
            assert!([Some(32 << 20), Some(50_000_000)].contains(&size), "{volume}");
        }
        for file in ["f", "d/f"] {
            if let Some(found) = read(home, name, file) {
                assert!(found == content(name), "{name}/{file} is not whole: {}", found.len());
            }
        }
        let listed = home.api("GET", &format!("/v1/volumes/{name}/files/list?path=/&depth=3"), b"");
        for entry in listed.json()["entries"].as_array().expect("entries") {
            let path = entry["path"].as_str().unwrap();
            assert!(["/f", "/d", "/d/f"].contains(&path), "{path} is half-made in {name}");
        }
    }
}

/// A file of a volume, if it is there.
fn read(home: &Home, name: &str, file: &str) -> Option<String> {
    let answer = home.api("GET", &format!("/v1/volumes/{name}/files?path=/{file}"), b"");
    match answer.status {
        200 => Some(answer.text()),
        _ => {
            assert_eq!(answer.status, 404, "{name}/{file}: {}", answer.text());
            None
        }
    }
}
