//! Every kind of rule, as one that allows and as one that denies.

use serde_json::json;

use crate::harness::{allowing, denying, in_world, needs};

/// For each rule what it is about and what it is not about.
const RULES: [(&str, &[&str], &[&str]); 9] = [
    (
        "203.0.113.1",
        &[
            "tcp 203.0.113.1 9003",
            "udp 203.0.113.1 7",
            "icmp 203.0.113.1",
            "udp 203.0.113.1 7 5000",
        ],
        &[
            "tcp 203.0.113.2 9003",
            "udp 203.0.113.2 7",
            "icmp 203.0.113.2",
            "udp 203.0.113.2 7 5000",
        ],
    ),
    (
        "203.0.113.0/29",
        &["tcp 203.0.113.1 9003", "udp 203.0.113.7 7"],
        &["tcp 203.0.113.8 9003", "udp 203.0.113.9 7"],
    ),
    (
        "tcp://203.0.113.1",
        &["tcp 203.0.113.1 9003", "web 203.0.113.1 80 one.example"],
        &["udp 203.0.113.1 7", "icmp 203.0.113.1", "tcp 203.0.113.2 9003"],
    ),
    (
        "udp://203.0.113.1",
        &["udp 203.0.113.1 7", "udp 203.0.113.1 443"],
        &["tcp 203.0.113.1 9003", "icmp 203.0.113.1", "udp 203.0.113.2 7"],
    ),
    (
        "icmp://203.0.113.0/24",
        &["icmp 203.0.113.1", "icmp 203.0.113.200"],
        &["tcp 203.0.113.1 9003", "udp 203.0.113.1 7"],
    ),
    (
        "203.0.113.1:9003",
        &["tcp 203.0.113.1 9003"],
        &["tcp 203.0.113.1 853", "udp 203.0.113.1 7", "icmp 203.0.113.1"],
    ),
    (
        "*:80,8000-9003",
        &["web 203.0.113.1 80 x.example", "web 203.0.113.2 8080 x.example", "tcp 203.0.113.3 9003"],
        &["tls 203.0.113.1 x.example x.example", "udp 203.0.113.1 7", "tcp 203.0.113.1 853"],
    ),
    (
        "udp://*:7",
        &["udp 203.0.113.1 7", "udp 203.0.113.2 7"],
        &["udp 203.0.113.1 443", "tcp 203.0.113.1 853"],
    ),
    ("tcp://203.0.113.4:443", &["tls 203.0.113.4 x.example x.example"], &["udp 203.0.113.4 443"]),
];

#[test]
fn what_a_rule_is_about_is_allowed_or_denied_and_the_rest_is_not() {
    needs!("python3");
    in_world(|world| {
        // One sandbox that is given one rule after the other: they change while it runs.
        let sandbox = world.create(&json!("open"));
        for (rule, about, other) in RULES {
            for allows in [true, false] {
                let network = if allows { allowing(&[rule]) } else { denying(&[rule]) };
                sandbox.set_network(&network);
                let about = about.iter().map(|attempt| (*attempt, allows));
                let other = other.iter().map(|attempt| (*attempt, !allows));
                sandbox.expect(&about.chain(other).collect::<Vec<_>>());
            }
        }
    });
}

#[test]
fn the_first_rule_that_is_about_something_decides() {
    needs!("python3");
    in_world(|world| {
        let rules = json!({"otherwise": "deny", "rules": [
            {"action": "deny", "to": "203.0.113.1:853"},
            {"action": "allow", "to": "203.0.113.0/24"},
            {"action": "deny", "to": "203.0.113.2"},
        ]});
        let sandbox = world.create(&rules);
        sandbox.expect(&[
            ("tcp 203.0.113.1 9003", true),
            ("tcp 203.0.113.1 853", false),
            ("tcp 203.0.113.2 9003", true),
        ]);
    });
}

