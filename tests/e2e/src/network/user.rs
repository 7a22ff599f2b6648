//! The same without rights: a program carries the packets of the server, and all rules hold.

use std::net::{TcpListener, UdpSocket};

use serde_json::{Value, json};
use warren_test_internet::{HOST, METADATA, PRIVATE, ROUTER, site};

use super::{
    change::{ended, length, listen},
    told::{denied, event},
};
use crate::harness::{
    Sandbox, WayOut, World, allowing, in_users_world, kill, needs, processes_named, wait_until,
};

/// The sandbox's network; without one the rest means nothing.
#[track_caller]
fn with_network<'a>(world: &'a World<'_>, network: &Value) -> Sandbox<'a> {
    let sandbox = world.create(network);
    let created = &sandbox.created;
    assert_ne!(created["network"], "none", "{created}\n{}", world.home.log());
    sandbox
}

/// What is open to an open sandbox, and what is near and never is.
fn reaches_the_internet_and_nothing_near(world: &World<'_>) {
    // What listens on the host, everywhere and on its loopback alone.
    let _services = ["0.0.0.0:9003", "127.0.0.1:9004"].map(|it| TcpListener::bind(it).unwrap());
    let _echo = UdpSocket::bind("0.0.0.0:7").unwrap();
    let zone = world.internet.zone();
    zone.set("metadata.example", &[METADATA.into()]);
    zone.set("host.example", &[HOST.into()]);
    let sandbox = with_network(world, &json!("open"));
    sandbox.expect(&[
        ("tcp one.example 9003", true),
        ("tcp 203.0.113.200 9003", true),
        ("udp two.example 7", true),
        ("icmp 203.0.113.3", true),
        ("web 203.0.113.1 80 one.example", true),
        ("websocket 203.0.113.1 80", true),
        ("tls one.example one.example one.example", true),
        ("ask 203.0.113.54 one.example", true),
    ]);
    // The server itself asks for names where the way out has them, for the host's resolver may be
    // on a loopback that is not its own.
    let server = world.home.server_pid().expect("a server runs");
    let names = std::fs::read_to_string(format!("/proc/{server}/root/etc/resolv.conf")).unwrap();
    assert!(["nameserver 169.254.1.1\n", "nameserver 10.0.2.3\n"].contains(&&*names), "{names}");
    let [who] = sandbox.attempts(&["tcp 203.0.113.9 9003"]).try_into().expect("one");
    assert_eq!(who, format!("{HOST} {}", site(9)), "under the host's address");
    let host = HOST.to_string();
    let near = [METADATA, PRIVATE[0], PRIVATE[1], HOST].map(|it| it.to_string());
    // What the programs themselves have: addresses for the host's loopback, and for names.
    let of_programs = ["127.0.0.1", "10.0.2.2", "10.0.2.3", "169.254.1.1", "169.254.2.1"];
    let near: Vec<&str> = near.iter().map(String::as_str).chain(of_programs).collect();
    let mut attempts: Vec<String> =
        near.iter().flat_map(|it| [format!("tcp {it} 9003"), format!("udp {it} 7")]).collect();
    attempts.extend(near.iter().map(|it| format!("tcp {it} 9004")));
    attempts.extend(of_programs.map(|it| format!("ask {it} one.example")));
    attempts.extend(["metadata.example", "host.example"].map(|it| format!("tcp {it} 9003")));
    attempts.push(format!("tcp ::ffff:{host} 9003"));
    // Neither opens what is near to rules that allow all of it, nor to names that lead there.
    let every = allowing(&["*", "10.0.0.0/8", "169.254.0.0/16", "198.51.100.2", "*.example"]);
    for network in [json!("open"), every] {
        sandbox.set_network(&network);
        let expected: Vec<_> = attempts.iter().map(|it| (it.as_str(), false)).collect();
        sandbox.expect(&expected);
    }
    let _web = TcpListener::bind("0.0.0.0:80").unwrap();
    sandbox.expect(&[
        (&format!("web {host} 80 host.example"), false),
        ("web host.example 80 host.example", false),
        ("tcp one.example 9003", true),
    ]);
    // The router is reached by everybody: a public address is no host's.
    sandbox.set_network(&json!("open"));
    sandbox.expect(&[(&format!("tcp {ROUTER} 9003"), true)]);
}

