//! The network of sandboxes: a namespace and a routed pair of interfaces each, and the rules
//! that keep them from each other and from the host.
//!
//! ```text
//!   sandbox                         host
//!   +---------------------+         +-------------------------------------------+
//!   | lo    127.0.0.1 ::1 |         |  lo: gateway address/32  <- resolver :53  |
//!   | eth0  X/32 ---------+--veth---+- wrn<slot>   route X/32    --> rules, NAT |--> outside
//!   |  default via gateway|         |                                           |
//!   +---------------------+         +-------------------------------------------+
//! ```
//!
//! - There is no bridge, so no shared wire: two sandboxes meet only in the host's forwarding,
//!   where the rules of [`rules`] refuse it.
//! - A sandbox's namespace belongs to the user namespace of the server, not to the sandbox's: root
//!   inside has no power over its interfaces and cannot take another address.
//! - The address follows from the slot ([`subnet`]), so a packet's source names the sandbox.
//! - Nothing is held by name: a namespace is a descriptor, and its interfaces go with it.
//! - Rules stay when the server dies; sandboxes outlive it and stay policed.
//!
//! Everything here blocks for the length of a few system calls; call it from threads that may.
//! No process is started. What is not here: who gets which slot, and remembering it.

pub mod rules;
pub mod subnet;
mod worker;

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, sockopt::socket_error},
};
use warren_sys::{
    netlink::{
        NetlinkError, Socket,
        message::Request,
        route::{self, Hop, Ipv4Setting, LOOPBACK_INDEX, MacAddress, VethPair},
    },
    netns,
};

pub use subnet::{Subnet, SubnetError};
use worker::Workers;

/// What every interface of ours on the host is called, before its slot.
pub const INTERFACE_PREFIX: &str = "wrn";
/// The label of our gateway addresses on `lo`, before the instance's index.
const LABEL_PREFIX: &str = "lo:wrn";
/// Index of the sandbox's end of the pair; its namespace is new, so the number is free.
const GUEST_LINK: u32 = 2;
/// Name of the sandbox's end.
const GUEST_LINK_NAME: &str = "eth0";
/// Interfaces of an instance are in the group of this number plus its index.
const GROUP_BASE: u32 = 0x7772_6e00;
/// The group of interfaces that are about to be removed together, plus the instance's index.
const DOOMED_BASE: u32 = 0x7772_6f00;
/// The packet size of ordinary Ethernet; no sandbox is given more.
const ETHERNET_MTU: u32 = 1500;
/// The least that IPv6 and most of the world's servers ask for.
const LEAST_MTU: u32 = 1280;
/// How long a connection to a port of a sandbox may take: a full backlog never answers.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// How to set the network up.
#[derive(Clone, Debug, Default)]
pub struct NetConfig {
    /// Names the table of rules, `warren-<instance>`; at most 64 of `[a-z0-9-]`.
    pub instance: String,
    /// Number of this instance among those of the host, unique, below
    /// [`subnet::GATEWAYS`]: decides the gateway address and the interfaces' group.
    pub index: u8,
    /// The addresses to use, shared by all instances of the host. `None` takes what this instance
    /// used before if its gateway address is still there, else the first candidate that does
    /// not overlap an address or a route of the host.
    pub subnet: Option<Subnet>,
    /// Networks that sandboxes may reach although they lie in a blocked range.
    pub allow: Vec<Subnet>,
}

/// Why the network could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel refused something.
    #[error("could not {operation}")]
    Netlink {
        /// What was being done.
        operation: &'static str,
        /// Why.
        #[source]
        source: NetlinkError,
    },
    /// A system call or a file of `/proc/sys` failed.
    #[error("could not {operation}")]
    Host {
        /// What was being done.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The configuration's addresses cannot be used.
    #[error("could not choose addresses for sandboxes")]
    Subnet(#[from] SubnetError),
    /// The instance's name or index is not one.
    #[error("not an instance: `{instance}`, index {index}")]
    Instance {
        /// The name given.
        instance: String,
        /// The index given.
        index: u8,
    },
    /// The thread that was to do it ended.
    #[error("the thread that was to {operation} has ended")]
    Worker {
        /// What it was doing.
        operation: &'static str,
    },
}

impl NetError {
    fn netlink(operation: &'static str) -> impl FnOnce(NetlinkError) -> Self {
        move |source| Self::Netlink { operation, source }
    }

    fn host<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Host { operation, source: source.into() }
    }
}

