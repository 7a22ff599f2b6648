//! What all guests of a server share, and the one way in which a guest is removed.

mod keepers;

use std::{
    collections::HashMap,
    fs, io,
    net::{Ipv4Addr, TcpListener},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicU32},
    time::Duration,
};

use tokio::sync::{broadcast, oneshot};
use warren_core::{
    id::SandboxId,
    runtime::{Exit, ExitReason, GuestState, RuntimeError, RuntimeEvent},
    spec,
};
use warren_proto::keeper::{Cause, Ending, Request};
use warren_sys::netlink::{self, route};

use super::{
    Config, Network, adopt,
    cgroup::{self, Hierarchy},
    janitor::Janitor,
    keeper::{self, Keeper},
    root::{self, Mounter},
    rules,
    slots::Slots,
    space::{self, Space},
};
use crate::{
    image::{Image, Images, Layer},
    journal::{Journal, Process},
    net::{Dialling, Net, policy::Before},
    snapshots::Snapshots,
    storage::Pool,
    volumes::Volumes,
};

/// Exits that a slow listener may fall behind by.
const EVENT_BACKLOG: usize = 4096;

/// What cannot be done where the storage counts nothing.
const NO_DISK_LIMITS: &str = "limit disk space (`warren setup storage` makes storage that can)";

/// Stands for a slot where a guest has only files left.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// Everything of the host that guests are made of.
#[derive(Debug)]
pub(crate) struct Host {
    pub(super) run_dir: PathBuf,
    agent: keeper::Image,
    /// How many ids the server's own user namespace has, where it was started in one.
    pub(crate) nested: Option<u32>,
    pub(crate) limits: spec::Limits,
    pub(crate) slots: Slots,
    pub(crate) journal: Journal,
    pub(crate) pool: Pool,
    pub(crate) volumes: Arc<Volumes>,
    pub(super) space: Space,
    pub(crate) images: Images,
    pub(crate) snapshots: Snapshots,
    pub(crate) cgroups: Hierarchy,
    pub(crate) net: Option<Net>,
    no_network: Option<String>,
    pub(crate) mounter: Mounter,
    /// Every keeper of ours that lives. The one that forks comes last.
    keepers: Mutex<Vec<Arc<Keeper>>>,
    generation: AtomicU32,
    guests: Mutex<Guests>,
    pub(crate) events: broadcast::Sender<RuntimeEvent>,
    pub(super) janitor: Janitor,
    me: Weak<Host>,
}

/// What interfaces a guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// One that leads outside; rules say how far.
    Outside,
    /// Its loopback alone.
    Loopback,
}

/// Guests that belong to a sandbox.
#[derive(Debug, Default)]
struct Guests {
    by_id: HashMap<SandboxId, Arc<Guest>>,
    by_slot: HashMap<u32, SandboxId>,
    /// Who waits for a slot's guest to have ended.
    waiting: HashMap<u32, oneshot::Sender<()>>,
}