/// Every kind of rule, changed while the sandbox runs.
fn rules_hold(world: &World<'_>) {
    let sandbox = with_network(world, &allowing(&["203.0.113.1"]));
    sandbox.expect(&[
        ("tcp 203.0.113.1 9003", true),
        ("udp 203.0.113.1 7", true),
        ("icmp 203.0.113.1", true),
        ("tcp 203.0.113.3 9003", false),
        ("icmp 203.0.113.3", false),
        ("name one.example", false),
    ]);
    sandbox.set_network(&json!({"otherwise": "deny", "rules": [
        {"action": "deny", "to": "203.0.113.1:853"},
        {"action": "allow", "to": "tcp://203.0.113.0/29:853,9000-9003"},
        {"action": "allow", "to": "udp://*:7"},
    ]}));
    sandbox.expect(&[
        ("tcp 203.0.113.1 9003", true),
        ("tcp 203.0.113.2 853", true),
        ("tcp 203.0.113.1 853", false),
        ("tcp 203.0.113.9 9003", false),
        ("udp 203.0.113.9 7", true),
        ("icmp 203.0.113.1", false),
    ]);
    sandbox.set_network(&json!("none"));
    sandbox.expect(&[("tcp 203.0.113.1 9003", false)]);
    world.internet.zone().set("shared.example", &[site(2).into()]);
    sandbox.set_network(&allowing(&["two.example", "*.wild.example:443"]));
    sandbox.expect(&[
        ("tcp two.example 9003", true),
        ("web two.example 80 two.example", true),
        ("tls two.example two.example two.example", true),
        ("tls a.wild.example a.wild.example a.wild.example", true),
        ("tcp a.wild.example 9003", false),
        ("name three.example", false),
        // Names that are not those of the address.
        ("tls two.example shared.example shared.example", false),
        ("tls 203.0.113.3 two.example two.example", false),
        ("web two.example 80 203.0.113.2", false),
        // Other ways to names.
        ("ask 203.0.113.54 two.example", false),
        ("udp two.example 443", false),
    ]);
    // They outlive the server, a pause where there is one, and the program that carries packets.
    world.home.kill_server();
    world.home.warren(&["list"]).good();
    let before = sandbox.get()["network"].clone();
    let still = [
        ("tcp two.example 9003", true),
        ("tls two.example two.example two.example", true),
        ("tcp 203.0.113.3 9003", false),
        ("name three.example", false),
    ];
    sandbox.expect(&still);
    for pid in carriers() {
        kill(pid);
    }
    wait_until("packets are carried again", || {
        !sandbox.attempts(&["tcp two.example 9003"])[0].starts_with('!')
    });
    sandbox.expect(&still);
    assert_eq!(sandbox.get()["network"], before);
}

/// The programs that carry packets on this host: those of other tests are on other hosts.
fn carriers() -> Vec<u32> {
    let here = std::fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
    let there = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let named = ["/usr/bin/pasta", "/usr/bin/slirp4netns"].map(processes_named);
    let found: Vec<u32> =
        named.concat().into_iter().filter(|pid| there(pid).as_ref() == Some(&here)).collect();
    assert!(!found.is_empty(), "nothing carries packets");
    found
}

