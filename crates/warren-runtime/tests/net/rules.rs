//! Rules of sandboxes: what they allow, what they deny, and how they change.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use warren_core::{egress::Protocol, runtime::Denial, spec::Network};
use warren_runtime::net::{
    Attached, Net, NetConfig,
    credentials::Needs,
    policy::{Before, Policy},
};
use warren_sys::netlink::{Socket, nftables::Batch};

use crate::lab::{
    HOST, METADATA, PATIENCE, PORT, PRIVATE, PUBLIC, SILENCE, ask_tcp, ask_udp, config, in_lab,
    inside, link_names, serve_echo,
};

/// Another address of the Internet.
const OTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 6);

fn policy(text: &str) -> Policy {
    let egress = text.replace("; ", "\n").parse().unwrap();
    Policy::of(&Network::Rules(Arc::new(egress))).unwrap().unwrap()
}

fn set(net: &Net, slot: u32, sandbox: &Attached, text: &str) {
    net.set_policy(slot, Some(policy(text)), sandbox.netns.as_fd()).unwrap();
}

fn reaches(sandbox: &Attached, address: Ipv4Addr) -> (bool, bool) {
    inside(&sandbox.netns, || {
        (ask_tcp(address, PATIENCE).is_ok(), ask_udp(address, SILENCE).is_ok())
    })
}

/// A connection of a sandbox to the server that repeats what it is told.
fn talk(sandbox: &Attached, address: Ipv4Addr, port: u16) -> TcpStream {
    inside(&sandbox.netns, || {
        let stream = TcpStream::connect_timeout(&(address, port).into(), PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    })
}

fn echoes(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut answer).is_ok()
}

#[test]
fn rules_decide_by_address_port_and_protocol() {
    in_lab(|lab| {
        lab.add_address(OTHER);
        lab.serve();
        let net = Net::open(config("a", 0)).unwrap();
        let sandbox = net.attach(0).unwrap();
        let check = |rules: &str, public: (bool, bool), other: (bool, bool)| {
            set(&net, 0, &sandbox, rules);
            assert_eq!(reaches(&sandbox, PUBLIC), public, "{rules}: {PUBLIC}");
            assert_eq!(reaches(&sandbox, OTHER), other, "{rules}: {OTHER}");
        };
        let (yes, no) = ((true, true), (false, false));
        check("otherwise allow", yes, yes);
        check("otherwise deny", no, no);
        check("allow 203.0.113.5; otherwise deny", yes, no);
        check("deny 203.0.113.5; otherwise allow", no, yes);
        check("allow 203.0.113.0/24; deny *; otherwise allow", yes, yes);
        check("deny 203.0.113.6; allow 203.0.113.0/24", yes, no);
        check("allow tcp://*:8080", (true, false), (true, false));
        check("allow udp://203.0.113.5:8000-9000", (false, true), no);
        check("allow *:80,443", no, no);
        check("allow *:1-8079,8081-65535", no, no);
        check("allow icmp://*", no, no);
        net.set_policy(0, None, sandbox.netns.as_fd()).unwrap();
        assert_eq!(reaches(&sandbox, PUBLIC), yes);
    });
}