/// The guest of one sandbox.
#[derive(Debug)]
pub(crate) struct Guest {
    /// [`NO_SLOT`] when it lived before the host was started last.
    pub(crate) slot: u32,
    /// `None` when it was not forked by a keeper that lives.
    pub(crate) keeper: Option<Arc<Keeper>>,
    pub(crate) process: Option<Process>,
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) network: Option<OwnedFd>,
    /// Held so that the last process does not take the mounts down on its way out: that waits for
    /// the kernel (RCU) and whoever destroys the guest would wait with it.
    pub(crate) _mounts: Option<OwnedFd>,
    pub(crate) entry: PathBuf,
    pub(crate) exit: Mutex<Option<Exit>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    /// What a sandbox's root is made of.
    pub(super) fn resolve(&self, image: &spec::Image) -> Result<Arc<Image>, RuntimeError> {
        let spec::Image::Snapshot(stack) = image else { return self.images.resolve(image) };
        let base = self.images.resolve(&stack.base)?;
        let mut layers = Vec::with_capacity(stack.layers.len() + base.layers.len());
        for id in &stack.layers {
            let layer = self.snapshots.layer(id);
            if !layer.is_dir() {
                let reason = format!("the files of snapshot {id} are not on this host");
                return Err(RuntimeError::Image { reason });
            }
            layers.push(Layer::Own(layer));
        }
        layers.extend(base.layers.iter().cloned());
        Ok(Arc::new(Image { layers, trees: base.trees.clone(), missing: base.missing.clone() }))
    }

    pub(super) fn open(config: Config) -> Result<Arc<Self>, RuntimeError> {
        fn step<T>(name: &'static str, result: io::Result<T>) -> Result<T, RuntimeError> {
            result.map_err(RuntimeError::host(name))
        }
        let nested = crate::rootless::nested_ids();
        if nested.is_none() && !maps_overlay_layers() {
            let operation = "run as root before Linux 5.19; start the server as an ordinary user";
            return Err(RuntimeError::Unsupported { operation });
        }
        for name in ["s", "exits"] {
            step("make the run directory", fs::create_dir_all(config.run_dir.join(name)))?;
        }
        let journal = step("open the journal", Journal::open(&config.data_dir))?;
        let registry = match nested {
            // What a slot names is in the server's own namespaces.
            Some(_) => config.run_dir.join("slots"),
            None => PathBuf::from("/run/warren/slots"),
        };
        let used = step("read the journal", adopt::used_slots(&journal))?;
        let slots = step("claim slots", Slots::open(&registry, &config.run_dir, &used))?;
        let scratch = config.run_dir.join("mounts");
        let by = root::layers_by(config.layers_by_path);
        // Each of the three waits for the kernel for some milliseconds, and none for another.
        let (cgroups, network, mounter) = std::thread::scope(|scope| {
            let all_memory = config.all_memory_bytes;
            let instance = &config.instance;
            let cgroups = scope.spawn(move || open_cgroups(instance, nested, all_memory));
            let mounter = scope.spawn(|| Mounter::start(&scratch, nested.is_some(), by));
            let before = rules::before(&journal);
            let network = open_network(config.network, &config.instance, slots.index(), before);
            (joined(cgroups), network, joined(mounter))
        });
        let (net, no_network) = network;
        let pool = step("open the storage pool", Pool::open(config.storage, &config.data_dir))?;
        let images = step("open the images", Images::open(&config.data_dir, config.images))?;
        let snapshots = Snapshots::open(&config.data_dir);
        let snapshots = step("open the snapshots", snapshots)?;
        if config.limits.disk_bytes.is_some() && !pool.limits() {
            return Err(RuntimeError::Unsupported { operation: NO_DISK_LIMITS });
        }
        let reserve = config.disk_reserve_bytes;
        let volumes =
            step("open the volumes", Volumes::open(&config.data_dir, pool.clone(), reserve))?;
        let space = Space::new(config.data_dir, config.backing, reserve);
        let mounter = step("start the mounting threads", mounter)?;
        let host = Arc::new_cyclic(|me| Self {
            run_dir: config.run_dir,
            agent: keeper::Image::new(config.agent),
            nested,
            limits: config.limits,
            slots,
            journal,
            pool,
            volumes,
            space,
            images,
            snapshots,
            cgroups,
            net,
            no_network,
            mounter,
            keepers: Mutex::default(),
            generation: AtomicU32::new(0),
            guests: Mutex::default(),
            events: broadcast::channel(EVENT_BACKLOG).0,
            janitor: Janitor::default(),
            me: Weak::clone(me),
        });
        step("start the janitor", host.janitor.start(&host))?;
        step("watch the storage", space::watch(&host))?;
        host.follow_denials();
        Ok(host)
    }

    /// What is weaker here than it could be.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Hierarchy::None { reason } = &self.cgroups {
            warnings.push(format!(
                "no cgroup is writable ({reason}): limits are per process and pause is missing"
            ));
        }
        if let Some(reason) = &self.no_network {
            warnings.push(format!("sandboxes have no network: {reason}"));
        }
        match self.nested {
            Some(1) => warnings.push(
                "one user id: everything in a sandbox runs as one user, and sandboxes are not \
                 kept apart by id"
                    .to_owned(),
            ),
            Some(_) => warnings
                .push("all sandboxes share one range of ids, that of the server's user".to_owned()),
            None => {}
        }
        warnings
    }

    /// The sockets of the agent in `slot`.
    pub(crate) fn sockets(&self, slot: u32) -> PathBuf {
        self.run_dir.join("s").join(slot.to_string())
    }

    pub(super) fn exit_records(&self) -> PathBuf {
        self.run_dir.join("exits")
    }

    pub(super) fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Where guests send their name look-ups.
    pub(crate) fn resolver(&self) -> Option<Ipv4Addr> {
        self.net.as_ref().map(Net::gateway)
    }

    /// What blanks in the pool reach.
    pub(crate) fn default_reach(&self) -> Reach {
        if self.net.is_some() { Reach::Outside } else { Reach::Loopback }
    }

    /// Refuses a network where there is none to be had.
    pub(super) fn allowed_reach(&self, wanted: &spec::Network) -> Result<Reach, RuntimeError> {
        match (wanted, &self.net) {
            (spec::Network::None, _) => Ok(Reach::Loopback),
            (_, Some(_)) => Ok(Reach::Outside),
            (_, None) => Err(RuntimeError::Unsupported { operation: "give sandboxes a network" }),
        }
    }

    /// Limits a disk; where that cannot be, nobody may have asked.
    pub(crate) fn limit_disk(
        &self,
        disk: &Path,
        limits: &spec::Limits,
    ) -> Result<(), RuntimeError> {
        if limits.disk_bytes.is_some() && !self.pool.limits() {
            return Err(RuntimeError::Unsupported { operation: NO_DISK_LIMITS });
        }
        self.pool.limit(disk, limits.disk_bytes).map_err(RuntimeError::host("limit a disk"))
    }

    /// The network namespace of a new guest.
    pub(crate) fn attach_network(&self, slot: u32, reach: Reach) -> Result<OwnedFd, RuntimeError> {
        let failed = RuntimeError::host("make a network namespace");
        match (reach, &self.net) {
            (Reach::Outside, Some(net)) => net.attach(slot).map(|it| it.netns).map_err(failed),
            (_, Some(net)) => net.isolated().map_err(failed),
            // Without the means to set a network up there is still one to be apart in.
            (_, None) => isolated().map_err(RuntimeError::host("make a network namespace")),
        }
    }

    /// Makes a guest findable. Its entry is the sandbox's by now.
    pub(super) fn enroll(&self, id: SandboxId, guest: Guest) -> Arc<Guest> {
        let guest = Arc::new(guest);
        let mut guests = lock(&self.guests);
        guests.by_slot.insert(guest.slot, id);
        guests.by_id.insert(id, Arc::clone(&guest));
        drop(guests);
        // One whose keeper went while it was being made was not among the orphans.
        if guest.keeper.as_ref().is_some_and(|it| it.is_gone()) {
            adopt::watch(self, id, &guest);
        }
        guest
    }

    pub(super) fn guest(&self, id: &SandboxId) -> Result<Arc<Guest>, RuntimeError> {
        let guests = lock(&self.guests);
        guests.by_id.get(id).map(Arc::clone).ok_or(RuntimeError::NotFound { id: *id })
    }

    pub(super) fn guests(&self) -> Vec<(SandboxId, Arc<Guest>)> {
        lock(&self.guests).by_id.iter().map(|(id, guest)| (*id, Arc::clone(guest))).collect()
    }

    /// What a guest is doing now.
    pub(super) fn state(&self, guest: &Guest) -> GuestState {
        if let Some(exit) = lock(&guest.exit).clone() {
            return GuestState::Exited(exit);
        }
        match guest.process {
            Some(process) if process.lives() => {
                if self.cgroups.of(guest.slot).is_frozen() {
                    GuestState::Paused
                } else {
                    GuestState::Running
                }
            }
            _ => GuestState::Exited(Exit { reason: ExitReason::Unknown, oom_kills: 0 }),
        }
    }

    /// Puts the files of an ended guest aside and has the rest of it removed.
    ///
    /// Overlays are volatile, so what the guest wrote may be in memory alone: it is written back
    /// before this returns.
    pub(super) fn shelve(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        let Ok(guest) = self.guest(id) else {
            return match self.journal.is_shelved(id) {
                true => Ok(()),
                false => Err(RuntimeError::NotFound { id: *id }),
            };
        };
        self.journal
            .shelve(&guest.entry, id)
            .map_err(RuntimeError::host("put the files of the sandbox aside"))?;
        drop(guest);
        self.dismiss(id)?;
        fs::File::open(self.journal.shelf(id))
            .and_then(|shelf| Ok(rustix::fs::syncfs(shelf)?))
            .map_err(RuntimeError::host("write the files of the sandbox to the disk"))
    }

    /// Removes the files of a stopped guest, if there are any.
    pub(super) fn clear_shelf(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        let shelf = self.journal.shelf(id);
        match self.journal.discard(&shelf) {
            Ok(place) => self.remove_later(place),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(RuntimeError::host("remove the files of the sandbox")(error));
            }
        }
        Ok(())
    }

    /// Forgets a sandbox whose guest has ended, and has the rest of it removed.
    pub(super) fn dismiss(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        let mut guests = lock(&self.guests);
        let Some(guest) = guests.by_id.remove(id) else { return Ok(()) };
        guests.by_slot.remove(&guest.slot);
        drop(guests);
        let entry = guest.entry.clone();
        self.remove(guest.slot, guest.process, &entry, Some(guest));
        Ok(())
    }

    pub(super) fn dialling(&self, guest: &Guest) -> Result<Dialling, RuntimeError> {
        let (Some(net), Some(network)) = (&self.net, &guest.network) else {
            return Err(RuntimeError::Unsupported { operation: "dial a port" });
        };
        net.dialling(network.as_fd()).map_err(RuntimeError::host("connect to the port"))
    }

    pub(super) fn listen(&self, guest: &Guest, port: u16) -> Result<TcpListener, RuntimeError> {
        let (Some(net), Some(network)) = (&self.net, &guest.network) else {
            return Err(RuntimeError::Unsupported { operation: "listen on a port" });
        };
        net.listen(network.as_fd(), port).map_err(RuntimeError::host("listen on the port"))
    }

    /// A counted handle on this.
    pub(super) fn handle(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// Waits for the janitor, and gives the host's own things back where no guest is left.
    pub(super) fn close(&self) {
        self.janitor.finish();
        if !self.guests().is_empty() {
            // Their keeper serves the next server as well, and must not refuse it guests.
            return;
        }
        let keepers = std::mem::take(&mut *lock(&self.keepers));
        for keeper in keepers {
            // With no guest left it ends now, and not after a while.
            drop(keeper.tell(&Request::Drain));
        }
        if let Some(Err(error)) = self.net.as_ref().map(Net::close) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "could not take the network down");
        }
        self.cgroups.close();
        self.slots.close();
    }
}

