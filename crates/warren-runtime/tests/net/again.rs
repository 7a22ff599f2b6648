//! Slots that are used again, and policies that are many or long.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::AsFd as _,
    sync::Arc,
    time::Duration,
};

use warren_core::spec::Network;
use warren_runtime::net::{Net, policy::Policy};
use warren_sys::netlink::{
    Socket,
    nftables::{self, Batch},
};

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
            server.set_read_timeout(Some(SILENCE)).unwrap();
            let bound = || {
                let socket = UdpSocket::bind((any, 5000)).unwrap();
                socket.set_read_timeout(Some(SILENCE)).unwrap();
                socket
            };
            let mut buffer = [0; 16];
            // As the server sees it. Datagrams get lost while addresses are new.
            let mut peer_of = |socket: &UdpSocket| {
                for _attempt in 0..40 {
                    socket.send_to(b"hello", (address, 9000)).unwrap();
                    let Ok((_, peer)) = server.recv_from(&mut buffer) else { continue };
                    server.send_to(b"one", peer).unwrap();
                    if socket.recv(&mut buffer).is_ok() {
                        return peer;
                    }
                }
                panic!("{address} does not answer");
            };
            let first = net.attach(0).unwrap();
            let theirs = inside(&first.netns, bound);
            let peer = peer_of(&theirs);
            drop((theirs, first));
            net.detach(0).unwrap();
            let second = net.attach(0).unwrap();
            let ours = inside(&second.netns, bound);
            server.send_to(b"two", peer).unwrap();
            assert!(ours.recv(&mut [0; 16]).is_err(), "{address}");
            // Its own are answered as ever, from the same port to the same server.
            peer_of(&ours);
        }
    });
}

#[test]
fn a_table_that_was_emptied_is_filled_again() {
    in_lab(|_lab| {
        let net = Net::open(config("a", 0)).unwrap();
        for chain in ["from-sandbox", "to-host", "to-sandbox"] {
            let mut flush = Batch::new("warren-a");
            flush.flush_chain(chain);
            let mut socket = Socket::netfilter().unwrap();
            flush.apply(&mut socket, "empty a chain").unwrap();
            // The one that looks after them may have come first.
            net.ensure_rules().unwrap();
            assert!(nftables::has_rules(&mut socket, "warren-a", chain).unwrap(), "{chain}");
            assert!(!net.ensure_rules().unwrap());
        }
    });
}

#[test]
fn a_sandbox_that_asks_for_ever_fills_no_set_and_can_still_be_closed() {
    in_lab(|lab| {
        lab.serve();
        let net = Net::open(config("a", 0)).unwrap();
        let sandbox = net.attach(0).unwrap();
        let open = policy("allow *.example\nallow *.example:80\notherwise deny");
        net.set_policy(0, Some(open), sandbox.netns.as_fd()).unwrap();
        let life = Duration::from_secs(3600);
        for number in 0..1500_u32 {
            let addresses: Vec<IpAddr> =
                (0..4).map(|it| Ipv4Addr::from(0xcb00_0000 + number * 4 + it).into()).collect();
            net.policies().answered_to(0, &format!("n{number}.example"), &addresses, life).unwrap();
        }
        let elements = nftables::elements(&mut Socket::netfilter().unwrap(), "warren-a", "known");
        // 512 names of 4 addresses, by 2 rules.
        assert_eq!(elements.unwrap(), 512 * 4 * 2);
        let closed = policy("otherwise deny");
        net.set_policy(0, Some(closed), sandbox.netns.as_fd()).unwrap();
        let elements = nftables::elements(&mut Socket::netfilter().unwrap(), "warren-a", "known");
        assert_eq!(elements.unwrap(), 0);
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
