//! What clients of E2B are promised of a pause: with its memory, and without; with a server that
//! dies meanwhile.

use serde_json::{Value, json};

use crate::harness::{Home, Sandbox, skip};

/// Tells one boot from another.
const BOOT: &str = "cat /proc/sys/kernel/random/boot_id";

/// Makes a sandbox by E2B's API, with something that runs in it.
fn create(home: &Home) -> Sandbox<'_> {
    home.warren(&["list"]).good();
    let request = json!({"templateID": "base", "envVars": {"KEY": "kept"}});
    let created = ask(home, "POST", "/v2/sandboxes", &request, 201);
    let id = created["sandboxID"].as_str().expect("an id").to_owned();
    let sandbox = Sandbox { home, id, created };
    sandbox.exec_as(&json!({"command": ["sleep", "987"], "detach": true}));
    sandbox.exec(&["sh", "-c", "echo words > ~/file"]);
    sandbox
}

#[track_caller]
fn ask(home: &Home, method: &str, path: &str, body: &Value, status: u16) -> Value {
    let answer = home.api(method, &format!("/e2b{path}"), body.to_string().as_bytes());
    assert_eq!(answer.status, status, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
}

/// What is found in a sandbox: its boot, its process, its file, its variable.
fn inside(sandbox: &Sandbox<'_>) -> [String; 4] {
    let said = |line: &str| {
        let outcome = sandbox.exec(&["sh", "-c", line]);
        outcome["stdout"].as_str().expect("text").trim().to_owned()
    };
    [said(BOOT), said("pgrep -x sleep; true"), said("cat ~/file"), said("echo $KEY")]
}

/// Pauses a sandbox, lets its server die, and connects to it again; gives what was found in it
/// before and after.
fn paused(memory: bool, mode: &str) -> Option<[[String; 4]; 2]> {
    let home = Home::new();
    let sandbox = create(&home);
    let version = home.api("GET", "/v1/version", b"").json();
    if memory && version["runtime"]["capabilities"]["pause"] != true {
        return None;
    }
    let (before, at) = (inside(&sandbox), format!("/sandboxes/{}", sandbox.id));
    ask(&home, "POST", &format!("{at}/pause"), &json!({"memory": memory}), 204);
    home.kill_server();
    home.warren(&["list"]).good();
    let shown = ask(&home, "GET", &at, &Value::Null, 200);
    assert_eq!((&shown["state"], &shown["pauseMode"]), (&json!("paused"), &json!(mode)));
    ask(&home, "POST", &format!("{at}/pause"), &json!({}), 409);
    let connected = ask(&home, "POST", &format!("/v2{at}/connect"), &json!({}), 201);
    assert_eq!(connected["envdAccessToken"], sandbox.created["envdAccessToken"]);
    let after = inside(&sandbox);
    ask(&home, "DELETE", &at, &Value::Null, 204);
    Some([before, after])
}

#[test]
fn a_pause_keeps_processes_while_the_server_dies() {
    let Some([before, after]) = paused(true, "full") else { skip!("nothing can be frozen here") };
    assert!(!before[1].is_empty(), "something runs: {before:?}");
    assert_eq!(before, after);
}

#[test]
fn a_pause_without_memory_keeps_the_files() {
    let [before, after] = paused(false, "filesystem").expect("files are kept everywhere");
    assert_eq!(after[1], "", "nothing runs");
    assert_eq!((&before[2], &before[3]), (&"words".to_owned(), &"kept".to_owned()));
    assert_eq!(before[2..], after[2..]);
}
