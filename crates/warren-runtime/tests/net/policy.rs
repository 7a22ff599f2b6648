//! Who reaches whom.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    time::Instant,
};

use warren_runtime::net::{Net, NetConfig};
use warren_sys::netlink::{Socket, route};

use crate::lab::{
    HOST, METADATA, PATIENCE, PORT, PRIVATE, PUBLIC, SILENCE, ask_tcp, ask_udp, config, in_lab,
    inside, serve,
};

#[test]
fn a_sandbox_reaches_public_addresses_under_the_hosts() {
    in_lab(|lab| {
        lab.serve();
        let net = Net::open(config("a", 0)).unwrap();
        let attached = net.attach(0).unwrap();
        let (tcp, udp) =
            inside(&attached.netns, || (ask_tcp(PUBLIC, PATIENCE), ask_udp(PUBLIC, PATIENCE)));
        assert_eq!(tcp.unwrap(), HOST.to_string());
        assert_eq!(udp.unwrap(), HOST.to_string());
    });
}

#[test]
fn private_addresses_metadata_and_the_host_are_refused_at_once() {
    in_lab(|lab| {
        lab.serve();
        serve();
        let net = Net::open(config("a", 0)).unwrap();
        let gateway = net.gateway();
        let attached = net.attach(0).unwrap();
        assert!(ask_tcp(PRIVATE, PATIENCE).is_ok(), "the host itself gets there");
        assert!(ask_tcp(METADATA, PATIENCE).is_ok(), "the host itself gets there");
        for address in [PRIVATE, METADATA, HOST, gateway] {
            let start = Instant::now();
            let (tcp, udp) = inside(&attached.netns, || {
                (ask_tcp(address, PATIENCE), ask_udp(address, PATIENCE))
            });
            assert_eq!(tcp.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{address} TCP");
            let udp = udp.unwrap_err();
            assert!(udp.kind() != ErrorKind::WouldBlock, "{address} UDP: {udp}");
            assert!(start.elapsed() < PATIENCE, "{address} hung");
        }
    });
}

#[test]
fn an_allowed_network_is_reached_and_its_neighbour_is_not() {
    in_lab(|lab| {
        lab.serve();
        let allow = vec!["192.168.77.0/24".parse().unwrap()];
        let net = Net::open(NetConfig { allow, ..config("a", 0) }).unwrap();
        let attached = net.attach(0).unwrap();
        let (private, metadata) =
            inside(&attached.netns, || (ask_tcp(PRIVATE, PATIENCE), ask_tcp(METADATA, PATIENCE)));
        assert_eq!(private.unwrap(), HOST.to_string());
        assert_eq!(metadata.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn sandboxes_do_not_reach_each_other_not_even_those_of_two_instances() {
    in_lab(|_lab| {
        let first = Net::open(config("a", 0)).unwrap();
        let second = Net::open(config("b", 1)).unwrap();
        let sandboxes =
            [first.attach(0).unwrap(), first.attach(1).unwrap(), second.attach(2).unwrap()];
        for sandbox in &sandboxes {
            inside(&sandbox.netns, serve);
            let own = inside(&sandbox.netns, || ask_tcp(sandbox.address, PATIENCE));
            assert_eq!(own.unwrap(), sandbox.address.to_string(), "each reaches itself");
        }
        for from in &sandboxes {
            for to in sandboxes.iter().filter(|to| to.address != from.address) {
                let (tcp, udp) = inside(&from.netns, || {
                    (ask_tcp(to.address, PATIENCE), ask_udp(to.address, SILENCE))
                });
                let refused = tcp.unwrap_err().kind();
                assert_eq!(refused, ErrorKind::ConnectionRefused, "{from:?} to {to:?}");
                udp.unwrap_err();
            }
        }
    });
}

#[test]
fn a_sandbox_is_not_reached_from_outside_or_by_the_hosts_users() {
    in_lab(|lab| {
        let net = Net::open(config("a", 0)).unwrap();
        let attached = net.attach(0).unwrap();
        inside(&attached.netns, serve);
        let address = attached.address;
        let (tcp, udp) =
            inside(&lab.internet, || (ask_tcp(address, SILENCE), ask_udp(address, SILENCE)));
        tcp.unwrap_err();
        udp.unwrap_err();
        ask_tcp(address, SILENCE).unwrap_err();
        ask_udp(address, SILENCE).unwrap_err();
    });
}

#[test]
fn two_instances_work_side_by_side_and_closing_one_spares_the_other() {
    in_lab(|lab| {
        lab.serve();
        let first = Net::open(config("a", 0)).unwrap();
        let second = Net::open(config("b", 1)).unwrap();
        assert_ne!(first.gateway(), second.gateway());
        let (one, two) = (first.attach(0).unwrap(), second.attach(1).unwrap());
        for sandbox in [&one, &two] {
            let answer = inside(&sandbox.netns, || ask_tcp(PUBLIC, PATIENCE));
            assert_eq!(answer.unwrap(), HOST.to_string());
        }
        let own = TcpListener::bind((second.gateway(), 53)).unwrap();
        let gateway = second.gateway();
        inside(&two.netns, || TcpStream::connect_timeout(&(gateway, 53).into(), PATIENCE)).unwrap();
        let foreign =
            inside(&one.netns, || TcpStream::connect_timeout(&(gateway, 53).into(), PATIENCE));
        assert_eq!(foreign.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        drop(own);
        first.close().unwrap();
        let answer = inside(&two.netns, || ask_tcp(PUBLIC, PATIENCE));
        assert_eq!(answer.unwrap(), HOST.to_string());
    });
}

#[test]
fn a_source_that_is_not_its_own_goes_nowhere_however_lax_the_host_is() {
    in_lab(|lab| {
        lab.serve();
        let net = Net::open(config("a", 0)).unwrap();
        let gateway = net.gateway();
        let (honest, forger) = (net.attach(0).unwrap(), net.attach(1).unwrap());
        for interface in ["all", "default", "wrn0", "wrn1"] {
            let path = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
            std::fs::write(path, "0").unwrap();
        }
        let resolver = UdpSocket::bind((gateway, 53)).unwrap();
        resolver.set_read_timeout(Some(PATIENCE)).unwrap();
        // What root inside cannot do, the test does: another's address, and one from nowhere.
        let foreign = [honest.address, Ipv4Addr::new(203, 0, 113, 77)];
        inside(&forger.netns, || {
            let mut socket = Socket::route().unwrap();
            for address in foreign {
                let take = route::add_address(2, address, 32, None);
                socket.transact("take an address", &mut [take]).unwrap();
                let forged = UdpSocket::bind((address, 0)).unwrap();
                forged.send_to(b"forged", (gateway, 53)).unwrap();
                let connected = TcpStream::connect_timeout(&(PUBLIC, PORT).into(), PATIENCE);
                assert_eq!(connected.unwrap().local_addr().unwrap().ip(), forger.address);
            }
            let genuine = UdpSocket::bind((forger.address, 0)).unwrap();
            genuine.send_to(b"genuine", (gateway, 53)).unwrap();
        });
        let mut buffer = [0; 16];
        let (length, from) = resolver.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"genuine");
        assert_eq!(from.ip(), forger.address);
    });
}

#[test]
fn there_is_no_ipv6_beyond_loopback() {
    in_lab(|_lab| {
        let net = Net::open(config("a", 0)).unwrap();
        let attached = net.attach(0).unwrap();
        let (loopback, outside) = inside(&attached.netns, || {
            let listener = TcpListener::bind("[::1]:0").unwrap();
            let outside: std::net::SocketAddr = "[2001:db8::5]:80".parse().unwrap();
            (
                TcpStream::connect(listener.local_addr().unwrap()),
                TcpStream::connect_timeout(&outside, PATIENCE),
            )
        });
        loopback.unwrap();
        outside.unwrap_err();
    });
}

#[test]
fn a_port_of_the_host_bound_to_all_addresses_is_not_reached() {
    in_lab(|_lab| {
        let net = Net::open(config("a", 0)).unwrap();
        let attached = net.attach(0).unwrap();
        let _everywhere = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
        for address in [HOST, net.gateway()] {
            let refused = inside(&attached.netns, || ask_tcp(address, PATIENCE));
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{address}");
        }
    });
}
