//! Links, addresses, routes and neighbours (`rtnetlink(7)`).
//!
//! Functions that change something build a [`Request`], so that a caller sends several in one
//! datagram with [`Socket::transact`]; functions that ask do so themselves.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd, BorrowedFd},
};

mod six;
mod traffic;

pub use six::{
    ADDRESS_EVENTS_6, Address6, ROUTE_EVENTS_6, Route6, addresses_6, deliver_6, routes_6,
};
pub use traffic::{Counts, counts, limit_rate, unlimit_rate};

use super::{
    NetlinkError, Socket,
    message::{Answer, Attributes, Request, flags},
};

/// A hardware address.
pub type MacAddress = [u8; 6];

/// The group of [`Socket::subscribe`] that interfaces are announced to.
pub const LINK_EVENTS: u32 = 1;

/// The group of [`Socket::subscribe`] that IPv4 addresses are announced to.
pub const ADDRESS_EVENTS: u32 = 1 << 4;

/// The group of [`Socket::subscribe`] that IPv4 routes are announced to.
pub const ROUTE_EVENTS: u32 = 1 << 6;

/// The index of `lo` in every network namespace.
pub const LOOPBACK_INDEX: u32 = 1;

const IFF_UP: u32 = libc::IFF_UP as u32;
/// `RTEXT_FILTER_SKIP_STATS`: an answer without counters is a third of the size.
const WITHOUT_COUNTERS: u32 = 1 << 3;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// `IN6_ADDR_GEN_MODE_NONE`.
const NO_ADDRESS: u8 = 1;
/// `IFA_F_NODAD`: used at once, without asking whether others have it.
const AT_ONCE: u8 = 0x02;
const IF_OPER_UP: u8 = 6;
const NUD_PERMANENT: u16 = 0x80;
/// `RTPROT_STATIC`: made by an administrator, not by the kernel or a routing daemon.
const ROUTE_STATIC: u8 = 4;
const ROUTE_UNICAST: u8 = 1;
const TABLE_MAIN: u8 = 254;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number, unique in its namespace.
    pub index: u32,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// What its maker wrote on it.
    pub alias: Option<String>,
    /// The group it is in; 0 unless someone set one.
    pub group: u32,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether packets can leave by it: it is on, so is the other end, and the kernel has taken
    /// notice, which it does a little later than the two are switched on.
    pub operational: bool,
}

/// An IPv4 address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface's index.
    pub link: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// Length of its prefix in bits.
    pub prefix: u8,
    /// Its label: the interface's name, or that and `:` and something.
    pub label: Option<String>,
}

/// An IPv4 route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; `0.0.0.0` with prefix 0 is the default route.
    pub destination: Ipv4Addr,
    /// Length of the destination's prefix in bits.
    pub prefix: u8,
    /// The interface it leaves by, unless it has several or none.
    pub link: Option<u32>,
    /// The routing table it is in (254 main, 255 local).
    pub table: u32,
    /// The lower, the more preferred.
    pub metric: u32,
}

/// A pair of virtual Ethernet interfaces, one of them in another namespace.
#[derive(Clone, Copy, Debug)]
pub struct VethPair<'a> {
    /// Name of the end in the socket's namespace.
    pub name: &'a str,
    /// Hardware address of that end.
    pub mac: MacAddress,
    /// Group of that end.
    pub group: u32,
    /// Name of the other end.
    pub peer_name: &'a str,
    /// Hardware address of the other end.
    pub peer_mac: MacAddress,
    /// Index of the other end, free in its namespace.
    pub peer_index: u32,
    /// The namespace of the other end.
    pub peer_namespace: BorrowedFd<'a>,
    /// Largest packet in bytes, both ways.
    pub mtu: u32,
}

