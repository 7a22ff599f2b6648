//! The same without rights. Everything goes by the command line: the socket is the user's own.

use serde_json::{Value, json};
use warren_test_internet::NAME_SERVER;

use crate::harness::{Home, PROBE, in_world, needs};

/// A user that nobody is.
const UID: u32 = 47_111;

/// Makes a sandbox of somebody without rights with these flags, and compares what comes of
/// attempts in it.
fn somebody(flags: &[&str], expected: &[(&str, bool)]) {
    in_world(|_world| {
        let mut home = Home::of_user(UID);
        let name_servers = NAME_SERVER.to_string();
        home.set(&[
            ("WARREN_BLANKS", "0"),
            ("WARREN_PARKED", "0"),
            ("WARREN_NAME_SERVERS", &name_servers),
        ]);
        let made = home.warren(&[&["create", "--json"], flags].concat());
        // Rules that cannot be enforced are refused, and never taken for less.
        if !flags.is_empty() && made.errors().contains("cannot enforce rules") {
            crate::harness::skip!("no rules for ordinary users here: {}", made.errors().trim());
        }
        let created: Value = serde_json::from_str(&made.good().text()).expect("a sandbox");
        if created["network"] == "none" {
            crate::harness::skip!("no network for ordinary users here: {}", created["warnings"]);
        }
        let id = created["id"].as_str().expect("an id");
        let attempts: Vec<_> = expected.iter().map(|(attempt, _)| *attempt).collect();
        let line = json!(attempts).to_string();
        let said = home.warren(&["exec", id, "--", "python3", "-c", PROBE, &line]).good().text();
        let results: Vec<String> = serde_json::from_str(&said).expect("JSON");
        let wrong = expected
            .iter()
            .zip(&results)
            .filter(|((_, reached), result)| *reached == result.starts_with('!'));
        assert_eq!(wrong.collect::<Vec<_>>(), [], "of {expected:?}: {results:?}");
    });
}

#[test]
fn an_ordinary_users_sandbox_reaches_the_internet_and_nothing_near() {
    needs!("python3");
    somebody(
        &[],
        &[
            ("tcp 203.0.113.1 9003", true),
            ("tcp one.example 9003", true),
            ("udp one.example 7", true),
            ("tls one.example one.example one.example", true),
            ("tcp 169.254.169.254 9003", false),
            ("tcp 192.168.77.5 9003", false),
            ("tcp 10.99.0.5 9003", false),
        ],
    );
}

#[test]
fn an_ordinary_users_rules_hold() {
    needs!("python3");
    somebody(
        &["--allow", "203.0.113.1", "--allow", "two.example"],
        &[
            ("tcp 203.0.113.1 9003", true),
            ("tcp 203.0.113.3 9003", false),
            ("tcp two.example 9003", true),
            ("tls two.example two.example two.example", true),
            ("tls two.example three.example three.example", false),
            ("name three.example", false),
        ],
    );
}
