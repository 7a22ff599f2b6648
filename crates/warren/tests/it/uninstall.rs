//! `warren setup uninstall` where no server ever ran: what it asks, and what it leaves alone. The
//! removal of a server with sandboxes is in the end-to-end tests.

use std::{fs, io::Write as _, process::Stdio};

use crate::{
    terminal::terminal,
    world::{Outcome, World, finish},
};

/// Answers the question with a line at a terminal.
fn answered(world: &World, line: &str) -> Outcome {
    let (mut person, program) = terminal();
    person.write_all(line.as_bytes()).unwrap();
    let mut command = world.command(&["setup", "uninstall"]);
    finish(command.stdin(Stdio::from(program)).spawn().unwrap())
}

#[test]
fn nothing_there_is_no_error_and_nothing_is_made() {
    let world = World::empty();
    for _ in 0..2 {
        let outcome = world.warren(&["setup", "uninstall", "--yes"]);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        assert!(outcome.stderr.contains("there is nothing of a server"), "{outcome:?}");
        assert!(!world.path("data").exists() && !world.path("run").exists());
    }
    assert_eq!(world.json(&["setup", "uninstall"])["removed"], serde_json::json!([]));
}

#[test]
fn a_script_must_say_that_it_is_meant() {
    let world = World::empty();
    fs::create_dir(world.path("data")).unwrap();
    fs::write(world.path("data/warren.db"), "x").unwrap();
    let outcome = world.warren(&["setup", "uninstall"]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("nobody can be asked"), "{outcome:?}");
    assert!(outcome.stderr.contains("hint: `--yes`"), "{outcome:?}");
    assert!(world.path("data/warren.db").exists());
    assert_eq!(world.warren(&["setup", "uninstall", "--yes"]).status, 0);
    assert!(!world.path("data").exists());
}

#[test]
fn a_directory_of_somebody_else_keeps_what_is_theirs() {
    let world = World::empty();
    fs::create_dir_all(world.path("data/sandboxes")).unwrap();
    fs::write(world.path("data/thesis.tex"), "x").unwrap();
    let outcome = world.warren(&["setup", "uninstall", "--yes"]);
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("thesis.tex is not of Warren"), "{outcome:?}");
    assert!(!outcome.stderr.contains("removed: directory"), "{outcome:?}");
    assert!(world.path("data/thesis.tex").exists() && !world.path("data/sandboxes").exists());
}

#[test]
fn setup_says_what_it_can_do() {
    let outcome = World::empty().warren(&["setup"]);
    assert_eq!(outcome.status, 2);
    assert!(outcome.stderr.contains("uninstall"), "{outcome:?}");
}

#[test]
fn a_person_is_told_and_asked() {
    let world = World::empty();
    fs::create_dir_all(world.path("data/sandboxes/sb-aaaaaaaaaaaaaaaa")).unwrap();
    for answer in ["\n", "n\n", "yess\n"] {
        let refused = answered(&world, answer);
        assert_eq!(refused.status, 1, "{refused:?}");
        assert!(refused.stdout.contains("  sandbox sb-aaaaaaaaaaaaaaaa with its"), "{refused:?}");
        assert!(refused.stdout.contains("/data\n"), "{refused:?}");
        assert!(refused.stderr.contains("nothing was removed"), "{refused:?}");
        assert!(world.path("data/sandboxes/sb-aaaaaaaaaaaaaaaa").exists());
    }
    let agreed = answered(&world, "yes\n");
    assert_eq!(agreed.status, 0, "{agreed:?}");
    assert!(!world.path("data").exists());
}
