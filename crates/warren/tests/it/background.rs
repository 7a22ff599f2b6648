//! The server that commands start: exactly one, gone when nobody needs it, replaced when it is of
//! another build. These run the real runtime, without a sandbox.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
};

use crate::world::{Outcome, World, finish, signal};

/// A world without a server in this process, if a real one can run on this machine.
fn real_world(settings: &str) -> Option<World> {
    let world = World::empty();
    fs::write(world.path("warren.toml"), format!("blanks = 0\nparked = 0\n{settings}")).unwrap();
    let doctor = world.warren(&["doctor", "--quiet"]);
    if doctor.status == 0 {
        return Some(world);
    }
    println!("SKIPPED: no server can run here: {}", doctor.stdout.replace('\n', "; "));
    None
}

/// Ends the real server of a world when dropped, also when a test fails.
struct Stop<'a>(&'a World);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        let stopped = self.0.warren(&["serve", "--stop"]);
        if !std::thread::panicking() {
            assert_eq!(stopped.status, 0, "{stopped:?}");
        }
    }
}

/// How many servers have served in this world.
fn servers(world: &World) -> usize {
    let log = fs::read_to_string(world.path("data/server.log")).unwrap_or_default();
    log.lines().filter(|line| line.contains("serving")).count()
}

#[track_caller]
fn succeeded(outcome: &Outcome) {
    assert_eq!(outcome.status, 0, "{outcome:?}");
}

#[test]
fn twenty_commands_at_once_start_one_server() {
    let Some(world) = real_world("") else { return };
    let _stop = Stop(&world);
    let children: Vec<_> = (0..20).map(|_| world.command(&["list"]).spawn().unwrap()).collect();
    for child in children {
        succeeded(&finish(child));
    }
    assert_eq!(servers(&world), 1);
}

#[test]
fn a_server_that_nobody_needs_ends_and_the_next_command_starts_another() {
    let Some(world) = real_world("idle_exit = \"50ms\"") else { return };
    let _stop = Stop(&world);
    succeeded(&world.warren(&["list"]));
    // Held by the server to its end.
    File::options().write(true).open(world.path("run/lock")).unwrap().lock().unwrap();
    assert!(!world.path("run/api.sock").exists());
    assert_eq!(servers(&world), 1);
    succeeded(&world.warren(&["list"]));
    assert_eq!(servers(&world), 2);
}

#[test]
fn commands_that_meet_a_server_on_its_way_out_do_not_notice() {
    let Some(world) = real_world("idle_exit = \"1ms\"") else { return };
    let _stop = Stop(&world);
    for _ in 0..10 {
        let children: Vec<_> = (0..4).map(|_| world.command(&["list"]).spawn().unwrap()).collect();
        for child in children {
            succeeded(&finish(child));
        }
    }
}

#[test]
fn a_server_of_another_build_is_replaced() {
    let Some(world) = real_world("") else { return };
    let _stop = Stop(&world);
    succeeded(&world.warren(&["list"]));
    let lock = world.path("run/lock");
    let record = fs::read_to_string(&lock).unwrap();
    let pid = record.split_whitespace().last().unwrap();
    fs::write(&lock, format!("0.0.1+other background {pid}\n")).unwrap();
    let outcome = world.warren(&["list"]);
    succeeded(&outcome);
    assert!(outcome.stderr.contains("the server is of another build"), "{}", outcome.stderr);
    assert_eq!(servers(&world), 2);
    assert!(!fs::read_to_string(&lock).unwrap().contains("other"));
}

/// Kills the server of a world.
fn kill_server(world: &World) {
    let record = fs::read_to_string(world.path("run/lock")).unwrap();
    let pid = record.split_whitespace().last().unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_command_goes_on_when_its_server_is_killed() {
    let Some(world) = real_world("network = \"none\"") else { return };
    let _stop = Stop(&world);
    let script = "echo one; until [ -e /tmp/go ]; do sleep 0.02; done; echo two; exit 5";
    let arguments = ["run", "--name", "x", "sh", "-c", script];
    let mut child = world.command(&arguments).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "one\n");
    kill_server(&world);
    // Whichever of the two commands notices first starts the next server.
    succeeded(&world.warren(&["exec", "x", "touch", "/tmp/go"]));
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "two\n");
    assert_eq!(finish(child).status, 5);
    assert_eq!(world.data(&["list", "-q"]), "");
}

#[test]
fn events_are_followed_across_the_death_of_a_server() {
    let Some(world) = real_world("network = \"none\"") else { return };
    let _stop = Stop(&world);
    succeeded(&world.warren(&["run", "--name", "one", "true"]));
    let mut child = world.command(&["--json", "events", "--after", "0"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    let mut until_deleted = |seen: &mut Vec<u64>| loop {
        let event: serde_json::Value =
            serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        seen.push(event["seq"].as_u64().unwrap());
        if event["type"] == "sandbox.deleted" {
            return;
        }
    };
    until_deleted(&mut seen);
    kill_server(&world);
    succeeded(&world.warren(&["run", "--name", "two", "true"]));
    until_deleted(&mut seen);
    assert!(seen.is_sorted_by(|one, next| one < next), "{seen:?}");
    signal(&child, rustix::process::Signal::TERM);
    finish(child);
}

#[test]
fn a_server_that_was_killed_is_replaced() {
    let Some(world) = real_world("") else { return };
    let _stop = Stop(&world);
    succeeded(&world.warren(&["list"]));
    kill_server(&world);
    // Free once nothing of it runs.
    File::options().write(true).open(world.path("run/lock")).unwrap().lock().unwrap();
    succeeded(&world.warren(&["list"]));
    assert_eq!(servers(&world), 2);
}

#[test]
fn a_server_in_the_foreground_is_the_only_one_and_ends_when_asked() {
    let Some(world) = real_world("") else { return };
    let first = world.command(&["serve"]).spawn().unwrap();
    // Its first connection is answered when it serves.
    let start = std::time::Instant::now();
    while !world.warren(&["version"]).stdout.contains("runtime namespace") {
        assert!(start.elapsed().as_secs() < 30, "it does not serve");
    }
    let second = world.warren(&["serve"]);
    assert_eq!(second.status, 1);
    let words = format!("a server runs already, as process {}", first.id());
    assert!(second.stderr.contains(&words), "{}", second.stderr);
    signal(&first, rustix::process::Signal::TERM);
    succeeded(&finish(first));
    assert!(!world.path("run/api.sock").exists());
}

#[test]
fn a_server_that_can_not_start_says_why() {
    let Some(world) = real_world("") else { return };
    // A directory where the database should be.
    fs::create_dir_all(world.path("data/warren.db")).unwrap();
    let outcome = world.warren(&["list"]);
    assert_eq!(outcome.status, 1);
    assert!(
        outcome.stderr.contains("server that was started in the background ended"),
        "{outcome:?}"
    );
    assert!(outcome.stderr.contains("the server's last words"), "{outcome:?}");
}
