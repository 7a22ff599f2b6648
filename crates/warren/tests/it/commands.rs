//! Commands that were left running: listed, followed, signalled.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::Stdio,
};

use rustix::process::Signal;

use crate::world::{World, finish, signal};

/// A sandbox named `x` with one command that runs, as its id.
fn with_command(world: &World, words: &[&str]) -> String {
    world.create(&["--name", "x"]);
    world.data(&[&["exec", "--detach", "x"], words].concat()).trim().to_owned()
}

#[test]
fn commands_are_listed_with_how_they_ended() {
    let world = World::start();
    let exec = with_command(&world, &["sleep", "a b"]);
    let list = world.data(&["ps", "x"]);
    let lines: Vec<_> = list.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[0].ends_with("COMMAND"), "{list}");
    assert!(lines[1].starts_with(&exec) && lines[1].contains("running"), "{list}");
    assert!(lines[1].ends_with("sleep 'a b'"), "{list}");
    assert_eq!(world.data(&["ps", "-q", "x"]), format!("{exec}\n"));
    assert_eq!(world.json(&["ps", "x"])["execs"][0]["exec_id"], exec.as_str());
}

#[test]
fn a_sandbox_without_commands_says_how_to_start_one() {
    let world = World::start();
    world.create(&["--name", "x"]);
    let outcome = world.warren(&["ps", "x"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""));
    assert!(outcome.stderr.contains("`warren exec --detach`"), "{outcome:?}");
}

#[test]
fn a_command_is_killed_and_its_follower_has_its_status() {
    let world = World::start();
    let exec = with_command(&world, &["sleep"]);
    let follower = world.command(&["attach", "x", &exec]).spawn().unwrap();
    assert_eq!(world.warren(&["kill", "--signal", "sigkill", "x", &exec]).status, 0);
    assert_eq!(finish(follower).status, 137);
}

#[test]
fn output_is_followed_from_a_byte_on() {
    let world = World::start();
    let exec = with_command(&world, &["echo", "0123456789"]);
    assert_eq!(world.data(&["attach", "x", &exec]), "0123456789\n");
    assert_eq!(world.data(&["attach", "x", &exec, "--offset", "6"]), "6789\n");
    // The only one needs no name.
    assert_eq!(world.data(&["attach", "x"]), "0123456789\n");
    let lines = world.data(&["--json", "attach", "x", &exec]);
    let kinds: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].clone())
        .collect();
    assert_eq!(kinds, ["start", "stdout", "end"], "{lines}");
}

#[test]
fn an_interrupt_leaves_the_command_running() {
    let world = World::start();
    let exec = with_command(&world, &["cat"]);
    let child = world.command(&["attach", "x", &exec]).spawn().unwrap();
    // It watches for signals before it says anything to the server, and cannot say that it does:
    // so the server is asked whether somebody listens.
    wait_for_reader(&child);
    signal(&child, Signal::INT);
    let outcome = finish(child);
    assert_eq!(outcome.status, 130, "{outcome:?}");
    assert!(outcome.stderr.contains("the command runs on"), "{outcome:?}");
    assert!(outcome.stderr.contains("--offset 0"), "{outcome:?}");
    assert!(world.data(&["ps", "x"]).contains("running"));
}

