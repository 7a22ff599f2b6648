//! Addresses and routes of IPv6, as far as they are asked for.

use std::net::Ipv6Addr;

use super::{address_header, read_link_index};
use crate::netlink::{
    NetlinkError, Socket,
    message::{Answer, Request, flags},
};

/// The group of [`Socket::subscribe`] that addresses of IPv6 are announced to.
pub const ADDRESS_EVENTS_6: u32 = 1 << 8;
/// The group of [`Socket::subscribe`] that routes of IPv6 are announced to.
pub const ROUTE_EVENTS_6: u32 = 1 << 10;

/// `RTA_VIA`: a neighbour of the other family.
const VIA: u16 = 18;
/// `RT_TABLE_LOCAL`: what is delivered to the host itself.
const TABLE_LOCAL: u8 = 255;
/// `RTPROT_STATIC`.
const STATIC: u8 = 4;
/// `RTN_LOCAL`.
const LOCAL: u8 = 2;
/// `RTN_UNICAST`.
const UNICAST: u8 = 1;

/// An address of IPv6 that an interface has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address6 {
    /// The interface's index.
    pub link: u32,
    /// The address.
    pub address: Ipv6Addr,
    /// Length of its prefix in bits.
    pub prefix: u8,
}

/// A route of IPv6 by which packets travel; those that refuse or deliver to the host are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route6 {
    /// Where it leads; `::` with prefix 0 is the default route.
    pub destination: Ipv6Addr,
    /// Length of the destination's prefix in bits.
    pub prefix: u8,
    /// The interface it leaves by, unless it has several.
    pub link: Option<u32>,
    /// Whether the destination is on the interface's own wire.
    pub direct: bool,
}

impl Route6 {
    /// What an announcement of [`ROUTE_EVENTS_6`] is about.
    #[must_use]
    pub fn announced(answer: &Answer) -> Option<Self> {
        read_route(answer)
    }
}

/// Has packets to an address of the interface `link` delivered at once. The kernel does so by itself
/// some time after it has given the interface the address; what comes before that is lost.
#[must_use]
pub fn deliver_6(address: Ipv6Addr, link: u32) -> Request {
    let (family, scope) = (libc::AF_INET6 as u8, libc::RT_SCOPE_HOST);
    let head = [family, 128, 0, 0, TABLE_LOCAL, STATIC, scope, LOCAL, 0, 0, 0, 0];
    let mut request = Request::new(libc::RTM_NEWROUTE, flags::CREATE | flags::REPLACE, &head);
    request.ip(libc::RTA_DST, address.into()).u32(libc::RTA_OIF, link);
    request
}

/// Every address of IPv6 of the socket's namespace.
///
/// # Errors
///
/// As [`Socket::list`]; a kernel without IPv6 has none, which is no error.
pub fn addresses_6(socket: &mut Socket) -> Result<Vec<Address6>, NetlinkError> {
    let head = address_header(0, libc::AF_INET6 as u8, 0);
    let request = Request::new(libc::RTM_GETADDR, flags::DUMP, &head);
    let answers = socket.list("list addresses of IPv6", request)?;
    Ok(answers.iter().filter_map(read_address).collect())
}

/// Every route of IPv6 of the socket's namespace, of all tables.
///
/// # Errors
///
/// As [`Socket::list`]; a kernel without IPv6 has none, which is no error.
pub fn routes_6(socket: &mut Socket) -> Result<Vec<Route6>, NetlinkError> {
    let mut head = [0_u8; 12];
    head[0] = libc::AF_INET6 as u8;
    let request = Request::new(libc::RTM_GETROUTE, flags::DUMP, &head);
    let answers = socket.list("list routes of IPv6", request)?;
    Ok(answers.iter().filter_map(read_route).collect())
}

fn read_address(answer: &Answer) -> Option<Address6> {
    if answer.kind != libc::RTM_NEWADDR {
        return None;
    }
    let (head, attributes) = answer.split::<8>()?;
    let [family, prefix, ..] = *head;
    if i32::from(family) != libc::AF_INET6 {
        return None; // a kernel without IPv6 lists those that it has
    }
    let local = attributes.find_ipv6(libc::IFA_LOCAL);
    let address = local.or_else(|| attributes.find_ipv6(libc::IFA_ADDRESS))?;
    Some(Address6 { link: read_link_index(head), address, prefix })
}

fn read_route(answer: &Answer) -> Option<Route6> {
    if !matches!(answer.kind, libc::RTM_NEWROUTE | libc::RTM_DELROUTE) {
        return None;
    }
    let (head, attributes) = answer.split::<12>()?;
    let [family, prefix, _, _, _, _, _, kind, ..] = *head;
    if i32::from(family) != libc::AF_INET6 || kind != UNICAST {
        return None;
    }
    Some(Route6 {
        destination: attributes.find_ipv6(libc::RTA_DST).unwrap_or(Ipv6Addr::UNSPECIFIED),
        prefix,
        link: attributes.find_u32(libc::RTA_OIF),
        direct: attributes.find(libc::RTA_GATEWAY).is_none()
            && attributes.find(VIA).is_none()
            && attributes.find(libc::RTA_MULTIPATH).is_none(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::split_answers;

    #[test]
    fn what_leads_nowhere_is_no_route() {
        let announced = |kind: u8, gateway: bool| {
            let mut head = [0_u8; 12];
            head[0] = libc::AF_INET6 as u8;
            head[1] = 64;
            head[7] = kind;
            let mut request = Request::new(libc::RTM_NEWROUTE, 0, &head);
            let destination: Ipv6Addr = "2001:db8::".parse().unwrap();
            request.ip(libc::RTA_DST, destination.into()).u32(libc::RTA_OIF, 3);
            if gateway {
                request.ip(libc::RTA_GATEWAY, Ipv6Addr::LOCALHOST.into());
            }
            Route6::announced(&split_answers(request.finish(1).unwrap())[0])
        };
        let route = announced(UNICAST, false).unwrap();
        assert_eq!((route.prefix, route.link, route.direct), (64, Some(3), true));
        assert_eq!(route.destination, "2001:db8::".parse::<Ipv6Addr>().unwrap());
        assert!(!announced(UNICAST, true).unwrap().direct);
        assert_eq!(announced(2, false), None, "delivered to the host");
    }
}
