//! Slots that are used again, and policies that are many or long.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::AsFd as _,
    sync::Arc,
};

use warren_core::spec::Network;
use warren_runtime::net::{Net, policy::Policy};
use warren_sys::netlink::{Socket, nftables::Batch};

use crate::lab::{PATIENCE, PUBLIC, PUBLIC_6, SILENCE, ask_tcp, config, in_lab, inside};

fn policy(text: &str) -> Policy {
    Policy::of(&Network::Rules(Arc::new(text.parse().unwrap()))).unwrap().unwrap()
}

#[test]
fn a_slots_next_sandbox_gets_nothing_of_its_predecessors_connections() {
    in_lab(|lab| {
        lab.add_six();
        let net = Net::open(config("a", 0)).unwrap();
        let families: [(IpAddr, IpAddr); 2] = [
            (PUBLIC.into(), Ipv4Addr::UNSPECIFIED.into()),
            (PUBLIC_6.into(), Ipv6Addr::UNSPECIFIED.into()),
        ];
        for (address, any) in families {
            let server = inside(&lab.internet, || UdpSocket::bind((address, 9000)).unwrap());
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let bound = || {
                let socket = UdpSocket::bind((any, 5000)).unwrap();
                socket.set_read_timeout(Some(SILENCE)).unwrap();
                socket
            };
            let first = net.attach(0).unwrap();
            let theirs = inside(&first.netns, bound);
            theirs.send_to(b"hello", (address, 9000)).unwrap();
            let mut buffer = [0; 16];
            let (_, peer) = server.recv_from(&mut buffer).unwrap();
            server.send_to(b"one", peer).unwrap();
            assert_eq!(theirs.recv(&mut buffer).unwrap(), 3, "an answer comes");
            drop((theirs, first));
            net.detach(0).unwrap();
            let second = net.attach(0).unwrap();
            let ours = inside(&second.netns, bound);
            server.send_to(b"two", peer).unwrap();
            ours.recv(&mut buffer).unwrap_err();
            // Its own are answered as ever, from the same port to the same server.
            ours.send_to(b"hello", (address, 9000)).unwrap();
            let (_, peer) = server.recv_from(&mut buffer).unwrap();
            server.send_to(b"three", peer).unwrap();
            assert_eq!(ours.recv(&mut buffer).unwrap(), 5);
        }
    });
}

#[test]
fn long_policies_of_many_sandboxes_hold_and_come_back() {
    in_lab(|lab| {
        lab.serve();
        let net = Net::open(config("a", 0)).unwrap();
        let [first, last] = [0, 199].map(|slot| net.attach(slot).unwrap());
        let names = |count: usize| {
            let rule = |number| format!("allow tcp://n{number}.example:8000-9000,443\n");
            (0..count).map(rule).collect::<String>()
        };
        let long = policy(&format!("{}otherwise deny", names(256)));
        for slot in 1..199 {
            let short = policy(&format!("{}otherwise deny", names(3)));
            net.set_policy(slot, Some(short), first.netns.as_fd()).unwrap();
        }
        net.set_policy(0, Some(long), first.netns.as_fd()).unwrap();
        let deny = policy("otherwise deny");
        net.set_policy(199, Some(deny), last.netns.as_fd()).unwrap();
        let reaches =
            |netns: &std::os::fd::OwnedFd| inside(netns, || ask_tcp(PUBLIC, PATIENCE)).is_ok();
        let closed = || assert!(!reaches(&first.netns) && !reaches(&last.netns));
        closed();
        let mut flush = Batch::new("warren-a");
        flush.delete_table();
        flush.apply(&mut Socket::netfilter().unwrap(), "remove the rules").unwrap();
        net.ensure_rules().unwrap();
        closed();
        // What comes back is what there was, and can be taken away.
        net.set_policy(199, None, last.netns.as_fd()).unwrap();
        assert!(reaches(&last.netns) && !reaches(&first.netns));
        let traffic = net.traffic(0).unwrap().unwrap();
        assert!(traffic.denied >= 1, "{traffic:?}");
    });
}
