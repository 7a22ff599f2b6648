//! IPv6 of sandboxes: which addresses they have, and whether these lead anywhere.
//!
//! A sandbox's address is that of IPv4 behind a prefix of unique local addresses; so is the
//! gateway's. Nobody outside sees them: the host's own address stands in for them (NAT66), and so
//! the prefix is the same on every host.
//!
//! ```text
//!   fd57:6172:7265:6e00:: + 10.213.1.7 = fd57:6172:7265:6e00::ad5:107
//! ```
//!
//! There is IPv6 for sandboxes while the host has a way to the Internet by it, which is looked at
//! whenever a route or an address of the host changes. A sandbox whose network was made without has
//! none until it is stopped and started; nothing in it waits for what is not there, for it has no
//! route. While the host has no way, no address of IPv6 is answered.
//!
//! Private ranges are not all that is near: by IPv6 the machines of a home or an office have
//! addresses of the public Internet. What is on a wire of the host is none of a sandbox's business.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    path::Path,
    sync::{Arc, PoisonError, RwLock, Weak},
    thread,
    time::Duration,
};

use warren_core::egress::IpNetwork;
use warren_sys::netlink::{
    NetlinkError, Socket,
    message::Answer,
    nftables::Range,
    route::{self, LOOPBACK_INDEX, Route6},
};

use super::{INTERFACE_PREFIX, NetError, policy::Policies, worker::Workers};

/// What all addresses of sandboxes and gateways begin with: `fd`, and `Warren`.
pub(super) const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd57, 0x6172, 0x7265, 0x6e00, 0, 0, 0, 0);
/// How many bits of it are the same in all.
pub(super) const PREFIX_BITS: u8 = 96;
/// A network on a wire shares at least so many bits; a shorter one is a way out, such as a tunnel.
const ON_A_WIRE: u8 = 16;
/// How often the host is looked at when nothing is announced; also how long the thread of an
/// instance that was dropped stays.
const INTERVAL: Duration = Duration::from_secs(30);
const OPERATION: &str = "look at the host's way out by IPv6";

/// Where the settings of interfaces are.
const SETTINGS: &str = "/proc/sys/net/ipv6/conf";

/// The networks of IPv6 that no sandbox reaches, whatever the host has.
///
/// # Source
///
/// As [`warren_core::egress::reserved`]: all but global unicast addresses, and of these Teredo and
/// 6to4, which lead to IPv4. Addresses that stand for IPv4 (`::ffff:0:0/96`, `64:ff9b::/96`), unique
/// local, link-local, site-local and multicast addresses are outside of the former.
pub(super) fn blocked() -> [Range; 4] {
    let range = |first: [u16; 2], last: [u16; 2]| {
        let first = u128::from(first[0]) << 112 | u128::from(first[1]) << 96;
        let last = u128::from(last[0]) << 112 | u128::from(last[1]) << 96 | (u128::MAX >> 32);
        (IpAddr::V6(first.into()), IpAddr::V6(last.into()))
    };
    [
        range([0, 0], [0x1fff, 0xffff]),
        range([0x2001, 0], [0x2001, 0]),
        range([0x2002, 0], [0x2002, 0xffff]),
        range([0x4000, 0], [0xffff, 0xffff]),
    ]
}

/// The address of IPv6 of whoever has this one.
pub(crate) fn address_of(address: Ipv4Addr) -> Ipv6Addr {
    (u128::from(PREFIX) | u128::from(u32::from(address))).into()
}

/// The address of IPv4 of whoever has this one of ours.
pub(super) fn four_of(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = u128::from(address);
    let four = u32::try_from(bits ^ u128::from(PREFIX)).ok()?;
    Some(four.into())
}

/// What the host has of IPv6, as far as sandboxes are concerned.
#[derive(Debug, Default)]
pub(super) struct Outside(RwLock<Seen>);

/// What was seen when the host was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whether there is a way to the Internet.
    pub(super) reached: bool,
    /// The public networks on wires of the host.
    pub(super) near: Vec<IpNetwork>,
}