/// Streams under rules that change, and what is told of all that.
fn changes_and_what_is_told(world: &World<'_>) {
    let sandbox = with_network(world, &allowing(&["203.0.113.0/24"]));
    listen(&sandbox, "http://203.0.113.1:8080/events", "one");
    listen(&sandbox, "http://203.0.113.2:8080/events", "two");
    sandbox.set_network(&allowing(&["203.0.113.1", "one.example"]));
    wait_until("the stream that is forbidden is cut", || ended(&sandbox, "two"));
    let heard = length(&sandbox, "one");
    wait_until("the other goes on", || length(&sandbox, "one") > heard + 100);
    // Denials are events, by address and by name.
    sandbox.expect(&[
        ("tcp 203.0.113.3 9003", false),
        ("tls 203.0.113.2 two.example two.example", false),
    ]);
    let told = event(&sandbox, |it| denied(it) && it["detail"]["address"] == "203.0.113.3");
    assert_eq!(told["detail"]["port"], "9003", "{told}");
    event(&sandbox, |it| denied(it) && it["detail"]["host"] == "two.example");
    let explained = world.home.warren(&["net", "explain", &sandbox.id, "203.0.113.1:9003"]);
    assert_eq!(explained.code(), 0, "{}", explained.text());
    let traffic = || sandbox.api("GET", "/network", b"").json()["traffic"].clone();
    sandbox.root("curl -sS -o /dev/null http://203.0.113.1:8080/bytes/3000000");
    let counted = traffic();
    let count = |name: &str| counted[name].as_u64().expect("a number");
    assert!(count("received_bytes") > 3_000_000, "{counted}");
    assert!(count("connections") >= 1 && count("denied") >= 1, "{counted}");
    // A dry run and learning.
    sandbox.set_network(&json!({"mode": "learn", "rules": [], "otherwise": "deny"}));
    sandbox.expect(&[("tcp two.example 9003", true), ("udp 203.0.113.7 7", true)]);
    let learned = || sandbox.api("GET", "/network/learned", b"").json();
    wait_until("two destinations are noted", || {
        learned()["destinations"].as_array().is_some_and(|it| it.len() >= 2)
    });
    let rules = learned()["rules"].clone();
    sandbox.set_network(&json!({"rules": rules, "otherwise": "deny"}));
    sandbox.expect(&[("tcp two.example 9003", true), ("tcp 203.0.113.3 9003", false)]);
    let dry = json!({"mode": "dry_run", "rules": [], "otherwise": "deny"});
    sandbox.set_network(&dry);
    sandbox.expect(&[("tcp 203.0.113.4 9003", true)]);
    event(&sandbox, |it| denied(it) && it["detail"]["dry_run"] == "true");
    // No faster than it is told to be.
    let limited = json!({"rules": [], "otherwise": "allow", "down_bytes_per_second": 1_000_000});
    sandbox.set_network(&limited);
    let line = "curl -sS -o /dev/null -w '%{time_total}' http://203.0.113.1:8080/bytes/3000000";
    let seconds: f64 = sandbox.root(line).parse().expect("seconds");
    assert!(seconds > 1.5, "3 MB in {seconds} s at 1 MB/s");
}

#[test]
fn through_pasta_an_ordinary_user_reaches_the_internet_and_nothing_near() {
    needs!("python3");
    in_users_world(WayOut::Pasta, reaches_the_internet_and_nothing_near);
}

#[test]
fn through_slirp4netns_an_ordinary_user_reaches_the_internet_and_nothing_near() {
    needs!("python3");
    in_users_world(WayOut::Slirp4netns, reaches_the_internet_and_nothing_near);
}

#[test]
fn through_pasta_an_ordinary_users_rules_hold() {
    needs!("python3");
    in_users_world(WayOut::Pasta, rules_hold);
}

#[test]
fn through_slirp4netns_an_ordinary_users_rules_hold() {
    needs!("python3");
    in_users_world(WayOut::Slirp4netns, rules_hold);
}

#[test]
fn an_ordinary_users_rules_change_and_tell() {
    needs!("python3");
    needs!("curl");
    in_users_world(WayOut::Pasta, changes_and_what_is_told);
}

#[test]
fn root_is_told_who_an_ordinary_users_server_is_for() {
    in_users_world(WayOut::Pasta, |world| {
        world.home.warren(&["list"]).good();
        let socket = format!("unix://{}", world.home.socket().display());
        let mut root = crate::harness::command(world.home.binary());
        let said = root.args(["--server", &socket, "list"]).output().expect("a command");
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.contains("nobody else") && said.contains("sudo -u"), "{said}");
        assert!(!said.contains("WARREN_API_KEY"), "{said}");
    });
}
