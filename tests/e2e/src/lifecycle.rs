//! Names, pausing, lifetimes, the warm pool, events.

use serde_json::json;

use crate::harness::{Home, wait_until};

#[test]
fn a_paused_sandbox_stands_still_and_goes_on() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let line = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.01; done";
    sandbox.exec_as(&json!({"command": ["sh", "-c", line], "detach": true}));
    wait_until("it counts", || sandbox.exec(&["cat", "/tmp/count"])["exit_code"] == 0);
    let paused = sandbox.api("POST", "/pause", b"");
    if paused.status == 501 {
        crate::harness::skip!("pausing needs a freezer: {}", paused.text());
    }
    assert_eq!(paused.json()["state"], "paused");
    assert_eq!(sandbox.get()["state"], "paused");
    let refused = sandbox.api("POST", "/exec", br#"{"command":["true"]}"#);
    assert_eq!(refused.error_code(), "failed_precondition", "{}", refused.text());
    assert_eq!(sandbox.api("POST", "/pause", b"").error_code(), "failed_precondition");
    assert_eq!(sandbox.api("POST", "/resume", b"").json()["state"], "running");
    let count =
        || sandbox.exec(&["cat", "/tmp/count"])["stdout"].as_str().unwrap().trim().to_owned();
    let first = count();
    wait_until("it counts on", || count() != first);
}

#[test]
fn a_paused_sandbox_can_be_removed() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    if sandbox.api("POST", "/pause", b"").status == 501 {
        crate::harness::skip!("pausing needs a freezer");
    }
    assert_eq!(sandbox.api("DELETE", "", b"").status, 204);
    wait_until("nothing is left", || crate::harness::Leftovers::of(&home).0.is_empty());
}

#[test]
fn a_sandbox_ends_with_its_lifetime() {
    let home = Home::new();
    let sandbox = home.create(&json!({"lifetime_seconds": 1}));
    assert!(sandbox.created["expires_at"].is_string(), "{}", sandbox.created);
    wait_until("it has ended", || {
        let now = sandbox.api("GET", "", b"");
        now.status == 404 || now.json()["end"]["reason"] == "timeout"
    });
}

#[test]
fn a_name_is_unique_among_the_living() {
    let home = Home::new();
    let first = home.create(&json!({"name": "one"}));
    let taken = home.api("POST", "/v1/sandboxes", br#"{"name":"one"}"#);
    assert_eq!(taken.error_code(), "already_exists");
    assert_eq!(first.api("DELETE", "", b"").status, 204);
    home.create(&json!({"name": "one"}));
}

#[test]
fn a_parked_sandbox_has_no_trace_of_another() {
    let home = Home::with(&[("WARREN_BLANKS", "2"), ("WARREN_PARKED", "1")]);
    home.warren(&["list"]).good();
    wait_until("one comes from the pool", || {
        let sandbox = home.create(&json!({"env": {"SECRET": "hunter2"}}));
        let trace =
            "echo $SECRET > /tmp/trace; echo x > ~/trace; (setsid sleep 999 >/dev/null 2>&1 &)";
        sandbox.exec(&["sh", "-c", trace]);
        assert_eq!(sandbox.api("DELETE", "", b"").status, 204);
        sandbox.created["warm"] == true
    });
    wait_until("the next one from the pool is clean", || {
        let next = home.create(&json!({}));
        let look = "ls -A /tmp ~ ; env | grep -c SECRET; pgrep -c sleep; ls -A /dev/shm /run/lock 2>/dev/null";
        let seen = next.exec(&["sh", "-c", look]);
        let text = seen["stdout"].as_str().unwrap();
        assert!(!text.contains("trace") && text.contains("\n0\n0\n"), "{text}");
        next.api("DELETE", "", b"");
        next.created["warm"] == true
    });
}

#[test]
fn the_same_idempotency_key_makes_one_sandbox() {
    let home = Home::new();
    home.warren(&["list"]).good();
    let ask = || home.api_with("POST", "/v1/sandboxes", "idempotency-key: abc", b"{}");
    let (first, second) = (ask().json(), ask().json());
    assert_eq!(first["id"], second["id"]);
    assert_eq!(home.warren(&["list", "--quiet"]).good().text().lines().count(), 1);
}

#[test]
fn what_happens_is_told_as_events_in_order() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    sandbox.api("DELETE", "", b"");
    let seen = home.events(&sandbox.id, "sandbox.deleted");
    let expected = ["sandbox.created", "sandbox.running", "sandbox.stopped", "sandbox.deleted"];
    let known: Vec<_> = seen.iter().filter(|kind| expected.contains(&kind.as_str())).collect();
    assert_eq!(known.first().map(|kind| kind.as_str()), Some("sandbox.created"), "{seen:?}");
    assert!(seen.contains(&"sandbox.running".to_owned()), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("sandbox.deleted"), "{seen:?}");
}

#[test]
fn a_request_with_a_misspelt_field_is_refused_by_its_name() {
    let home = Home::new();
    home.warren(&["list"]).good();
    let refused = home.api("POST", "/v1/sandboxes", br#"{"memory_byte": 1}"#);
    assert_eq!((refused.status, refused.error_code().as_str()), (400, "invalid_argument"));
    assert!(refused.text().contains("memory_byte"), "{}", refused.text());
}
