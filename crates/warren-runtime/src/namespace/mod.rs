//! Guests in Linux namespaces: the default runtime, which needs neither Docker nor KVM.
//!
//! ```text
//! create:  blank (pool, or made now) -> journal entry becomes the sandbox's -> limits
//!          -> root attached, privileges dropped -> agent serves
//! stop:    as destroy, but the disk is put aside first, for a later start
//! destroy: keeper kills pid 1, the kernel the rest -> entry to the trash -> the janitor removes
//!          cgroups, interface, sockets, disk -> the slot is free again
//! ```
//!
//! | file | what |
//! |---|---|
//! | `slots` | numbers that are unique on the host; ids, address and names follow from them |
//! | `keeper` | the process that guests are forked from |
//! | `host` | what all guests share, and which there are |
//! | `blank` | guests without image and owner, and the pool of them |
//! | `root` | overlay and id mapping |
//! | `cgroup` | limits, freezing, counting |
//! | `janitor` | removing guests, away from whoever waits |
//! | `adopt` | finding what an earlier server left |
//! | `again` | guests on the files of stopped ones |
//! | `capture` | saving what guests have written, and giving it up |
//! | `space` | room for files: watched, made, and kept |
//! | `compare` | how the files of two guests or images differ |
//! | `transfer` | snapshots on their way to somewhere else, and from there |
//! | `ports` | what guests listen on |
//! | `rules` | what guests may reach |
//! | `volumes` | directories of the host inside guests, and volumes |

mod adopt;
mod again;
mod blank;
mod blanks;
mod capture;
mod cgroup;
mod compare;
pub mod config;
mod host;
mod inside;
mod janitor;
mod keeper;
mod ports;
mod root;
mod rules;
mod slots;
mod space;
mod transfer;
mod volumes;

