//! A sandbox whose connections go through a proxy of its owner's.

use serde_json::{Value, json};
use warren_test_internet::{PROXY_PASSWORD, PROXY_USER, port, site};

use super::{bearer, given, keep, rule};
use crate::harness::{Sandbox, World, in_world, needs, run};

fn proxy(kind: &str, port: u16, password: &str) -> Value {
    let host = site(1).to_string();
    json!({"kind": kind, "host": host, "port": port, "user": PROXY_USER, "password": password})
}

#[track_caller]
fn behind<'a>(world: &'a World<'_>, proxy: &Value) -> Sandbox<'a> {
    let mut set = world.home.command(&["secret", "set", "PROXY"]);
    run(&mut set, PROXY_PASSWORD.as_bytes()).good();
    world.home.create(&json!({"credentials": {"proxy": proxy}}))
}

#[test]
fn every_connection_goes_through_the_proxy() {
    needs!("curl");
    needs!("python3");
    in_world(|world| {
        for (kind, word, at) in
            [("socks5", "socks5", port::SOCKS), ("http", "connect", port::CONNECT)]
        {
            let sandbox = behind(world, &proxy(kind, at, "{{secret:PROXY}}"));
            let authority = world.trust(&sandbox);
            let curl = format!("curl -sS --cacert {}", authority.display());
            sandbox.root(&format!("{curl} https://two.example/"));
            sandbox.root(&format!("{curl} http://two.example/"));
            assert!(!sandbox.issuer("two.example").contains("Warren sandbox"));
            let asked = world.internet.seen().proxied();
            let count =
                |what: &str| asked.iter().filter(|it| **it == format!("{word} {what}")).count();
            assert_eq!(count("two.example:443"), 2, "{asked:?}");
            assert_eq!(count("203.0.113.2:80"), 1, "{asked:?}");
            sandbox.expect(&[
                ("tcp 203.0.113.2 9003", true),
                ("udp 203.0.113.2 7", false),
                ("icmp 203.0.113.2", false),
                ("name two.example", true),
                ("tcp 10.99.0.5 9003", false),
            ]);
            let asked = world.internet.seen().proxied();
            assert_eq!(asked.last(), Some(&format!("{word} 203.0.113.2:9003")), "{asked:?}");
            // From the machine that the proxy is on, and not from this one.
            let who = sandbox.attempts(&["tcp 203.0.113.2 9003"]).remove(0);
            assert!(!who.contains("198.51.100.2"), "{who}");
        }
    });
}

#[test]
fn without_its_proxy_a_sandbox_reaches_nothing() {
    needs!("python3");
    in_world(|world| {
        let all = [("tcp 203.0.113.2 9003", false), ("web 203.0.113.2 80 two.example", false)];
        let sandbox = behind(world, &proxy("socks5", port::SOCKS, "wrong"));
        sandbox.expect(&all);
        assert_eq!(
            world.internet.seen().proxied().last().map(String::as_str),
            Some("socks5 refused")
        );
        // Where nobody listens.
        sandbox.set_credentials(&json!({"proxy": proxy("http", 9, "x")}));
        sandbox.expect(&all);
        assert!(world.internet.seen().requests().is_empty());
        sandbox
            .set_credentials(&json!({"proxy": proxy("http", port::CONNECT, "{{secret:PROXY}}")}));
        sandbox.expect(&[("tcp 203.0.113.2 9003", true)]);
        sandbox.set_credentials(&json!({}));
        sandbox.expect(&[("tcp 203.0.113.2 9003", true), ("udp 203.0.113.2 7", true)]);
    });
}

#[test]
fn a_proxy_of_the_hosts_own_network_is_not_reached() {
    needs!("python3");
    in_world(|world| {
        for host in ["127.0.0.1", "10.99.0.5", "169.254.169.254", "198.51.100.2"] {
            let mut place = proxy("socks5", port::SOCKS, "{{secret:PROXY}}");
            place["host"] = json!(host);
            let sandbox = behind(world, &place);
            sandbox.expect(&[("tcp 203.0.113.2 9003", false)]);
        }
        assert_eq!(world.internet.seen().proxied(), Vec::<String>::new());
    });
}

#[test]
fn credentials_are_given_through_a_proxy_and_by_flags() {
    needs!("curl");
    in_world(|world| {
        keep(world);
        let sandbox = behind(world, &proxy("socks5", port::SOCKS, "{{secret:PROXY}}"));
        let both = json!({
            "rules": [rule(&json!({}))],
            "proxy": proxy("socks5", port::SOCKS, "{{secret:PROXY}}"),
        });
        sandbox.set_credentials(&both);
        sandbox.root("curl -sS https://one.example/");
        assert_eq!(given(world, "one.example"), Some(bearer()));
        assert_eq!(world.internet.seen().proxied(), ["socks5 one.example:443"]);

        let url = format!("http://{PROXY_USER}:{{{{secret:PROXY}}}}@{}:{}", site(1), port::CONNECT);
        let header = "one.example=Authorization: Bearer {{secret:TOKEN}}";
        let flags = ["run", "--proxy", &url, "--credential", header, "--"];
        let command = ["curl", "-sS", "https://one.example/by-flags"];
        world.home.warren(&[&flags[..], &command[..]].concat()).good();
        assert_eq!(given(world, "one.example"), Some(bearer()));
        let asked = world.internet.seen().proxied();
        assert_eq!(asked.last().map(String::as_str), Some("connect one.example:443"));

        let said = world.home.warren(&["credential", "show", &sandbox.id]).good().text();
        assert!(said.contains("one.example") && !said.contains(PROXY_PASSWORD), "{said}");
        world.home.warren(&["credential", "clear", &sandbox.id]).good();
        world.home.warren(&["credential", "set", &sandbox.id, "--credential", header]).good();
        sandbox.root("curl -sS https://one.example/again");
        assert_eq!(given(world, "one.example"), Some(bearer()));
        assert_eq!(world.internet.seen().proxied().len(), asked.len(), "no proxy any more");
    });
}
