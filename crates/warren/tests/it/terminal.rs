//! A terminal is raw while the command has it, and put back afterwards.

use std::{fs::File, io::Write as _, os::fd::OwnedFd, process::Stdio};

use rustix::{
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Termios, tcgetattr},
};

use crate::world::{World, finish, signal};

/// Both ends of a new terminal: a person's and a program's.
fn terminal() -> (File, OwnedFd) {
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
