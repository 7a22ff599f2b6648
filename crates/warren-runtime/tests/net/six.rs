//! IPv6: what there is, what holds for it, and how it comes and goes with the host's.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use warren_core::{egress::Protocol, spec::Network};
use warren_runtime::net::{Attached, Net, NetConfig, policy::Policy};
use warren_sys::netlink::{Socket, nflog, route};

use crate::lab::{
    HOST_6, METADATA_6, OTHER_6, PATIENCE, PORT, PRIVATE_6, PUBLIC, PUBLIC_6, ROUTER_6, SILENCE,
    ask_tcp, ask_udp, config, in_lab, inside, serve,
};

fn set(net: &Net, slot: u32, sandbox: &Attached, rules: &str) {
    let egress = rules.replace("; ", "\n").parse().unwrap();
    let policy = Policy::of(&Network::Rules(Arc::new(egress))).unwrap();
    net.set_policy(slot, policy, sandbox.netns.as_fd()).unwrap();
}

fn reaches(sandbox: &Attached, address: Ipv6Addr) -> (bool, bool) {
    inside(&sandbox.netns, || {
        (ask_tcp(address, PATIENCE).is_ok(), ask_udp(address, SILENCE).is_ok())
    })
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::yield_now();
    }
}

#[test]
fn a_sandbox_reaches_public_addresses_under_the_hosts() {
    in_lab(|lab| {
        lab.add_six();
        lab.serve();
        let net = Net::open(config("a", 0)).unwrap();
        assert!(net.has_six());
        let sandbox = net.attach(0).unwrap();
        assert_eq!(sandbox.address_6.unwrap().segments()[0], 0xfd57);
        let (tcp, udp, four) = inside(&sandbox.netns, || {
            (ask_tcp(PUBLIC_6, PATIENCE), ask_udp(PUBLIC_6, PATIENCE), ask_tcp(PUBLIC, PATIENCE))
        });
        assert_eq!(tcp.unwrap(), HOST_6.to_string());
        assert_eq!(udp.unwrap(), HOST_6.to_string());
        four.unwrap();
        net.close().unwrap();
        let left = route::addresses_6(&mut Socket::route().unwrap()).unwrap();
        assert!(!left.iter().any(|it| it.address == net.gateway_6()), "{left:?}");
    });
}

