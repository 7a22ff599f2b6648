//! The network of sandboxes: what it is made of, and what on this machine stands in its way.

use std::{fs::File, io, net::Ipv4Addr, os::fd::AsFd as _, path::Path};

use rustix::thread::UnshareFlags;
use warren_sys::{
    netlink::{
        NetlinkError, Socket,
        nftables::Batch,
        route::{self, Route, VethPair},
    },
    netns,
    probe::{ForwardChain, forward_chains},
};

use super::{Check, Host, has_program, read};
use crate::config::Subnet;

const AREA: &str = "network";

pub(super) fn checks(host: &Host<'_>) -> Vec<Check> {
    if !host.is_root() {
        return vec![user_mode(host), veth(host), nf_tables(host), ping(host)];
    }
    let mut checks = vec![veth(host), nf_tables(host), forwarding(), forward_policy()];
    checks.extend(firewalls());
    checks.push(subnet(host));
    checks
}

/// An ordinary user has no part in the machine's network: a program must carry the packets.
fn user_mode(host: &Host<'_>) -> Check {
    const NAME: &str = "outbound";
    if let Err(error) = File::options().read(true).write(true).open("/dev/net/tun") {
        let found = format!("sandboxes have no network: /dev/net/tun cannot be opened ({error})");
        return Check::weaker(AREA, NAME, found)
            .mend("sudo modprobe tun && sudo chmod 666 /dev/net/tun, or run the server as root");
    }
    match ["pasta", "slirp4netns"].into_iter().find(|name| has_program(host.environment, name)) {
        Some(name) => Check::works(AREA, NAME, format!("through {name}")),
        None => Check::weaker(
            AREA,
            NAME,
            "sandboxes have no network: neither pasta nor slirp4netns is there",
        )
        .mend("sudo apt-get install passt, or run the server as root"),
    }
}

/// The program that carries packets sends echo requests only as the user may.
fn ping(host: &Host<'_>) -> Check {
    const NAME: &str = "ping";
    let range = read("/proc/sys/net/ipv4/ping_group_range").unwrap_or_default();
    if may_ping(&range, host.gid) {
        return Check::works(AREA, NAME, "sandboxes can ping");
    }
    Check::weaker(AREA, NAME, "sandboxes can not ping: this user's group may not")
        .mend("sudo sysctl -w net.ipv4.ping_group_range='0 2147483647'")
}

/// Whether a group is among those that two numbers name.
fn may_ping(range: &str, gid: u32) -> bool {
    let mut numbers = range.split_whitespace().map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => (first..=last).contains(&gid),
        _ => false,
    }
}