/// Makes a veth pair. Both ends are off; each has one queue in each direction, for the default is
/// one per processor and costs memory that an idle guest never uses.
///
/// Setting the hardware addresses keeps udev from changing them.
pub fn create_veth(pair: &VethPair<'_>) -> Request {
    let mut request =
        Request::new(libc::RTM_NEWLINK, flags::CREATE | flags::EXCLUSIVE, &link_header(0, 0, 0));
    link_attributes(&mut request, pair.name, pair.mac, pair.mtu);
    request.u32(libc::IFLA_GROUP, pair.group);
    request.nested(libc::IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, |data| {
            data.nested(VETH_INFO_PEER, |peer| {
                peer.raw(&link_header(pair.peer_index, 0, 0));
                link_attributes(peer, pair.peer_name, pair.peer_mac, pair.mtu);
                let descriptor = pair.peer_namespace.as_raw_fd();
                peer.bytes(libc::IFLA_NET_NS_FD, &descriptor.to_ne_bytes());
            });
        });
    });
    request
}

fn link_attributes(request: &mut Request, name: &str, mac: MacAddress, mtu: u32) {
    request
        .text(libc::IFLA_IFNAME, name)
        .bytes(libc::IFLA_ADDRESS, &mac)
        .u32(libc::IFLA_MTU, mtu)
        .u32(libc::IFLA_NUM_TX_QUEUES, 1)
        .u32(libc::IFLA_NUM_RX_QUEUES, 1);
}

/// IPv4 settings of an interface that [`configure_link`] can make; the numbers are
/// `IPV4_DEVCONF_*` of `linux/ip.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Ipv4Setting {
    /// Packets that come in here may be passed on.
    Forwarding = 1,
    /// Redirects from a router are believed.
    AcceptRedirects = 4,
    /// Redirects are sent to senders with a better way.
    SendRedirects = 6,
    /// 1: a packet whose source is not reached by this interface is dropped.
    ReversePathFilter = 8,
    /// Packets that name their own way are passed on.
    AcceptSourceRoute = 9,
}

/// Writes an alias on the interface of this name and makes IPv4 settings. With `silent_6` it gives
/// itself no address of IPv6, so that it says nothing on its wire; the kernel must have IPv6 then.
pub fn configure_link(
    name: &str,
    alias: &str,
    settings: &[(Ipv4Setting, u32)],
    silent_6: bool,
) -> Request {
    let mut request = Request::new(libc::RTM_SETLINK, 0, &link_header(0, 0, 0));
    request.text(libc::IFLA_IFNAME, name).bytes(libc::IFLA_IFALIAS, alias.as_bytes());
    request.nested(libc::IFLA_AF_SPEC, |families| {
        families.nested(libc::AF_INET as u16, |family| {
            family.nested(IFLA_INET_CONF, |list| {
                for (setting, value) in settings {
                    list.u32(*setting as u16, *value);
                }
            });
        });
        if silent_6 {
            families.nested(libc::AF_INET6 as u16, |family| {
                family.u8(IFLA_INET6_ADDR_GEN_MODE, NO_ADDRESS);
            });
        }
    });
    request
}

/// Switches the interface with this index on.
pub fn set_link_up(index: u32) -> Request {
    Request::new(libc::RTM_NEWLINK, 0, &link_header(index, IFF_UP, IFF_UP))
}

/// Puts the interface of this name into a group.
pub fn set_link_group(name: &str, group: u32) -> Request {
    let mut request = Request::new(libc::RTM_SETLINK, 0, &link_header(0, 0, 0));
    request.text(libc::IFLA_IFNAME, name).u32(libc::IFLA_GROUP, group);
    request
}

/// Removes the interface of this name, and with it its peer, its addresses and its routes.
pub fn delete_link(name: &str) -> Request {
    let mut request = Request::new(libc::RTM_DELLINK, 0, &link_header(0, 0, 0));
    request.text(libc::IFLA_IFNAME, name);
    request
}

/// Removes every interface of a group at once, for the price of one. `ENODEV` when it is empty.
pub fn delete_link_group(group: u32) -> Request {
    let mut request = Request::new(libc::RTM_DELLINK, 0, &link_header(0, 0, 0));
    request.u32(libc::IFLA_GROUP, group);
    request
}

