//! What each sandbox may reach: the rules that are in force, and what is known about its names.
//!
//! ```text
//!   a packet of a sandbox
//!     is of the host, private, another sandbox ................ refused, whatever the rules say
//!     its interface has no chain ("open") ..................... accepted
//!     its connection has the mark of the rules in force ....... accepted
//!     else the rules, in order; what they allow gets the mark
//! ```
//!
//! - A sandbox without rules costs one look-up, one with rules the same and a comparison: rules are
//!   gone through once for each connection.
//! - A change of rules is one transaction with a new mark. No connection has that, so every one is
//!   decided anew with its next packet: what is still allowed goes on, what is not is reset. Nobody
//!   has to find the connections.
//! - A rule that names a domain matches addresses that the resolver has answered for the name, as
//!   long as the answer lives; a connection that is there, also those that it once answered.
//! - The rules are written into the sandbox's entry of the journal before they are in force, with
//!   their mark. So the next server, which replaces the table in one step, does it with them.

mod answers;
mod change;
mod denials;
mod parts;
mod place;
mod stored;
mod table;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::io::Errno;
use warren_core::{
    egress::{IpNetwork, reserved},
    runtime::{Denial, Reached},
};
use warren_egress::Reach;
use warren_sys::netlink::{
    Socket,
    nftables::{self, Batch},
};

use answers::ADDRESSES;
pub(super) use denials::{bind, listen};
pub(super) use place::{Answering, Place};
pub use stored::Policy;
pub(super) use table::{
    INTO_BROKER, INTO_GATE, LOOKED_AT, OUTSIDE, POLICIES, TO_GATE, create_sets,
};

use self::place::Force;
use super::{
    NetError, Subnet,
    credentials::{Given, Needs},
    refused_with,
    rules::{NEAR_6, table_name},
    six::{self, Outside, Seen},
    unless,
    worker::Workers,
};

/// For how much longer than it lives an answer opens what it names. Within that time the same answer
/// changes nothing, so a name that is asked for again and again costs a change of the rules now and
/// then.
const GRACE: Duration = Duration::from_secs(15);
/// The shortest life of an answer: a program needs some time from the answer to the connection.
const SHORTEST: Duration = Duration::from_secs(30);
/// The longest.
pub(super) const LONGEST_SECONDS: u32 = 3600;

type Listener = Box<dyn Fn(u32, Denial) + Send + Sync>;

/// The policies of one instance's sandboxes.
pub struct Policies {
    pub(super) subnet: Subnet,
    pub(super) gateway: Ipv4Addr,
    /// Networks that may be reached although they are reserved.
    allow: Vec<IpNetwork>,
    /// The addresses of the host where this namespace is not the host's.
    host: Option<RwLock<BTreeSet<Ipv4Addr>>>,
    table: String,
    /// What the host has of IPv6.
    outside: Outside,
    /// The group of [`warren_sys::netlink::nflog`] that packets are logged to.
    group: AtomicU16,
    /// Locked by whoever changes the table, so that nobody makes it of what was.
    socket: Mutex<Socket>,
    places: RwLock<HashMap<u32, Arc<Place>>>,
    gate: Mutex<Option<GatePort>>,
    broker: Mutex<Option<u16>>,
    listener: OnceLock<Listener>,
}

/// Where the gate listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GatePort {
    /// The port at the gateway address.
    pub(super) port: u16,
    /// Whether it is the same at the gateway's address of IPv6.
    pub(super) six: bool,
}

impl fmt::Debug for Policies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Policies").field("table", &self.table).finish_non_exhaustive()
    }
}

/// What the policies of an instance depend on.
#[derive(Debug)]
pub(super) struct Setting<'a> {
    pub(super) instance: &'a str,
    pub(super) index: u8,
    pub(super) subnet: Subnet,
    pub(super) gateway: Ipv4Addr,
    pub(super) allow: Vec<IpNetwork>,
    /// The addresses of the host, where this namespace is not the host's.
    pub(super) host: Option<BTreeSet<Ipv4Addr>>,
    /// What sandboxes of an earlier server have.
    pub(super) before: Vec<Before>,
}

/// What the sandbox in a slot was held to by an earlier server.
#[derive(Clone, Debug)]
pub struct Before {
    /// The slot.
    pub slot: u32,
    /// Its rules; none for one that is open.
    pub policy: Option<Policy>,
    /// What has to go through the gate. It is refused until somebody says what it is given.
    pub needs: Needs,
}