/// The network of one instance on this host (in the network namespace of the thread that opened
/// it). Dropping it leaves everything as it is, for sandboxes outlive the server.
#[derive(Debug)]
pub struct Net {
    config: NetConfig,
    subnet: Subnet,
    gateway: Ipv4Addr,
    mtu: u32,
    forwarding_was_on: bool,
    socket: Mutex<Socket>,
    workers: Arc<Workers>,
}

/// A sandbox's end of the network.
#[derive(Debug)]
pub struct Attached {
    /// The namespace; it and its interfaces go when this and every process in it are gone.
    pub netns: OwnedFd,
    /// The sandbox's address.
    pub address: Ipv4Addr,
    /// The host's interface to it, at most 15 bytes.
    pub interface: String,
}

impl Net {
    /// Prepares the host: the gateway address on `lo`, forwarding, and the table of rules, which
    /// replaces one of the same instance in one step.
    ///
    /// Interfaces and sandboxes that an earlier process of this instance left keep working.
    ///
    /// # Errors
    ///
    /// [`NetError`]; without the right to administer the network, `EPERM`.
    pub fn open(config: NetConfig) -> Result<Self, NetError> {
        check_instance(&config)?;
        let mut socket = Socket::route().map_err(NetError::netlink("open a netlink socket"))?;
        let subnet = choose_subnet(&mut socket, &config)?;
        let gateway = subnet.gateway(config.index)?;
        let mtu = uplink_mtu(&mut socket)?;
        let label = format!("{LABEL_PREFIX}{}", config.index);
        socket
            .transact(
                "bring up the gateway address",
                &mut [
                    route::set_link_up(LOOPBACK_INDEX),
                    route::add_address(LOOPBACK_INDEX, gateway, 32, Some(&label)),
                ],
            )
            .map_err(NetError::netlink("bring up the gateway address"))?;
        rules::install(&rules_of(&config, subnet, gateway))?;
        let forwarding_was_on = enable_forwarding()?;
        let home = netns::current().map_err(NetError::host("hold the host's namespace"))?;
        let workers = Arc::new(Workers::new(home));
        let socket = Mutex::new(socket);
        Ok(Self { config, subnet, gateway, mtu, forwarding_was_on, socket, workers })
    }

    /// Makes a namespace that is connected to the host, with the address of this slot.
    ///
    /// Inside are `lo` and `eth0` with a default route; any port may be bound and `ping` works for
    /// everyone; there is no IPv6 beyond `::1`. An interface that an earlier user of the slot left
    /// is removed first.
    ///
    /// # Errors
    ///
    /// [`NetError`]; nothing is left then. [`SubnetError::Slot`] when the subnet has no such slot.
    pub fn attach(&self, slot: u32) -> Result<Attached, NetError> {
        let address = self.subnet.guest(slot)?;
        let interface = interface_name(slot);
        let (netns, guest) = self.workers.run("make a network namespace", new_namespace)??;
        let link = self.connect(slot, &interface, netns.as_fd())?;
        let configured = configure_guest(guest, self.gateway, address, slot)
            .and_then(|()| self.configure_host(slot, &interface, link, address));
        if let Err(error) = configured {
            let _removed_with_the_namespace = self.detach(slot);
            return Err(error);
        }
        Ok(Attached { netns, address, interface })
    }

