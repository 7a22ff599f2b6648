//! The network of sandboxes: a namespace and a routed pair of interfaces each, and the rules
//! that keep them from each other and from the host.
//!
//! ```text
//!   sandbox                         host
//!   +---------------------+         +-------------------------------------------+
//!   | lo    127.0.0.1 ::1 |         |  lo: gateway address/32  <- resolver :53  |
//!   | eth0  X/32 ---------+--veth---+- wrn<slot>   route X/32    --> rules, NAT |--> outside
//!   |  default via gateway|         |                                           |
//!   |  the same by IPv6   |         |                          (see `six.rs`)   |
//!   +---------------------+         +-------------------------------------------+
//! ```
//!
//! - There is no bridge, so no shared wire: two sandboxes meet only in the host's forwarding,
//!   where the rules (`rules.rs`) refuse it.
//! - A sandbox's namespace belongs to the user namespace of the server, not to the sandbox's: root
//!   inside has no power over its interfaces and cannot take another address.
//! - The address follows from the slot ([`Subnet::guest`]), so a packet's source names the sandbox.
//! - Nothing is held by name: a namespace is a descriptor, and its interfaces go with it.
//! - Rules stay when the server dies; sandboxes outlive it and stay policed.
//!
//! Everything here blocks for the length of a few system calls; call it from threads that may.
//! No process is started. What is not here: who gets which slot, and remembering it.

pub mod broker;
pub mod credentials;
mod dial;
mod flows;
pub mod gate;
mod guard;
mod host;
mod listener;
pub mod outside;
mod pair;
pub mod policy;
mod removal;
pub mod resolver;
mod rules;
mod shape;
pub(crate) mod six;
mod subnet;
pub mod uplink;
mod worker;

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::io::Errno;
use warren_core::{egress::IpNetwork, runtime::Traffic};
use warren_sys::{
    netlink::{
        NetlinkError, Socket,
        route::{self, LOOPBACK_INDEX},
    },
    netns,
};

use credentials::Given;
pub use dial::Dialling;
use flows::Flows;
use guard::Guard;
use outside::Outside;
use pair::Pair;
pub use pair::interface_name;
use policy::{Before, Policies, Policy, Setting};
use removal::Removal;
use rules::{Groups, Rules};
pub use subnet::{GATEWAYS, Subnet, SubnetError};
use worker::Workers;

/// What every interface of ours on the host is called, before its slot.
pub const INTERFACE_PREFIX: &str = "wrn";
/// The label of our gateway addresses on `lo`, before the instance's index.
pub(crate) const LABEL_PREFIX: &str = "lo:wrn";
/// How to set the network up.
#[derive(Clone, Debug, Default)]
pub struct NetConfig {
    /// Names the table of rules, `warren-<instance>`; at most 64 of `[a-z0-9-]`.
    pub instance: String,
    /// Number of this instance among those of the host, unique, below
    /// [`GATEWAYS`]: decides the gateway address and the interfaces' group.
    pub index: u8,
    /// The addresses to use, shared by all instances of the host. `None` takes what this instance
    /// used before if its gateway address is still there, else the first candidate that does
    /// not overlap an address or a route of the host.
    pub subnet: Option<Subnet>,
    /// Networks that sandboxes may reach although they lie in a blocked range.
    pub allow: Vec<IpNetwork>,
    /// Whether sandboxes have no IPv6 even where the host has a way out by it.
    pub without_six: bool,
    /// The host, where the server is in a namespace of its own: its addresses are closed as well.
    pub outside: Option<Arc<Outside>>,
    /// What sandboxes that an earlier server left are held to: it holds without a gap.
    pub before: Vec<Before>,
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
    removal: Removal,
    flows: Flows,
    guard: Arc<Guard>,
    policies: Arc<Policies>,
    workers: Arc<Workers>,
}