impl Policies {
    /// Policies that are in nobody's table yet.
    pub(super) fn new(setting: Setting<'_>, workers: &Workers) -> Result<Arc<Self>, NetError> {
        let operation = "open a socket for the rules of sandboxes";
        let socket = workers.run(operation, |_home| Socket::netfilter())?;
        let Setting { instance, index, subnet, gateway, allow, host, before } = setting;
        let place = |Before { slot, policy, needs }| {
            let place = Place::new(slot);
            place.set(Force { policy, given: Given::awaited(needs), ..Force::default() });
            (slot, Arc::new(place))
        };
        Ok(Arc::new(Self {
            subnet,
            gateway,
            allow,
            host: host.map(RwLock::new),
            table: table_name(instance),
            outside: Outside::default(),
            group: AtomicU16::new(GROUPS + u16::from(index)),
            socket: Mutex::new(socket.map_err(NetError::netlink(operation))?),
            places: RwLock::new(before.into_iter().map(place).collect()),
            gate: Mutex::default(),
            broker: Mutex::default(),
            listener: OnceLock::new(),
        }))
    }

    /// Calls this with the slot of a sandbox and what it was denied. The first call counts.
    pub fn on_denied(&self, listener: impl Fn(u32, Denial) + Send + Sync + 'static) {
        drop(self.listener.set(Box::new(listener)));
    }

    /// The group that packets are logged to.
    pub(super) fn group(&self) -> u16 {
        self.group.load(Ordering::Acquire)
    }

    /// Has packets logged to another group; rules that are there already go on with theirs.
    fn set_group(&self, group: u16) {
        self.group.store(group, Ordering::Release);
    }

    /// What the host has of IPv6.
    pub(super) fn outside(&self) -> &Outside {
        &self.outside
    }

    /// Closes what is near of IPv6, and all of it while the host has no way out by it.
    pub(super) fn set_outside(&self, seen: Seen) -> Result<(), NetError> {
        let operation = "close what of IPv6 is near";
        let mut socket = self.hold();
        if self.outside.seen() == seen {
            return Ok(());
        }
        let mut batch = Batch::new(&self.table);
        batch.set_ranges(NEAR_6, &seen.closed());
        // Where there is no table yet, or none any more, it comes with them.
        let changed = unless(batch.apply(&mut socket, operation), Errno::NOENT);
        changed.map_err(NetError::netlink(operation))?;
        self.outside.set(seen);
        Ok(())
    }

