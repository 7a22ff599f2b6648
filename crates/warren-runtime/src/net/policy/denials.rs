//! What rules log: packets that were denied, and those of sandboxes that are watched.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use warren_core::{egress::Protocol, runtime::Destination};
use warren_sys::netlink::{Socket, nflog};

use super::{Errno, NetError, Policies, Workers, refused_with};

/// What is wanted of a packet: the longest header of IPv4, or that of IPv6 with what may follow it,
/// and the ports behind.
const BYTES: u32 = 128;
/// How many groups are tried: other programs have some, and an earlier server may end only now.
const GROUPS: u16 = 64;
/// How long the thread of an instance that was dropped stays.
const INTERVAL: Duration = Duration::from_secs(5);

/// Takes a group that is nobody's, for rules to log to; to be done before there are any.
pub(in crate::net) fn bind(policies: &Policies, workers: &Workers) -> Result<Socket, NetError> {
    let operation = "listen to what sandboxes are denied";
    let first = policies.group();
    let bound = workers.run(operation, move |_home| {
        let mut group = first;
        loop {
            let mut socket = Socket::netfilter()?;
            match nflog::bind(&mut socket, group, BYTES) {
                Ok(()) => return Ok((socket, group)),
                // The kernel says one or the other of a group that another socket has.
                Err(error)
                    if [Errno::BUSY, Errno::PERM].iter().any(|it| refused_with(&error, *it))
                        && group < first.saturating_add(GROUPS) =>
                {
                    group += 1;
                }
                Err(error) => return Err(error),
            }
        }
    })?;
    let (socket, group) = bound.map_err(NetError::netlink(operation))?;
    policies.set_group(group);
    Ok(socket)
}

/// Listens until the policies are dropped. Where that is impossible, nothing is told; it is denied
/// all the same.
pub(in crate::net) fn listen(policies: &Arc<Policies>, socket: Socket) -> Result<(), NetError> {
    let policies = Arc::downgrade(policies);
    let thread = thread::Builder::new().name("warren-denials".into());
    let spawned = thread.spawn(move || follow(&policies, socket));
    spawned.map(|_detached| ()).map_err(NetError::host("listen to what sandboxes are denied"))
}

fn follow(policies: &Weak<Policies>, mut socket: Socket) {
    loop {
        let logged = nflog::next(&mut socket, INTERVAL);
        let Some(policies) = policies.upgrade() else { return };
        match logged {
            Ok(logged) => logged.iter().for_each(|packet| told(&policies, packet)),
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                tracing::error!(error = cause, "what sandboxes are denied is not told any more");
                return;
            }
        }
    }
}

fn told(policies: &Policies, packet: &nflog::Logged) {
    let Some((source, to)) = destination(&packet.bytes) else { return };
    let Some(place) = policies.place_at(source) else { return };
    if let Some(denial) = place.seen(to, packet.prefix == "denied") {
        policies.denied(&place, denial);
    }
}

/// Where a packet comes from and goes to; none where it is cut short.
fn destination(packet: &[u8]) -> Option<(IpAddr, Destination)> {
    let (source, address, protocol, behind) = match packet.first()? >> 4 {
        4 => four(packet)?,
        6 => six(packet)?,
        _ => return None,
    };
    let protocol = match protocol {
        1 | 58 => Protocol::Icmp,
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => Protocol::Any,
    };
    let port = match (protocol, behind) {
        (Protocol::Tcp | Protocol::Udp, [_, _, high, low, ..]) => {
            Some(u16::from_be_bytes([*high, *low]))
        }
        _ => None,
    };
    Some((source, Destination { name: None, address: Some(address), protocol, port }))
}

/// Source, destination, the number of the protocol, and what follows.
type Parts<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn four(packet: &[u8]) -> Option<Parts<'_>> {
    let (head, _) = packet.split_first_chunk::<20>()?;
    let [first, .., s0, s1, s2, s3, d0, d1, d2, d3] = *head;
    let behind = packet.get(usize::from(first & 0xf) * 4..).unwrap_or_default();
    let source = Ipv4Addr::new(s0, s1, s2, s3).into();
    Some((source, Ipv4Addr::new(d0, d1, d2, d3).into(), *head.get(9)?, behind))
}

fn six(packet: &[u8]) -> Option<Parts<'_>> {
    let (head, mut behind) = packet.split_first_chunk::<40>()?;
    let address = |place: usize| {
        let octets: [u8; 16] = head.get(place..place + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    let mut protocol = *head.get(6)?;
    // Options, a piece's place, or more options may stand before what it is about.
    while let (0 | 43 | 44 | 60, [next, length, ..]) = (protocol, behind) {
        let bytes = if protocol == 44 { 8 } else { 8 + usize::from(*length) * 8 };
        protocol = *next;
        behind = behind.get(bytes..).unwrap_or_default();
    }
    Some((address(8)?, address(24)?, protocol, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_says_where_it_goes() {
        let mut packet = [0_u8; 28];
        packet[0] = 0x45;
        packet[9] = 17;
        packet[12..20].copy_from_slice(&[10, 213, 1, 0, 192, 0, 2, 7]);
        packet[22..24].copy_from_slice(&53_u16.to_be_bytes());
        let (source, to) = destination(&packet).unwrap();
        assert_eq!(source, Ipv4Addr::new(10, 213, 1, 0));
        assert_eq!((to.protocol, to.port), (Protocol::Udp, Some(53)));
        assert_eq!(to.address, Some("192.0.2.7".parse().unwrap()));
        assert_eq!(destination(&packet[..21]).unwrap().1.port, None);
        packet[0] = 0x4f;
        assert_eq!(destination(&packet).unwrap().1.port, None);
    }

    #[test]
    fn a_packet_of_ipv6_says_it_behind_what_stands_before() {
        let mut packet = vec![0_u8; 40];
        packet[0] = 0x60;
        packet[8..24].copy_from_slice(&"fd00::7".parse::<Ipv6Addr>().unwrap().octets());
        packet[24..40].copy_from_slice(&"2001:db8::9".parse::<Ipv6Addr>().unwrap().octets());
        packet[6] = 60; // options for the destination, then a piece of TCP
        packet.extend([44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([6, 255, 0, 0, 0, 0, 0, 0]);
        packet.extend([0x12, 0x34, 0x01, 0xbb]);
        let (source, to) = destination(&packet).unwrap();
        assert_eq!(source, "fd00::7".parse::<IpAddr>().unwrap());
        assert_eq!(to.address, Some("2001:db8::9".parse().unwrap()));
        assert_eq!((to.protocol, to.port), (Protocol::Tcp, Some(443)));
        assert_eq!(destination(&packet[..50]).unwrap().1.port, None);
        assert_eq!(destination(&packet[..39]), None);
    }

    proptest::proptest! {
        #[test]
        fn no_packet_makes_it_panic(bytes in proptest::collection::vec(0..=255_u8, 0..160)) {
            let _read = destination(&bytes);
        }
    }
}