use std::{
    collections::HashSet,
    fs::File,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{
    net::UnixStream,
    sync::{broadcast, mpsc},
    task::spawn_blocking,
};
use warren_core::{
    compare::{Change, Comparison, Files},
    credentials::Granted,
    egress::{Explanation, Question},
    git::RescueFiles,
    id::{SandboxId, SnapshotId},
    images::ImageStore,
    runtime::{
        Arriving, Capabilities, Captured, Created, Deadline, DeadlineAction, Duplex, Found,
        GuestState, Haste, Imported, Listen, Packing, Port, Reached, Room, Runtime, RuntimeError,
        RuntimeEvent, Sealed, Service, Traffic, Usage,
    },
    spec::{self, Limits, Spec},
    templates::files::BuildFiles,
    volumes::VolumeFiles,
};
use warren_proto::keeper::Request;

pub use config::{Config, Network, machine_memory};

use self::{blank::Blank, blanks::Blanks, host::Host, inside::Inside};
use crate::{builds::BuildTrees, image::Image, net::Net, rescues::Rescues};

/// What keepers call themselves.
pub(crate) const KEEPER: &str = "warren-keeper";
/// How long a killed guest may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How much later than the server the keeper acts on a deadline.
const DEADLINE_GRACE: Duration = Duration::from_secs(1);

/// The runtime.
#[derive(Clone, Debug)]
pub struct NamespaceRuntime {
    host: Arc<Host>,
    blanks: Arc<Blanks>,
    builds: Arc<BuildTrees>,
    rescues: Arc<Rescues>,
}

impl NamespaceRuntime {
    /// Prepares the host, takes over what an earlier server left, and begins to fill the pool.
    ///
    /// Guests of sandboxes are adopted ([`Runtime::list`] tells which); blanks, half-made and
    /// half-removed guests of an earlier server are removed.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Host`] with the step that failed.
    pub fn open(config: Config) -> Result<Arc<Self>, RuntimeError> {
        let wanted = config.blanks;
        let builds = BuildTrees::open(&config.data_dir);
        let builds = Arc::new(builds.map_err(RuntimeError::host("open the files of builds"))?);
        let rescues = Arc::new(Rescues::new(&config.data_dir));
        let host = Host::open(config)?;
        adopt::adopt(&host)?;
        let blanks = Arc::<Blanks>::default();
        let (host_for_pool, pool) = (Arc::downgrade(&host), Arc::clone(&blanks));
        std::thread::Builder::new()
            .name("blanks".to_owned())
            .spawn(move || pool.refill(&host_for_pool, wanted))
            .map_err(RuntimeError::host("start the pool"))?;
        Ok(Arc::new(Self { host, blanks, builds, rescues }))
    }

    /// How many blanks wait for a create.
    #[must_use]
    pub fn blanks(&self) -> usize {
        self.blanks.len()
    }

    /// Where the resolver for guests is to answer, if they have a network.
    #[must_use]
    pub fn network(&self) -> Option<&Net> {
        self.host.net.as_ref()
    }

    /// Whose a slot is.
    #[must_use]
    pub fn sandbox_in(&self, slot: u32) -> Option<SandboxId> {
        self.host.id_of(slot)
    }

    /// Ends the pool and gives back what is not in use. Guests of sandboxes go on.
    ///
    /// With no guest left, keepers end and the host is as it was before [`Self::open`].
    pub fn close(&self) {
        for blank in self.blanks.stop() {
            self.host.discard_blank(blank);
        }
        self.host.close();
    }

    fn create_now(&self, id: &SandboxId, spec: &Spec) -> Result<Created, RuntimeError> {
        let mut steps = Steps::new();
        let host = &self.host;
        let reach = host.allowed_reach(&spec.network)?;
        host.space.admit(space::FOR_SANDBOX)?;
        let image = host.resolve(&spec.image)?;
        steps.done("image");
        let lasting = matches!(spec.image, spec::Image::Host | spec::Image::Oci(_));
        let blank = self.blanks.take(reach, &image, lasting);
        let (mut blank, entry) = self.claim(id, reach, blank, &mut steps)?;
        // From here on whatever fails is undone by way of the sandbox's entry.
        let owner = Owner { id, spec, entry: &entry };
        let named = blank::write_hostname(&entry.join("disk"), owner.hostname())
            .map_err(RuntimeError::host("write to a disk"));
        let ruled = named.and_then(|()| {
            host.give_rules(blank.slot, blank.network.as_fd(), &entry, &spec.network)
        });
        let bound = ruled.and_then(|()| finish(host, &mut blank, &owner, &image, &mut steps));
        match bound {
            Ok(()) => {
                host.enroll(*id, blank.into_guest(entry));
                Ok(Created { steps: steps.0 })
            }
            Err(error) => {
                rustix::process::pidfd_send_signal(&blank.pidfd, rustix::process::Signal::KILL)
                    .ok();
                host.remove_slot(blank.slot, Some(blank.process), &entry);
                Err(error)
            }
        }
    }

    /// A blank, from the pool or made now, whose entry is the sandbox's from here on.
    fn claim(
        &self,
        id: &SandboxId,
        reach: host::Reach,
        blank: Option<Blank>,
        steps: &mut Steps,
    ) -> Result<(Blank, PathBuf), RuntimeError> {
        let host = &self.host;
        let blank = match blank {
            Some(blank) => blank,
            None => blank::make(host, reach, None)?,
        };
        steps.done("blank");
        match host.journal.assign(blank.slot, id) {
            Ok(entry) => Ok((blank, entry)),
            Err(error) => {
                host.discard_blank(blank);
                Err(RuntimeError::host("write the journal")(error))
            }
        }
    }
}

/// How long each step took.
struct Steps(Vec<(&'static str, Duration)>, Instant);

impl Steps {
    fn new() -> Self {
        Self(Vec::with_capacity(6), Instant::now())
    }

    fn done(&mut self, name: &'static str) {
        let now = Instant::now();
        self.0.push((name, now - self.1));
        self.1 = now;
    }
}

/// Whose guest a blank becomes.
struct Owner<'a> {
    id: &'a SandboxId,
    spec: &'a Spec,
    entry: &'a Path,
}

impl Owner<'_> {
    /// The name the guest sees as its own.
    fn hostname(&self) -> &str {
        self.spec.hostname.as_deref().unwrap_or(self.id.as_str())
    }
}

/// Turns a blank whose disk is in place into the guest of a sandbox.
fn finish(
    host: &Host,
    blank: &mut Blank,
    owner: &Owner<'_>,
    image: &Arc<Image>,
    steps: &mut Steps,
) -> Result<(), RuntimeError> {
    let (spec, disk) = (owner.spec, owner.entry.join("disk"));
    if spec.limits != blank.limits {
        let cgroup = host.cgroups.of(blank.slot);
        cgroup.set_limits(&spec.limits).map_err(RuntimeError::host("set limits"))?;
    }
    steps.done("disk and limits");
    blank.bind(host, &disk, image, spec, owner.hostname())?;
    // After its mounts: overlayfs takes a full disk read-only.
    if spec.limits.disk_bytes != blank.limits.disk_bytes {
        host.limit_disk(&disk, &spec.limits)?;
    }
    steps.done("guest");
    Ok(())
}

#[async_trait]
impl Runtime for NamespaceRuntime {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn capabilities(&self) -> Capabilities {
        let limited = self.host.cgroups.works();
        Capabilities {
            pause: limited,
            stop: true,
            dial: self.host.net.is_some(),
            network: self.host.net.is_some(),
            network_rules: self.host.net.is_some(),
            credentials: self.host.net.is_some(),
            memory_limit: limited,
            cpu_limit: limited,
            pids_limit: limited,
            usage: limited,
            snapshot: Some(self.host.pool.snapshot_cost()),
            disk_limit: self.host.pool.limits(),
            users: self.host.nested != Some(1),
            warnings: self.host.warnings(),
        }
    }

    fn images(&self) -> Option<Arc<dyn ImageStore>> {
        Some(Arc::clone(&self.host.images.service) as Arc<dyn ImageStore>)
    }

    async fn create(&self, id: &SandboxId, spec: &Spec) -> Result<Created, RuntimeError> {
        let this = self.clone();
        let (id, spec) = (*id, spec.clone());
        let _busy = self.blanks.busy();
        blocking(move || this.create_now(&id, &spec).map_err(space::shortage(space::FOR_SANDBOX)))
            .await
    }

    async fn check(&self) -> Result<(), RuntimeError> {
        let host = Arc::clone(&self.host);
        // Every guest is a child of the keeper: where none lives, one is started.
        let keeper = spawn_blocking(move || host.keeper().map(drop)).await;
        keeper.map_err(RuntimeError::host("ask for the keeper"))?
    }

    async fn connect(
        &self,
        id: &SandboxId,
        service: Service,
    ) -> Result<Box<dyn Duplex>, RuntimeError> {
        let guest = self.host.guest(id)?;
        let name = match service {
            Service::Control => "control.sock",
            Service::Envd => "envd.sock",
        };
        let path = self.host.sockets(guest.slot).join(name);
        let stream = connect(path).await.map_err(RuntimeError::host("connect to the guest"))?;
        Ok(Box::new(stream))
    }

    async fn destroy(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        if let Ok(guest) = self.host.guest(id) {
            self.host.kill(&guest).await?;
        }
        let (host, id) = (Arc::clone(&self.host), *id);
        blocking(move || {
            host.dismiss(&id)?;
            host.clear_shelf(&id)
        })
        .await
    }

    async fn stop(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        if let Ok(guest) = self.host.guest(id) {
            self.host.kill(&guest).await?;
        }
        let (host, id) = (Arc::clone(&self.host), *id);
        blocking(move || host.shelve(&id)).await
    }

    async fn start(&self, id: &SandboxId, spec: &Spec) -> Result<Created, RuntimeError> {
        let this = self.clone();
        let (id, spec) = (*id, spec.clone());
        let _busy = self.blanks.busy();
        blocking(move || this.start_now(&id, &spec).map_err(space::shortage(space::FOR_SANDBOX)))
            .await
    }

    async fn capture(
        &self,
        id: &SandboxId,
        snapshot: &SnapshotId,
        previous: Option<&SnapshotId>,
        haste: Haste,
    ) -> Result<Captured, RuntimeError> {
        self.host.space.admit(space::FOR_SNAPSHOT)?;
        let (host, id, snapshot) = (Arc::clone(&self.host), *id, *snapshot);
        let previous = previous.copied();
        let _busy = self.blanks.busy();
        blocking(move || host.capture(&id, &snapshot, previous.as_ref(), haste))
            .await
            .map_err(space::shortage(space::FOR_SNAPSHOT))
    }

    async fn convert(&self, id: &SandboxId, snapshot: &SnapshotId) -> Result<(), RuntimeError> {
        let (host, id, snapshot) = (Arc::clone(&self.host), *id, *snapshot);
        blocking(move || host.convert(&id, &snapshot)).await
    }

    async fn seal(
        &self,
        snapshot: &SnapshotId,
        previous: Option<&SnapshotId>,
    ) -> Result<Sealed, RuntimeError> {
        let (host, snapshot, previous) = (Arc::clone(&self.host), *snapshot, previous.copied());
        let sealed = blocking(move || host.seal(&snapshot, previous.as_ref())).await;
        sealed.map_err(space::shortage(space::FOR_SNAPSHOT))
    }

    async fn flatten(
        &self,
        snapshot: &SnapshotId,
        below: &[SnapshotId],
    ) -> Result<(), RuntimeError> {
        let (host, snapshot, below) = (Arc::clone(&self.host), *snapshot, below.to_vec());
        let flattened = blocking(move || host.flatten(&snapshot, &below)).await;
        flattened.map_err(space::shortage(space::FOR_SNAPSHOT))
    }

    async fn reset(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        let (host, id) = (Arc::clone(&self.host), *id);
        blocking(move || host.reset(&id)).await
    }

    async fn remove_snapshot(&self, snapshot: &SnapshotId) -> Result<(), RuntimeError> {
        let (host, snapshot) = (Arc::clone(&self.host), *snapshot);
        blocking(move || host.remove_snapshot(&snapshot)).await
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotId>, RuntimeError> {
        let host = Arc::clone(&self.host);
        let list = move || host.snapshots.list().map_err(RuntimeError::host("list the snapshots"));
        blocking(list).await
    }

    fn volumes(&self) -> Option<Arc<dyn VolumeFiles>> {
        Some(Arc::clone(&self.host.volumes) as _)
    }

    async fn ports(&self, id: &SandboxId) -> Result<Vec<Port>, RuntimeError> {
        let guest = self.host.guest(id)?;
        let process = guest.process.ok_or(RuntimeError::NotFound { id: *id })?;
        ports::of(process).map_err(RuntimeError::host("read the guest's ports"))
    }

    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        let host = Arc::clone(&self.host);
        blocking(move || {
            let mut found: Vec<_> = host
                .guests()
                .into_iter()
                .map(|(id, guest)| Found { id, state: host.state(&guest) })
                .collect();
            let shelves = host.journal.shelves().map_err(RuntimeError::host("read the journal"))?;
            // A server may have died between putting the files aside and the rest.
            let known: HashSet<_> = found.iter().map(|it| it.id).collect();
            let stopped = shelves.into_iter().filter(|id| !known.contains(id));
            found.extend(stopped.map(|id| Found { id, state: GuestState::Stopped }));
            Ok(found)
        })
        .await
    }

    async fn state(&self, id: &SandboxId) -> Result<GuestState, RuntimeError> {
        Ok(self.host.state(&*self.host.guest(id)?))
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.host.events.subscribe()
    }

    async fn set_deadline(
        &self,
        id: &SandboxId,
        deadline: Option<Deadline>,
    ) -> Result<(), RuntimeError> {
        let guest = self.host.guest(id)?;
        let request = Request::Deadline {
            slot: guest.slot,
            at_ns: deadline.map_or(0, |it| host::boottime_ns(it.after + DEADLINE_GRACE)),
            freeze: deadline.is_some_and(|it| it.action == DeadlineAction::Pause),
        };
        if let Some(keeper) = &guest.keeper {
            // Where the keeper has died, the server's own timer must do.
            keeper.tell(&request).ok();
        }
        Ok(())
    }

    fn rescue_files(&self) -> Option<Arc<dyn RescueFiles>> {
        Some(Arc::<Rescues>::clone(&self.rescues))
    }

    fn build_files(&self) -> Option<Arc<dyn BuildFiles>> {
        Some(Arc::<BuildTrees>::clone(&self.builds))
    }

    async fn dial(&self, id: &SandboxId, port: u16) -> Result<Box<dyn Duplex>, RuntimeError> {
        let guest = self.host.guest(id)?;
        let host = Arc::clone(&self.host);
        let sockets = blocking(move || host.dialling(&guest)).await?;
        let stream = sockets.connect(port).await;
        let stream = stream.map_err(RuntimeError::host("connect to the port"))?;
        Ok(Box::new(stream))
    }

    async fn listen(&self, id: &SandboxId, port: u16) -> Result<Box<dyn Listen>, RuntimeError> {
        let guest = self.host.guest(id)?;
        let host = Arc::clone(&self.host);
        let listener = blocking(move || host.listen(&guest, port)).await?;
        listener.set_nonblocking(true).map_err(RuntimeError::host("listen on the port"))?;
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(RuntimeError::host("listen on the port"))?;
        Ok(Box::new(Inside(listener)))
    }

    async fn pause(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        let guest = self.host.guest(id)?;
        let cgroup = self.host.cgroups.of(guest.slot);
        blocking(move || cgroup.freeze().map_err(RuntimeError::host("freeze the guest"))).await
    }

    async fn resume(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        let guest = self.host.guest(id)?;
        let cgroup = self.host.cgroups.of(guest.slot);
        blocking(move || cgroup.thaw().map_err(RuntimeError::host("thaw the guest"))).await
    }

    async fn memory_room(&self) -> Option<Room> {
        let host = Arc::clone(&self.host);
        spawn_blocking(move || host.cgroups.room()).await.ok().flatten()
    }

    async fn reclaim(&self, id: &SandboxId) -> Result<u64, RuntimeError> {
        let guest = self.host.guest(id)?;
        let cgroup = self.host.cgroups.of(guest.slot);
        blocking(move || cgroup.reclaim().map_err(RuntimeError::host("take memory back"))).await
    }

    async fn pack_snapshot(&self, packing: &Packing) -> Result<File, RuntimeError> {
        let (host, packing) = (Arc::clone(&self.host), packing.clone());
        blocking(move || host.pack_snapshot(&packing).map_err(space::shortage(space::FOR_SNAPSHOT)))
            .await
    }

    async fn unpack_snapshot(
        &self,
        snapshot: &SnapshotId,
        archive: Arriving,
    ) -> Result<Imported, RuntimeError> {
        let taken = transfer::take(Arc::clone(&self.host), *snapshot, archive).await;
        taken.map_err(space::shortage(space::FOR_SNAPSHOT))
    }

    async fn compare(
        &self,
        before: &Files,
        after: &Files,
        comparison: Comparison,
        changes: mpsc::Sender<Change>,
    ) -> Result<(), RuntimeError> {
        let (before, after) = (before.clone(), after.clone());
        let this = self.clone();
        blocking(move || this.compare_now(&before, &after, comparison, &changes)).await
    }

    async fn usage(&self, id: &SandboxId) -> Result<Usage, RuntimeError> {
        let guest = self.host.guest(id)?;
        if !self.host.cgroups.works() {
            return Err(RuntimeError::Unsupported { operation: "measure usage" });
        }
        let cgroup = self.host.cgroups.of(guest.slot);
        let usage = cgroup.usage().map_err(RuntimeError::host("read the guest's usage"))?;
        let disk = self.host.pool.used(&guest.entry.join("disk"));
        let traffic = self.host.traffic(&guest)?;
        Ok(Usage { disk_bytes: disk.map(|it| it.used_bytes), traffic, ..usage })
    }

    async fn traffic(&self, id: &SandboxId) -> Result<Option<Traffic>, RuntimeError> {
        self.host.traffic(&*self.host.guest(id)?)
    }

    async fn set_network(
        &self,
        id: &SandboxId,
        network: &spec::Network,
    ) -> Result<(), RuntimeError> {
        let (host, guest) = (Arc::clone(&self.host), self.host.guest(id)?);
        let (id, network) = (*id, network.clone());
        blocking(move || host.change_network(&id, &guest, &network)).await
    }

    async fn let_to_broker(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        let (host, guest) = (Arc::clone(&self.host), self.host.guest(id)?);
        blocking(move || host.let_to_broker(&guest)).await
    }

    async fn explain(
        &self,
        id: &SandboxId,
        network: &spec::Network,
        question: &Question,
    ) -> Result<Explanation, RuntimeError> {
        let guest = self.host.guest(id)?;
        Ok(self.host.explain(&guest, network, question))
    }

    async fn learned(&self, id: &SandboxId) -> Result<Vec<Reached>, RuntimeError> {
        let guest = self.host.guest(id)?;
        let net = self.host.net.as_ref();
        Ok(net.map(|net| net.policies().reached(guest.slot)).unwrap_or_default())
    }

    async fn set_credentials(
        &self,
        id: &SandboxId,
        credentials: &Granted,
    ) -> Result<Option<String>, RuntimeError> {
        let (host, guest) = (Arc::clone(&self.host), self.host.guest(id)?);
        let (id, granted) = (*id, credentials.clone());
        blocking(move || host.give(&id, &guest, &granted)).await
    }

    async fn update_limits(&self, id: &SandboxId, limits: &Limits) -> Result<(), RuntimeError> {
        let guest = self.host.guest(id)?;
        if !self.host.cgroups.works() {
            return Err(RuntimeError::Unsupported { operation: "change limits" });
        }
        let cgroup = self.host.cgroups.of(guest.slot);
        cgroup.set_limits(limits).map_err(RuntimeError::host("set limits"))?;
        self.host.limit_disk(&guest.entry.join("disk"), limits)
    }
}

/// Connects to a guest's socket.
///
/// On a unix socket that is done when the call returns: asking the event loop whether it is, as
/// tokio does, costs a wake-up. Only a full queue is waited for, on a thread that may block.
async fn connect(path: PathBuf) -> std::io::Result<UnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(&path)?) {
        Ok(()) => UnixStream::from_std(socket.into()),
        Err(rustix::io::Errno::AGAIN) => {
            let waiting = || std::os::unix::net::UnixStream::connect(path);
            let stream = spawn_blocking(waiting).await.map_err(std::io::Error::other)??;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs system calls where they may block.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    spawn_blocking(act).await.map_err(RuntimeError::host("finish a blocking step"))?
}