fn errno(error: &NetlinkError) -> io::Error {
    error.errno().map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

fn veth(host: &Host<'_>) -> Check {
    const NAME: &str = "veth";
    let tried = host.attempt(UnshareFlags::NEWNET, || {
        let mut socket = Socket::route().map_err(|error| errno(&error))?;
        let home = netns::current()?;
        let mut pair = [route::create_veth(&VethPair {
            name: "doctor0",
            mac: [2, 0, 0, 0, 0, 1],
            group: 0,
            peer_name: "doctor1",
            peer_mac: [2, 0, 0, 0, 0, 2],
            peer_index: 1000,
            peer_namespace: home.as_fd(),
            mtu: 1500,
        })];
        socket.transact("make a veth pair", &mut pair).map_err(|error| errno(&error))
    });
    match tried {
        Ok(()) => Check::works(AREA, NAME, "sandboxes are wired by pairs of interfaces"),
        Err(error) => Check::weaker(AREA, NAME, format!("sandboxes have no network: {error}"))
            .mend("sudo modprobe veth"),
    }
}

fn nf_tables(host: &Host<'_>) -> Check {
    const NAME: &str = "nf_tables";
    let tried = host.attempt(UnshareFlags::NEWNET, || {
        let mut socket = Socket::netfilter().map_err(|error| errno(&error))?;
        let mut batch = Batch::new("warren-doctor");
        batch.create_table();
        batch.apply(&mut socket, "make a table").map_err(|error| errno(&error))
    });
    match tried {
        Ok(()) => Check::works(AREA, NAME, "what sandboxes may reach is filtered"),
        Err(error) => Check::weaker(
            AREA,
            NAME,
            format!("sandboxes have no network, for it can not be filtered: {error}"),
        )
        .mend("sudo modprobe nf_tables nf_nat"),
    }
}

fn forwarding() -> Check {
    const NAME: &str = "IPv4 forwarding";
    match read("/proc/sys/net/ipv4/ip_forward").as_deref() {
        Some("1") => Check::works(AREA, NAME, "on"),
        Some(_)
            if rustix::fs::access(
                "/proc/sys/net/ipv4/ip_forward",
                rustix::fs::Access::WRITE_OK,
            )
            .is_ok() =>
        {
            Check::works(AREA, NAME, "off; the server switches it on")
        }
        _ => Check::weaker(AREA, NAME, "off, and it can not be switched on from here")
            .mend("sudo sysctl -w net.ipv4.ip_forward=1"),
    }
}

/// A packet that one chain accepts is still dropped by any other: Docker's is the usual one.
fn forward_policy() -> Check {
    const NAME: &str = "forward chains";
    const MEND: &str = "sudo iptables -I FORWARD -i 'wrn+' -j ACCEPT; \
        sudo iptables -I FORWARD -o 'wrn+' -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
    let found = Socket::netfilter().and_then(|mut socket| forward_chains(&mut socket));
    let legacy = read("/proc/net/ip_tables_names").unwrap_or_default();
    let legacy = legacy.lines().any(|table| table == "filter");
    match found {
        Ok(chains) => judge_chains(&chains, legacy, MEND),
        Err(error) => Check::weaker(
            AREA,
            NAME,
            format!("they could not be listed by netlink: {}", super::sentence(&error)),
        )
        .mend("look with `sudo nft list chains`: none with `hook forward` may have `policy drop`"),
    }
}

fn judge_chains(chains: &[ForwardChain], legacy: bool, mend: &str) -> Check {
    const NAME: &str = "forward chains";
    let dropping: Vec<_> = chains
        .iter()
        .filter(|chain| chain.drops)
        .map(|chain| format!("{} {}", chain.table, chain.name))
        .collect();
    if !dropping.is_empty() {
        let found = format!(
            "nf_tables has chains that drop what no rule accepts ({}): sandboxes may have no network. \
             Docker and firewalld make such chains",
            dropping.join(", ")
        );
        return Check::weaker(AREA, NAME, found).mend(mend);
    }
    if legacy {
        return Check::weaker(
            AREA,
            NAME,
            "nf_tables drops nothing, but the older iptables has a filter table, whose policy can not be read here",
        )
        .mend("look with `sudo iptables-legacy -S FORWARD`; where it says DROP: sudo iptables-legacy -P FORWARD ACCEPT");
    }
    let count = chains.len();
    Check::works(AREA, NAME, format!("none of {count} drops by default (listed by netlink)"))
}

fn firewalls() -> Vec<Check> {
    let mut found = Vec::new();
    if Path::new("/run/firewalld").exists() {
        found.push(
            Check::weaker(AREA, "firewalld", "it runs (/run/firewalld), and may drop what sandboxes send")
                .mend("sudo firewall-cmd --permanent --zone=trusted --add-interface=wrn+ && sudo firewall-cmd --reload"),
        );
    }
    let ufw = read("/etc/ufw/ufw.conf").unwrap_or_default();
    if ufw.lines().any(|line| line.trim() == "ENABLED=yes") {
        found.push(
            Check::weaker(
                AREA,
                "ufw",
                "it is on (/etc/ufw/ufw.conf), and drops what it does not route",
            )
            .mend("sudo ufw route allow in on wrn+"),
        );
    }
    found
}

fn subnet(host: &Host<'_>) -> Check {
    const NAME: &str = "addresses";
    let Some(subnet) = host.config.subnet else {
        return Check::works(
            AREA,
            NAME,
            "the server takes a network that no route of this machine has",
        );
    };
    match Socket::route().and_then(|mut socket| route::routes(&mut socket)) {
        Err(error) => Check::weaker(AREA, NAME, super::sentence(&error))
            .mend("look with `ip route`: no route may lead into the network that subnet names"),
        Ok(routes) => match routes.iter().find(|route| overlaps(subnet, route)) {
            None => Check::works(AREA, NAME, format!("{subnet} is free")),
            Some(route) => {
                let other = format!("{}/{}", route.destination, route.prefix);
                Check::weaker(
                    AREA,
                    NAME,
                    format!("{subnet} overlaps {other}, which this machine reaches"),
                )
                .mend("set subnet to another private network, or leave it out")
            }
        },
    }
}

/// Whether a route of the machine leads into the subnet; the default route leads everywhere, and
/// single addresses are the server's own.
fn overlaps(subnet: Subnet, route: &Route) -> bool {
    let shorter = route.prefix.min(subnet.prefix);
    let mask = u32::MAX.checked_shl(32 - u32::from(shorter)).unwrap_or(0);
    let same = |a: Ipv4Addr, b: Ipv4Addr| u32::from(a) & mask == u32::from(b) & mask;
    route.prefix > 0 && route.prefix < 32 && same(route.destination, subnet.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Value as _, doctor::Outcome};

    fn route(destination: [u8; 4], prefix: u8) -> Route {
        Route { destination: destination.into(), prefix, link: None, table: 254, metric: 0 }
    }

    #[test]
    fn a_route_into_the_subnet_is_seen_and_the_default_route_is_not() {
        let subnet = Subnet::read("10.231.0.0/16").unwrap();
        assert!(overlaps(subnet, &route([10, 0, 0, 0], 8)));
        assert!(overlaps(subnet, &route([10, 231, 7, 0], 24)));
        assert!(!overlaps(subnet, &route([10, 232, 0, 0], 16)));
        assert!(!overlaps(subnet, &route([0, 0, 0, 0], 0)));
        assert!(!overlaps(subnet, &route([10, 231, 0, 7], 32)));
    }

    #[test]
    fn groups_that_may_ping_are_told() {
        assert!(may_ping("0\t2147483647", 1000));
        assert!(!may_ping("1\t0", 0), "nobody");
        assert!(!may_ping("", 0));
    }

    #[test]
    fn a_chain_that_drops_is_named_with_what_mends_it() {
        let chain = |drops| ForwardChain { table: "filter".into(), name: "FORWARD".into(), drops };
        let check = judge_chains(&[chain(true)], false, "mend");
        assert_eq!((check.outcome, check.mend.as_deref()), (Outcome::Weaker, Some("mend")));
        assert!(check.found.contains("filter FORWARD"), "{}", check.found);
        assert_eq!(judge_chains(&[chain(false)], false, "").outcome, Outcome::Works);
        assert_eq!(judge_chains(&[], true, "").outcome, Outcome::Weaker);
    }
}