/// A network namespace with its loopback alone, made on a thread that ends with it.
fn isolated() -> io::Result<OwnedFd> {
    let thread = std::thread::Builder::new().spawn(|| {
        warren_sys::netns::unshare()?;
        let mut socket = netlink::Socket::route().map_err(io::Error::other)?;
        let up = &mut [route::set_link_up(route::LOOPBACK_INDEX)];
        socket.transact("switch loopback on", up).map_err(io::Error::other)?;
        warren_sys::netns::current()
    })?;
    thread.join().map_err(|_panic| io::ErrorKind::Other)?
}

/// What a keeper's record means.
pub(super) fn exit_of(ending: Ending) -> Exit {
    let reason = match (ending.cause, ending.signaled) {
        (Cause::Killed, _) => ExitReason::Killed,
        (Cause::Deadline, _) => ExitReason::Deadline,
        (Cause::Own, false) => ExitReason::Status(ending.code),
        (Cause::Own, true) if ending.oom_kills > 0 => ExitReason::OutOfMemory,
        (Cause::Own, true) => ExitReason::Signal(ending.code),
    };
    Exit { reason, oom_kills: ending.oom_kills }
}

/// What a scoped thread gave; its panic is ours.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn open_cgroups(instance: &str, nested: Option<u32>, all_memory: Option<u64>) -> Hierarchy {
    let cgroups = Hierarchy::open(instance);
    if let Err(error) = cgroups.confine(all_memory) {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "nothing limits what all sandboxes use together");
    }
    if matches!(cgroups, Hierarchy::V1(_))
        && nested.is_none()
        && let Err(error) = cgroup::favor_dynamic_modifications()
    {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "no favordynmods: every create may wait 10 ms");
    }
    cgroups
}

