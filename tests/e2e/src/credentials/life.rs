//! Credentials through changes, the server's death, and what is made of a sandbox.

use serde_json::{Value, json};

use super::{arrived, bearer, given, rule, value, with_credentials};
use crate::harness::{Sandbox, in_world, needs, run};

const ASK: &str = "curl -sS -o /dev/null https://one.example/";

fn authorities(sandbox: &Sandbox<'_>) -> usize {
    let list = sandbox.root("cat /etc/ssl/certs/ca-certificates.crt");
    list.matches("# Warren: hosts with credentials").count()
}

#[test]
fn what_is_given_changes_while_a_sandbox_runs() {
    needs!("curl");
    needs!("openssl");
    in_world(|world| {
        let sandbox = with_credentials(world);
        sandbox.root(ASK);
        assert_eq!(given(world, "one.example"), Some(bearer()));
        // Another value of the secret, from the next request on.
        let mut set = world.home.command(&["secret", "set", "TOKEN"]);
        run(&mut set, b"another-value-of-it").good();
        sandbox.root(ASK);
        assert_eq!(given(world, "one.example").as_deref(), Some("Bearer another-value-of-it"));
        let shown = sandbox.set_credentials(&json!({"rules": [
            {"host": "two.example", "headers": {"X-Key": "{{secret:TOKEN}}"}},
        ]}));
        assert_eq!(shown["rules"][0]["headers"], json!(["X-Key"]));
        assert!(!shown.to_string().contains("another-value"), "{shown}");
        sandbox.root("curl -sS https://two.example/");
        assert_eq!(arrived(world, "two.example").header("x-key"), Some("another-value-of-it"));
        assert!(!sandbox.issuer("one.example").contains("Warren sandbox"));
        sandbox.set_credentials(&json!({}));
        assert!(!sandbox.issuer("two.example").contains("Warren sandbox"));
        // A secret that is gone is not sent, and nothing in its place.
        let refused = sandbox.api(
            "PUT",
            "/credentials",
            br#"{"rules":[{"host":"a.b","headers":{"x":"{{secret:GONE}}"}}]}"#,
        );
        assert_eq!(refused.status, 400, "{}", refused.text());
    });
}

#[test]
fn the_next_server_gives_the_same() {
    needs!("curl");
    needs!("openssl");
    in_world(|world| {
        let sandbox = with_credentials(world);
        let issuer = sandbox.issuer("one.example");
        let fingerprint = "sha256sum /etc/warren/ca.pem";
        let before = sandbox.root(fingerprint);
        world.home.kill_server();
        world.home.warren(&["list"]).good();
        sandbox.root(ASK);
        assert_eq!(given(world, "one.example"), Some(bearer()));
        assert_eq!((sandbox.issuer("one.example"), sandbox.root(fingerprint)), (issuer, before));
    });
}

#[test]
fn nothing_goes_around_while_no_server_runs_or_its_key_is_lost() {
    needs!("python3");
    in_world(|world| {
        let sandbox = with_credentials(world);
        sandbox.root(
            "(for turn in $(seq 200); do curl -sS -m 1 http://203.0.113.1/turn/$turn; sleep 0.05; \
             done > /dev/null 2>&1 &) > /dev/null 2>&1",
        );
        world.home.kill_server();
        let before = world.internet.seen().requests().len();
        // Nobody can open what it is given: it is refused, and not let through as it is.
        std::fs::remove_file(world.home.data().join("secrets.key")).expect("remove the key");
        world.home.warren(&["list"]).good();
        sandbox.expect(&[("web 203.0.113.1 80 one.example", false), ("udp 203.0.113.1 7", true)]);
        let after = world.internet.seen().requests().len();
        assert_eq!(before, after, "a request went around the gate");
        sandbox.set_credentials(&json!({}));
        sandbox.expect(&[("web 203.0.113.1 80 one.example", true)]);
    });
}

#[test]
fn a_sandbox_that_is_started_again_is_given_the_same_by_another_authority() {
    needs!("curl");
    in_world(|world| {
        let sandbox = with_credentials(world);
        let before = sandbox.root("cat /etc/warren/ca.pem");
        sandbox.api("POST", "/stop", b"").json();
        sandbox.api("POST", "/start", b"").json();
        sandbox.root(ASK);
        assert_eq!(given(world, "one.example"), Some(bearer()));
        assert_ne!(sandbox.root("cat /etc/warren/ca.pem"), before);
        assert_eq!(authorities(&sandbox), 1, "the earlier one is gone");
    });
}

#[test]
fn what_is_made_of_a_sandbox_has_neither_its_credentials_nor_its_key() {
    needs!("curl");
    needs!("openssl");
    in_world(|world| {
        let sandbox = with_credentials(world);
        sandbox.root(ASK);
        let forked = sandbox.api("POST", "/fork", br#"{"count": 1}"#).json();
        let fork = child(world, &forked["sandboxes"][0]);
        assert!(!fork.issuer("one.example").contains("Warren sandbox"));
        let shown = fork.api("GET", "/credentials", b"").json();
        assert_eq!(shown["rules"], json!([]));
        let saved = sandbox.api("POST", "/snapshots", b"{}").json();
        let wanted = json!({"snapshot": saved["id"], "credentials": {"rules": [rule(&json!({}))]}});
        let copy = world.home.create(&wanted);
        copy.root(ASK);
        assert_eq!(given(world, "one.example"), Some(bearer()));
        assert!(copy.issuer("one.example").contains(&copy.id), "an authority of its own");
        assert_eq!(authorities(&copy), 1, "that of its parent is gone");
        // Keys are on the host alone, each with its own sandbox.
        let key = std::fs::read_to_string(
            world.home.data().join("sandboxes").join(&sandbox.id).join("authority.pem"),
        );
        let key = key.expect("the authority's key");
        let line = key.lines().nth(1).expect("a line of the key").to_owned();
        for one in [&sandbox, &fork, &copy] {
            let search =
                format!("grep -rlF '{line}' /etc /root /home /tmp /var 2> /dev/null || true");
            assert_eq!(one.root(&search), "");
        }
        assert!(!key.contains(&value()));
    });
}

fn child<'a>(world: &'a crate::harness::World<'_>, created: &Value) -> Sandbox<'a> {
    let id = created["id"].as_str().expect("an id").to_owned();
    Sandbox { home: &world.home, id, created: created.clone() }
}
