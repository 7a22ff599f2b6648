//! One sandbox's pair of interfaces: made from the host, both ends set up, nothing learned.
//!
//! Hardware addresses follow from the slot and are told to both sides for good. So no address is
//! ever asked for on the wire, the host's table of neighbours does not fill, and settings that
//! change how a host answers such questions do not matter.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use warren_sys::{
    netlink::{
        NetlinkError, Socket,
        route::{self, Hop, Ipv4Setting, LOOPBACK_INDEX, MacAddress, VethPair},
    },
    netns,
};

use super::{Errno, INTERFACE_PREFIX, NetError, refused_with, six, unless};

/// Index of the sandbox's end; its namespace is new, so the number is free.
pub(super) const GUEST_LINK: u32 = 2;
/// Name of the sandbox's end.
const GUEST_LINK_NAME: &str = "eth0";

/// What the host's end of each pair is told, whatever the host's defaults are.
const HOST_SETTINGS: [(Ipv4Setting, u32); 5] = [
    (Ipv4Setting::Forwarding, 1),
    (Ipv4Setting::ReversePathFilter, 1),
    (Ipv4Setting::AcceptRedirects, 0),
    (Ipv4Setting::SendRedirects, 0),
    (Ipv4Setting::AcceptSourceRoute, 0),
];

/// What interfaces inside are told about IPv6: to give themselves no address, and to believe no
/// router. So nothing is said on the wire that nobody answers.
const SILENT: [(&str, &str); 2] = [("addr_gen_mode", "1"), ("accept_ra", "0")];

/// How long the kernel may take to notice that both ends are on; it has rarely been a second.
const NOTICE: Duration = Duration::from_secs(5);

/// What a pair is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) instance: &'a str,
    pub(super) slot: u32,
    pub(super) group: u32,
    pub(super) gateway: Ipv4Addr,
    pub(super) address: Ipv4Addr,
    /// Whether it has IPv6 too, with addresses that follow from the others.
    pub(super) six: bool,
    pub(super) mtu: u32,
}

/// The name of the host's interface of a slot.
pub fn interface_name(slot: u32) -> String {
    format!("{INTERFACE_PREFIX}{slot}")
}

