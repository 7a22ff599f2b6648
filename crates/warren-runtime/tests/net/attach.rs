//! Making and removing the network of a sandbox.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt},
    thread::{CapabilitySet, CapabilitySets, Gid, Uid},
};
use tokio::io::AsyncWriteExt as _;
use warren_runtime::net::{Net, NetConfig, interface_name};
use warren_sys::netlink::{Socket, nftables, route};

use crate::lab::{PATIENCE, PUBLIC, config, in_lab, inside, link_names, runtime_here};

#[test]
fn attach_makes_a_namespace_and_detach_leaves_nothing() {
    in_lab(|_lab| {
        let before = link_names();
        let net = Net::open(config("a", 3)).unwrap();
        let attached = net.attach(7).unwrap();
        assert_eq!(attached.address, net.subnet().guest(7).unwrap());
        assert_eq!(attached.interface, "wrn7");
        assert!(link_names().contains(&"wrn7".to_owned()));
        let inner = inside(&attached.netns, || {
            let mut socket = Socket::route().unwrap();
            (link_names(), route::addresses(&mut socket).unwrap())
        });
        assert_eq!(inner.0, ["lo", "eth0"]);
        let addresses: Vec<_> = inner.1.iter().map(|it| (it.address, it.prefix)).collect();
        assert_eq!(addresses, [(Ipv4Addr::LOCALHOST, 8), (attached.address, 32)]);

        net.detach(7).unwrap();
        net.detach(7).unwrap();
        net.detach_all(&[7, 8]).unwrap();
        assert_eq!(link_names(), before);
        net.close().unwrap();
        let mut socket = Socket::route().unwrap();
        let gateways = route::addresses(&mut socket).unwrap();
        assert!(!gateways.iter().any(|it| it.address.octets().starts_with(&[10])), "{gateways:?}");
        let tables = nftables::tables(&mut Socket::netfilter().unwrap()).unwrap();
        assert_eq!(tables, Vec::<String>::new());
    });
}

#[test]
fn not_even_the_first_packet_is_lost() {
    in_lab(|_lab| {
        let net = Net::open(config("a", 0)).unwrap();
        let gateway = net.gateway();
        let server = UdpSocket::bind((gateway, 53)).unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        for slot in 0..20 {
            let attached = net.attach(slot).unwrap();
            let client = inside(&attached.netns, || {
                let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                client.send_to(b"first", (gateway, 53)).unwrap();
                client
            });
            let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(from.ip(), attached.address);
            server.send_to(b"answer", from).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(client.recv(&mut [0; 16]).unwrap(), 6);
        }
    });
}

#[test]
fn a_slot_can_be_used_again_at_once() {
    in_lab(|_lab| {
        let net = Net::open(config("a", 0)).unwrap();
        let first = net.attach(1).unwrap();
        let second = net.attach(1).unwrap();
        assert_eq!(first.address, second.address);
        assert_eq!(inside(&first.netns, link_names), ["lo"], "the first has lost its interface");
        assert_eq!(inside(&second.netns, link_names), ["lo", "eth0"]);
    });
}

