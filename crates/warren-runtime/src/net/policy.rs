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
mod denials;
mod parts;
mod place;
mod table;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::io::Errno;
use warren_core::{
    egress::{Egress, InvalidEgress, IpNetwork, reserved},
    runtime::{Denial, Reached},
    spec::Network,
};
use warren_sys::netlink::{
    NetlinkError, Socket,
    nftables::{self, Batch},
};

use answers::ADDRESSES;
pub(super) use denials::{bind, listen};
pub(super) use place::{Answering, Place};
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

/// Rules with the mark of the connections that they allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The rules.
    pub egress: Arc<Egress>,
    /// Never 0, which is the mark of connections that have none.
    pub mark: u32,
}

impl Policy {
    /// The policy of a network; none for one that is open.
    ///
    /// # Errors
    ///
    /// [`NetError::Host`] where the system has no randomness.
    pub fn of(network: &Network) -> Result<Option<Self>, NetError> {
        let egress = match network {
            Network::Open => return Ok(None),
            // Nothing but what an interface's own loopback is.
            Network::None => Arc::new(Egress::default()),
            Network::Rules(egress) => Arc::clone(egress),
        };
        let mut bytes = [0; 4];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(NetError::host("choose a mark"))?;
        Ok(Some(Self { egress, mark: u32::from_ne_bytes(bytes).max(1) }))
    }

    /// Reads what [`Policy`] wrote by its `Display`.
    ///
    /// # Errors
    ///
    /// [`InvalidEgress`].
    pub fn read(text: &str) -> Result<Self, InvalidEgress> {
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let mark = first.strip_prefix("mark ").and_then(|mark| mark.parse().ok());
        let unclear = || InvalidEgress::Line { line: first.to_owned() };
        let mark = mark.filter(|mark| *mark > 0).ok_or_else(unclear)?;
        Ok(Self { egress: Arc::new(rest.parse()?), mark })
    }

    /// Rules that allow nothing, for where the right ones cannot be read.
    #[must_use]
    pub fn closed() -> Self {
        Self { egress: Arc::default(), mark: 1 }
    }