impl Pair<'_> {
    /// Makes the pair, one end in `namespace`; returns the index of the host's end.
    pub(super) fn create(
        &self,
        host: &mut Socket,
        namespace: BorrowedFd<'_>,
    ) -> Result<u32, NetError> {
        let operation = "make a pair of interfaces";
        let name = interface_name(self.slot);
        let create = route::create_veth(&VethPair {
            name: &name,
            mac: mac(Side::Host, self.slot),
            group: self.group,
            peer_name: GUEST_LINK_NAME,
            peer_mac: mac(Side::Guest, self.slot),
            peer_index: GUEST_LINK,
            peer_namespace: namespace,
            mtu: self.mtu,
        });
        let mut made = host.transact(operation, &mut [create.clone()]);
        if made.as_ref().is_err_and(|error| refused_with(error, Errno::EXIST)) {
            // Left by an earlier user of the slot whose namespace is on its way out.
            let removed = host.transact(operation, &mut [route::delete_link(&name)]);
            unless(removed, Errno::NODEV).map_err(NetError::netlink(operation))?;
            made = host.transact(operation, &mut [create]);
        }
        made.map_err(NetError::netlink(operation))?;
        let link = route::link(host, &name).map_err(NetError::netlink(operation))?;
        link.map(|link| link.index).ok_or_else(|| NetError::host(operation)(Errno::NODEV))
    }

    /// Addresses and routes inside; `guest` is a socket in the sandbox's namespace.
    pub(super) fn configure_guest(&self, guest: &mut Socket) -> Result<(), NetError> {
        let mac = mac(Side::Host, self.slot);
        let mut requests = vec![
            route::set_link_up(LOOPBACK_INDEX),
            route::set_link_up(GUEST_LINK),
            route::add_address(GUEST_LINK, self.address, 32, None),
            route::add_route(self.gateway, 32, GUEST_LINK, Hop::Direct { source: None }),
            route::add_route(Ipv4Addr::UNSPECIFIED, 0, GUEST_LINK, Hop::Via(self.gateway.into())),
            route::add_neighbour(GUEST_LINK, self.gateway, mac),
        ];
        if self.six {
            let [address, gateway] = [self.address, self.gateway].map(six::address_of);
            requests.extend([
                route::add_address(GUEST_LINK, address, 128, None),
                route::deliver_6(address, GUEST_LINK),
                route::add_neighbour(GUEST_LINK, gateway, mac),
                route::add_route(gateway, 128, GUEST_LINK, Hop::Direct { source: None }),
                route::add_route(Ipv6Addr::UNSPECIFIED, 0, GUEST_LINK, Hop::Via(gateway.into())),
            ]);
        }
        guest
            .transact("set up a sandbox's interface", &mut requests)
            .map_err(NetError::netlink("set up a sandbox's interface"))
    }

    /// Settings, route and neighbour of the host's end, whose index is `link`. The calling thread
    /// must be in the host's namespace.
    pub(super) fn configure_host(&self, host: &mut Socket, link: u32) -> Result<(), NetError> {
        let name = interface_name(self.slot);
        disable_ipv6(&name, !self.six).map_err(NetError::host("set IPv6 of an interface"))?;
        let alias = format!("warren {} slot {}", self.instance, self.slot);
        let source = Some(self.gateway.into());
        let mac = mac(Side::Guest, self.slot);
        let mut requests = vec![
            route::configure_link(&name, &alias, &HOST_SETTINGS, self.six),
            route::set_link_up(link),
            route::add_route(self.address, 32, link, Hop::Direct { source }),
            route::add_neighbour(link, self.address, mac),
        ];
        if self.six {
            let [address, gateway] = [self.address, self.gateway].map(six::address_of);
            let source = Some(gateway.into());
            requests.extend([
                route::add_neighbour(link, address, mac),
                route::add_route(address, 128, link, Hop::Direct { source }),
            ]);
        }
        host.transact("set up the host's interface", &mut requests)
            .map_err(NetError::netlink("set up the host's interface"))
    }
}

/// Whether packets can leave by the host's interface of this name, or it is gone.
///
/// An end that was switched on before its peer drops what it is given until the kernel has
/// noticed the peer, which takes a worker of the kernel some time. That would cost a sandbox the
/// answer to its first question. Kernels from 6.5 on take notice when they are asked.
pub(super) fn operational(host: &mut Socket, name: &str) -> Result<bool, NetlinkError> {
    Ok(route::link(host, name)?.is_none_or(|link| link.operational))
}

/// Waits until [`operational`].
pub(super) fn wait_operational(name: &str) -> Result<(), NetError> {
    let operation = "wait for the host's interface";
    let noticed = || {
        let mut events = Socket::route()?;
        events.subscribe(route::LINK_EVENTS)?; // before looking, so that none is missed
        let mut socket = Socket::route()?;
        let deadline = Instant::now() + NOTICE;
        while !operational(&mut socket, name)? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            events.wait(left)?;
        }
        Ok(true)
    };
    if noticed().map_err(NetError::netlink(operation))? {
        return Ok(());
    }
    Err(NetError::host(operation)(Errno::TIMEDOUT))
}

/// Switches loopback on; `guest` is a socket in the sandbox's namespace.
pub(super) fn configure_isolated(guest: &mut Socket) -> Result<(), NetlinkError> {
    guest.transact("switch loopback on", &mut [route::set_link_up(LOOPBACK_INDEX)])
}