/// Gives an interface an address. One that it has stays as it is. One of IPv6 is used at once, and
/// has no label.
pub fn add_address(
    link: u32,
    address: impl Into<IpAddr>,
    prefix: u8,
    label: Option<&str>,
) -> Request {
    let address = address.into();
    let mut head = address_header(link, family(address), prefix);
    if address.is_ipv6() {
        head[2] = AT_ONCE;
    }
    let mut request = Request::new(libc::RTM_NEWADDR, flags::CREATE | flags::REPLACE, &head);
    request.ip(libc::IFA_LOCAL, address).ip(libc::IFA_ADDRESS, address);
    if let Some(label) = label.filter(|_| address.is_ipv4()) {
        request.text(libc::IFA_LABEL, label);
    }
    request
}

/// Takes an address from an interface.
pub fn delete_address(link: u32, address: impl Into<IpAddr>, prefix: u8) -> Request {
    let address = address.into();
    let head = address_header(link, family(address), prefix);
    let mut request = Request::new(libc::RTM_DELADDR, 0, &head);
    request.ip(libc::IFA_LOCAL, address);
    request
}

/// How a packet gets to where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// It is there: the destination is on the interface's own wire.
    Direct {
        /// The source address of packets that the host itself sends there.
        source: Option<IpAddr>,
    },
    /// By way of this neighbour.
    Via(IpAddr),
}

/// Adds a route by the interface `link` to the main table, or replaces the one there is.
pub fn add_route(destination: impl Into<IpAddr>, prefix: u8, link: u32, hop: Hop) -> Request {
    let destination = destination.into();
    let scope = match hop {
        Hop::Direct { .. } => libc::RT_SCOPE_LINK,
        Hop::Via(_) => libc::RT_SCOPE_UNIVERSE,
    };
    let family = family(destination);
    let head = [family, prefix, 0, 0, TABLE_MAIN, ROUTE_STATIC, scope, ROUTE_UNICAST, 0, 0, 0, 0];
    let mut request = Request::new(libc::RTM_NEWROUTE, flags::CREATE | flags::REPLACE, &head);
    if prefix > 0 {
        request.ip(libc::RTA_DST, destination);
    }
    request.u32(libc::RTA_OIF, link);
    match hop {
        Hop::Direct { source: Some(source) } => request.ip(libc::RTA_PREFSRC, source),
        Hop::Direct { source: None } => &mut request,
        Hop::Via(gateway) => request.ip(libc::RTA_GATEWAY, gateway),
    };
    request
}