impl Seen {
    /// What no sandbox may reach of the public Internet, in ascending order: what is near, and all
    /// of it where there is no way, so that whoever tries is refused at once.
    pub(super) fn closed(&self) -> Vec<Range> {
        let public = (0x2000_u128 << 112, (0x4000_u128 << 112) - 1);
        match self.reached {
            true => ranges(&self.near),
            false => vec![(IpAddr::V6(public.0.into()), IpAddr::V6(public.1.into()))],
        }
    }
}

impl Outside {
    pub(super) fn seen(&self) -> Seen {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, seen: Seen) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    /// Whether there is a way to the Internet.
    pub(super) fn is_reached(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).reached
    }

    /// Whether an address is on a wire of the host.
    pub(super) fn is_near(&self, address: IpAddr) -> bool {
        let seen = self.0.read().unwrap_or_else(PoisonError::into_inner);
        seen.near.iter().any(|network| network.contains(address))
    }
}

/// Looks at the host now, and again whenever it changes, until the policies are dropped. Where that
/// is impossible there is no IPv6, which is said.
pub(super) fn follow(policies: &Arc<Policies>, workers: &Arc<Workers>) {
    let started = sockets(workers).and_then(|(events, mut routes)| {
        look(policies, workers, &mut routes)?;
        let (policies, workers) = (Arc::downgrade(policies), Arc::clone(workers));
        let thread = thread::Builder::new().name("warren-six".into());
        let spawned = thread.spawn(move || watch(&policies, &workers, events, routes));
        spawned.map(|_detached| ()).map_err(NetError::host(OPERATION))
    });
    if let Err(error) = started {
        let cause = &error as &dyn std::error::Error;
        tracing::warn!(error = cause, "sandboxes have no IPv6: {error}");
    }
}

fn sockets(workers: &Workers) -> Result<(Socket, Socket), NetError> {
    let opened = workers.run(OPERATION, |_home| {
        let events = Socket::route()?;
        events.subscribe(route::ROUTE_EVENTS_6 | route::ADDRESS_EVENTS_6)?;
        Ok::<_, NetlinkError>((events, Socket::route()?))
    })?;
    opened.map_err(NetError::netlink(OPERATION))
}

fn watch(policies: &Weak<Policies>, workers: &Workers, mut events: Socket, mut routes: Socket) {
    loop {
        let announced = events.next(INTERVAL);
        let Some(policies) = policies.upgrade() else { return };
        let looked = match &announced {
            Ok(announced) if announced.iter().any(is_of_interest) || announced.is_empty() => {
                look(&policies, workers, &mut routes)
            }
            _ => Ok(()),
        };
        if let Err(error) = looked {
            let cause = &error as &dyn std::error::Error;
            tracing::warn!(error = cause, "the host's way out by IPv6 is not known: {error}");
        }
        if let Err(error) = announced {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(error = cause, "changes of IPv6 on the host are not seen any more");
            return;
        }
    }
}

/// The route to a sandbox is none; there is one with each create.
fn is_of_interest(announced: &Answer) -> bool {
    Route6::announced(announced).is_none_or(|route| four_of(route.destination).is_none())
}

/// Looks at the host's routes and has the rules and the host follow them.
fn look(policies: &Policies, workers: &Workers, routes: &mut Socket) -> Result<(), NetError> {
    let routes = route::routes_6(routes).map_err(NetError::netlink(OPERATION))?;
    let gateway = address_of(policies.gateway);
    let reached = workers.run(OPERATION, |_home| leads_out())?;
    if reached && !policies.outside().is_reached() {
        workers.run(OPERATION, move |_home| prepare(gateway))??;
        tracing::info!("sandboxes have IPv6 from here on");
    }
    policies.set_outside(Seen { reached, near: near(&routes) })
}