#[test]
fn the_hosts_end_is_strict_whatever_the_defaults_are() {
    in_lab(|_lab| {
        std::fs::write("/proc/sys/net/ipv4/conf/default/accept_redirects", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/default/rp_filter", "0").unwrap();
        let net = Net::open(config("a", 0)).unwrap();
        let _attached = net.attach(1).unwrap();
        let setting = |family: &str, name: &str| {
            let path = format!("/proc/sys/net/{family}/conf/wrn1/{name}");
            std::fs::read_to_string(path).unwrap().trim().to_owned()
        };
        assert_eq!(setting("ipv4", "forwarding"), "1");
        assert_eq!(setting("ipv4", "rp_filter"), "1");
        assert_eq!(setting("ipv4", "accept_redirects"), "0");
        assert_eq!(setting("ipv4", "send_redirects"), "0");
        assert_eq!(setting("ipv6", "disable_ipv6"), "1");
        let link = route::link(&mut Socket::route().unwrap(), "wrn1").unwrap().unwrap();
        assert_eq!(link.alias.as_deref(), Some("warren a slot 1"));
    });
}

#[test]
fn reconcile_removes_what_is_not_live_and_spares_other_instances() {
    in_lab(|_lab| {
        let other = Net::open(config("other", 1)).unwrap();
        let _theirs = other.attach(50).unwrap();
        let held: Vec<_> = {
            let before_the_crash = Net::open(config("a", 0)).unwrap();
            (0..5).map(|slot| before_the_crash.attach(slot).unwrap()).collect()
        };
        let net = Net::open(config("a", 0)).unwrap();
        assert_eq!(net.subnet(), other.subnet());
        let mut removed = net.reconcile(&[1, 3]).unwrap();
        removed.sort_unstable();
        assert_eq!(removed, [0, 2, 4]);
        let mut left: Vec<_> = link_names();
        left.retain(|name| name.starts_with("wrn"));
        left.sort();
        assert_eq!(left, ["wrn1", "wrn3", "wrn50"]);
        let address = inside(&held[1].netns, || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.connect((PUBLIC, 9)).unwrap();
            socket.local_addr().unwrap().ip()
        });
        assert_eq!(address, held[1].address, "the live one keeps its way out");
    });
}

#[test]
fn rules_that_were_flushed_come_back_and_closing_is_no_flush() {
    in_lab(|_lab| {
        let net = Net::open(config("a", 0)).unwrap();
        assert!(!net.ensure_rules().unwrap());
        let mut socket = Socket::netfilter().unwrap();
        let mut events = Socket::netfilter().unwrap();
        events.subscribe(nftables::EVENTS).unwrap();
        let mut flush = nftables::Batch::new("warren-a");
        flush.delete_table();
        flush.apply(&mut socket, "flush").unwrap();
        // One event is the removal; the answer to it is another.
        while nftables::tables(&mut socket).unwrap().is_empty() {
            assert!(events.wait(PATIENCE).unwrap(), "nobody put the rules back");
        }
        net.close().unwrap();
        assert!(!net.ensure_rules().unwrap());
        assert!(nftables::tables(&mut socket).unwrap().is_empty());
    });
}

#[test]
fn an_instance_must_have_a_name_and_a_place() {
    for (instance, index) in [("", 0), ("A", 0), ("a b", 0), ("a", 254)] {
        let config = NetConfig { instance: instance.to_owned(), index, ..NetConfig::default() };
        let error = Net::open(config).unwrap_err();
        assert!(error.to_string().starts_with("not an instance"), "{error}");
    }
}

#[test]
fn an_isolated_namespace_has_loopback_alone() {
    in_lab(|_lab| {
        let net = Net::open(config("a", 0)).unwrap();
        let namespace = net.isolated().unwrap();
        let (names, bound, reached) = inside(&namespace, || {
            let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 80)).map(|_listener| ());
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            (link_names(), bound, socket.connect((PUBLIC, 9)))
        });
        assert_eq!(names, ["lo"]);
        bound.unwrap();
        assert_eq!(reached.unwrap_err().kind(), std::io::ErrorKind::NetworkUnreachable);
    });
}