/// A sandbox's end of the network.
#[derive(Debug)]
pub struct Attached {
    /// The namespace; it and its interfaces go when this and every process in it are gone.
    pub netns: OwnedFd,
    /// The sandbox's address.
    pub address: Ipv4Addr,
    /// Its address of IPv6, where it has one.
    pub address_6: Option<Ipv6Addr>,
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
    pub fn open(mut config: NetConfig) -> Result<Self, NetError> {
        check_instance(&config)?;
        let mut socket = Socket::route().map_err(NetError::netlink("open a netlink socket"))?;
        let subnet = host::choose_subnet(&mut socket, &config)?;
        let gateway = subnet.gateway(config.index)?;
        let mtu = host::uplink_mtu(&mut socket)?;
        let home = netns::current().map_err(NetError::host("hold the host's namespace"))?;
        let workers = Arc::new(Workers::new(home));
        let groups = Groups::of(config.index);
        let (instance, allow) = (config.instance.clone(), config.allow.clone());
        let host = config.outside.as_ref().map(|it| it.addresses()).transpose()?;
        let setting = Setting {
            instance: &config.instance,
            index: config.index,
            subnet,
            gateway,
            allow: allow.clone(),
            host,
            before: std::mem::take(&mut config.before),
        };
        let policies = Policies::new(setting, &workers)?;
        let listening = policy::bind(&policies, &workers);
        let six = !config.without_six;
        if six {
            six::follow(&policies, &workers);
        }
        let held = Arc::clone(&policies);
        let rules = Rules { instance, groups, subnet, gateway, allow, six, policies: held };
        let guard = Guard::start(rules, &workers)?; // before there is anything to police
        if let Some(outside) = &config.outside {
            let operation = "follow the host's own addresses";
            outside.follow(&policies).map_err(NetError::host(operation))?;
        }
        if let Err(error) = listening.and_then(|socket| policy::listen(&policies, socket)) {
            let cause = &error as &dyn std::error::Error;
            tracing::warn!(error = cause, "what sandboxes are denied is counted and not told");
        }
        let label = format!("{LABEL_PREFIX}{}", config.index);
        let operation = "bring up the gateway address";
        let mut requests = [
            route::set_link_up(LOOPBACK_INDEX),
            route::add_address(LOOPBACK_INDEX, gateway, 32, Some(&label)),
        ];
        socket.transact(operation, &mut requests).map_err(NetError::netlink(operation))?;
        let forwarding_was_on = host::enable_forwarding()?;
        let (socket, removal) = (Mutex::new(socket), Removal::new(groups));
        Ok(Self {
            config,
            subnet,
            gateway,
            mtu,
            forwarding_was_on,
            socket,
            removal,
            flows: Flows::default(),
            guard,
            policies,
            workers,
        })
    }

    /// Makes a namespace that is connected to the host, with the address of this slot.
    ///
    /// Inside are `lo` and `eth0` with a default route; any port may be bound and `ping` works for
    /// everyone; there is IPv6 where the host has a way out by it, and else none beyond `::1`. An
    /// interface that an earlier user of the slot left is removed first.
    ///
    /// # Errors
    ///
    /// [`NetError`]; nothing is left then. [`SubnetError::Slot`] when the subnet has no such slot.
    pub fn attach(&self, slot: u32) -> Result<Attached, NetError> {
        let address = self.subnet.guest(slot)?;
        // Whoever had the slot before may have left rules.
        self.policies.forget(slot)?;
        let six = self.policies.outside().is_reached();
        let (netns, mut guest) = self
            .workers
            .run("make a network namespace", move |_home| pair::new_namespace(six))??;
        let pair = Pair {
            instance: &self.config.instance,
            slot,
            group: Groups::of(self.config.index).live,
            gateway: self.gateway,
            address,
            six,
            mtu: self.mtu,
        };
        let link = pair.create(&mut self.socket(), netns.as_fd())?;
        let configured = self.configure(&pair, link, &mut guest);
        if let Err(error) = configured {
            // What it cannot remove goes with the namespace, which nobody holds any more.
            let _best_effort = self.detach(slot);
            return Err(error);
        }
        let address_6 = six.then(|| six::address_of(address));
        Ok(Attached { netns, address, address_6, interface: interface_name(slot) })
    }