#[test]
fn what_is_near_is_refused_at_once() {
    in_lab(|lab| {
        lab.add_six();
        lab.serve();
        let net = Net::open(config("a", 0)).unwrap();
        let sandbox = net.attach(0).unwrap();
        serve();
        for address in [PRIVATE_6, METADATA_6, ROUTER_6] {
            assert!(ask_tcp(address, PATIENCE).is_ok(), "the host itself gets to {address}");
        }
        let nat64 = "64:ff9b::c0a8:4d05".parse().unwrap();
        let mapped = "2002:c0a8:4d05::1".parse().unwrap();
        for rules in ["otherwise allow", "allow *", "allow ::/0"] {
            set(&net, 0, &sandbox, rules);
            for address in [PRIVATE_6, METADATA_6, ROUTER_6, HOST_6, net.gateway_6(), nat64, mapped]
            {
                // The kernel does not send errors for datagrams as fast as this asks for them.
                let (tcp, udp) = inside(&sandbox.netns, || {
                    (ask_tcp(address, PATIENCE), ask_udp(address, SILENCE))
                });
                assert_eq!(tcp.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{address}");
                udp.unwrap_err();
            }
            assert_eq!(reaches(&sandbox, PUBLIC_6), (true, true), "{rules}");
        }
    });
}

#[test]
fn what_the_operator_allows_is_reached_and_its_neighbour_is_not() {
    in_lab(|lab| {
        lab.add_six();
        lab.serve();
        let allow = ["fd00:77::/64", "2001:db8:ff::1"].map(|it| it.parse().unwrap()).to_vec();
        let net = Net::open(NetConfig { allow, ..config("a", 0) }).unwrap();
        let sandbox = net.attach(0).unwrap();
        assert_eq!(reaches(&sandbox, PRIVATE_6), (true, true));
        assert_eq!(reaches(&sandbox, ROUTER_6), (true, true));
        assert_eq!(reaches(&sandbox, METADATA_6), (false, false));
        assert_eq!(reaches(&sandbox, HOST_6), (false, false));
        set(&net, 0, &sandbox, "allow 2001:db8:1::5");
        assert_eq!(reaches(&sandbox, PRIVATE_6), (false, false), "rules decide still");
    });
}

#[test]
fn sandboxes_reach_neither_each_other_nor_are_they_reached() {
    in_lab(|lab| {
        lab.add_six();
        let first = Net::open(config("a", 0)).unwrap();
        let second = Net::open(config("b", 1)).unwrap();
        let sandboxes =
            [first.attach(0).unwrap(), first.attach(1).unwrap(), second.attach(2).unwrap()];
        for sandbox in &sandboxes {
            inside(&sandbox.netns, serve);
        }
        for from in &sandboxes {
            let own = from.address_6.unwrap();
            assert_eq!(reaches(from, own), (true, true), "each reaches itself");
            for to in sandboxes.iter().filter_map(|to| to.address_6).filter(|to| *to != own) {
                assert_eq!(reaches(from, to), (false, false), "{from:?} to {to}");
            }
            let others = || (ask_tcp(own, SILENCE).is_ok(), ask_udp(own, SILENCE).is_ok());
            assert_eq!(inside(&lab.internet, others), (false, false), "from outside");
            assert_eq!(others(), (false, false), "from the host");
        }
    });
}

#[test]
fn a_source_that_is_not_its_own_goes_nowhere() {
    in_lab(|lab| {
        lab.add_six();
        lab.serve();
        let net = Net::open(config("a", 0)).unwrap();
        let (honest, forger) = (net.attach(0).unwrap(), net.attach(1).unwrap());
        let foreign = [honest.address_6.unwrap(), "2001:db8:1::77".parse().unwrap(), HOST_6];
        // What root inside cannot do, the test does.
        inside(&forger.netns, || {
            let mut socket = Socket::route().unwrap();
            for address in foreign {
                let take = route::add_address(2, address, 128, None);
                socket.transact("take an address", &mut [take]).unwrap();
                let forged = UdpSocket::bind((address, 0)).unwrap();
                forged.set_read_timeout(Some(SILENCE)).unwrap();
                forged.send_to(b"forged", (PUBLIC_6, PORT)).unwrap();
                forged.recv_from(&mut [0; 64]).unwrap_err();
            }
            let genuine = UdpSocket::bind((forger.address_6.unwrap(), 0)).unwrap();
            genuine.set_read_timeout(Some(PATIENCE)).unwrap();
            genuine.send_to(b"genuine", (PUBLIC_6, PORT)).unwrap();
            genuine.recv_from(&mut [0; 64]).unwrap();
        });
    });
}

#[test]
fn rules_decide_by_address_port_and_protocol() {
    in_lab(|lab| {
        lab.add_six();
        lab.serve();
        let net = Net::open(config("a", 0)).unwrap();
        let sandbox = net.attach(0).unwrap();
        let check = |rules: &str, public: (bool, bool), other: (bool, bool)| {
            set(&net, 0, &sandbox, rules);
            assert_eq!(reaches(&sandbox, PUBLIC_6), public, "{rules}: {PUBLIC_6}");
            assert_eq!(reaches(&sandbox, OTHER_6), other, "{rules}: {OTHER_6}");
        };
        let (yes, no) = ((true, true), (false, false));
        check("otherwise allow", yes, yes);
        check("otherwise deny", no, no);
        check("allow 2001:db8:1::5; otherwise deny", yes, no);
        check("deny 2001:db8:1::5; otherwise allow", no, yes);
        check("allow 2001:db8:1::/48; deny *; otherwise allow", yes, yes);
        check("deny 2001:db8:1::6; allow 2001:db8:1::/48", yes, no);
        check("allow 203.0.113.0/24", no, no);
        check("allow tcp://*:8080", (true, false), (true, false));
        check("allow udp://[2001:db8:1::5]:8000-9000", (false, true), no);
        net.set_policy(0, None, sandbox.netns.as_fd()).unwrap();
        assert_eq!(reaches(&sandbox, PUBLIC_6), yes);
        // In pieces, of which the first alone has the port.
        let large = |port: u16| {
            inside(&sandbox.netns, || {
                let socket = UdpSocket::bind("[::]:0").unwrap();
                socket.set_read_timeout(Some(SILENCE)).unwrap();
                socket.connect((PUBLIC_6, port)).unwrap();
                socket.send(&[7; 6000]).unwrap();
                socket.recv(&mut [0; 64]).is_ok()
            })
        };
        set(&net, 0, &sandbox, "allow udp://*:8080");
        assert!(large(PORT));
        set(&net, 0, &sandbox, "allow udp://*:8081");
        assert!(!large(PORT));
    });
}

#[test]
fn it_comes_and_goes_with_the_hosts() {
    in_lab(|lab| {
        let net = Net::open(config("a", 0)).unwrap();
        assert!(!net.has_six());
        let before = net.attach(0).unwrap();
        assert_eq!(before.address_6, None);
        lab.add_six();
        lab.serve();
        wait_until("the host's way out is noticed", || net.has_six());
        let sandbox = net.attach(1).unwrap();
        assert_eq!(reaches(&sandbox, PUBLIC_6), (true, true));
        assert_eq!(reaches(&sandbox, ROUTER_6), (false, false), "so is what is on its wire");
        let started = Instant::now();
        inside(&before.netns, || ask_tcp(PUBLIC_6, PATIENCE)).unwrap_err();
        assert!(started.elapsed() < PATIENCE, "one that was made without does not wait");
        lab.remove_six();
        wait_until("its end is noticed", || !net.has_six());
        let started = Instant::now();
        inside(&sandbox.netns, || ask_tcp(PUBLIC_6, PATIENCE)).unwrap_err();
        assert!(started.elapsed() < PATIENCE, "one that was made with it does not wait");
        assert_eq!(net.attach(2).unwrap().address_6, None);
    });
}

#[test]
fn an_operator_may_do_without() {
    in_lab(|lab| {
        lab.add_six();
        lab.serve();
        let net = Net::open(NetConfig { without_six: true, ..config("a", 0) }).unwrap();
        let sandbox = net.attach(0).unwrap();
        assert_eq!((net.has_six(), sandbox.address_6), (false, None));
        assert_eq!(reaches(&sandbox, PUBLIC_6), (false, false));
    });
}

#[test]
fn connections_there_go_on_over_a_change_and_a_restart() {
    in_lab(|lab| {
        lab.add_six();
        lab.serve();
        let first = Net::open(config("a", 0)).unwrap();
        let sandbox = first.attach(0).unwrap();
        set(&first, 0, &sandbox, "allow 2001:db8:1::5");
        drop(first);
        assert_eq!(reaches(&sandbox, PUBLIC_6), (true, true), "no server runs");
        let second = Net::open(config("a", 0)).unwrap();
        assert_eq!(reaches(&sandbox, PUBLIC_6), (true, true));
        assert_eq!(second.attach(1).unwrap().address_6.unwrap().segments()[0], 0xfd57);
    });
}

#[test]
fn what_is_denied_is_told_though_others_listen_where_we_would() {
    in_lab(|lab| {
        lab.add_six();
        lab.serve();
        // Another program has the group that the first instance would take, and the next one.
        let mut others = [Socket::netfilter().unwrap(), Socket::netfilter().unwrap()];
        for (socket, group) in others.iter_mut().zip([30_580, 30_581]) {
            nflog::bind(socket, group, 64).unwrap();
        }
        let nets = [Net::open(config("a", 0)).unwrap(), Net::open(config("b", 1)).unwrap()];
        for (net, slot) in nets.iter().zip([4, 5]) {
            let (tell, told) = mpsc::channel();
            net.policies().on_denied(move |slot, denial| drop(tell.send((slot, denial))));
            let sandbox = net.attach(slot).unwrap();
            set(net, slot, &sandbox, "allow 203.0.113.0/24");
            let to: SocketAddr = (PUBLIC_6, PORT).into();
            inside(&sandbox.netns, || TcpStream::connect_timeout(&to, PATIENCE)).unwrap_err();
            let (whose, denial) = told.recv_timeout(PATIENCE).unwrap();
            assert_eq!(whose, slot);
            assert_eq!(denial.to.address, Some(IpAddr::V6(PUBLIC_6)));
            assert_eq!((denial.to.protocol, denial.to.port), (Protocol::Tcp, Some(PORT)));
        }
    });
}
