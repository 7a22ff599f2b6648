//! What is done to requests, in every form of HTTP.

use serde_json::json;

use super::{arrived, bearer, given, keep, rule, value, with_credentials, with_rule};
use crate::harness::{in_world, needs};

/// Speaks HTTP/1.1 over TLS to `one.example` by hand: a chunk is sent only when the one before has
/// come back.
const TURNS: &str = r#"
import socket, ssl
raw = socket.create_connection(("one.example", 443), 20)
stream = ssl.create_default_context().wrap_socket(raw, server_hostname="one.example")
stream.sendall(b"POST /echo HTTP/1.1\r\nhost: one.example\r\ntransfer-encoding: chunked\r\n\r\n")
answer = b""
for turn in range(5):
    word = b"<turn-%d>" % turn
    stream.sendall(b"%x\r\n%s\r\n" % (len(word), word))
    while word not in answer:
        piece = stream.recv(4096)
        assert piece, answer
        answer += piece
stream.sendall(b"0\r\n\r\n")
print("all came back")
"#;

/// A WebSocket over TLS: what the server was asked, masked, and a word that it echoes.
const SOCKET: &str = r#"
import json, socket, ssl, struct
raw = socket.create_connection(("one.example", 443), 20)
stream = ssl.create_default_context().wrap_socket(raw, server_hostname="one.example")
stream.sendall(
    b"GET /socket HTTP/1.1\r\nhost: one.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: d2FycmVuIHdhcnJlbiB3YQ==\r\n\r\n")
answer = b""
def until(mark):
    global answer
    while mark not in answer:
        piece = stream.recv(65536)
        assert piece, answer
        answer += piece
until(b"\r\n\r\n")
head, answer = answer.split(b"\r\n\r\n", 1)
assert head.startswith(b"HTTP/1.1 101"), head
until(b'"version"')
stream.sendall(b"\x81\x85\0\0\0\0hello")
until(b"\x81\x05hello")
print(answer.decode("utf-8", "replace"))
"#;

#[test]
fn a_secret_arrives_at_its_host_and_at_no_other() {
    needs!("curl");
    needs!("openssl");
    in_world(|world| {
        let sandbox = with_credentials(world);
        for (version, seen) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2.0")] {
            let said = sandbox.root(&format!("curl -sS {version} https://one.example/who"));
            assert!(said.contains("Bearer ") && !said.contains(&value()), "echoed: {said}");
            let request = arrived(world, "one.example");
            assert_eq!(request.header("authorization"), Some(bearer().as_str()));
            assert_eq!(request.tls_name.as_deref(), Some("one.example"));
            assert_eq!(request.version, seen);
        }
        let echoed = sandbox.root("curl -sS -D - -o /dev/null https://one.example/who");
        assert!(echoed.contains("x-was:") && !echoed.contains(&value()), "{echoed}");
        // What the sandbox sends by that name is not what arrives.
        sandbox.root("curl -sS -H 'Authorization: mine' https://one.example/");
        assert_eq!(given(world, "one.example"), Some(bearer()));
        // Every other host is the host itself.
        let authority = world.trust(&sandbox);
        let curl = format!("curl -sS --cacert {}", authority.display());
        sandbox.root(&format!("{curl} https://two.example/"));
        assert_eq!(given(world, "two.example"), None);
        let issuers = ["one.example", "two.example"].map(|host| sandbox.issuer(host));
        assert!(issuers[0].contains(&sandbox.id), "{issuers:?}");
        assert!(!issuers[1].contains("Warren sandbox"), "{issuers:?}");
        // Without TLS nobody knows who is there.
        sandbox.root("curl -sS http://one.example/");
        assert_eq!(given(world, "one.example"), None);
    });
}

#[test]
fn sockets_and_bodies_pass_while_they_are_written() {
    needs!("python3");
    needs!("curl");
    in_world(|world| {
        let sandbox = with_credentials(world);
        let outcome = sandbox.exec(&["python3", "-c", TURNS]);
        assert_eq!(outcome["stdout"], "all came back\n", "{outcome}");
        assert_eq!(given(world, "one.example"), Some(bearer()));
        let outcome = sandbox.exec(&["python3", "-c", SOCKET]);
        let said = outcome["stdout"].as_str().expect("text");
        assert!(said.contains("Bearer *") && !said.contains(&value()), "{outcome}");
        for version in ["--http1.1", "--http2"] {
            let curl = format!("curl -sS {version}");
            let count = sandbox.root(&format!("{curl} https://one.example/bytes/20000000 | wc -c"));
            assert_eq!(count.trim(), "20000000");
            let count = sandbox.root(&format!(
                "head -c 5000000 /dev/zero | {curl} -T - https://one.example/echo | wc -c"
            ));
            assert_eq!(count.trim(), "5000000");
            let events = sandbox.root(&format!(
                "{curl} -N --max-time 5 https://one.example/events | head -n 3 | grep -c data"
            ));
            assert_eq!(events.trim(), "2", "events come one by one");
        }
    });
}