#[test]
fn anyone_inside_may_bind_low_ports_and_ping_and_nobody_may_change_addresses() {
    in_lab(|_lab| {
        let net = Net::open(config("a", 0)).unwrap();
        let attached = net.attach(0).unwrap();
        let other = attached.address;
        inside(&attached.netns, move || {
            become_nobody();
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap();
            let flags = SocketFlags::CLOEXEC;
            let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
            let ping = rustix::net::socket_with(family, kind, flags, Some(ipproto::ICMP)).unwrap();
            sockopt::set_socket_timeout(&ping, sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
            rustix::net::connect(&ping, &std::net::SocketAddrV4::new(PUBLIC, 0)).unwrap();
            let echo_request = [8, 0, 0, 0, 0, 0, 0, 1, b'h', b'i'];
            rustix::net::send(&ping, &echo_request, rustix::net::SendFlags::empty()).unwrap();
            let mut answer = [0; 64];
            let flags = rustix::net::RecvFlags::empty();
            let (_, length) = rustix::net::recv(&ping, &mut answer, flags).unwrap();
            assert_eq!((answer[0], &answer[8..length]), (0, &b"hi"[..]), "an echo reply");

            let raw = rustix::net::socket_with(
                family,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                Some(ipproto::UDP),
            );
            assert_eq!(raw.unwrap_err(), rustix::io::Errno::PERM);
            let spoof = route::add_address(2, other, 24, None);
            let refused = Socket::route().unwrap().transact("take an address", &mut [spoof]);
            assert_eq!(refused.unwrap_err().errno(), Some(rustix::io::Errno::PERM.raw_os_error()));
        });
    });
}

/// Takes every power from the calling thread, and root's id too where there is another.
fn become_nobody() {
    let nobody = 65_534;
    let (uid, gid) = (Uid::from_raw(nobody), Gid::from_raw(nobody));
    let changed = rustix::thread::set_thread_groups(&[])
        .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
        .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid));
    if let Err(error) = changed {
        println!("under one id only: {error}");
    }
    let nothing = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, nothing).unwrap();
}

#[test]
fn dial_reaches_loopback_ports_of_the_sandbox() {
    in_lab(|_lab| {
        let net = Net::open(config("a", 0)).unwrap();
        let attached = net.attach(0).unwrap();
        let (four, six) = inside(&attached.netns, || {
            let four = TcpListener::bind("127.0.0.1:3000").unwrap();
            (four, TcpListener::bind("[::1]:3001").unwrap())
        });
        let runtime = runtime_here();
        let dial = |port| {
            let sockets = net.dialling(attached.netns.as_fd()).unwrap();
            runtime.block_on(sockets.connect(port))
        };
        for (listener, port) in [(four, 3000), (six, 3001)] {
            let mut stream = dial(port).unwrap();
            runtime.block_on(stream.write_all(b"hello")).unwrap();
            drop(stream);
            let (mut accepted, _) = listener.accept().unwrap();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut accepted, &mut text).unwrap();
            assert_eq!(text, "hello");
        }
        let error = dial(3002).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("refused"), "{source}");
    });
}

#[test]
fn attaching_many_at_once_works_and_its_time_is_printed() {
    in_lab(|_lab| {
        const ROUNDS: u32 = 50;
        let net = Net::open(config("a", 0)).unwrap();
        let time = |work: &mut dyn FnMut(u32)| -> Vec<Duration> {
            let mut times: Vec<_> = (0..ROUNDS)
                .map(|slot| {
                    let start = Instant::now();
                    work(slot);
                    start.elapsed()
                })
                .collect();
            times.sort();
            times
        };
        let mut kept = Vec::new();
        let attach = time(&mut |slot| kept.push(net.attach(slot).unwrap()));
        let detach = time(&mut |slot| net.detach(slot).unwrap());
        let isolated = time(&mut |_| drop(net.isolated().unwrap()));
        for (name, times) in [("attach", attach), ("detach", detach), ("isolated", isolated)] {
            eprintln!("{name}: p50 {:?}, p98 {:?}", times[times.len() / 2], times[times.len() - 2]);
        }
        drop(kept);

        let start = Instant::now();
        let parallel: Vec<_> = std::thread::scope(|scope| {
            let net = &net;
            let threads: Vec<_> =
                (100..200).map(|slot| scope.spawn(move || net.attach(slot).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        eprintln!("100 attached by 100 threads: {:?}", start.elapsed());
        assert_eq!(parallel.len(), 100);
        for (slot, attached) in (100..).zip(&parallel) {
            assert_eq!(attached.interface, interface_name(slot));
        }
        let start = Instant::now();
        assert_eq!(net.reconcile(&[]).unwrap().len(), 100);
        eprintln!("100 removed by reconcile: {:?}", start.elapsed());
    });
}
