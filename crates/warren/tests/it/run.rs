//! Commands in sandboxes: streams, exit statuses, signals, and what is left behind.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::Stdio,
};

use rustix::process::Signal;

use crate::world::{World, finish, signal};

#[test]
fn output_and_status_are_the_commands_and_nothing_stays() {
    let world = World::start();
    assert_eq!(world.data(&["run", "--", "echo", "hello"]), "hello\n");
    let outcome = world.warren(&["run", "fail", "7"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (7, ""));
    assert!(outcome.stderr.contains("failed"), "{}", outcome.stderr);
    assert!(world.fake.guests().is_empty());
}

#[test]
fn a_command_that_is_not_there_could_not_be_run() {
    let world = World::start();
    let outcome = world.warren(&["run", "no-such-program"]);
    assert_eq!(outcome.status, 125);
    assert!(outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
    assert!(world.fake.guests().is_empty());
}

#[test]
fn a_sandbox_is_kept_where_that_is_asked_for() {
    let world = World::start();
    let outcome = world.warren(&["run", "--keep", "--name", "x", "echo", "a"]);
    assert_eq!(outcome.status, 0);
    let id = world.json(&["info", "x"])["id"].as_str().unwrap().to_owned();
    assert_eq!(outcome.stderr, format!("sandbox {id} is kept\n"));
    assert_eq!(world.data(&["exec", "x", "--", "echo", "b"]), "b\n");
}

#[test]
fn input_is_passed_on_to_its_end() {
    let world = World::start();
    let with = world.warren_with_input(&["run", "-i", "cat"], b"one\ntwo\n");
    assert_eq!((with.status, with.stdout.as_str()), (0, "one\ntwo\n"));
}

#[test]
fn much_output_arrives_whole() {
    let world = World::start();
    assert_eq!(world.data(&["run", "flood", "3000000"]).len(), 3_000_000);
}

#[test]
fn an_interrupt_removes_the_sandbox() {
    let world = World::start();
    let child = world.command(&["run", "sleep"]).spawn().unwrap();
    let id = wait_for_command(&world);
    signal(&child, Signal::INT);
    assert_eq!(finish(child).status, 130);
    assert!(!world.fake.guests().contains(&id.parse().unwrap()));
}

#[test]
fn a_signal_goes_to_the_command_of_exec() {
    let world = World::start();
    let id = world.create(&[]);
    let child = world.command(&["exec", &id, "sleep"]).spawn().unwrap();
    wait_for_command(&world);
    signal(&child, Signal::TERM);
    assert_eq!(finish(child).status, 128 + 15);
    assert_eq!(world.json(&["info", &id])["state"], "running");
}

#[test]
fn a_reader_that_leaves_ends_the_run_without_a_word() {
    let world = World::start();
    let mut child = world.command(&["run", "flood", "50000000"]).spawn().unwrap();
    let mut some = [0; 1000];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let outcome = finish(child);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (141, ""));
    assert!(world.fake.guests().is_empty());
}

#[test]
fn a_detached_command_is_named_and_runs_on() {
    let world = World::start();
    let id = world.create(&[]);
    let exec = world.data(&["exec", "--detach", &id, "sleep"]);
    assert!(!exec.trim().is_empty());
    let started = world.json(&["exec", "--detach", &id, "sleep"]);
    assert!(started["pid"].as_u64().unwrap() > 0);
}

#[test]
fn an_outcome_is_json_where_that_is_asked_for() {
    let world = World::start();
    let outcome = world.json(&["run", "echo", "x"]);
    assert_eq!(outcome["stdout"], "x\n");
    assert_eq!(outcome["exit_code"], 0);
    assert!(outcome["sandbox_id"].as_str().unwrap().starts_with("sb-"));
}

#[test]
fn output_comes_as_it_is_written() {
    let world = World::start();
    let mut child = world.command(&["run", "-i", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for word in ["one\n", "two\n"] {
        std::io::Write::write_all(&mut input, word.as_bytes()).unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, word);
    }
    drop(input);
    assert_eq!(finish(child).status, 0);
}

/// Waits until a sandbox has a command, and gives the sandbox's id.
fn wait_for_command(world: &World) -> String {
    let client =
        warren_api::client::Client::new(warren_api::client::UnixSocket(world.path("run/api.sock")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), async {
            loop {
                let list = client.list_sandboxes(&Default::default()).await.unwrap();
                for sandbox in list.sandboxes {
                    let execs = client.list_execs(&sandbox.id).await;
                    if execs.is_ok_and(|list| !list.execs.is_empty()) {
                        return sandbox.id;
                    }
                }
                tokio::task::yield_now().await;
            }
        });
        waited.await.unwrap()
    })
}
