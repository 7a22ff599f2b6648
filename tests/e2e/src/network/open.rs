//! The default: the internet, and nothing near.

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    time::Duration,
};

use serde_json::json;
use warren_test_internet::{
    HOST, HOST_6, METADATA, METADATA_6, PRIVATE, PRIVATE_6, ROUTER, ROUTER_6, site, site_6,
};

use crate::harness::{World, in_world, needs};

#[test]
fn an_open_sandbox_reaches_the_internet_by_everything_that_there_is() {
    needs!("python3");
    in_world(|world| {
        let sandbox = world.create(&json!("open"));
        sandbox.expect(&[
            ("tcp one.example 9003", true),
            ("tcp 203.0.113.200 9003", true),
            ("udp two.example 7", true),
            ("icmp 203.0.113.3", true),
            ("web 203.0.113.1 80 one.example", true),
            ("web 203.0.113.1 8080 one.example", true),
            ("websocket 203.0.113.1 80", true),
            ("tls 203.0.113.1 one.example one.example", true),
            ("tls 203.0.113.1 - 203.0.113.1", true),
            // In pieces, for one packet does not take it.
            ("udp 203.0.113.1 7 5000", true),
        ]);
        let [who] = sandbox.attempts(&["tcp 203.0.113.9 9003"]).try_into().expect("one");
        assert_eq!(who, format!("{HOST} {}", site(9)), "under the host's address");
    });
}

#[test]
fn names_are_answered_over_both_protocols_and_by_whom_a_program_asks() {
    needs!("python3");
    in_world(|world| {
        let many: Vec<_> = (1..=200).map(|number| site(number).into()).collect();
        world.internet.zone().set("big.example", &many);
        world.internet.zone().alias("other.example", "two.example");
        let sandbox = world.create(&json!("open"));
        let gateway = sandbox.root("sed -n 's/^nameserver //p' /etc/resolv.conf");
        let gateway = gateway.trim();
        let over_tcp = format!("ask {gateway} big.example tcp");
        let unknown = format!("ask {gateway} unknown.example");
        let results = sandbox.attempts(&[
            &over_tcp,
            &unknown,
            "name other.example",
            "ask 203.0.113.54 one.example",
            "ask 203.0.113.54 one.example tcp",
        ]);
        assert_eq!(results, ["200", "!code 3", "203.0.113.2", "1", "1"]);
    });
}

/// What no sandbox reaches, whatever it may.
pub(super) fn never(world: &World<'_>) -> Vec<String> {
    let four = [HOST, METADATA, PRIVATE[0], PRIVATE[1], Ipv4Addr::LOCALHOST].map(IpAddr::V4);
    let six = [HOST_6, METADATA_6, PRIVATE_6, ROUTER_6].map(IpAddr::V6);
    // Addresses that stand for private ones of IPv4: mapped, NAT64, 6to4, Teredo, compatible.
    let others = [
        "::ffff:192.168.77.5",
        "64:ff9b::c0a8:4d05",
        "2002:c0a8:4d05::1",
        "2001:0:c0a8:4d05::1",
        "::192.168.77.5",
        "fe80::1",
        "fec0::1",
    ];
    let near: Vec<String> = four.into_iter().chain(six).map(|it| it.to_string()).collect();
    let near = || near.iter().map(String::as_str).chain(others);
    let connections = near().map(|address| format!("tcp {address} 9003"));
    let datagrams = near().map(|address| format!("udp {address} 7"));
    // Names lead there as well.
    let zone = world.internet.zone();
    zone.set("metadata.example", &[METADATA.into(), METADATA_6.into()]);
    zone.set("intranet.example", &[PRIVATE[0].into(), PRIVATE_6.into(), ROUTER_6.into()]);
    zone.in_turn("turning.example", &[&[site(1).into()], &[METADATA.into()]], 1);
    let names = ["metadata.example", "intranet.example"];
    let named = names.iter().map(|name| format!("tcp {name} 9003"));
    let asked = names.iter().flat_map(|it| [format!("name {it}"), format!("name6 {it}")]);
    connections.chain(datagrams).chain(named).chain(asked).collect()
}

