//! One command on a fresh machine: a program runs in a sandbox, and its end is the command's end.

use crate::harness::{Home, skip};

#[test]
fn a_program_runs_on_a_fresh_machine() {
    let home = Home::new();
    crate::harness::needs!("python3");
    let said =
        home.warren(&["run", "--", "python3", "-c", r#"print("hello from a sandbox")"#]).good();
    assert_eq!(said.text(), "hello from a sandbox\n");
}

#[test]
fn the_exit_status_is_the_commands_own() {
    let home = Home::new();
    for code in [0, 1, 7, 125, 255] {
        let ended = home.warren(&["run", "--", "sh", "-c", &format!("exit {code}")]);
        assert_eq!(ended.code(), code, "{}", ended.errors());
    }
}

#[test]
fn a_command_that_a_signal_ended_has_the_shells_status() {
    let home = Home::new();
    let ended = home.warren(&["run", "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(ended.code(), 128 + 15, "{}", ended.errors());
}

#[test]
fn a_program_that_is_not_there_is_told_apart_from_one_that_fails() {
    let home = Home::new();
    let ended = home.warren(&["run", "--", "no-such-program"]);
    assert!([125, 126, 127].contains(&ended.code()), "{}: {}", ended.code(), ended.errors());
    assert!(ended.errors().contains("no-such-program"), "{}", ended.errors());
}

#[test]
fn a_sandbox_is_gone_when_its_command_ends_unless_it_is_kept() {
    let home = Home::new();
    home.warren(&["run", "--", "true"]).good();
    assert_eq!(home.warren(&["list", "--quiet"]).good().text(), "");
    home.warren(&["run", "--keep", "--", "true"]).good();
    assert_eq!(home.warren(&["list", "--quiet"]).good().text().lines().count(), 1);
}

#[test]
fn the_machine_inside_is_a_usual_one() {
    let home = Home::new();
    let sandbox = home.create(&serde_json::json!({"hostname": "burrow"}));
    let ask = |line: &str| sandbox.exec(&["sh", "-c", line])["stdout"].as_str().unwrap().to_owned();
    assert_eq!(ask("id -un; echo $HOME; pwd; echo $USER"), "user\n/home/user\n/home/user\nuser\n");
    assert_eq!(ask("hostname"), "burrow\n");
    assert_eq!(ask("echo hi > /tmp/a && cat /tmp/a"), "hi\n");
    assert_eq!(ask("touch ~/mine && stat -c %U:%G ~/mine"), "user:user\n");
    assert_eq!(sandbox.root("id -u"), "0\n");
    assert_eq!(ask("cat /proc/1/comm >/dev/null && echo readable"), "readable\n");
}

#[test]
fn sudo_works_where_it_is_installed() {
    crate::harness::needs!("sudo");
    let home = Home::new();
    let sandbox = home.create(&serde_json::json!({}));
    if !sandbox.created["warnings"].as_array().unwrap().is_empty() && !crate::harness::is_root() {
        skip!("one user only: {}", sandbox.created["warnings"]);
    }
    let outcome = sandbox.exec(&["sudo", "-n", "id", "-u"]);
    assert_eq!(outcome["stdout"], "0\n", "{outcome}");
}

#[test]
fn input_is_passed_on_when_asked() {
    let home = Home::new();
    let said = home.warren_with(&["run", "-i", "--", "tr", "a-z", "A-Z"], b"warren\n").good();
    assert_eq!(said.text(), "WARREN\n");
}

#[test]
fn create_prints_an_id_that_every_command_takes() {
    let home = Home::new();
    let made = home.warren(&["create", "--json", "--name", "one"]).good().text();
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("sb-") && id.len() == 19, "{id}");
    assert_eq!(home.warren(&["exec", id, "--", "echo", "a"]).good().text(), "a\n");
    assert_eq!(home.warren(&["exec", "one", "--", "echo", "b"]).good().text(), "b\n");
    home.warren(&["rm", id]).good();
    assert_ne!(home.warren(&["exec", id, "--", "true"]).code(), 0);
}

#[test]
fn the_doctor_says_that_sandboxes_can_run_here() {
    let home = Home::new();
    let said = home.warren(&["doctor", "--json"]).good().text();
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["healthy"], true, "{said}");
}

#[test]
fn stopping_the_server_leaves_sandboxes_running() {
    let home = Home::new();
    let sandbox = home.create(&serde_json::json!({}));
    home.warren(&["serve", "--stop"]).good();
    assert_eq!(home.server_pid(), None);
    let said = home.warren(&["exec", &sandbox.id, "--", "echo", "still here"]).good();
    assert_eq!(said.text(), "still here\n");
}
