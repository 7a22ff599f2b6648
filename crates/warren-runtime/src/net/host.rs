//! What the host has: its addresses, its way out, and whether it passes packets on.

use std::{collections::HashSet, net::Ipv4Addr};

use warren_sys::netlink::{Socket, route};

use super::{
    INTERFACE_PREFIX, LABEL_PREFIX, NetConfig, NetError,
    subnet::{self, Subnet},
};

/// The packet size of ordinary Ethernet; no sandbox is given more.
const ETHERNET_MTU: u32 = 1500;
/// The least that IPv6 and most of the world's servers ask for.
const LEAST_MTU: u32 = 1280;

/// The subnet that is configured, that this instance used before, or that is free.
pub(super) fn choose_subnet(socket: &mut Socket, config: &NetConfig) -> Result<Subnet, NetError> {
    if let Some(subnet) = config.subnet {
        return Ok(subnet);
    }
    let operation = "look at the host's addresses and routes";
    let links = route::links(socket).map_err(NetError::netlink(operation))?;
    let addresses = route::addresses(socket).map_err(NetError::netlink(operation))?;
    let routes = route::routes(socket).map_err(NetError::netlink(operation))?;
    let ours = |label: Option<&str>| label.is_some_and(|label| label.starts_with(LABEL_PREFIX));
    let (gateways, foreign): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| ours(address.label.as_deref()));
    let gateways: Vec<Ipv4Addr> = gateways.iter().map(|address| address.address).collect();
    let our_links: HashSet<u32> = links
        .iter()
        .filter(|link| link.name.starts_with(INTERFACE_PREFIX))
        .map(|link| link.index)
        .collect();
    let mut taken: Vec<(Ipv4Addr, u8)> =
        foreign.iter().map(|address| (address.address, address.prefix)).collect();
    taken.extend(
        routes
            .iter()
            .filter(|route| route.prefix > 0 && !gateways.contains(&route.destination))
            .filter(|route| !route.link.is_some_and(|link| our_links.contains(&link)))
            .map(|route| (route.destination, route.prefix)),
    );
    Ok(subnet::choose(config.index, &gateways, &taken)?)
}

/// The packet size of the interface with the default route, within reason.
pub(super) fn uplink_mtu(socket: &mut Socket) -> Result<u32, NetError> {
    let operation = "look at the host's default route";
    let routes = route::routes(socket).map_err(NetError::netlink(operation))?;
    let default = routes.iter().filter(|route| route.prefix == 0).min_by_key(|route| route.metric);
    let Some(index) = default.and_then(|route| route.link) else { return Ok(ETHERNET_MTU) };
    let links = route::links(socket).map_err(NetError::netlink(operation))?;
    let mtu = links.iter().find(|link| link.index == index).map(|link| link.mtu);
    Ok(mtu.unwrap_or(ETHERNET_MTU).clamp(LEAST_MTU, ETHERNET_MTU))
}

/// Lets the host pass packets on; returns whether it did before.
pub(super) fn enable_forwarding() -> Result<bool, NetError> {
    const PATH: &str = "/proc/sys/net/ipv4/ip_forward";
    let operation = "switch forwarding on (net.ipv4.ip_forward)";
    let before = std::fs::read_to_string(PATH).map_err(NetError::host(operation))?;
    if before.trim() == "1" {
        return Ok(true);
    }
    std::fs::write(PATH, "1").map_err(NetError::host(operation))?;
    Ok(false)
}
