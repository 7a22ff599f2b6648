//! Settings from all four places, as the program takes them.

use crate::world::World;

#[test]
fn a_broken_file_stops_every_command_and_names_itself() {
    let world = World::start();
    std::fs::write(world.path("warren.toml"), "memory = \"much\"\n").unwrap();
    let outcome = world.warren(&["list"]);
    assert_eq!(outcome.status, 2);
    assert!(outcome.stderr.contains("setting `memory` cannot be `much`"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("warren.toml"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("hint: docs/configuration.md"), "{}", outcome.stderr);
}

#[test]
fn a_file_that_is_not_toml_says_where() {
    let world = World::start();
    std::fs::write(world.path("warren.toml"), "memory =\n").unwrap();
    let outcome = world.warren(&["list"]);
    assert_eq!(outcome.status, 2);
    assert!(outcome.stderr.contains("line 1"), "{}", outcome.stderr);
}

#[test]
fn the_flag_beats_the_environment() {
    let world = World::start();
    let elsewhere = world.path("elsewhere");
    let set = format!("run_dir={}", elsewhere.display());
    let outcome = world.warren(&["--set", &set, "version"]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("no server runs"), "{}", outcome.stdout);
    assert!(elsewhere.is_dir());
}

#[test]
fn a_run_directory_that_is_too_long_is_refused() {
    let world = World::empty();
    let set = format!("run_dir={}", world.path(&"x".repeat(80)).display());
    let outcome = world.warren(&["--set", &set, "list"]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.contains("longer than 80 bytes"), "{}", outcome.stderr);
}

#[test]
fn stopping_a_server_that_does_not_run_is_no_error() {
    let outcome = World::empty().warren(&["serve", "--stop"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, "no server was running\n"));
}

#[test]
fn the_doctor_answers_in_json_with_a_status_that_agrees() {
    let world = World::empty();
    let outcome = world.warren(&["--json", "doctor"]);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(report["healthy"].as_bool().unwrap(), outcome.status == 0, "{report}");
    let checks = report["checks"].as_array().unwrap();
    for name in
        ["version", "user namespaces", "overlayfs", "memory", "pausing", "disk space", "orphans"]
    {
        assert!(checks.iter().any(|check| check["name"] == name), "{name} was not looked at");
    }
    for check in checks {
        assert!(check["outcome"] == "works" || check["mend"].is_string(), "{check}");
    }
    let left: Vec<_> = std::fs::read_dir(world.path("data")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_doctor_names_a_broken_setting_and_goes_on() {
    let world = World::empty();
    let outcome = world.warren(&["--set", "memory=much", "doctor"]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.stdout.contains("missing  configuration: setting `memory`"), "{outcome:?}");
}