/// Whether this kernel takes id-mapped layers in an overlay, which came with 5.19. A server in its
/// own user namespace does without.
fn maps_overlay_layers() -> bool {
    supports_mapped_layers(&rustix::system::uname().release().to_string_lossy())
}

fn supports_mapped_layers(release: &str) -> bool {
    let mut numbers = release.split(|it: char| !it.is_ascii_digit());
    let mut next = || numbers.next().and_then(|it| it.parse::<u32>().ok()).unwrap_or_default();
    (next(), next()) >= (5, 19)
}

fn open_network(
    network: Network,
    instance: &str,
    index: u32,
    before: Vec<Before>,
) -> (Option<Net>, Option<String>) {
    match network {
        Network::Off(reason) => (None, Some(reason)),
        Network::On(mut config) => {
            config.instance = instance.to_owned();
            config.index = u8::try_from(index).unwrap_or(u8::MAX);
            config.before = before;
            match Net::open(config) {
                Ok(net) => (Some(net), None),
                Err(error) => (None, Some(crate::error::chain(&error))),
            }
        }
    }
}

/// The time of `CLOCK_BOOTTIME` after this long, in nanoseconds.
pub(super) fn boottime_ns(after: Duration) -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000_000
        + u64::try_from(now.tv_nsec).unwrap_or_default();
    now.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        let check = |release, expected| assert_eq!(supports_mapped_layers(release), expected);
        check("5.15.0-100-generic", false);
        check("5.19.0", true);
        check("6.1.0-13-amd64", true);
        check("6.18.44-fc-v445", true);
    }
}