/// Records for good which hardware address an address has, so that nobody asks (and the entry does
/// not count against the host's limit on learned ones).
pub fn add_neighbour(link: u32, address: impl Into<IpAddr>, mac: MacAddress) -> Request {
    let address = address.into();
    let mut head = [0_u8; 12];
    head[0] = family(address);
    head[4..8].copy_from_slice(&link.to_ne_bytes());
    head[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    let mut request = Request::new(libc::RTM_NEWNEIGH, flags::CREATE | flags::REPLACE, &head);
    request.ip(libc::NDA_DST, address).bytes(libc::NDA_LLADDR, &mac);
    request
}

/// Every interface of the socket's namespace.
///
/// # Errors
///
/// As [`Socket::list`].
pub fn links(socket: &mut Socket) -> Result<Vec<Link>, NetlinkError> {
    let mut request = Request::new(libc::RTM_GETLINK, flags::DUMP, &link_header(0, 0, 0));
    request.u32(libc::IFLA_EXT_MASK, WITHOUT_COUNTERS);
    let answers = socket.list("list network interfaces", request)?;
    Ok(answers.iter().filter_map(read_link).collect())
}

/// The interface of this name, if there is one.
///
/// # Errors
///
/// As [`Socket::get`], except that a missing interface is none.
pub fn link(socket: &mut Socket, name: &str) -> Result<Option<Link>, NetlinkError> {
    let mut request = Request::new(libc::RTM_GETLINK, 0, &link_header(0, 0, 0));
    request.text(libc::IFLA_IFNAME, name).u32(libc::IFLA_EXT_MASK, WITHOUT_COUNTERS);
    match socket.get("look up a network interface", request) {
        Ok(answer) => Ok(read_link(&answer)),
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every IPv4 address of the socket's namespace.
///
/// # Errors
///
/// As [`Socket::list`].
pub fn addresses(socket: &mut Socket) -> Result<Vec<Address>, NetlinkError> {
    let request =
        Request::new(libc::RTM_GETADDR, flags::DUMP, &address_header(0, libc::AF_INET as u8, 0));
    let answers = socket.list("list addresses", request)?;
    Ok(answers.iter().filter_map(read_address).collect())
}

/// Every IPv4 route of the socket's namespace, of all tables.
///
/// # Errors
///
/// As [`Socket::list`].
pub fn routes(socket: &mut Socket) -> Result<Vec<Route>, NetlinkError> {
    let mut head = [0_u8; 12];
    head[0] = libc::AF_INET as u8;
    let request = Request::new(libc::RTM_GETROUTE, flags::DUMP, &head);
    let answers = socket.list("list routes", request)?;
    Ok(answers.iter().filter_map(read_route).collect())
}

/// `TC_H_ROOT`: the queue that an interface has for all that leaves by it.
const ROOT: u32 = 0xffff_ffff;

/// `struct ifinfomsg`: family, padding, type (`u16`), index, flags, mask of flags to change.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut head = [0_u8; 16];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    head[12..16].copy_from_slice(&change.to_ne_bytes());
    head
}

/// `struct ifaddrmsg`: family, prefix, flags, scope, index.
fn address_header(link: u32, family: u8, prefix: u8) -> [u8; 8] {
    let [a, b, c, d] = link.to_ne_bytes();
    [family, prefix, 0, libc::RT_SCOPE_UNIVERSE, a, b, c, d]
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn read_link(answer: &Answer) -> Option<Link> {
    if answer.kind != libc::RTM_NEWLINK {
        return None;
    }
    let (head, attributes) = answer.split::<16>()?;
    let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *head;
    Some(Link {
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        name: attributes.find_text(libc::IFLA_IFNAME)?.to_owned(),
        alias: attributes.find_text(libc::IFLA_IFALIAS).map(str::to_owned),
        group: attributes.find_u32(libc::IFLA_GROUP).unwrap_or(0),
        mtu: attributes.find_u32(libc::IFLA_MTU).unwrap_or(0),
        up: u32::from_ne_bytes([f0, f1, f2, f3]) & IFF_UP != 0,
        operational: attributes.find(libc::IFLA_OPERSTATE) == Some(&[IF_OPER_UP]),
    })
}

fn read_address(answer: &Answer) -> Option<Address> {
    if answer.kind != libc::RTM_NEWADDR {
        return None;
    }
    let (head, attributes) = answer.split::<8>()?;
    let [_, prefix, ..] = *head;
    let address = attributes.find_ipv4(libc::IFA_LOCAL);
    Some(Address {
        link: read_link_index(head),
        address: address.or_else(|| attributes.find_ipv4(libc::IFA_ADDRESS))?,
        prefix,
        label: attributes.find_text(libc::IFA_LABEL).map(str::to_owned),
    })
}

/// The interface of a `struct ifaddrmsg`.
fn read_link_index(head: &[u8; 8]) -> u32 {
    let [_, _, _, _, a, b, c, d] = *head;
    u32::from_ne_bytes([a, b, c, d])
}

fn read_route(answer: &Answer) -> Option<Route> {
    if answer.kind != libc::RTM_NEWROUTE {
        return None;
    }
    let (head, attributes) = answer.split::<12>()?;
    let [_, prefix, _, _, table, ..] = *head;
    let find = |kind| Attributes::find_u32(attributes, kind);
    Some(Route {
        destination: attributes.find_ipv4(libc::RTA_DST).unwrap_or(Ipv4Addr::UNSPECIFIED),
        prefix,
        link: find(libc::RTA_OIF),
        table: find(libc::RTA_TABLE).unwrap_or(u32::from(table)),
        metric: find(libc::RTA_PRIORITY).unwrap_or(0),
    })
}