    /// Makes a namespace with `lo` alone.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn isolated(&self) -> Result<OwnedFd, NetError> {
        let (netns, mut guest) = self.workers.run("make a network namespace", new_namespace)??;
        guest
            .transact("switch loopback on", &mut [route::set_link_up(LOOPBACK_INDEX)])
            .map_err(NetError::netlink("switch loopback on"))?;
        Ok(netns)
    }

    /// Removes the interface of a slot, and with it the way to its sandbox. Doing so again is not
    /// an error.
    ///
    /// # Errors
    ///
    /// [`NetError::Netlink`].
    pub fn detach(&self, slot: u32) -> Result<(), NetError> {
        let removed = self
            .socket()
            .transact("remove an interface", &mut [route::delete_link(&interface_name(slot))]);
        unless(removed, Errno::NODEV).map_err(NetError::netlink("remove an interface"))
    }

    /// Removes the interfaces of several slots for about the price of one.
    ///
    /// # Errors
    ///
    /// [`NetError::Netlink`].
    pub fn detach_all(&self, slots: &[u32]) -> Result<(), NetError> {
        let doomed = DOOMED_BASE + u32::from(self.config.index);
        let mut socket = self.socket();
        for some in slots.chunks(64) {
            for slot in some {
                let moved = socket.transact(
                    "mark an interface for removal",
                    &mut [route::set_link_group(&interface_name(*slot), doomed)],
                );
                unless(moved, Errno::NODEV)
                    .map_err(NetError::netlink("mark an interface for removal"))?;
            }
            let removed = socket
                .transact("remove marked interfaces", &mut [route::delete_link_group(doomed)]);
            unless(removed, Errno::NODEV).map_err(NetError::netlink("remove marked interfaces"))?;
        }
        Ok(())
    }

    /// Removes every interface of this instance whose slot is not among `live_slots`, and puts the
    /// rules back if somebody removed them. Returns the slots that were removed.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn reconcile(&self, live_slots: &[u32]) -> Result<Vec<u32>, NetError> {
        self.ensure_rules()?;
        let live: HashSet<u32> = live_slots.iter().copied().collect();
        let leftovers: Vec<u32> =
            self.slots()?.into_iter().filter(|slot| !live.contains(slot)).collect();
        self.detach_all(&leftovers)?;
        Ok(leftovers)
    }

    /// Puts the rules back if somebody removed them (`nft flush ruleset`, a firewall's restart).
    /// Returns whether that was necessary.
    ///
    /// # Errors
    ///
    /// [`NetError::Netlink`].
    pub fn ensure_rules(&self) -> Result<bool, NetError> {
        let rules = rules_of(&self.config, self.subnet, self.gateway);
        let missing = !rules::installed(&rules)?;
        if missing {
            rules::install(&rules)?;
        }
        Ok(missing)
    }

    /// Removes what [`Net::open`] made for this instance, and interfaces that are left. Forwarding
    /// stays on, for others may have come to rely on it.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn close(self) -> Result<(), NetError> {
        self.detach_all(&self.slots()?)?;
        rules::remove(&self.config.instance)?;
        let removed = self.socket().transact(
            "remove the gateway address",
            &mut [route::delete_address(LOOPBACK_INDEX, self.gateway, 32)],
        );
        unless(removed, Errno::ADDRNOTAVAIL)
            .map_err(NetError::netlink("remove the gateway address"))
    }

    /// The address of this instance on the host that sandboxes can reach, on port 53 alone.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// The addresses in use; give them back in [`NetConfig::subnet`] at the next start.
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// Whether `net.ipv4.ip_forward` was on before [`Net::open`]; it is on now.
    pub fn forwarding_was_on(&self) -> bool {
        self.forwarding_was_on
    }

    /// One sentence for people.
    pub fn description(&self) -> String {
        format!(
            "sandboxes have addresses of {} (gateway {}, packets of up to {} bytes), IPv4 only, \
             and reach public addresses through NAT",
            self.subnet, self.gateway, self.mtu
        )
    }

    /// Connects to a TCP port on the loopback of a sandbox: 127.0.0.1, then ::1.
    ///
    /// # Errors
    ///
    /// [`NetError::Host`]: refused, or not answered in five seconds.
    pub fn dial(&self, netns: BorrowedFd<'_>, port: u16) -> Result<TcpStream, NetError> {
        let inside = netns.try_clone_to_owned().map_err(NetError::host("hold a namespace"))?;
        let [four, six] = self.workers.run("open a socket in a namespace", move |_home| {
            netns::enter(inside.as_fd()).map_err(NetError::host("enter a namespace"))?;
            Ok::<_, NetError>([AddressFamily::INET, AddressFamily::INET6].map(|family| {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                rustix::net::socket_with(family, SocketType::STREAM, flags, None)
            }))
        })??;
        let connected = four.map_err(io::Error::from).and_then(|socket| {
            connect(socket, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into())
        });
        let connected = connected.or_else(|first| {
            let address = SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, port, 0, 0);
            let socket = six.map_err(io::Error::from)?;
            connect(socket, address.into()).map_err(|_second| first)
        });
        connected.map_err(NetError::host("connect to a port of a sandbox"))
    }

    /// Slots of all interfaces of this instance.
    fn slots(&self) -> Result<Vec<u32>, NetError> {
        let links = route::links(&mut self.socket())
            .map_err(NetError::netlink("list network interfaces"))?;
        let index = u32::from(self.config.index);
        let ours = [GROUP_BASE + index, DOOMED_BASE + index];
        let slots = links.iter().filter(|link| ours.contains(&link.group));
        Ok(slots
            .filter_map(|link| link.name.strip_prefix(INTERFACE_PREFIX)?.parse().ok())
            .collect())
    }

    /// Makes the pair; returns the index of the host's end.
    fn connect(
        &self,
        slot: u32,
        name: &str,
        peer_namespace: BorrowedFd<'_>,
    ) -> Result<u32, NetError> {
        let operation = "make a pair of interfaces";
        let create = route::create_veth(&VethPair {
            name,
            mac: mac(Side::Host, slot),
            group: GROUP_BASE + u32::from(self.config.index),
            peer_name: GUEST_LINK_NAME,
            peer_mac: mac(Side::Guest, slot),
            peer_index: GUEST_LINK,
            peer_namespace,
            mtu: self.mtu,
        });
        let mut socket = self.socket();
        let mut made = socket.transact(operation, &mut [create.clone()]);
        if made.as_ref().is_err_and(|error| refused_with(error, Errno::EXIST)) {
            // Left by an earlier user of the slot whose namespace is on its way out.
            let removed = socket.transact(operation, &mut [route::delete_link(name)]);
            unless(removed, Errno::NODEV).map_err(NetError::netlink(operation))?;
            made = socket.transact(operation, &mut [create]);
        }
        made.map_err(NetError::netlink(operation))?;
        let link = route::link(&mut socket, name).map_err(NetError::netlink(operation))?;
        link.map(|link| link.index)
            .ok_or_else(|| NetError::host(operation)(io::Error::from(Errno::NODEV)))
    }

    /// Settings, route and neighbour of the host's end.
    fn configure_host(
        &self,
        slot: u32,
        name: &str,
        link: u32,
        address: Ipv4Addr,
    ) -> Result<(), NetError> {
        disable_ipv6(name).map_err(NetError::host("switch IPv6 off on an interface"))?;
        let alias = format!("warren {} slot {slot}", self.config.instance);
        let source = Some(self.gateway);
        let mut requests = [
            route::configure_link(name, &alias, &HOST_SETTINGS),
            route::set_link_up(link),
            route::add_route(address, 32, link, Hop::Direct { source }),
            route::add_neighbour(link, address, mac(Side::Guest, slot)),
        ];
        self.socket()
            .transact("set up the host's interface", &mut requests)
            .map_err(NetError::netlink("set up the host's interface"))
    }

    fn socket(&self) -> MutexGuard<'_, Socket> {
        // Every exchange has its own sequence numbers, so one that panicked spoils no other.
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the host's end of each pair is told, whatever the host's defaults are.
const HOST_SETTINGS: [(Ipv4Setting, u32); 5] = [
    (Ipv4Setting::Forwarding, 1),
    (Ipv4Setting::ReversePathFilter, 1),
    (Ipv4Setting::AcceptRedirects, 0),
    (Ipv4Setting::SendRedirects, 0),
    (Ipv4Setting::AcceptSourceRoute, 0),
];