#[test]
fn what_no_sandbox_reaches_no_rule_allows() {
    needs!("python3");
    in_world(|world| {
        let sandbox = world.allowing(&["*", "169.254.169.254", "10.0.0.0/8", "198.51.100.2"]);
        let attempts = super::open::never(world);
        // The host's own address is none that is special; that it is the host's is what counts.
        let expected: Vec<_> = attempts.iter().map(|attempt| (attempt.as_str(), false)).collect();
        sandbox.expect(&expected);
        sandbox.expect(&[("tcp one.example 9003", true)]);
    });
}

#[test]
fn what_is_denied_fails_at_once() {
    needs!("python3");
    in_world(|world| {
        let sandbox = world.allowing(&["203.0.113.1"]);
        let [tcp, udp] = sandbox
            .attempts(&["tcp 203.0.113.2 9003", "udp 203.0.113.2 7"])
            .try_into()
            .expect("two");
        assert!(tcp.contains("refused") || tcp.contains("unreachable"), "{tcp}");
        assert!(!udp.contains("timed out"), "{udp}");
    });
}

#[test]
fn without_a_network_nothing_is_reached_and_rules_come_and_go() {
    needs!("python3");
    in_world(|world| {
        let sandbox = world.allowing(&["203.0.113.1"]);
        sandbox.expect(&[("tcp 203.0.113.1 9003", true), ("tcp 203.0.113.2 9003", false)]);
        sandbox.set_network(&json!("open"));
        sandbox.expect(&[("tcp 203.0.113.1 9003", true), ("tcp 203.0.113.2 9003", true)]);
        sandbox.set_network(&json!("none"));
        sandbox.expect(&[("tcp 203.0.113.1 9003", false), ("name one.example", false)]);
        sandbox.set_network(&allowing(&["203.0.113.2"]));
        sandbox.expect(&[("tcp 203.0.113.1 9003", false), ("tcp 203.0.113.2 9003", true)]);
    });
}

#[test]
fn rules_outlive_a_pause_and_the_server() {
    needs!("python3");
    in_world(|world| {
        let sandbox = world.allowing(&["203.0.113.1", "two.example"]);
        let reached = [
            ("tcp 203.0.113.1 9003", true),
            ("tcp two.example 9003", true),
            ("tcp 203.0.113.3 9003", false),
            ("name three.example", false),
        ];
        sandbox.expect(&reached);
        world.home.warren(&["pause", &sandbox.id]).good();
        world.home.warren(&["resume", &sandbox.id]).good();
        sandbox.expect(&reached);
        world.home.kill_server();
        world.home.warren(&["list"]).good();
        sandbox.expect(&reached);
        world.home.warren(&["stop", &sandbox.id]).good();
        world.home.warren(&["start", &sandbox.id]).good();
        sandbox.expect(&reached);
    });
}

#[test]
fn two_sandboxes_have_rules_of_their_own() {
    needs!("python3");
    in_world(|world| {
        let first = world.allowing(&["one.example", "203.0.113.3"]);
        let second = world.allowing(&["two.example", "203.0.113.4"]);
        for (sandbox, own) in [(&first, true), (&second, false)] {
            sandbox.expect(&[
                ("tcp one.example 9003", own),
                ("tcp 203.0.113.3 9003", own),
                ("tcp two.example 9003", !own),
                ("tcp 203.0.113.4 9003", !own),
            ]);
        }
        // What one was answered the other does not reach.
        second.expect(&[("tcp 203.0.113.1 9003", false)]);
    });
}

#[test]
fn a_wrong_rule_is_refused_with_what_was_expected() {
    in_world(|world| {
        let sandbox = world.create(&json!("open"));
        for (rule, part) in [
            ("203.0.113.1/24", "203.0.113.0/24"),
            ("http://one.example", "tcp"),
            ("one.example:0-99999", "port"),
            ("*.", "*."),
            ("", "expected"),
        ] {
            let answer = sandbox.api(
                "PUT",
                "/network",
                json!({"network": allowing(&[rule])}).to_string().as_bytes(),
            );
            assert_eq!(answer.error_code(), "invalid_argument", "{rule}");
            assert!(answer.text().contains(part), "`{rule}`: {}", answer.text());
        }
        assert_eq!(sandbox.get()["network"], "open", "nothing has changed");
    });
}
