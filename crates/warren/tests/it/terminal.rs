//! A terminal is raw while the command has it, and put back afterwards.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::Stdio,
};

use rustix::{
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Termios, tcgetattr},
};

use crate::world::{World, finish, signal};

/// Both ends of a new terminal: a person's and a program's.
pub(crate) fn terminal() -> (File, OwnedFd) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let program = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty()).unwrap();
    (person.into(), program)
}

fn is_raw(mode: &Termios) -> bool {
    !mode.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
}

/// Waits until the terminal is raw.
fn wait_until_raw(program: &OwnedFd) {
    let start = std::time::Instant::now();
    while !is_raw(&tcgetattr(program).unwrap()) {
        assert!(start.elapsed().as_secs() < 20, "the terminal never became raw");
        std::thread::yield_now();
    }
}

#[test]
fn it_is_put_back_when_the_command_ends() {
    let world = World::start();
    let (mut person, program) = terminal();
    let before = tcgetattr(&program).unwrap();
    let input = Stdio::from(program.try_clone().unwrap());
    let child = world.command(&["run", "-it", "cat"]).stdin(input).spawn().unwrap();
    wait_until_raw(&program);
    assert!(!is_raw(&before));
    // A raw terminal passes these on, and the guest's terminal takes 4 as the end of input; the
    // fake has none, so it is asked to end.
    person.write_all(b"x").unwrap();
    signal(&child, Signal::TERM);
    assert_eq!(finish(child).status, 143);
    assert_eq!(tcgetattr(&program).unwrap().local_modes, before.local_modes);
}

#[test]
fn it_is_put_back_when_the_command_could_not_be_run() {
    let world = World::start();
    let (_person, program) = terminal();
    let before = tcgetattr(&program).unwrap();
    let input = Stdio::from(program.try_clone().unwrap());
    let child = world.command(&["run", "-it", "no-such-program"]).stdin(input).spawn().unwrap();
    assert_eq!(finish(child).status, 125);
    assert_eq!(tcgetattr(&program).unwrap().local_modes, before.local_modes);
}

/// The sign's end: the line is empty again.
const CLEARED: &str = "\r\u{1b}[2K";

/// Reads what a terminal shows until a text is in it.
fn read_until(person: &mut File, shown: &mut String, text: &str) {
    let mut piece = [0; 1024];
    while !shown.contains(text) {
        let count = person.read(&mut piece).unwrap();
        shown.push_str(std::str::from_utf8(&piece[..count]).unwrap());
    }
}

/// Reads the rest of what a terminal shows; it ends when nobody has the other side open.
fn read_rest(person: &mut File, shown: &mut String) {
    let mut piece = [0; 1024];
    while let Ok(count @ 1..) = person.read(&mut piece) {
        shown.push_str(std::str::from_utf8(&piece[..count]).unwrap());
    }
}

#[test]
fn what_takes_long_says_so_and_leaves_an_empty_line() {
    let world = World::start();
    let gate = world.fake.close_gate();
    let (mut person, program) = terminal();
    let child = world.command(&["create"]).stderr(Stdio::from(program)).spawn().unwrap();
    let mut shown = String::new();
    read_until(&mut person, &mut shown, "making the sandbox");
    gate.notify_one();
    let outcome = finish(child);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.starts_with("sb-"), "data is data: {outcome:?}");
    read_rest(&mut person, &mut shown);
    assert!(shown.ends_with(CLEARED), "{shown:?}");
}

#[test]
fn what_is_quick_says_nothing() {
    let world = World::start();
    let (mut person, program) = terminal();
    let child = world.command(&["list", "--all"]).stderr(Stdio::from(program)).spawn().unwrap();
    assert_eq!(finish(child).status, 0);
    let mut shown = String::new();
    read_rest(&mut person, &mut shown);
    assert!(!shown.contains(CLEARED) && shown.contains("there are no such"), "{shown:?}");
}

/// A command at a terminal of its own, where a typed Ctrl-C is a signal.
fn at_terminal(world: &World, arguments: &[&str]) -> Option<(std::process::Child, File)> {
    let (person, program) = terminal();
    let mut command = world.command_under(&["setsid", "--ctty", "--wait"], arguments);
    let spawned = command.stdin(Stdio::from(program)).spawn();
    match spawned {
        Ok(child) => Some((child, person)),
        Err(error) => {
            println!("SKIPPED: setsid cannot be started: {error}");
            None
        }
    }
}

/// Types Ctrl-C, and waits until the terminal has made a signal of it.
fn interrupt(person: &mut File) {
    person.write_all(&[3]).unwrap();
    read_until(person, &mut String::new(), "^C");
}

/// Waits for what the program's commands say about sandboxes to have this text in it.
fn wait_for(world: &World, arguments: &[&str], text: &str) {
    let start = std::time::Instant::now();
    while !world.warren(arguments).stdout.contains(text) {
        assert!(start.elapsed().as_secs() < 20, "{text} is not in {arguments:?}");
    }
}

#[test]
fn an_interrupt_from_the_keyboard_removes_what_run_has_made() {
    let world = World::start();
    let Some((child, mut person)) = at_terminal(&world, &["run", "--name", "x", "sleep"]) else {
        return;
    };
    wait_for(&world, &["ps", "x"], "running");
    interrupt(&mut person);
    let outcome = finish(child);
    assert_eq!(outcome.status, 130, "{outcome:?}");
    assert!(world.fake.guests().is_empty());
}

#[test]
fn an_interrupt_from_the_keyboard_removes_what_run_is_making() {
    let world = World::start();
    let gate = world.fake.close_gate();
    for arguments in [&["run", "sleep"][..], &["run", "--detach", "sleep"], &["create"]] {
        let Some((child, mut person)) = at_terminal(&world, arguments) else { return };
        wait_for(&world, &["list"], "creating");
        interrupt(&mut person);
        gate.notify_one();
        let outcome = finish(child);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (130, ""), "{outcome:?}");
        assert!(world.fake.guests().is_empty(), "{arguments:?}");
    }
}

#[test]
fn an_interrupt_keeps_nothing_although_keep_was_asked_for() {
    let world = World::start();
    let arguments = ["run", "--keep", "--name", "x", "sleep"];
    let Some((child, mut person)) = at_terminal(&world, &arguments) else { return };
    wait_for(&world, &["ps", "x"], "running");
    interrupt(&mut person);
    assert_eq!(finish(child).status, 130);
    assert!(world.fake.guests().is_empty());
}