    /// Writes it into an entry of the journal, or removes what is there.
    ///
    /// # Errors
    ///
    /// The failure of a file operation.
    pub fn store(policy: Option<&Self>, entry: &Path) -> std::io::Result<()> {
        let place = entry.join(FILE);
        match policy {
            Some(policy) => {
                let new = entry.join("network.new");
                std::fs::write(&new, policy.to_string())?;
                std::fs::rename(new, place)
            }
            None => match std::fs::remove_file(place) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// What an entry of the journal has; one that cannot be read allows nothing.
    #[must_use]
    pub fn load(entry: &Path) -> Option<Self> {
        let text = match std::fs::read_to_string(entry.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::error!(%error, "the rules of a sandbox cannot be read: it reaches nothing");
                return Some(Self::closed());
            }
        };
        Some(Self::read(&text).unwrap_or_else(|error| {
            tracing::error!(%error, "the rules of a sandbox are no rules: it reaches nothing");
            Self::closed()
        }))
    }
}

/// The file in an entry of the journal.
const FILE: &str = "network";

impl fmt::Display for Policy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "mark {}\n{}", self.mark, self.egress)
    }
}

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
            place.set(Force { policy, given: Given::awaited(needs) });
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

    /// Closes these addresses of the host, and no others of it.
    pub(super) fn set_host(&self, found: BTreeSet<Ipv4Addr>) -> Result<(), NetError> {
        let Some(host) = &self.host else { return Ok(()) };
        let operation = "close the host's own addresses";
        let mut socket = self.hold();
        let before = read(host).clone();
        if found == before {
            return Ok(());
        }
        let mut batch = Batch::new(&self.table);
        for gone in before.difference(&found) {
            batch.delete_key(table::OUTSIDE, &gone.octets());
        }
        for new in found.difference(&before) {
            batch.add_key(table::OUTSIDE, &new.octets());
        }
        // Where somebody has removed the table, it comes back with these.
        let applied = unless(batch.apply(&mut socket, operation), Errno::NOENT);
        applied.map_err(NetError::netlink(operation))?;
        *host.write().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    }

    /// Adds to a batch that makes the table what sandboxes have; call it under [`Policies::hold`].
    pub(super) fn add_all(&self, batch: &mut Batch<'_>) {
        for address in self.host.iter().flat_map(|it| read(it).clone()) {
            batch.add_key(table::OUTSIDE, &address.octets());
        }
        if let Some(gate) = *lock(&self.gate) {
            table::add_gate(batch, self.gateway, gate);
        }
        table::set_broker(batch, self.gateway, *lock(&self.broker));
        for place in self.all() {
            let force = place.force();
            if let Some(policy) = force.packets() {
                table::add(batch, &place, &policy, force.given.needs(), self.group());
                table::add_answers(batch, &place, &policy);
            }
            table::send(batch, place.slot(), Needs::default(), force.gated());
        }
    }

    /// Changes what a sandbox may reach; none for everything. In force when this returns, and in
    /// force as before on an error.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn set(&self, slot: u32, policy: Option<Policy>) -> Result<(), NetError> {
        self.change(slot, |force| force.policy = policy)
    }

    /// Changes what requests of a sandbox are given, as [`Policies::set`] does its rules.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn give(&self, slot: u32, given: Given) -> Result<(), NetError> {
        self.change(slot, |force| force.given = given)
    }

    /// What requests of a sandbox are given.
    #[must_use]
    pub fn given(&self, slot: u32) -> Given {
        self.read().get(&slot).map(|place| place.given()).unwrap_or_default()
    }

    fn change(&self, slot: u32, change: impl FnOnce(&mut Force)) -> Result<(), NetError> {
        let operation = "change the rules of a sandbox";
        let place = self.place(slot);
        let mut socket = self.hold();
        let before = place.force();
        let mut after = before.clone();
        change(&mut after);
        let mut batch = Batch::new(&self.table);
        let (was, is) = (before.packets(), after.packets());
        let needs = [before.given.needs(), after.given.needs()];
        // Under the same mark answers are there.
        let mark = |policy: &Option<Policy>| policy.as_ref().map(|it| it.mark);
        let fresh = mark(&was) != mark(&is);
        let mut opened = Vec::new();
        // What is given alone may change, and not what has to go through the gate for it.
        if was != is || needs[0] != needs[1] {
            match &is {
                Some(policy) => table::add(&mut batch, &place, policy, needs[1], self.group()),
                None => table::remove(&mut batch, &place),
            }
            if fresh && let Some(policy) = &is {
                table::add_answers(&mut batch, &place, policy);
            }
            table::send(&mut batch, slot, before.gated(), after.gated());
            if let Err(error) = batch.apply(&mut socket, operation) {
                if matches!(error, NetlinkError::Socket { .. }) {
                    self.undo(&mut socket, &place, &before, &after);
                }
                return Err(NetError::netlink(operation)(error));
            }
            if fresh && let Some(policy) = &was {
                opened = table::opened(&place, policy);
            }
        }
        place.set(after);
        if fresh && let Some(policy) = &is {
            self.open_rest(&mut socket, &place, policy);
        }
        // Nothing matches them any more: they only take room.
        self.close(&mut socket, &opened);
        drop(socket);
        place.tell();
        Ok(())
    }

    /// Forgets a sandbox; its slot may be another's then.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn forget(&self, slot: u32) -> Result<(), NetError> {
        let Some(place) = self.read().get(&slot).cloned() else { return Ok(()) };
        let removed = self.change(slot, |force| *force = Force::default());
        self.write().remove(&slot);
        place.close();
        match removed {
            // Somebody removed the table; it comes back without this one.
            Err(NetError::Netlink { source, .. }) if refused_with(&source, Errno::NOENT) => Ok(()),
            other => other,
        }
    }

    /// Has TCP to 80 and 443 of sandboxes whose rules name domains sent to the gate; none to have it
    /// refused.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub(super) fn set_gate(&self, gate: Option<GatePort>) -> Result<(), NetError> {
        let operation = "send connections of sandboxes to the gate";
        let mut socket = self.hold();
        let mut batch = Batch::new(&self.table);
        table::flush_gate(&mut batch);
        if let Some(gate) = gate {
            table::add_gate(&mut batch, self.gateway, gate);
        }
        batch.apply(&mut socket, operation).map_err(NetError::netlink(operation))?;
        *lock(&self.gate) = gate;
        Ok(())
    }

    /// Lets sandboxes connect to the broker of git at this port of the gateway; none to let them
    /// connect to nothing there.
    ///
    /// # Errors
    ///
    /// [`NetError`]: they reach what they reached before.
    pub(super) fn set_broker(&self, port: Option<u16>) -> Result<(), NetError> {
        let operation = "let sandboxes connect to the broker of git";
        let mut socket = self.hold();
        let mut batch = Batch::new(&self.table);
        table::set_broker(&mut batch, self.gateway, port);
        batch.apply(&mut socket, operation).map_err(NetError::netlink(operation))?;
        *lock(&self.broker) = port;
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_back_and_what_is_none_allows_nothing() {
        let egress: Egress = "allow a.example:443\notherwise deny\n".parse().unwrap();
        let network = Network::Rules(Arc::new(egress));
        let policy = Policy::of(&network).unwrap().unwrap();
        assert_eq!(Policy::read(&policy.to_string()), Ok(policy.clone()));
        assert_eq!(Policy::of(&Network::Open).unwrap(), None);

        let entry = tempfile::tempdir().unwrap();
        assert_eq!(Policy::load(entry.path()), None);
        Policy::store(Some(&policy), entry.path()).unwrap();
        assert_eq!(Policy::load(entry.path()), Some(policy));
        std::fs::write(entry.path().join(FILE), "mark 0\n").unwrap();
        assert_eq!(Policy::load(entry.path()), Some(Policy::closed()));
        Policy::store(None, entry.path()).unwrap();
        Policy::store(None, entry.path()).unwrap();
        assert_eq!(Policy::load(entry.path()), None);
    }
}