/// The public networks that are on a wire of the host.
fn near(routes: &[Route6]) -> Vec<IpNetwork> {
    let on_a_wire = routes.iter().filter(|route| route.direct && route.prefix >= ON_A_WIRE);
    let networks = on_a_wire.filter_map(|route| {
        let text = format!("{}/{}", route.destination, route.prefix);
        text.parse::<IpNetwork>().ok()
    });
    let mut networks: Vec<_> =
        networks.filter(|it| warren_core::egress::reserved(it.address()).is_none()).collect();
    networks.sort_by_key(|it| (it.address(), it.prefix()));
    networks.dedup();
    networks
}

/// Networks as ranges that ascend and do not overlap.
pub(super) fn ranges(networks: &[IpNetwork]) -> Vec<Range> {
    let mut ranges: Vec<Range> = networks.iter().map(|it| (it.address(), it.last())).collect();
    ranges.sort();
    let mut merged: Vec<Range> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= *end || follows(*end, first) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn follows(last: IpAddr, next: IpAddr) -> bool {
    match (last, next) {
        (IpAddr::V4(last), IpAddr::V4(next)) => u32::from(last).checked_add(1) == Some(next.into()),
        (IpAddr::V6(last), IpAddr::V6(next)) => {
            u128::from(last).checked_add(1) == Some(next.into())
        }
        _ => false,
    }
}

/// Whether the calling thread's namespace has a way to the Internet, and an address to go by it.
/// Asking sends no packet.
fn leads_out() -> bool {
    const SOMEWHERE: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);
    let source = || {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        socket.connect((SOMEWHERE, 9))?;
        socket.local_addr()
    };
    match source().map(|it| it.ip()) {
        Ok(IpAddr::V6(source)) => {
            !source.is_unicast_link_local() && !source.is_loopback() && four_of(source).is_none()
        }
        _ => false,
    }
}

/// Has the host, in whose namespace the calling thread is, pass packets on, and gives it the
/// gateway's address.
fn prepare(gateway: Ipv6Addr) -> Result<(), NetError> {
    let operation = "give the host the gateway's address of IPv6";
    let mut socket = Socket::route().map_err(NetError::netlink(operation))?;
    let mut requests = [
        route::set_link_up(LOOPBACK_INDEX),
        route::add_address(LOOPBACK_INDEX, gateway, 128, None),
    ];
    socket.transact(operation, &mut requests).map_err(NetError::netlink(operation))?;
    forward(Path::new(SETTINGS))
        .map_err(NetError::host("switch forwarding on (net.ipv6.conf.all.forwarding)"))
}