/// Waits until a child has asked for its signals.
fn wait_for_reader(child: &std::process::Child) {
    let start = std::time::Instant::now();
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        if u64::from_str_radix(caught.trim(), 16).unwrap() & 0b10 != 0 {
            return;
        }
        assert!(start.elapsed().as_secs() < 20, "it watches for no signals");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_not_there_says_where_to_look() {
    let world = World::start();
    world.create(&["--name", "x"]);
    let absent = "ex-aaaaaaaaaaaaaaaa";
    for (arguments, status) in [(&["attach", "x", absent][..], 125), (&["kill", "x", absent], 1)] {
        let outcome = world.warren(arguments);
        assert_eq!(outcome.status, status, "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains("`warren ps SANDBOX`"), "{outcome:?}");
    }
    let outcome = world.warren(&["attach", "x"]);
    assert_eq!(outcome.status, 125, "{outcome:?}");
    assert!(outcome.stderr.contains("there are 0 commands in it"), "{outcome:?}");
}

#[test]
fn a_run_that_is_detached_leaves_its_sandbox_and_its_command() {
    let world = World::start();
    let id = world.data(&["run", "--detach", "--name", "x", "sleep"]).trim().to_owned();
    assert_eq!(world.data(&["list", "-q"]), format!("{id}\n"));
    assert!(world.data(&["ps", &id]).contains("running"));
    let both = world.json(&["run", "-d", "sleep"]);
    let exec = both["exec_id"].as_str().unwrap();
    assert_eq!(
        world.data(&["ps", "-q", both["sandbox_id"].as_str().unwrap()]),
        format!("{exec}\n")
    );
}

#[test]
fn a_detached_run_without_its_program_leaves_nothing() {
    let world = World::start();
    let outcome = world.warren(&["run", "--detach", "no-such-program"]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (125, ""), "{outcome:?}");
    assert!(world.fake.guests().is_empty());
}

#[test]
fn a_file_of_variables_reaches_the_request() {
    let world = World::start();
    std::fs::write(world.path("env"), "A=1\nBAD NAME=2\n").unwrap();
    let outcome = world.warren(&["run", "--env-file", "env", "echo"]);
    assert_eq!(outcome.status, 125);
    assert!(outcome.stderr.contains("env, line 2: there is a space"), "{outcome:?}");
    std::fs::write(world.path("env"), "A=1\n").unwrap();
    assert_eq!(world.data(&["run", "--env-file", "env", "echo", "x"]), "x\n");
    let outcome = world.warren(&["create", "--env-file", "/nowhere/env"]);
    assert_eq!(outcome.status, 2);
    assert!(outcome.stderr.contains("could not read the file /nowhere/env"), "{outcome:?}");
    assert!(world.fake.guests().is_empty());
}

#[test]
fn events_are_told_as_they_happen_and_from_the_past() {
    let world = World::start();
    let id = world.create(&["--name", "x"]);
    let mut child = world.command(&["--json", "events", "--after", "0"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || {
        let event: serde_json::Value =
            serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(event["sandbox_id"], id.as_str());
        event["type"].as_str().unwrap().to_owned()
    };
    assert_eq!((next().as_str(), next().as_str()), ("sandbox.created", "sandbox.running"));
    world.data(&["pause", &id]);
    assert_eq!(next(), "sandbox.paused");
    signal(&child, Signal::TERM);
    finish(child);
}

#[test]
fn events_of_one_sandbox_are_its_own() {
    let world = World::start();
    world.create(&[]);
    let id = world.create(&["--name", "x"]);
    let mut child = world.command(&["events", "--after", "0", "--sandbox", "x"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains(&format!(" {id} created")), "{line}");
    signal(&child, Signal::TERM);
    finish(child);
    let outcome = world.warren(&["events", "--sandbox", "nobody"]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.contains("there is no sandbox nobody"), "{outcome:?}");
}

#[test]
fn shells_take_their_completions() {
    let world = World::empty();
    for (shell, words) in [
        ("bash", "complete -F _warren"),
        ("zsh", "#compdef warren"),
        ("fish", "complete -c warren"),
    ] {
        let script = world.data(&["completion", shell]);
        assert!(script.contains(words), "{shell}");
        assert!(script.contains("attach"), "{shell}");
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "a shell that reads the script, as a person's would"
    )]
    let mut bash = std::process::Command::new("bash");
    let checked = bash.args(["-n", "-s"]).stdin(Stdio::piped()).spawn();
    let Ok(mut bash) = checked else {
        println!("SKIPPED: there is no bash here");
        return;
    };
    let script = world.data(&["completion", "bash"]);
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn a_list_has_conditions_and_pages() {
    let world = World::start();
    let ids: Vec<_> = (0..3).map(|_| world.create(&[])).collect();
    world.data(&["pause", &ids[1]]);
    assert_eq!(world.data(&["list", "-q", "--state", "paused"]), format!("{}\n", ids[1]));
    let both = world.data(&["list", "-q", "--state", "paused", "--state", "running"]);
    assert_eq!(both.lines().count(), 3);
    let page = world.json(&["list", "--limit", "2"]);
    assert_eq!(page["sandboxes"].as_array().unwrap().len(), 2);
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(world.data(&["list", "-q", "--limit", "2", "--cursor", cursor]).lines().count(), 1);
    assert!(world.warren(&["list", "--limit", "2"]).stderr.contains("--cursor"));
    assert_eq!(world.json(&["list", "--limit", "3"])["sandboxes"].as_array().unwrap().len(), 3);
}

#[test]
fn an_ended_sandbox_says_why() {
    let world = World::start();
    let id = world.create(&["--name", "x"]);
    let lives = world.data(&["info", "x"]);
    assert!(lives.contains("expires:    ") && lives.contains(" ago)"), "{lives}");
    world.data(&["rm", "x"]);
    let gone = world.warren(&["info", &id]);
    // Whether an ended one is still known is the server's choice; if so, it says why it ended.
    if gone.status == 0 {
        assert!(gone.stdout.contains("ended:      killed: "), "{gone:?}");
    } else {
        assert!(gone.stderr.contains("there is no sandbox"), "{gone:?}");
    }
}

#[test]
fn a_creation_that_is_interrupted_leaves_nothing() {
    let world = World::start();
    let gate = world.fake.close_gate();
    let child = world.command(&["create"]).spawn().unwrap();
    let start = std::time::Instant::now();
    while world.data(&["list", "-q"]).is_empty() {
        assert!(start.elapsed().as_secs() < 20, "nothing is made");
    }
    signal(&child, Signal::INT);
    gate.notify_one();
    let outcome = finish(child);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (130, ""), "{outcome:?}");
    assert!(world.fake.guests().is_empty());
}

#[test]
fn a_reader_of_events_that_leaves_ends_it() {
    let world = World::start();
    world.create(&[]);
    let mut child = world.command(&["events", "--after", "0"]).spawn().unwrap();
    let mut one = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut one).unwrap();
    world.create(&[]);
    let outcome = finish(child);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (141, ""), "{outcome:?}");
}