    /// Holds the table as it is; see the field.
    pub(super) fn hold(&self) -> MutexGuard<'_, Socket> {
        lock(&self.socket)
    }

    /// Whether the host has addresses that this namespace does not know for its own.
    pub(super) fn has_host(&self) -> bool {
        self.host.is_some()
    }

    /// Whether an address is the host's, which this namespace does not know for its own.
    fn is_host(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return false };
        self.host.as_ref().is_some_and(|it| read(it).contains(&address))
    }

    /// The policy of a sandbox; none for one that is open.
    #[must_use]
    pub fn policy(&self, slot: u32) -> Option<Policy> {
        self.read().get(&slot)?.policy()
    }

    /// What a sandbox has reached, or tried to, under rules for learning or a dry run.
    #[must_use]
    pub fn reached(&self, slot: u32) -> Vec<Reached> {
        self.read().get(&slot).map(|place| place.reached()).unwrap_or_default()
    }

    /// Addresses that were answered to a sandbox for a name, and are good.
    #[must_use]
    pub fn answered(&self, slot: u32, name: &str) -> Vec<IpAddr> {
        let places = self.read();
        places
            .get(&slot)
            .map(|place| place.answers().alive(name, Instant::now()))
            .unwrap_or_default()
    }

    /// How many connections a sandbox made under rules, and how many packets were denied.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn counts(&self, slot: u32) -> Result<(u64, u64), NetError> {
        let operation = "read the counters of a sandbox";
        let mut socket = self.hold();
        let mut count = |name: String| {
            let counted = nftables::counted(&mut socket, &self.table, &name);
            counted.map(Option::unwrap_or_default).map_err(NetError::netlink(operation))
        };
        let made = count(table::made_counter(slot))?;
        let denied = count(table::denied_counter(slot))?;
        drop(socket);
        // What goes through the gate is the host's connection to the packet filter.
        let passed = self.read().get(&slot).map_or(0, |place| place.passed());
        Ok((made + passed, denied))
    }

    /// Whether the operator lets every sandbox reach an address that is reserved.
    #[must_use]
    pub fn is_granted(&self, address: IpAddr) -> bool {
        self.allow.iter().any(|network| network.contains(address)) && !self.is_host(address)
    }

    /// Whether the operator has named an address alone, and not with a network.
    pub(super) fn is_named(&self, address: IpAddr) -> bool {
        self.allow.contains(&IpNetwork::single(address)) && !self.is_host(address)
    }

    /// Why no sandbox may reach an address, unless the operator lets it; none where it may.
    #[must_use]
    pub fn closed(&self, address: IpAddr) -> Option<&'static str> {
        let near = || self.outside.is_near(address).then_some("addresses on a wire of the host");
        let host = || self.is_host(address).then_some("addresses of the host");
        host().or_else(|| reserved(address)).or_else(near)
    }

    /// Whether no sandbox may reach an address.
    pub(super) fn is_closed(&self, address: IpAddr) -> bool {
        self.closed(address).is_some() && !self.is_granted(address)
    }

    /// How a sandbox reaches an address through what the host does in its place.
    pub(super) fn reach(&self, address: IpAddr) -> Reach {
        match address {
            // Who opens a network does not mean this host's own address in it.
            address if self.is_named(address) => Reach::Granted,
            address if !self.is_closed(address) => Reach::Public,
            _ => Reach::No,
        }
    }

    /// The slot of the sandbox with this address.
    pub(super) fn slot_at(&self, address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(address) => self.subnet.slot(address),
            IpAddr::V6(_) => None,
        }
    }

    /// The sandbox with this address.
    pub(super) fn place_at(&self, address: IpAddr) -> Option<Arc<Place>> {
        let four = match address {
            IpAddr::V4(address) => address,
            IpAddr::V6(address) => six::four_of(address)?,
        };
        self.subnet.slot(four).map(|slot| self.place(slot))
    }

    fn place(&self, slot: u32) -> Arc<Place> {
        if let Some(place) = self.read().get(&slot) {
            return Arc::clone(place);
        }
        let mut places = self.write();
        Arc::clone(places.entry(slot).or_insert_with(|| Arc::new(Place::new(slot))))
    }

    /// The same as an answer of the resolver: addresses of a name, and for how long they are good.
    ///
    /// # Errors
    ///
    /// [`NetError`]: it reaches what it reached before.
    pub fn answered_to(
        &self,
        slot: u32,
        name: &str,
        addresses: &[IpAddr],
        life: Duration,
    ) -> Result<(), NetError> {
        self.answer(&self.place(slot), name, addresses, life)
    }

    /// Notes addresses that are about to be answered to a sandbox, and lets it reach those that a
    /// rule allows by the name.
    pub(super) fn answer(
        &self,
        place: &Place,
        name: &str,
        addresses: &[IpAddr],
        life: Duration,
    ) -> Result<(), NetError> {
        let life = life.clamp(SHORTEST, Duration::from_secs(LONGEST_SECONDS.into()));
        let now = Instant::now();
        // No name is remembered with more, and nothing is open that is not.
        let addresses = addresses.get(..ADDRESSES).unwrap_or(addresses);
        // Most are open for long enough: then nothing is written, and nobody waited for.
        if place.answers().last_until(name, addresses, now + life) {
            return Ok(());
        }
        let mut socket = self.hold();
        let life = life + GRACE;
        if let Some(policy) = place.policy() {
            let there = place.answers().alive(name, now);
            self.open(&mut socket, &table::keys(&policy, name, addresses), life, &there)?;
        }
        // Only now: what was not opened is not remembered as open.
        let dropped = place.answers().remember(name, addresses, now + life);
        if let Some(policy) = place.policy().filter(|_| !dropped.is_empty()) {
            let mut keys = Vec::new();
            for (name, address) in dropped {
                let kept = place.answers().names_of(address);
                let kept: Vec<_> =
                    kept.iter().flat_map(|name| table::keys(&policy, name, &[address])).collect();
                let of_one = table::keys(&policy, &name, &[address]);
                keys.extend(of_one.into_iter().filter(|key| !kept.contains(key)));
            }
            self.close(&mut socket, &keys);
        }
        Ok(())
    }

    fn open(
        &self,
        socket: &mut Socket,
        keys: &[table::Key],
        life: Duration,
        there: &[IpAddr],
    ) -> Result<(), NetError> {
        if keys.is_empty() {
            return Ok(());
        }
        let operation = "let a sandbox reach what was answered to it";
        // One that is there keeps its life, on kernels before 6.12 at least: it goes first. It may
        // have gone by itself in this moment, and then the whole is refused.
        let mut batch = Batch::new(&self.table);
        table::renew(&mut batch, keys, life, there);
        let renewed = batch.apply(socket, operation);
        if renewed.as_ref().is_err_and(|error| refused_with(error, Errno::NOENT)) {
            let mut batch = Batch::new(&self.table);
            table::renew(&mut batch, keys, life, &[]);
            return batch.apply(socket, operation).map_err(NetError::netlink(operation));
        }
        unless(renewed, Errno::EXIST).map_err(NetError::netlink(operation))
    }

    /// Tells whoever listens what a sandbox was denied, if it is not too much.
    pub(super) fn denied(&self, place: &Place, denial: Denial) {
        if let (Some(listener), Some(denial)) = (self.listener.get(), place.to_be_told(denial)) {
            listener(place.slot(), denial);
        }
    }

    fn all(&self) -> Vec<Arc<Place>> {
        self.read().values().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<u32, Arc<Place>>> {
        read(&self.places)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<u32, Arc<Place>>> {
        self.places.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The group of the first instance; far from the small numbers that administrators choose.
const GROUPS: u16 = 30_580;

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