#[test]
fn methods_and_paths_that_a_rule_does_not_name_do_not_pass() {
    needs!("curl");
    in_world(|world| {
        let limits = rule(&json!({"methods": ["GET"], "paths": ["/mine/**"]}));
        let sandbox = with_rule(world, &limits);
        let status =
            |more: &str| sandbox.root(&format!("curl -sS -o /dev/null -w '%{{http_code}}' {more}"));
        assert_eq!(status("https://one.example/mine/x"), "200");
        assert_eq!(status("-X DELETE https://one.example/mine/x"), "403");
        assert_eq!(status("https://one.example/yours"), "403");
        assert_eq!(status("--path-as-is https://one.example/mine/../yours"), "403");
        assert_eq!(status("https://one.example/mine/%2e%2e/yours"), "403");
        let requests = world.internet.seen().requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
    });
}

#[test]
fn placeholders_are_replaced_where_a_rule_names_them() {
    needs!("curl");
    in_world(|world| {
        keep(world);
        let places = json!([
            {"host": "one.example", "placeholders": ["TOKEN"]},
            {"host": "two.example", "placeholders": ["TOKEN"], "in_query": true, "in_body": true},
            {"host": "*.wild.example", "headers": {"x-other": "1"}},
        ]);
        let sandbox = world.home.create(&json!({"credentials": {"rules": places}}));
        let send = |host: &str| {
            let said = sandbox.root(&format!(
                "curl -sS -g -H 'x-key: {{{{secret:TOKEN}}}}' -d 'a={{{{secret:TOKEN}}}}' \
                 'https://{host}/?b={{{{secret:TOKEN}}}}'"
            ));
            assert!(!said.contains(&value()), "{said}");
            let request = arrived(world, host);
            (request.header("x-key").map(str::to_owned), request.target, said)
        };
        let (header, target, said) = send("one.example");
        assert_eq!(header, Some(value()));
        assert!(!target.contains(&value()), "{target}");
        assert!(said.contains("a={{secret:TOKEN}}"), "{said}");
        let (header, target, said) = send("two.example");
        assert_eq!(header, Some(value()));
        assert!(target.contains(&value()), "{target}");
        assert!(said.contains("a=***"), "{said}");
        let (header, target, _) = send("a.wild.example");
        assert_eq!(header.as_deref(), Some("{{secret:TOKEN}}"), "it is not named there");
        assert!(!target.contains(&value()), "{target}");
        assert_eq!(arrived(world, "a.wild.example").header("x-other"), Some("1"));
    });
}

#[test]
fn rules_of_the_network_hold_for_hosts_with_credentials() {
    needs!("curl");
    in_world(|world| {
        keep(world);
        let network = crate::harness::allowing(&["one.example"]);
        let rules = json!([rule(&json!({})), {"host": "two.example", "headers": {"a": "b"}}]);
        let wanted = json!({"network": network, "credentials": {"rules": rules}});
        let sandbox = world.home.create(&wanted);
        sandbox.root("curl -sS https://one.example/");
        assert_eq!(given(world, "one.example"), Some(bearer()));
        let outcome = sandbox.exec(&["curl", "-sS", "https://two.example/"]);
        assert_ne!(outcome["exit_code"], 0, "{outcome}");
        // Its certificate is asked for by an address that is somebody else's: the name is checked.
        let outcome = sandbox.exec(&[
            "curl",
            "-sS",
            "--connect-to",
            "two.example:443:203.0.113.1:443",
            "https://two.example/",
        ]);
        assert_ne!(outcome["exit_code"], 0, "{outcome}");
    });
}

#[test]
fn ways_around_the_gate_are_closed() {
    needs!("python3");
    in_world(|world| {
        let sandbox = with_credentials(world);
        sandbox.expect(&[
            ("udp 203.0.113.1 443", false),
            ("udp 203.0.113.1 7", true),
            ("tcp 203.0.113.1 9003", true),
            ("web 203.0.113.1 80 one.example", true),
        ]);
        let explain = |port: &str| {
            let to = format!("203.0.113.1:{port}");
            world.home.warren(&["net", "explain", "--protocol", "udp", &sandbox.id, &to])
        };
        assert_eq!(explain("443").code(), 1);
        assert!(explain("443").text().contains("given credentials"), "{}", explain("443").text());
        assert_eq!(explain("7").code(), 0);
        let plain = world.create(&json!("open"));
        plain.expect(&[("udp 203.0.113.1 443", true)]);
        sandbox.set_credentials(&json!({}));
        sandbox.expect(&[("udp 203.0.113.1 443", true)]);
    });
}