#[test]
fn what_is_denied_is_refused_at_once_and_told() {
    in_lab(|lab| {
        lab.serve();
        let net = Net::open(config("a", 0)).unwrap();
        let (tell, told) = mpsc::channel();
        net.policies().on_denied(move |slot, denial| tell.send((slot, denial)).unwrap());
        let sandbox = net.attach(3).unwrap();
        set(&net, 3, &sandbox, "deny 203.0.113.0/24; otherwise allow");
        let started = Instant::now();
        let refused = inside(&sandbox.netns, || ask_tcp(PUBLIC, PATIENCE)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(started.elapsed() < PATIENCE);
        let (slot, Denial { to, rule, enforced, .. }) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!((slot, rule, enforced), (3, Some(0), true));
        assert_eq!((to.address, to.port), (Some(IpAddr::V4(PUBLIC)), Some(PORT)));
        assert_eq!(to.protocol, Protocol::Tcp);
        inside(&sandbox.netns, || ask_tcp(METADATA, PATIENCE)).unwrap_err();
        let (_, denial) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(denial.to.address, Some(IpAddr::V4(METADATA)));
        let traffic = net.traffic(3).unwrap().unwrap();
        assert!(traffic.denied >= 1 && traffic.sent_packets >= 2, "{traffic:?}");
        assert_eq!(traffic.connections, 0);
    });
}

#[test]
fn no_rule_opens_the_host_private_addresses_or_other_sandboxes() {
    in_lab(|lab| {
        lab.serve();
        crate::lab::serve();
        let net = Net::open(config("a", 0)).unwrap();
        let (sandbox, other) = (net.attach(0).unwrap(), net.attach(1).unwrap());
        inside(&other.netns, crate::lab::serve);
        for rules in ["allow *; otherwise allow", "allow 0.0.0.0/0", "mode learn", "mode dry_run"] {
            set(&net, 0, &sandbox, rules);
            for address in [PRIVATE, METADATA, HOST, net.gateway(), other.address] {
                assert_eq!(reaches(&sandbox, address), (false, false), "{rules}: {address}");
            }
            assert_eq!(reaches(&sandbox, PUBLIC), (true, true), "{rules}");
        }
    });
}

#[test]
fn what_the_operator_allows_is_still_for_rules_to_allow() {
    in_lab(|lab| {
        lab.serve();
        let allow = vec!["192.168.77.0/24".parse().unwrap()];
        let net = Net::open(NetConfig { allow, ..config("a", 0) }).unwrap();
        let sandbox = net.attach(0).unwrap();
        assert_eq!(reaches(&sandbox, PRIVATE), (true, true));
        set(&net, 0, &sandbox, "allow 203.0.113.5");
        assert_eq!(reaches(&sandbox, PRIVATE), (false, false));
        set(&net, 0, &sandbox, "allow 192.168.77.5");
        assert_eq!(reaches(&sandbox, PRIVATE), (true, true));
    });
}

#[test]
fn a_change_spares_what_is_allowed_and_cuts_what_is_not() {
    in_lab(|lab| {
        inside(&lab.internet, || serve_echo(7));
        lab.add_address(OTHER);
        let net = Net::open(config("a", 0)).unwrap();
        let sandbox = net.attach(0).unwrap();
        let mut allowed = talk(&sandbox, PUBLIC, 7);
        let mut forbidden = talk(&sandbox, OTHER, 7);
        let rules = policy("allow 203.0.113.5; otherwise deny");
        let started = Instant::now();
        net.set_policy(0, Some(rules), sandbox.netns.as_fd()).unwrap();
        println!("a change took {:?}", started.elapsed());
        assert!(echoes(&mut allowed), "open before, allowed now");
        assert!(!echoes(&mut forbidden), "open before, forbidden now");
        // And from rules to rules, without a gap for what both allow.
        for turn in 0..20 {
            set(&net, 0, &sandbox, &format!("allow 203.0.113.0/24:{}; allow *:7", 1000 + turn));
            assert!(echoes(&mut allowed), "turn {turn}");
        }
        set(&net, 0, &sandbox, "otherwise deny");
        assert!(!echoes(&mut allowed));
    });
}

#[test]
fn rules_hold_over_a_restart_and_come_back_when_somebody_removes_them() {
    in_lab(|lab| {
        lab.serve();
        inside(&lab.internet, || serve_echo(7));
        let first = Net::open(config("a", 0)).unwrap();
        let sandbox = first.attach(0).unwrap();
        let rules = policy("allow 203.0.113.5:7; otherwise deny");
        first.set_policy(0, Some(rules.clone()), sandbox.netns.as_fd()).unwrap();
        let mut stream = talk(&sandbox, PUBLIC, 7);
        drop(first);
        assert_eq!(reaches(&sandbox, PUBLIC), (false, false), "no server runs");

        let policy = Some(rules.clone());
        let before = vec![Before { slot: 0, policy, needs: Needs::default() }];
        let second = Net::open(NetConfig { before, ..config("a", 0) }).unwrap();
        assert_eq!(second.policies().policy(0), Some(rules));
        assert_eq!(reaches(&sandbox, PUBLIC), (false, false));
        assert!(echoes(&mut stream), "what was allowed goes on");

        let mut batch = Batch::new("warren-a");
        batch.create_table().delete_table();
        batch.apply(&mut Socket::netfilter().unwrap(), "remove the table").unwrap();
        second.ensure_rules().unwrap();
        assert_eq!(reaches(&sandbox, PUBLIC), (false, false));
        assert!(echoes(&mut stream));
    });
}

#[test]
fn the_next_sandbox_of_a_slot_has_none_of_the_last_ones_rules() {
    in_lab(|lab| {
        lab.serve();
        let net = Net::open(config("a", 0)).unwrap();
        let sandbox = net.attach(0).unwrap();
        set(&net, 0, &sandbox, "otherwise deny");
        net.detach(0).unwrap();
        assert!(!link_names().contains(&"wrn0".to_owned()));
        assert_eq!(net.policies().policy(0), None);
        let next = net.attach(0).unwrap();
        assert_eq!(reaches(&next, PUBLIC), (true, true));
        set(&net, 0, &next, "otherwise deny");
        assert_eq!(reaches(&next, PUBLIC), (false, false));
    });
}

#[test]
fn pieces_of_packets_do_not_slip_through() {
    in_lab(|lab| {
        lab.serve();
        let net = Net::open(config("a", 0)).unwrap();
        let sandbox = net.attach(0).unwrap();
        let large = |port: u16| {
            inside(&sandbox.netns, || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.set_read_timeout(Some(SILENCE)).unwrap();
                socket.connect((PUBLIC, port)).unwrap();
                // Several pieces, of which the first alone has the port.
                socket.send(&[7; 6000]).unwrap();
                socket.recv(&mut [0; 64]).is_ok()
            })
        };
        set(&net, 0, &sandbox, "allow udp://203.0.113.5:8080");
        assert!(large(PORT));
        set(&net, 0, &sandbox, "allow udp://203.0.113.5:8081");
        assert!(!large(PORT));
    });
}

