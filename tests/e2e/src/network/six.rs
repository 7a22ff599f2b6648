//! IPv6: the same, and never a way around what holds for IPv4.

use serde_json::json;
use warren_test_internet::{HOST_6, METADATA_6, PRIVATE_6, ROUTER_6, site, site_6};

use super::told::{denied, event};
use crate::harness::{allowing, command, denying, in_world, needs, run, wait_until};

#[test]
fn an_open_sandbox_reaches_the_internet_by_ipv6_too() {
    needs!("python3");
    in_world(|world| {
        world.internet.zone().set("six.example", &[site_6(6).into()]);
        let sandbox = world.create(&json!("open"));
        let reached = [
            ("tcp 2001:db8:1::1 9003", true),
            ("tcp 2001:db8:1::c8 9003", true),
            ("udp 2001:db8:1::2 7", true),
            ("icmp 2001:db8:1::3", true),
            // In pieces, for one packet does not take it.
            ("udp 2001:db8:1::1 7 5000", true),
            ("web 2001:db8:1::1 80 one.example", true),
            ("tls 2001:db8:1::1 one.example one.example", true),
            ("websocket 2001:db8:1::1 80", true),
            ("ask 203.0.113.54 one.example", true),
            ("tcp six.example 9003", true),
            ("icmp six.example", true),
        ];
        sandbox.expect(&reached);
        let [who, name] = sandbox
            .attempts(&["tcp 2001:db8:1::9 9003", "name6 six.example"])
            .try_into()
            .expect("two");
        assert_eq!(who, format!("{HOST_6} {}", site_6(9)), "under the host's address");
        assert_eq!(name, site_6(6).to_string());
        // So it is after the server has died, and after a stop.
        world.home.kill_server();
        world.home.warren(&["list"]).good();
        sandbox.expect(&reached);
        world.home.warren(&["stop", &sandbox.id]).good();
        world.home.warren(&["start", &sandbox.id]).good();
        sandbox.expect(&reached);
    });
}

/// For each rule what it is about and what it is not about.
const RULES: [(&str, &[&str], &[&str]); 6] = [
    (
        "2001:db8:1::1",
        &[
            "tcp 2001:db8:1::1 9003",
            "udp 2001:db8:1::1 7",
            "icmp 2001:db8:1::1",
            "udp 2001:db8:1::1 7 5000",
        ],
        &[
            "tcp 2001:db8:1::2 9003",
            "udp 2001:db8:1::2 7",
            "icmp 2001:db8:1::2",
            "udp 2001:db8:1::2 7 5000",
            "tcp 203.0.113.1 9003",
        ],
    ),
    (
        "2001:db8:1::/125",
        &["tcp 2001:db8:1::1 9003", "udp 2001:db8:1::7 7"],
        &["tcp 2001:db8:1::8 9003", "udp 2001:db8:1::9 7"],
    ),
    (
        "tcp://[2001:db8:1::1]:9003",
        &["tcp 2001:db8:1::1 9003"],
        &["tcp 2001:db8:1::1 853", "udp 2001:db8:1::1 7", "icmp 2001:db8:1::1"],
    ),
    (
        "udp://*:7",
        &["udp 2001:db8:1::1 7", "udp 203.0.113.1 7"],
        &["udp 2001:db8:1::1 443", "tcp 2001:db8:1::1 853"],
    ),
    (
        "icmp://*",
        &["icmp 2001:db8:1::1", "icmp 203.0.113.1"],
        &["tcp 2001:db8:1::1 9003", "udp 2001:db8:1::1 7"],
    ),
    (
        "203.0.113.0/24",
        &["tcp 203.0.113.1 9003"],
        &["tcp 2001:db8:1::1 9003", "udp 2001:db8:1::1 7", "icmp 2001:db8:1::1"],
    ),
];

#[test]
fn what_a_rule_is_about_is_allowed_or_denied_and_the_rest_is_not() {
    needs!("python3");
    in_world(|world| {
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
        sandbox.set_network(&json!("none"));
        sandbox.expect(&[("tcp 2001:db8:1::1 9003", false), ("icmp 2001:db8:1::1", false)]);
    });
}