/// Lets the host pass packets on. One that does believes no router any more and forgets the routes
/// that it has from one, unless it is told to go on: it would lose its own way out.
fn forward(settings: &Path) -> io::Result<()> {
    let all = settings.join("all/forwarding");
    if fs::read_to_string(&all)?.trim() == "1" {
        return Ok(());
    }
    for interface in fs::read_dir(settings)? {
        let interface = interface?;
        let name = interface.file_name();
        let ours = name.to_string_lossy().starts_with(INTERFACE_PREFIX);
        let place = interface.path().join("accept_ra");
        // One that is gone by now needs nothing.
        let believes = fs::read_to_string(&place).is_ok_and(|it| it.trim() == "1");
        if believes && !ours && name != "all" {
            fs::write(place, "2").or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        }
    }
    fs::write(all, "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_from_those_of_ipv4_and_back() {
        let four = Ipv4Addr::new(10, 213, 1, 7);
        let six = address_of(four);
        assert_eq!(six.to_string(), "fd57:6172:7265:6e00::ad5:107");
        assert_eq!(four_of(six), Some(four));
        assert_eq!(four_of("fd57:6172:7265:6e00:1::ad5:107".parse().unwrap()), None);
        assert_eq!(four_of(Ipv6Addr::LOCALHOST), None);
        let ours = IpNetwork::single(six.into());
        assert!(warren_core::egress::reserved(ours.address()).is_some(), "out of reach itself");
    }

    #[test]
    fn what_is_blocked_is_what_core_calls_reserved() {
        let blocked = blocked();
        let is_blocked =
            |it: IpAddr| blocked.iter().any(|(first, last)| *first <= it && it <= *last);
        for text in [
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::a00:1",
            "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "2000::",
            "2001::1",
            "2001:0:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001:1::",
            "2001:db8::1",
            "2002::",
            "2002:a00:1::",
            "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "2003::",
            "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "4000::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            let address: IpAddr = text.parse().unwrap();
            let reserved = warren_core::egress::reserved(address).is_some();
            assert_eq!(is_blocked(address), reserved, "{text}");
        }
        for pair in blocked.windows(2) {
            assert!(pair[0].1 < pair[1].0, "{pair:?}");
        }
    }

    #[test]
    fn what_is_on_a_wire_is_near_and_a_tunnel_out_is_not() {
        let route = |text: &str, direct| {
            let (destination, prefix) = text.split_once('/').unwrap();
            Route6 {
                destination: destination.parse().unwrap(),
                prefix: prefix.parse().unwrap(),
                link: Some(2),
                direct,
            }
        };
        let routes = [
            route("2001:db8:ff::/64", true),
            route("2001:db8:ff::/64", true),
            route("2001:db8:1::/48", false),
            route("fe80::/64", true),
            route("fd57:6172:7265:6e00::ad5:107/128", true),
            route("::/0", true),
            route("::/1", true),
            route("2000::/3", true),
        ];
        let near: Vec<String> = near(&routes).iter().map(ToString::to_string).collect();
        assert_eq!(near, ["2001:db8:ff::/64"]);
    }

    #[test]
    fn without_a_way_out_all_is_closed_that_is_not_blocked_anyway() {
        let [(first, last)] = Seen::default().closed().try_into().unwrap();
        assert_eq!(
            (first.to_string(), last.to_string()),
            ("2000::".to_owned(), "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".to_owned(),)
        );
        assert!(Seen { reached: true, near: Vec::new() }.closed().is_empty());
    }

    #[test]
    fn networks_become_ranges_that_neither_overlap_nor_touch() {
        let merged = |networks: &[&str]| -> Vec<String> {
            let networks: Vec<IpNetwork> = networks.iter().map(|it| it.parse().unwrap()).collect();
            ranges(&networks).iter().map(|(first, last)| format!("{first} {last}")).collect()
        };
        let four = merged(&["10.2.0.0/16", "10.1.0.0/16", "10.1.7.0/24", "10.9.0.0/16"]);
        assert_eq!(four, ["10.1.0.0 10.2.255.255", "10.9.0.0 10.9.255.255"]);
        let six = merged(&["2001:db8::/33", "2001:db8:8000::/33", "::/0"]);
        assert_eq!(six, [":: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
        assert!(merged(&[]).is_empty());
    }

    #[test]
    fn a_host_that_passes_packets_on_believes_its_routers_still() {
        let settings = tempfile::tempdir().unwrap();
        let write = |name: &str, file: &str, text: &str| {
            fs::create_dir_all(settings.path().join(name)).unwrap();
            fs::write(settings.path().join(name).join(file), text).unwrap();
        };
        let read =
            |name: &str| fs::read_to_string(settings.path().join(name)).unwrap().trim().to_owned();
        write("all", "forwarding", "0\n");
        for (name, believes) in
            [("all", "1\n"), ("default", "1\n"), ("eth0", "1\n"), ("eth1", "0\n"), ("wrn3", "1\n")]
        {
            write(name, "accept_ra", believes);
        }
        forward(settings.path()).unwrap();
        assert_eq!(read("all/forwarding"), "1");
        let believes =
            ["all", "default", "eth0", "eth1", "wrn3"].map(|it| read(&format!("{it}/accept_ra")));
        assert_eq!(believes, ["1", "2", "2", "0", "1"]);
        write("eth2", "accept_ra", "1\n");
        forward(settings.path()).unwrap();
        assert_eq!(read("eth2/accept_ra"), "1", "nothing to do");
    }
}