#[test]
fn a_dry_run_denies_nothing_and_tells_and_learning_notes() {
    in_lab(|lab| {
        lab.serve();
        let net = Net::open(config("a", 0)).unwrap();
        let (tell, told) = mpsc::channel();
        net.policies().on_denied(move |_, denial| tell.send(denial).unwrap());
        let sandbox = net.attach(0).unwrap();
        set(&net, 0, &sandbox, "mode dry_run; allow udp://*");
        assert_eq!(reaches(&sandbox, PUBLIC), (true, true));
        let denial = told.recv_timeout(PATIENCE).unwrap();
        assert!(!denial.enforced);
        assert_eq!((denial.to.protocol, denial.rule), (Protocol::Tcp, None));

        set(&net, 0, &sandbox, "mode learn");
        assert!(inside(&sandbox.netns, || ask_tcp(PUBLIC, PATIENCE)).is_ok());
        let deadline = Instant::now() + PATIENCE;
        let noted = || {
            let reached = net.policies().reached(0);
            reached.iter().any(|it| it.to.protocol == Protocol::Tcp && it.count >= 2)
        };
        while !noted() {
            assert!(Instant::now() < deadline, "{:?}", net.policies().reached(0));
            thread::yield_now();
        }
        assert!(net.traffic(0).unwrap().unwrap().connections >= 1);
    });
}

#[test]
fn a_limit_of_speed_is_nearly_reached_and_not_passed() {
    in_lab(|lab| {
        inside(&lab.internet, || serve_echo(7));
        let net = Net::open(config("a", 0)).unwrap();
        let sandbox = net.attach(0).unwrap();
        const RATE: u64 = 4 << 20;
        set(&net, 0, &sandbox, &format!("otherwise allow; up {RATE}"));
        let mut stream = talk(&sandbox, PUBLIC, 7);
        let mut reader = stream.try_clone().unwrap();
        let bytes = RATE as usize;
        let started = Instant::now();
        let sender = thread::spawn(move || {
            let chunk = [1; 32 << 10];
            for _ in 0..bytes / chunk.len() {
                stream.write_all(&chunk).unwrap();
            }
        });
        let mut buffer = vec![0; bytes];
        reader.read_exact(&mut buffer).unwrap();
        sender.join().unwrap();
        let took = started.elapsed();
        println!("{bytes} bytes at {RATE} bytes a second took {took:?}");
        assert!(took > Duration::from_millis(700), "faster than allowed: {took:?}");
        assert!(took < Duration::from_secs(5), "much slower than allowed: {took:?}");
        set(&net, 0, &sandbox, "otherwise allow");
        let mut stream = talk(&sandbox, PUBLIC, 7);
        assert!(echoes(&mut stream));
    });
}

#[test]
fn setting_rules_is_a_matter_of_fractions_of_a_millisecond() {
    in_lab(|_lab| {
        let net = Net::open(config("a", 0)).unwrap();
        let sandbox = net.attach(0).unwrap();
        let rules = "allow *.example:443; allow 192.0.2.0/24; deny *:25; allow tcp://*:80,443";
        let mut took: Vec<Duration> = (0..50)
            .map(|_| {
                let policy = policy(rules);
                let started = Instant::now();
                let netns = sandbox.netns.as_fd();
                net.set_policy(0, Some(policy), netns).unwrap();
                started.elapsed()
            })
            .collect();
        took.sort();
        println!("setting four rules: p50 {:?}, p90 {:?}", took[25], took[45]);
        assert_eq!(net.policies().policy(0).unwrap().egress.rules.len(), 4);
    });
}