/// The name of the host's interface of a slot.
pub fn interface_name(slot: u32) -> String {
    format!("{INTERFACE_PREFIX}{slot}")
}

#[derive(Clone, Copy)]
enum Side {
    Host,
    Guest,
}

/// A locally administered hardware address. It need only be the same on both tables: the wire has
/// two ends.
fn mac(side: Side, slot: u32) -> MacAddress {
    let [a, b, c, d] = slot.to_be_bytes();
    let side = match side {
        Side::Host => 0x00,
        Side::Guest => 0x01,
    };
    [0x02, side, a, b, c, d]
}

fn check_instance(config: &NetConfig) -> Result<(), NetError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let name = config.instance.as_bytes();
    let good = !name.is_empty() && name.len() <= 64 && name.iter().copied().all(allowed);
    if good && u32::from(config.index) < subnet::GATEWAYS {
        return Ok(());
    }
    Err(NetError::Instance { instance: config.instance.clone(), index: config.index })
}

fn rules_of(config: &NetConfig, subnet: Subnet, gateway: Ipv4Addr) -> rules::Rules {
    rules::Rules {
        instance: config.instance.clone(),
        group: GROUP_BASE + u32::from(config.index),
        subnet,
        gateway,
        allow: config.allow.clone(),
    }
}

/// The subnet that is configured, that this instance used before, or that is free.
fn choose_subnet(socket: &mut Socket, config: &NetConfig) -> Result<Subnet, NetError> {
    if let Some(subnet) = config.subnet {
        return Ok(subnet);
    }
    let operation = "look at the host's addresses and routes";
    let links = route::links(socket).map_err(NetError::netlink(operation))?;
    let addresses = route::addresses(socket).map_err(NetError::netlink(operation))?;
    let routes = route::routes(socket).map_err(NetError::netlink(operation))?;
    let ours = |label: &Option<String>| {
        label.as_deref().is_some_and(|label| label.starts_with(LABEL_PREFIX))
    };
    let (gateways, foreign): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| ours(&address.label));
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
fn uplink_mtu(socket: &mut Socket) -> Result<u32, NetError> {
    let operation = "look at the host's default route";
    let routes = route::routes(socket).map_err(NetError::netlink(operation))?;
    let default = routes.iter().filter(|route| route.prefix == 0).min_by_key(|route| route.metric);
    let Some(index) = default.and_then(|route| route.link) else { return Ok(ETHERNET_MTU) };
    let links = route::links(socket).map_err(NetError::netlink(operation))?;
    let mtu = links.iter().find(|link| link.index == index).map(|link| link.mtu);
    Ok(mtu.unwrap_or(ETHERNET_MTU).clamp(LEAST_MTU, ETHERNET_MTU))
}