#[test]
fn nothing_near_is_reached_by_address_or_by_name() {
    needs!("python3");
    in_world(|world| {
        let _services = [9003, 80].map(|port| TcpListener::bind(("::", port)).expect("bind"));
        let datagrams = UdpSocket::bind(("::", 7)).expect("bind");
        datagrams.set_nonblocking(true).expect("set a socket");
        let sandbox = world.create(&json!("open"));
        let other = world.create(&json!("open"));
        let address = other.root(
            "hostname -I; python3 -c 'import sys; [print(\":\".join(it[place:place + 4] for place in \
             range(0, 32, 4))) for it in open(\"/proc/net/if_inet6\")]'",
        );
        let addresses: Vec<&str> = address
            .split_whitespace()
            .filter(|word| word.starts_with("10.") || word.starts_with("fd57:"))
            .collect();
        assert!(addresses.len() >= 2, "of both families: {address}");
        let mut attempts = never(world);
        attempts.extend(addresses.iter().map(|address| format!("tcp {address} 9003")));
        attempts.extend(addresses.iter().map(|address| format!("udp {address} 7")));
        attempts.push(format!("web {HOST} 80 host.example"));
        let expected: Vec<_> = attempts.iter().map(|attempt| (attempt.as_str(), false)).collect();
        sandbox.expect(&expected);
        let arrived = datagrams.recv_from(&mut [0; 64]).map(|(_, from)| from);
        assert!(arrived.is_err(), "a datagram has come to the host: {arrived:?}");
        // The way there is open: it is the sandbox that may not go it.
        let six = [PRIVATE_6, METADATA_6, ROUTER_6, site_6(1)].map(IpAddr::V6);
        let four = [PRIVATE[0], PRIVATE[1], METADATA, ROUTER].map(IpAddr::V4);
        for address in four.into_iter().chain(six) {
            let patience = Duration::from_secs(10);
            std::net::TcpStream::connect_timeout(&(address, 9003).into(), patience)
                .unwrap_or_else(|error| panic!("the host reaches {address}: {error}"));
        }
    });
}

#[test]
fn a_name_that_is_bound_anew_leads_nowhere_near() {
    needs!("python3");
    in_world(|world| {
        let turns: [&[_]; 2] = [&[site(1).into()], &[METADATA.into()]];
        world.internet.zone().in_turn("turning.example", &turns, 1);
        let sandbox = world.create(&json!("open"));
        sandbox.expect(&[("tcp turning.example 9003", true)]);
        // Answers live for a second: some time the second one comes.
        crate::harness::wait_until("the name stands for something else", || {
            sandbox.attempts(&["name turning.example"]) != ["203.0.113.1"]
        });
        sandbox.expect(&[("tcp turning.example 9003", false)]);
    });
}

#[test]
fn a_sandbox_is_not_reached_from_the_internet() {
    needs!("python3");
    in_world(|world| {
        let sandbox = world.create(&json!("open"));
        sandbox.root(
            "python3 -c 'import http.server as h; h.HTTPServer((\"\", 8000), \
             h.SimpleHTTPRequestHandler).serve_forever()' >/dev/null 2>&1 & \
             for i in $(seq 100); do grep -q :1F40 /proc/net/tcp && exit; sleep 0.1; done; exit 1",
        );
        sandbox.expect(&[("tcp 127.0.0.1 8000", true)]);
        let address = sandbox.root("hostname -I 2>/dev/null || true");
        let Some(address) = address.split_whitespace().find(|word| word.starts_with("10.")) else {
            crate::harness::skip!("the sandbox does not say which address it has");
        };
        let address: Ipv4Addr = address.parse().expect("an address");
        let patience = Duration::from_millis(500);
        let connect = || std::net::TcpStream::connect_timeout(&(address, 8000).into(), patience);
        world.internet.as_stranger(|| connect().unwrap_err()).expect("enter the internet");
        connect().unwrap_err();
    });
}