/// Runs on a worker: makes a namespace with its settings, and a netlink socket in it. With `six`
/// interfaces have the addresses of IPv6 that they are given, and without none.
pub(super) fn new_namespace(six: bool) -> Result<(OwnedFd, Socket), NetError> {
    netns::unshare().map_err(NetError::host("make a network namespace"))?;
    let namespace = netns::current().map_err(NetError::host("hold a network namespace"))?;
    // The namespace belongs to the server's user namespace, so nobody inside has the capability
    // to bind low ports or to ping; both are open to all instead, each guest has its own ports.
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
        .map_err(NetError::host("open low ports in a namespace"))?;
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", ping_groups()?)
        .map_err(NetError::host("allow ping in a namespace"))?;
    let settings = || {
        if !six {
            return disable_ipv6("default", true);
        }
        for (name, value) in SILENT {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/default/{name}"), value)?;
        }
        Ok(())
    };
    settings().map_err(NetError::host("set IPv6 in a namespace"))?;
    let socket = Socket::route().map_err(NetError::netlink("open a socket in a namespace"))?;
    Ok((namespace, socket))
}

#[derive(Clone, Copy)]
enum Side {
    Host,
    Guest,
}

/// A locally administered hardware address. It need only be the same in both tables: the wire has
/// two ends.
fn mac(side: Side, slot: u32) -> MacAddress {
    let [a, b, c, d] = slot.to_be_bytes();
    let side = match side {
        Side::Host => 0x00,
        Side::Guest => 0x01,
    };
    [0x02, side, a, b, c, d]
}

/// The range of group ids that may ping: all that this user namespace can name.
fn ping_groups() -> Result<String, NetError> {
    let map = std::fs::read_to_string("/proc/self/gid_map")
        .map_err(NetError::host("read the map of group ids"))?;
    let (low, high) = widest_range(&map).unwrap_or((0, 0));
    Ok(format!("{low} {high}"))
}

/// The group ids, as seen inside, whose counterparts outside are the lowest and the highest of a
/// map (lines of inside, outside, count). The kernel compares those outside, and takes at most
/// 2^31 - 1.
fn widest_range(map: &str) -> Option<(u64, u64)> {
    const LARGEST: u64 = 0x7fff_ffff;
    let extents: Vec<[u64; 3]> = map
        .lines()
        .filter_map(|line| {
            let numbers: Vec<u64> =
                line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
            <[u64; 3]>::try_from(numbers).ok().filter(|[_, _, count]| *count > 0)
        })
        .collect();
    let [lowest, _, _] = *extents.iter().min_by_key(|[_, outside, _]| *outside)?;
    let [inside, _, count] = *extents.iter().max_by_key(|[_, outside, count]| outside + count)?;
    Some((lowest.min(LARGEST), (inside + count - 1).min(LARGEST)))
}

/// Switches IPv6 off, or on, on an interface of the calling thread's namespace, or for those to
/// come.
fn disable_ipv6(interface: &str, off: bool) -> io::Result<()> {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(interface).join("disable_ipv6");
    match std::fs::write(path, if off { "1" } else { "0" }) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()), // a kernel without IPv6
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_range_of_groups_is_named_by_its_inside_ids() {
        let everything = "         0          0 4294967295\n";
        assert_eq!(widest_range(everything), Some((0, 0x7fff_ffff)));
        assert_eq!(widest_range("0 1000 1\n"), Some((0, 0)));
        assert_eq!(widest_range("0 1000 1\n1 100000 65536\n"), Some((0, 65_536)));
        assert_eq!(widest_range("0 100000 65536\n65536 1000 1\n"), Some((65_536, 65_535)));
        assert_eq!(widest_range(""), None);
        assert_eq!(widest_range("junk\n0 0 0\n1 2\n"), None);
    }

    #[test]
    fn names_fit_and_hardware_addresses_differ() {
        assert!(interface_name(u32::MAX).len() <= 15);
        assert_ne!(mac(Side::Host, 1), mac(Side::Guest, 1));
        assert_ne!(mac(Side::Host, 1), mac(Side::Host, 256));
        assert_eq!(mac(Side::Host, 1)[0] & 3, 2, "local, for one receiver");
    }
}