    /// Makes a namespace with `lo` alone.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn isolated(&self) -> Result<OwnedFd, NetError> {
        let (netns, mut guest) =
            self.workers.run("make a network namespace", |_home| pair::new_namespace(false))??;
        pair::configure_isolated(&mut guest).map_err(NetError::netlink("switch loopback on"))?;
        Ok(netns)
    }

    /// Removes the interface of a slot, and with it the way to its sandbox. Doing so again is not
    /// an error.
    ///
    /// Takes some 20 ms, which callers at the same time share. Where nobody waits for the end,
    /// closing [`Attached::netns`] does the same in the background once the sandbox is gone.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn detach(&self, slot: u32) -> Result<(), NetError> {
        self.detach_all(&[slot])
    }

    /// Removes the interfaces of several slots for about the price of one.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn detach_all(&self, slots: &[u32]) -> Result<(), NetError> {
        self.removal.remove(&self.workers, slots)?;
        let addresses = slots.iter().filter_map(|slot| self.subnet.guest(*slot).ok());
        let both = addresses.flat_map(|it| [IpAddr::V4(it), IpAddr::V6(six::address_of(it))]);
        self.flows.forget(&self.workers, both)?;
        // After the interfaces: nothing is open for a moment before it goes.
        slots.iter().try_for_each(|slot| self.policies.forget(*slot))
    }

    /// What each sandbox may reach.
    pub fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    /// Changes what the sandbox in a slot may reach, and how fast; none for everything. `netns` is
    /// its namespace.
    ///
    /// # Errors
    ///
    /// [`NetError`]; the rules are as they were then, or the new ones.
    pub fn set_policy(
        &self,
        slot: u32,
        policy: Option<Policy>,
        netns: BorrowedFd<'_>,
    ) -> Result<(), NetError> {
        let bandwidth = |policy: &Option<Policy>| {
            policy.as_ref().map(|it| it.egress.bandwidth).unwrap_or_default()
        };
        let (before, after) = (bandwidth(&self.policies.policy(slot)), bandwidth(&policy));
        match self.policies.set(slot, policy.clone()) {
            // Somebody removed the table, and it is not back yet.
            Err(NetError::Netlink { source, .. }) if refused_with(&source, Errno::NOENT) => {
                self.ensure_rules()?;
                self.policies.set(slot, policy)?;
            }
            other => other?,
        }
        if before != after {
            shape::set(&self.workers, &mut self.socket(), slot, after, netns)?;
        }
        Ok(())
    }

    /// Changes what requests of the sandbox in a slot are given.
    ///
    /// # Errors
    ///
    /// [`NetError`]; it is as it was then.
    pub fn give(&self, slot: u32, given: Given) -> Result<(), NetError> {
        match self.policies.give(slot, given.clone()) {
            // Somebody removed the table, and it is not back yet.
            Err(NetError::Netlink { source, .. }) if refused_with(&source, Errno::NOENT) => {
                self.ensure_rules()?;
                self.policies.give(slot, given)
            }
            other => other,
        }
    }

    /// What went over the interface of a slot; none where it has none.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn traffic(&self, slot: u32) -> Result<Option<Traffic>, NetError> {
        let operation = "read the counters of an interface";
        let counts = route::counts(&mut self.socket(), &interface_name(slot));
        let Some(counts) = counts.map_err(NetError::netlink(operation))? else { return Ok(None) };
        let (connections, denied) = match self.policies.policy(slot) {
            Some(_) => self.policies.counts(slot)?,
            None => (0, 0),
        };
        // What comes in at the host is what the sandbox sent.
        Ok(Some(Traffic {
            sent_bytes: counts.received_bytes,
            received_bytes: counts.sent_bytes,
            sent_packets: counts.received_packets,
            received_packets: counts.sent_packets,
            connections,
            denied,
        }))
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

    /// Puts the rules back if somebody removed them; returns whether that was necessary. A thread
    /// does so by itself whenever the kernel announces a change of packet filters.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn ensure_rules(&self) -> Result<bool, NetError> {
        self.guard.ensure()
    }

    /// Removes what [`Net::open`] made for this instance, and interfaces that are left. Forwarding
    /// stays on, for others may have come to rely on it.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn close(&self) -> Result<(), NetError> {
        self.detach_all(&self.slots()?)?;
        self.guard.remove()?;
        let operation = "remove the gateway address";
        let four = route::delete_address(LOOPBACK_INDEX, self.gateway, 32);
        let six = route::delete_address(LOOPBACK_INDEX, six::address_of(self.gateway), 128);
        for request in [four, six] {
            let removed = self.socket().transact(operation, &mut [request]);
            unless(removed, Errno::ADDRNOTAVAIL).map_err(NetError::netlink(operation))?;
        }
        Ok(())
    }

    /// The address of this instance on the host that sandboxes can reach, on port 53 alone.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// The addresses in use; give them back in [`NetConfig::subnet`] at the next start.
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// The address of IPv6 of this instance on the host; there while the host has a way out by IPv6.
    pub fn gateway_6(&self) -> Ipv6Addr {
        six::address_of(self.gateway)
    }

    /// Whether sandboxes that are made now have IPv6, and names are answered with its addresses.
    pub fn has_six(&self) -> bool {
        self.policies.outside().is_reached()
    }

    /// Whether `net.ipv4.ip_forward` was on before [`Net::open`]; it is on now.
    pub fn forwarding_was_on(&self) -> bool {
        self.forwarding_was_on
    }

    /// One sentence for people.
    pub fn description(&self) -> String {
        format!(
            "sandboxes have addresses of {} (gateway {}, packets of up to {} bytes), {} IPv6, and \
             reach public addresses through NAT",
            self.subnet,
            self.gateway,
            self.mtu,
            if self.has_six() { "with" } else { "without" },
        )
    }

    /// Sockets with which the loopback of a sandbox is reached.
    ///
    /// # Errors
    ///
    /// [`NetError`]: the namespace cannot be entered.
    pub fn dialling(&self, netns: BorrowedFd<'_>) -> Result<Dialling, NetError> {
        dial::sockets(&self.workers, netns)
    }

    /// Listens on a TCP port of the loopback of a sandbox: 127.0.0.1.
    ///
    /// # Errors
    ///
    /// [`NetError::Host`]: something listens there already.
    pub fn listen(&self, netns: BorrowedFd<'_>, port: u16) -> Result<TcpListener, NetError> {
        dial::listen(&self.workers, netns, port)
    }

    /// Slots of all interfaces of this instance.
    fn slots(&self) -> Result<Vec<u32>, NetError> {
        let links = route::links(&mut self.socket())
            .map_err(NetError::netlink("list network interfaces"))?;
        let groups = Groups::of(self.config.index);
        let ours = links.iter().filter(|link| groups.contain(link.group));
        Ok(ours.filter_map(|link| link.name.strip_prefix(INTERFACE_PREFIX)?.parse().ok()).collect())
    }

    /// Sets both ends of a new pair up. The host's socket is shared: each step holds it by itself.
    fn configure(&self, pair: &Pair<'_>, link: u32, guest: &mut Socket) -> Result<(), NetError> {
        pair.configure_host(&mut self.socket(), link)?;
        pair.configure_guest(guest)?;
        let (operation, name) = ("look at the host's interface", interface_name(pair.slot));
        let operational = pair::operational(&mut self.socket(), &name);
        if operational.map_err(NetError::netlink(operation))? {
            return Ok(());
        }
        pair::wait_operational(&name)
    }

    fn socket(&self) -> MutexGuard<'_, Socket> {
        // Every exchange has its own sequence numbers, so one that panicked spoils no other.
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_instance(config: &NetConfig) -> Result<(), NetError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let name = config.instance.as_bytes();
    let good = !name.is_empty() && name.len() <= 64 && name.iter().copied().all(allowed);
    if good && u32::from(config.index) < GATEWAYS {
        return Ok(());
    }
    Err(NetError::Instance { instance: config.instance.clone(), index: config.index })
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
