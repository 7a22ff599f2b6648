//! What rules log: packets that were denied, and those of sandboxes that are watched.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use warren_core::{egress::Protocol, runtime::Destination};
use warren_sys::netlink::{Socket, nflog};

use super::{NetError, Policies, Workers};

/// What is wanted of a packet: the longest header of IPv4, and the ports behind it.
const BYTES: u32 = 64;
/// How long the thread of an instance that was dropped stays.
const INTERVAL: Duration = Duration::from_secs(5);

/// Listens until the policies are dropped. Where that is impossible, nothing is told; it is denied
/// all the same.
pub(in crate::net) fn listen(policies: &Arc<Policies>, workers: &Workers) -> Result<(), NetError> {
    let operation = "listen to what sandboxes are denied";
    let group = policies.group();
    let socket = workers.run(operation, move |_home| {
        let mut socket = Socket::netfilter()?;
        nflog::bind(&mut socket, group, BYTES)?;
        Ok(socket)
    })?;
    let socket = socket.map_err(NetError::netlink(operation))?;
    let policies = Arc::downgrade(policies);
    let thread = thread::Builder::new().name("warren-denials".into());
    let spawned = thread.spawn(move || follow(&policies, socket));
    spawned.map(|_detached| ()).map_err(NetError::host(operation))
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

/// Where a packet of IPv4 comes from and goes to; none where it is cut short.
fn destination(packet: &[u8]) -> Option<(Ipv4Addr, Destination)> {
    let (head, _) = packet.split_first_chunk::<20>()?;
    let [first, .., s0, s1, s2, s3, d0, d1, d2, d3] = *head;
    if first >> 4 != 4 {
        return None;
    }
    let protocol = match head.get(9)? {
        1 => Protocol::Icmp,
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => Protocol::Any,
    };
    let behind = packet.get(usize::from(first & 0xf) * 4..).unwrap_or_default();
    let port = match (protocol, behind) {
        (Protocol::Tcp | Protocol::Udp, [_, _, high, low, ..]) => {
            Some(u16::from_be_bytes([*high, *low]))
        }
        _ => None,
    };
    let address = Some(Ipv4Addr::new(d0, d1, d2, d3).into());
    let source = Ipv4Addr::new(s0, s1, s2, s3);
    Some((source, Destination { name: None, address, protocol, port }))
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

    proptest::proptest! {
        #[test]
        fn no_packet_makes_it_panic(bytes in proptest::collection::vec(0..=255_u8, 0..80)) {
            let _read = destination(&bytes);
        }
    }
}
