//! What is told about connections: denials, counts, what was learned, and why.

use std::{
    io::BufRead as _,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{Sandbox, allowing, http, in_world, needs, wait_until};

/// The first event of a sandbox, from its beginning, that is as `wanted` says.
#[track_caller]
pub(super) fn event(sandbox: &Sandbox<'_>, wanted: impl Fn(&Value) -> bool) -> Value {
    let path = format!("/v1/events?after=0&sandbox={}", sandbox.id);
    let socket = sandbox.home.socket();
    let mut stream = http::open(&socket, "GET", &path, "text/event-stream", b"");
    assert_eq!(http::head(&mut stream).0, 200);
    let began = Instant::now();
    // A server that has nothing to tell sends a sign of life every now and then.
    while began.elapsed() < Duration::from_secs(60) {
        let mut line = String::new();
        assert_ne!(stream.read_line(&mut line).expect("an event"), 0, "there is no such event");
        let Some(data) = line.strip_prefix("data:") else { continue };
        let event: Value = serde_json::from_str(data).expect("an event's data");
        if wanted(&event) {
            return event;
        }
    }
    panic!("there is no such event");
}

pub(super) fn denied(event: &Value) -> bool {
    event["type"] == "network.denied"
}

#[test]
fn what_is_denied_is_an_event_with_its_address_and_its_rule() {
    needs!("python3");
    in_world(|world| {
        let rules = json!({"otherwise": "deny", "rules": [
            {"action": "deny", "to": "203.0.113.2:9003"},
            {"action": "allow", "to": "one.example"},
        ]});
        let sandbox = world.create(&rules);
        sandbox.expect(&[("tcp 203.0.113.2 9003", false), ("tcp 203.0.113.3 9003", false)]);
        let by_rule = event(&sandbox, |it| denied(it) && it["detail"]["address"] == "203.0.113.2");
        let detail = &by_rule["detail"];
        assert_eq!(
            (&detail["protocol"], &detail["port"]),
            (&json!("tcp"), &json!("9003")),
            "{detail}"
        );
        assert_eq!(detail["rule"], "0", "{detail}");
        // What fails for a name is told with the name.
        sandbox.expect(&[("tls 203.0.113.2 two.example two.example", false)]);
        event(&sandbox, |it| denied(it) && it["detail"]["host"] == "two.example");
        // What fails for the want of one says so.
        sandbox.expect(&[("tls one.example - one.example", false)]);
        event(&sandbox, |it| {
            let why = it["detail"]["why"].as_str().unwrap_or_default();
            denied(it) && why.contains("none was given")
        });
    });
}

#[test]
fn a_dry_run_denies_nothing_and_tells_what_it_would() {
    needs!("python3");
    in_world(|world| {
        let mut network = allowing(&["one.example"]);
        network["mode"] = json!("dry_run");
        let sandbox = world.create(&network);
        sandbox.expect(&[
            ("tcp one.example 9003", true),
            ("tcp two.example 9003", true),
            ("tcp 203.0.113.3 9003", true),
            ("tls four.example four.example four.example", true),
            // What no sandbox may is not tried.
            ("tcp 169.254.169.254 9003", false),
        ]);
        let told = event(&sandbox, |it| denied(it) && it["detail"]["address"] == "203.0.113.3");
        assert_eq!(told["detail"]["dry_run"], "true", "{told}");
    });
}

#[test]
fn rules_that_were_learned_are_enough_for_the_same_again_and_for_nothing_else() {
    needs!("python3");
    in_world(|world| {
        let learning = json!({"mode": "learn", "rules": [], "otherwise": "deny"});
        let sandbox = world.create(&learning);
        let run = [
            ("tcp one.example 9003", true),
            ("tls a.wild.example a.wild.example a.wild.example", true),
            ("udp 203.0.113.7 7", true),
        ];
        sandbox.expect(&run);
        let learned = || sandbox.api("GET", "/network/learned", b"").json();
        wait_until("three destinations are noted", || {
            learned()["destinations"].as_array().is_some_and(|it| it.len() >= 3)
        });
        let rules = learned()["rules"].clone();
        sandbox.set_network(&json!({"rules": rules, "otherwise": "deny"}));
        sandbox.expect(&run);
        sandbox.expect(&[("tcp three.example 9003", false), ("tcp 203.0.113.8 9003", false)]);
        let other = world.create(&json!({"rules": rules, "otherwise": "deny"}));
        other.expect(&run);
    });
}

#[test]
fn it_is_explained_which_rule_decides_and_so_it_is() {
    needs!("python3");
    in_world(|world| {
        let rules = json!({"otherwise": "deny", "rules": [
            {"action": "deny", "to": "203.0.113.1:853"},
            {"action": "allow", "to": "203.0.113.0/28"},
            {"action": "allow", "to": "*.wild.example:443"},
        ]});
        let sandbox = world.create(&rules);
        for (to, attempt, allowed, part) in [
            ("203.0.113.1:853", "tcp 203.0.113.1 853", false, "203.0.113.1:853"),
            ("203.0.113.1:9003", "tcp 203.0.113.1 9003", true, "203.0.113.0/28"),
            ("203.0.113.99:9003", "tcp 203.0.113.99 9003", false, "no rule"),
            (
                "a.wild.example:443",
                "tls a.wild.example a.wild.example a.wild.example",
                true,
                "*.wild.example",
            ),
            ("169.254.169.254:80", "tcp 169.254.169.254 9003", false, "metadata"),
        ] {
            let said = world.home.warren(&["net", "explain", &sandbox.id, to]);
            assert_eq!(said.code(), i32::from(!allowed), "{to}: {}", said.text());
            assert!(said.text().contains(part), "{to}: {}", said.text());
            sandbox.expect(&[(attempt, allowed)]);
        }
    });
}

#[test]
fn bytes_connections_and_denials_are_counted() {
    needs!("curl");
    in_world(|world| {
        let sandbox = world.allowing(&["203.0.113.1", "one.example"]);
        let traffic = || sandbox.api("GET", "/network", b"").json()["traffic"].clone();
        let count = |traffic: &Value, name: &str| traffic[name].as_u64().expect("a number");
        let before = traffic();
        sandbox.root("curl -sS -o /dev/null http://203.0.113.1:8080/bytes/5000000");
        sandbox.root("curl -sS -o /dev/null http://one.example/bytes/3000000");
        let after = traffic();
        let received = count(&after, "received_bytes") - count(&before, "received_bytes");
        assert!((8_000_000..12_000_000).contains(&received), "{before} {after}");
        assert!(count(&after, "sent_bytes") > count(&before, "sent_bytes"));
        let connections = count(&after, "connections") - count(&before, "connections");
        assert!(connections >= 2, "one directly and one through the gate: {before} {after}");
        sandbox
            .root("for i in 1 2 3; do curl -s --max-time 3 http://203.0.113.2:8080/; done; true");
        wait_until("denials are counted", || {
            count(&traffic(), "denied") >= count(&before, "denied") + 3
        });
        let metrics = sandbox.api("GET", "/metrics", b"").json();
        assert!(metrics["traffic"]["received_bytes"].is_u64(), "{metrics}");
    });
}

#[test]
fn a_sandbox_is_as_slow_as_it_is_told_to_be() {
    needs!("curl");
    in_world(|world| {
        let mut network = json!({"rules": [], "otherwise": "allow"});
        network["down_bytes_per_second"] = json!(1_000_000);
        let sandbox = world.create(&network);
        let seconds = |path: &str| -> f64 {
            let line = format!(
                "curl -sS -o /dev/null -w '%{{time_total}}' http://203.0.113.1:8080/bytes/{path}"
            );
            sandbox.root(&line).parse().expect("seconds")
        };
        let slow = seconds("3000000");
        assert!(slow > 1.5, "3 MB in {slow} s at 1 MB/s");
        sandbox.set_network(&json!("open"));
        let quick = seconds("3000000");
        assert!(quick < slow, "{quick} s without a limit, {slow} s with one");
    });
}