/// Lets the host pass packets on; returns whether it did before.
fn enable_forwarding() -> Result<bool, NetError> {
    const PATH: &str = "/proc/sys/net/ipv4/ip_forward";
    let operation = "switch forwarding on (net.ipv4.ip_forward)";
    let before = std::fs::read_to_string(PATH).map_err(NetError::host(operation))?;
    if before.trim() == "1" {
        return Ok(true);
    }
    std::fs::write(PATH, "1").map_err(NetError::host(operation))?;
    Ok(false)
}

/// Runs on a worker: makes a namespace with its settings, and a netlink socket in it.
fn new_namespace(_home: BorrowedFd<'_>) -> Result<(OwnedFd, Socket), NetError> {
    netns::unshare().map_err(NetError::host("make a network namespace"))?;
    let namespace = netns::current().map_err(NetError::host("hold a network namespace"))?;
    // The namespace belongs to the server's user namespace, so nobody inside has the capability
    // to bind low ports or to ping; both are open to all instead, each guest has its own ports.
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
        .map_err(NetError::host("open low ports in a namespace"))?;
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", ping_groups()?)
        .map_err(NetError::host("allow ping in a namespace"))?;
    disable_ipv6("default").map_err(NetError::host("switch IPv6 off in a namespace"))?;
    let socket = Socket::route().map_err(NetError::netlink("open a socket in a namespace"))?;
    Ok((namespace, socket))
}

/// The range of group ids that may ping: all that this user namespace can name.
fn ping_groups() -> Result<String, NetError> {
    let map = std::fs::read_to_string("/proc/self/gid_map")
        .map_err(NetError::host("read the map of group ids"))?;
    Ok(widest_range(&map).map_or_else(|| "0 0".to_owned(), |(low, high)| format!("{low} {high}")))
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
    let lowest = extents.iter().min_by_key(|[_, outside, _]| *outside)?;
    let highest = extents.iter().max_by_key(|[_, outside, count]| outside + count)?;
    let [inside, _, count] = *highest;
    Some((lowest.first().copied()?, (inside + count - 1).min(LARGEST)))
}

/// Switches IPv6 off on an interface of the calling thread's namespace, or for those to come.
fn disable_ipv6(interface: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(interface).join("disable_ipv6");
    match std::fs::write(path, "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()), // a kernel without IPv6
        result => result,
    }
}

/// Interfaces, address and routes inside.
fn configure_guest(
    mut socket: Socket,
    gateway: Ipv4Addr,
    address: Ipv4Addr,
    slot: u32,
) -> Result<(), NetError> {
    let any = Ipv4Addr::UNSPECIFIED;
    let mut requests: [Request; 6] = [
        route::set_link_up(LOOPBACK_INDEX),
        route::set_link_up(GUEST_LINK),
        route::add_address(GUEST_LINK, address, 32, None),
        route::add_route(gateway, 32, GUEST_LINK, Hop::Direct { source: None }),
        route::add_route(any, 0, GUEST_LINK, Hop::Via(gateway)),
        route::add_neighbour(GUEST_LINK, gateway, mac(Side::Host, slot)),
    ];
    socket
        .transact("set up a sandbox's interface", &mut requests)
        .map_err(NetError::netlink("set up a sandbox's interface"))
}

/// Connects a non-blocking socket within [`DIAL_TIMEOUT`] and makes it blocking.
fn connect(socket: OwnedFd, address: SocketAddr) -> io::Result<TcpStream> {
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            let mut waiting = [PollFd::new(&socket, PollFlags::OUT)];
            let timeout = Timespec::try_from(DIAL_TIMEOUT)
                .map_err(|_too_long| io::ErrorKind::InvalidInput)?;
            if poll(&mut waiting, Some(&timeout))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            socket_error(&socket)??;
        }
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Takes one error number as success.
fn unless(result: Result<(), NetlinkError>, errno: Errno) -> Result<(), NetlinkError> {
    match result {
        Err(error) if refused_with(&error, errno) => Ok(()),
        other => other,
    }
}

fn refused_with(error: &NetlinkError, errno: Errno) -> bool {
    error.errno() == Some(errno.raw_os_error())
}