#[test]
fn names_decide_over_ipv6_and_lies_get_nowhere() {
    needs!("python3");
    in_world(|world| {
        let zone = world.internet.zone();
        zone.set("six.example", &[site_6(1).into()]);
        // Another name at the same address.
        zone.set("shared.example", &[site_6(1).into()]);
        zone.set("other.example", &[site_6(2).into()]);
        zone.set("metadata.example", &[METADATA_6.into()]);
        zone.set("mixed.example", &[PRIVATE_6.into(), ROUTER_6.into(), site_6(3).into()]);
        let names = ["six.example", "metadata.example", "mixed.example"];
        let sandbox = world.allowing(&names);
        sandbox.expect(&[
            ("tcp 2001:db8:1::1 9003", false),
            ("tcp six.example 9003", true),
            ("udp six.example 7", true),
            ("icmp six.example", true),
            ("web six.example 80 six.example", true),
            ("web six.example 8080 six.example", true),
            ("websocket six.example 80", true),
            ("tls six.example six.example six.example", true),
            ("tcp 2001:db8:1::1 9003", true),
            // Another name at the allowed one's address, none, or an address in its place.
            ("tls six.example shared.example shared.example", false),
            ("tls six.example - six.example", false),
            ("web six.example 80 shared.example", false),
            ("web six.example 80 [2001:db8:1::1]", false),
            // The allowed name at another's address.
            ("tls 2001:db8:1::2 six.example six.example", false),
            ("web 2001:db8:1::2 80 six.example", false),
            ("tcp 2001:db8:1::2 9003", false),
            ("name6 other.example", false),
            // The ways around.
            ("udp six.example 443", false),
            ("tcp 2001:db8:1::35 853", false),
            ("ask 203.0.113.54 six.example tcp", false),
            // What leads near.
            ("name6 metadata.example", false),
            ("tcp metadata.example 9003", false),
            ("web fd00:ec2::254 80 metadata.example", false),
        ]);
        let [mixed] = sandbox.attempts(&["name6 mixed.example"]).try_into().expect("one");
        assert_eq!(mixed, site_6(3).to_string(), "what is near is left out");
        let honest = world.internet.seen().requests().iter().all(|request| {
            let host = request.header("host").unwrap_or_default();
            host == "six.example" && request.local.is_some_and(|it| it.ip() == site_6(1))
        });
        assert!(honest, "{:?}", world.internet.seen().requests());
        // What goes through the gate counts as a connection too.
        let connections = || {
            let traffic = sandbox.api("GET", "/network", b"").json()["traffic"].clone();
            traffic["connections"].as_u64().expect("a number")
        };
        let before = connections();
        sandbox.expect(&[("tls six.example six.example six.example", true)]);
        assert!(connections() > before, "{before} before, {} after", connections());
    });
}

#[test]
fn it_is_told_and_explained() {
    needs!("python3");
    in_world(|world| {
        let rules = json!({"otherwise": "deny", "rules": [
            {"action": "deny", "to": "[2001:db8:1::1]:853"},
            {"action": "allow", "to": "2001:db8:1::/64"},
        ]});
        let sandbox = world.create(&rules);
        for (to, attempt, allowed, part) in [
            ("[2001:db8:1::1]:853", "tcp 2001:db8:1::1 853", false, "2001:db8:1::1"),
            ("[2001:db8:1::1]:9003", "tcp 2001:db8:1::1 9003", true, "2001:db8:1::/64"),
            ("[2001:db8:1:1::1]:9003", "tcp 2001:db8:1:1::1 9003", false, "no rule"),
            ("[fd00:ec2::254]:80", "tcp fd00:ec2::254 9003", false, "public Internet"),
            ("[2001:db8:ff::1]:80", "tcp 2001:db8:ff::1 9003", false, "wire"),
        ] {
            let said = world.home.warren(&["net", "explain", &sandbox.id, to]);
            assert_eq!(said.code(), i32::from(!allowed), "{to}: {}", said.text());
            assert!(said.text().contains(part), "{to}: {}", said.text());
            sandbox.expect(&[(attempt, allowed)]);
        }
        let by_rule =
            event(&sandbox, |it| denied(it) && it["detail"]["address"] == "2001:db8:1::1");
        let detail = &by_rule["detail"];
        assert_eq!((&detail["port"], &detail["rule"]), (&json!("853"), &json!("0")), "{detail}");
    });
}

#[test]
fn a_packet_that_is_too_big_on_the_way_is_sent_in_smaller_ones() {
    needs!("python3");
    in_world(|world| {
        let sandbox = world.create(&json!("open"));
        // The way out has become narrower than what the sandbox knows.
        let narrow = ["link", "set", "uplink", "mtu", "1300"];
        run(command("ip").args(narrow), b"").good();
        let program = "import socket\n\
                       it = socket.create_connection((\"2001:db8:1::1\", 9002), 20)\n\
                       it.settimeout(20)\n\
                       it.sendall(bytes(3000000))\n\
                       it.shutdown(socket.SHUT_WR)\n\
                       print(it.recv(64).decode().strip())\n";
        let outcome = sandbox.exec(&["python3", "-c", program]);
        assert_eq!(outcome["stdout"], "3000000\n", "{outcome}");
    });
}

#[test]
fn a_name_with_addresses_of_both_families_is_reached_without_waiting() {
    needs!("python3");
    needs!("curl");
    in_world(|world| {
        let zone = world.internet.zone();
        zone.set("both.example", &[site_6(1).into(), site(1).into()]);
        let networks = [json!("open"), allowing(&["both.example"])];
        let quick = |network| {
            let sandbox = world.create(network);
            sandbox.expect(&[("tcp both.example 9003", true)]);
            let line = "curl -sS -o /dev/null -w '%{time_total}' http://both.example/";
            let seconds: f64 = sandbox.root(line).parse().expect("seconds");
            assert!(seconds < 4.0, "{seconds} s");
            sandbox
        };
        let with = networks.iter().map(quick).collect::<Vec<_>>();
        for sandbox in &with {
            sandbox.expect(&[("name6 both.example", true)]);
        }
        // The host loses its way out: nobody is told of addresses that lead nowhere.
        run(command("ip").args(["-6", "route", "del", "default"]), b"").good();
        wait_until("no address of IPv6 is answered", || {
            with[0].attempts(&["name6 both.example"])[0].starts_with('!')
        });
        for network in &networks {
            let without = quick(network);
            without.expect(&[("name6 both.example", false), ("tcp 2001:db8:1::1 9003", false)]);
        }
        for sandbox in &with {
            sandbox.expect(&[("tcp both.example 9003", true), ("tcp 2001:db8:1::1 9003", false)]);
        }
    });
}
