//! A runtime in memory, for tests: its guests are small agents at the other end of a pipe.
//!
//! The agent knows just enough: it answers its initialisation, runs a handful of made-up commands
//! and keeps files in a map. What fails, and when, is scripted.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio_util::task::TaskTracker;

use crate::{
    clock::{Clock, Timestamp},
    compare::{Change, Comparison, Files},
    credentials::Granted,
    id::{SandboxId, SnapshotId},
    images::ImageStore,
    runtime::{
        Capabilities, Captured, Cost, Created, Deadline, Denial, Duplex, Exit, ExitReason, Found,
        GuestState, Haste, Listen, Port, Reached, Room, Runtime, RuntimeError, RuntimeEvent,
        Sealed, Service, Traffic, Usage,
    },
    spec::{Network, Spec},
    templates::files::BuildFiles,
};

mod agent;
mod files;
mod images;
mod process;
mod volumes;

pub use agent::FakeAgent;
pub use files::FakeFiles;
pub use images::FakeImages;
pub use volumes::FakeVolumes;

/// A runtime whose guests live in this process.
#[derive(Debug)]
pub struct FakeRuntime {
    guests: Mutex<HashMap<SandboxId, Guest>>,
    events: broadcast::Sender<RuntimeEvent>,
    /// What the files of a guest were, in an agent that nobody talks to.
    snapshots: Mutex<HashMap<SnapshotId, Arc<FakeAgent>>>,
    files: Arc<FakeFiles>,
    images: Arc<FakeImages>,
    volumes: Arc<FakeVolumes>,
    script: Mutex<VecDeque<Failure>>,
    /// The ports of every guest, each with where it really is.
    ports: Mutex<BTreeMap<u16, Option<SocketAddr>>>,
    dialled: AtomicU32,
    capabilities: Mutex<Capabilities>,
    credentials: Mutex<HashMap<SandboxId, Granted>>,
    /// Taken by the next who gives credentials, and waits until it is opened.
    slow: Mutex<Option<Arc<Slow>>>,
    memory: Mutex<Memory>,
    created: AtomicU32,
    destroyed: AtomicU32,
    /// Closed: creates wait until it is opened.
    gate: Mutex<Option<Arc<Notify>>>,
    tasks: TaskTracker,
}

/// The memory of the host.
#[derive(Debug, Default)]
struct Memory {
    room: Option<Room>,
    /// What each guest gives back.
    each_gives: u64,
    /// Who gave, in order.
    reclaimed: Vec<SandboxId>,
}

#[derive(Debug)]
struct Guest {
    state: GuestState,
    agent: Arc<FakeAgent>,
    deadline: Option<Deadline>,
    oom_kills: u64,
    network: Network,
    reached: Vec<Reached>,
}

/// A call that takes its time.
#[derive(Debug, Default)]
pub struct Slow {
    /// Notified when the call has come.
    pub began: Notify,
    /// To be notified when it may go on.
    pub goes_on: Notify,
}

/// What goes wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The next create fails on the host.
    Create,
    /// The next create says that its image cannot be used.
    Image,
    /// The next guest's agent hangs up instead of answering its initialisation.
    Initialise,
    /// The next pause fails on the host.
    Pause,
    /// The next destroy fails on the host.
    Destroy,
    /// The next check fails on the host.
    Check,
    /// The next start of a stopped guest fails on the host.
    Start,
    /// The next capture fails on the host.
    Capture,
    /// The next seal fails on the host.
    Seal,
    /// The next reset fails on the host.
    Reset,
    /// The next comparison breaks off.
    Compare,
    /// The next change of the network fails on the host.
    Network,
}

impl Guest {
    fn new(state: GuestState, agent: Arc<FakeAgent>, network: Network) -> Self {
        Self { state, agent, deadline: None, oom_kills: 0, network, reached: Vec::new() }
    }
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self {
            guests: Mutex::default(),
            events: broadcast::channel(64).0,
            snapshots: Mutex::default(),
            files: Arc::default(),
            images: Arc::default(),
            volumes: Arc::default(),
            script: Mutex::default(),
            ports: Mutex::default(),
            dialled: AtomicU32::new(0),
            capabilities: Mutex::new(Capabilities {
                pause: true,
                stop: true,
                dial: false,
                network: true,
                network_rules: true,
                credentials: true,
                memory_limit: true,
                cpu_limit: true,
                pids_limit: true,
                usage: true,
                snapshot: Some(Cost::Constant),
                disk_limit: false,
                users: true,
                warnings: vec!["nothing is isolated: this runtime is a fake".to_owned()],
            }),
            credentials: Mutex::default(),
            slow: Mutex::default(),
            memory: Mutex::default(),
            created: AtomicU32::new(0),
            destroyed: AtomicU32::new(0),
            gate: Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }
}

impl FakeRuntime {
    /// Makes the next call of that kind fail.
    pub fn fail_next(&self, failure: Failure) {
        lock(&self.script).push_back(failure);
    }

    /// Makes creates wait until the gate is notified.
    pub fn close_gate(&self) -> Arc<Notify> {
        let gate = Arc::new(Notify::new());
        *lock(&self.gate) = Some(Arc::clone(&gate));
        gate
    }

    /// From now on nothing listens in any guest.
    pub fn close_ports(&self) {
        lock(&self.ports).clear();
    }

    /// Changes what this runtime says it can do.
    pub fn change_capabilities(&self, change: impl FnOnce(&mut Capabilities)) {
        change(&mut lock(&self.capabilities));
    }

    /// Makes the next call that gives credentials wait.
    pub fn slow_credentials(&self) -> Arc<Slow> {
        let slow = Arc::<Slow>::default();
        *lock(&self.slow) = Some(Arc::clone(&slow));
        slow
    }

    /// Knows no credentials any more, as after a restart.
    pub fn forget_credentials(&self) {
        lock(&self.credentials).clear();
    }

    /// What a guest's requests are given.
    pub fn credentials(&self, id: &SandboxId) -> Option<Granted> {
        lock(&self.credentials).get(id).cloned()
    }

    /// How many guests were made, and how many removed.
    pub fn counts(&self) -> (u32, u32) {
        (self.created.load(Ordering::Relaxed), self.destroyed.load(Ordering::Relaxed))
    }

    /// The guests that exist, in no order.
    pub fn guests(&self) -> Vec<SandboxId> {
        self.lock().keys().copied().collect()
    }

    /// Has every guest listen on a port, which is answered at this address, or by nobody.
    pub fn set_port(&self, port: u16, address: Option<SocketAddr>) {
        lock(&self.ports).insert(port, address);
    }

    /// How many connections to ports were asked for.
    pub fn dialled(&self) -> u32 {
        self.dialled.load(Ordering::Relaxed)
    }

    /// Its images.
    pub fn image_store(&self) -> &FakeImages {
        &self.images
    }

    /// The trees of files that builds copy from.
    pub fn files(&self) -> &FakeFiles {
        &self.files
    }

    /// The snapshots whose files exist, in no order.
    pub fn saved(&self) -> Vec<SnapshotId> {
        lock(&self.snapshots).keys().copied().collect()
    }

    /// The files of volumes.
    pub fn fake_volumes(&self) -> Arc<FakeVolumes> {
        Arc::clone(&self.volumes)
    }

    /// The agent of a guest.
    pub fn agent(&self, id: &SandboxId) -> Option<Arc<FakeAgent>> {
        self.lock().get(id).map(|guest| Arc::clone(&guest.agent))
    }

    /// The deadline that a guest has.
    pub fn deadline(&self, id: &SandboxId) -> Option<Deadline> {
        self.lock().get(id)?.deadline
    }

    /// Adds a guest as an earlier server left it.
    pub fn plant(&self, id: SandboxId, state: GuestState) {
        let agent = FakeAgent::new(self.tasks.clone(), false);
        self.lock().insert(id, Guest::new(state, agent, Network::default()));
    }

    /// What a guest may reach now.
    pub fn network(&self, id: &SandboxId) -> Option<Network> {
        self.lock().get(id).map(|guest| guest.network.clone())
    }

    /// Lets a guest reach everything, as when a change of its rules is lost.
    pub fn forget_network(&self, id: &SandboxId) {
        if let Some(guest) = self.lock().get_mut(id) {
            guest.network = Network::Open;
        }
    }

    /// Says that a guest tried what it may not.
    pub fn deny(&self, id: &SandboxId, denial: Denial) {
        self.events.send(RuntimeEvent::Denied { id: *id, denial }).ok();
    }

    /// What memory the host has, and what each guest gives back when it is asked to.
    pub fn set_room(&self, room: Room, each_gives: u64) {
        let mut memory = lock(&self.memory);
        (memory.room, memory.each_gives) = (Some(room), each_gives);
    }

    /// The guests that gave memory back, in order.
    pub fn reclaimed(&self) -> Vec<SandboxId> {
        lock(&self.memory).reclaimed.clone()
    }

    /// Says that a guest reached something.
    pub fn reach(&self, id: &SandboxId, reached: Reached) {
        if let Some(guest) = self.lock().get_mut(id) {
            guest.reached.push(reached);
        }
    }

    /// Freezes a guest as its keeper does at a deadline.
    pub fn freeze(&self, id: &SandboxId) {
        if let Some(guest) = self.lock().get_mut(id) {
            guest.state = GuestState::Paused;
        }
    }

    /// Ends a guest without a word and keeps its files, as when its host is started again.
    pub fn reboot(&self, id: &SandboxId) {
        if let Some(guest) = self.lock().get_mut(id) {
            guest.agent.hang_up();
            let exit = Exit { reason: ExitReason::Unknown, oom_kills: 0 };
            guest.state = GuestState::Exited(exit);
        }
    }

    /// Loses a guest and all its files, as when somebody removes them by hand.
    pub fn lose(&self, id: &SandboxId) {
        self.lock().remove(id);
    }

    /// Ends a guest as if by itself.
    pub fn exit(&self, id: &SandboxId, exit: Exit) {
        if let Some(guest) = self.lock().get_mut(id) {
            guest.agent.hang_up();
            guest.state = GuestState::Exited(exit.clone());
        }
        self.events.send(RuntimeEvent::Exited { id: *id, exit }).ok();
    }

    /// Tells of an exit that was none, as when news are late.
    pub fn tell_exit(&self, id: &SandboxId, exit: Exit) {
        self.events.send(RuntimeEvent::Exited { id: *id, exit }).ok();
    }

    /// Counts a process of a guest that was killed for want of memory.
    pub fn count_oom_kill(&self, id: &SandboxId) {
        if let Some(guest) = self.lock().get_mut(id) {
            guest.oom_kills += 1;
        }
    }

    /// Gives an agent the files of the layers that its guest is made on.
    fn fill(&self, agent: &FakeAgent, spec: &Spec) -> Result<(), RuntimeError> {
        let snapshots = lock(&self.snapshots);
        for layer in spec.image.layers().iter().rev() {
            let Some(saved) = snapshots.get(layer) else {
                return Err(RuntimeError::Image { reason: format!("there is no {layer}") });
            };
            agent.take_files(saved);
        }
        Ok(())
    }

    fn fails(&self, failures: &[Failure]) -> Option<Failure> {
        let mut script = lock(&self.script);
        let place = script.iter().position(|failure| failures.contains(failure))?;
        script.remove(place)
    }

    fn change<T>(
        &self,
        id: &SandboxId,
        change: impl FnOnce(&mut Guest) -> T,
    ) -> Result<T, RuntimeError> {
        self.lock().get_mut(id).map(change).ok_or(RuntimeError::NotFound { id: *id })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SandboxId, Guest>> {
        lock(&self.guests)
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn volumes(&self) -> Option<Arc<dyn crate::volumes::VolumeFiles>> {
        Some(Arc::clone(&self.volumes) as _)
    }

    fn capabilities(&self) -> Capabilities {
        lock(&self.capabilities).clone()
    }

    async fn create(&self, id: &SandboxId, spec: &Spec) -> Result<Created, RuntimeError> {
        let gate = lock(&self.gate).clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        match self.fails(&[Failure::Create, Failure::Image, Failure::Initialise]) {
            Some(Failure::Create) => return Err(scripted("start the guest")),
            Some(Failure::Image) => {
                return Err(RuntimeError::Image { reason: "no such directory".to_owned() });
            }
            other => {
                let agent = FakeAgent::new(self.tasks.clone(), other.is_some());
                self.fill(&agent, spec)?;
                let state = GuestState::Running;
                self.lock().insert(*id, Guest::new(state, agent, spec.network.clone()));
            }
        }
        self.created.fetch_add(1, Ordering::Relaxed);
        Ok(Created { steps: vec![("fake", Duration::from_micros(1))] })
    }

    async fn connect(
        &self,
        id: &SandboxId,
        service: Service,
    ) -> Result<Box<dyn Duplex>, RuntimeError> {
        let agent = self.agent(id).ok_or(RuntimeError::NotFound { id: *id })?;
        agent
            .connect(service)
            .map(|stream| Box::new(stream) as Box<dyn Duplex>)
            .ok_or_else(|| scripted("connect to the agent"))
    }

    async fn destroy(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        if self.fails(&[Failure::Destroy]).is_some() {
            return Err(scripted("remove the guest"));
        }
        if let Some(guest) = self.lock().remove(id) {
            guest.agent.hang_up();
            self.destroyed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn stop(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        self.change(id, |guest| {
            guest.agent.hang_up();
            guest.state = GuestState::Stopped;
        })
    }

    async fn start(&self, id: &SandboxId, spec: &Spec) -> Result<Created, RuntimeError> {
        if self.fails(&[Failure::Start]).is_some() {
            return Err(scripted("start the guest"));
        }
        let agent = FakeAgent::new(self.tasks.clone(), false);
        self.fill(&agent, spec)?;
        self.change(id, |guest| {
            // Files that were given up are those of the image again.
            if !guest.agent.is_empty() {
                agent.take_files(&guest.agent);
            }
            guest.agent = agent;
            guest.network = spec.network.clone();
            guest.state = GuestState::Running;
        })?;
        Ok(Created { steps: vec![("fake", Duration::from_micros(1))] })
    }

    async fn capture(
        &self,
        id: &SandboxId,
        snapshot: &SnapshotId,
        _previous: Option<&SnapshotId>,
        _haste: Haste,
    ) -> Result<Captured, RuntimeError> {
        if self.fails(&[Failure::Capture]).is_some() {
            return Err(scripted("save the files"));
        }
        let saved = FakeAgent::new(self.tasks.clone(), false);
        self.change(id, |guest| saved.take_files(&guest.agent))?;
        lock(&self.snapshots).insert(*snapshot, saved);
        Ok(Captured { frozen: Duration::from_micros(1) })
    }

    async fn convert(&self, id: &SandboxId, snapshot: &SnapshotId) -> Result<(), RuntimeError> {
        self.capture(id, snapshot, None, Haste::Caller).await?;
        self.destroy(id).await
    }

    async fn seal(
        &self,
        snapshot: &SnapshotId,
        _previous: Option<&SnapshotId>,
    ) -> Result<Sealed, RuntimeError> {
        match self.fails(&[Failure::Seal]) {
            None if lock(&self.snapshots).contains_key(snapshot) => {
                Ok(Sealed { bytes: 1, files: 1 })
            }
            _ => Err(scripted("write the snapshot")),
        }
    }

    async fn flatten(
        &self,
        snapshot: &SnapshotId,
        _below: &[SnapshotId],
    ) -> Result<(), RuntimeError> {
        // What was saved of a guest has the files of all its layers here.
        match lock(&self.snapshots).contains_key(snapshot) {
            true => Ok(()),
            false => Err(scripted("merge the layers")),
        }
    }

    async fn reset(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        if self.fails(&[Failure::Reset]).is_some() {
            return Err(scripted("give up the files"));
        }
        let empty = FakeAgent::new(self.tasks.clone(), false);
        self.change(id, |guest| guest.agent = empty)
    }

    async fn remove_snapshot(&self, snapshot: &SnapshotId) -> Result<(), RuntimeError> {
        lock(&self.snapshots).remove(snapshot);
        Ok(())
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotId>, RuntimeError> {
        Ok(self.saved())
    }

    fn images(&self) -> Option<Arc<dyn ImageStore>> {
        Some(Arc::clone(&self.images) as Arc<dyn ImageStore>)
    }

    fn build_files(&self) -> Option<Arc<dyn BuildFiles>> {
        Some(Arc::<FakeFiles>::clone(&self.files))
    }

    async fn set_credentials(
        &self,
        id: &SandboxId,
        credentials: &Granted,
    ) -> Result<Option<String>, RuntimeError> {
        let slow = lock(&self.slow).take();
        if let Some(slow) = slow {
            slow.began.notify_one();
            slow.goes_on.notified().await;
        }
        match *credentials == Granted::default() {
            true => drop(lock(&self.credentials).remove(id)),
            false => drop(lock(&self.credentials).insert(*id, credentials.clone())),
        }
        let signs = !credentials.rules.is_empty();
        Ok(signs.then(|| format!("-----BEGIN CERTIFICATE-----\n{id}\n-----END CERTIFICATE-----\n")))
    }

    async fn ports(&self, _id: &SandboxId) -> Result<Vec<Port>, RuntimeError> {
        let ports = lock(&self.ports);
        Ok(ports.keys().map(|number| Port { number: *number, loopback: true }).collect())
    }

    async fn listen(&self, _id: &SandboxId, port: u16) -> Result<Box<dyn Listen>, RuntimeError> {
        if lock(&self.ports).contains_key(&port) {
            return Err(scripted("listen on the port"));
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(RuntimeError::host("listen on the port"))?;
        let address = listener.local_addr().map_err(RuntimeError::host("listen on the port"))?;
        self.set_port(port, Some(address));
        Ok(Box::new(FakeListener(listener)))
    }

    async fn dial(&self, id: &SandboxId, port: u16) -> Result<Box<dyn Duplex>, RuntimeError> {
        self.dialled.fetch_add(1, Ordering::Relaxed);
        if self.change(id, |guest| guest.state.clone())? != GuestState::Running {
            return Err(scripted("dial a guest that does not run"));
        }
        let Some(address) = lock(&self.ports).get(&port).copied().flatten() else {
            return Err(scripted("connect to the port"));
        };
        let stream = tokio::net::TcpStream::connect(address).await;
        Ok(Box::new(stream.map_err(RuntimeError::host("connect to the port"))?))
    }

    /// One change, which says what was compared with what.
    async fn compare(
        &self,
        before: &Files,
        after: &Files,
        _comparison: Comparison,
        changes: mpsc::Sender<Change>,
    ) -> Result<(), RuntimeError> {
        let name = |files: &Files| match files {
            Files::Sandbox { id, .. } => id.to_string(),
            Files::Image(image) => {
                image.layers().first().map_or("image".into(), |it| it.to_string())
            }
        };
        let path = format!("{} {}", name(before), name(after));
        let change =
            Change { path, aspects: BTreeSet::new(), before: None, after: None, patch: None };
        changes.send(change).await.ok();
        match self.fails(&[Failure::Compare]) {
            None => Ok(()),
            Some(_) => Err(scripted("read the files")),
        }
    }

    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        let found =
            |(id, guest): (&SandboxId, &Guest)| Found { id: *id, state: guest.state.clone() };
        Ok(self.lock().iter().map(found).collect())
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }

    async fn set_deadline(
        &self,
        id: &SandboxId,
        deadline: Option<Deadline>,
    ) -> Result<(), RuntimeError> {
        self.change(id, |guest| guest.deadline = deadline)
    }

    async fn check(&self) -> Result<(), RuntimeError> {
        match self.fails(&[Failure::Check]) {
            Some(_) => Err(scripted("start the keeper")),
            None => Ok(()),
        }
    }

    async fn pause(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        if self.fails(&[Failure::Pause]).is_some() {
            return Err(scripted("freeze the guest"));
        }
        self.change(id, |guest| guest.state = GuestState::Paused)
    }

    async fn resume(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        self.change(id, |guest| guest.state = GuestState::Running)
    }

    async fn memory_room(&self) -> Option<Room> {
        lock(&self.memory).room
    }

    async fn reclaim(&self, id: &SandboxId) -> Result<u64, RuntimeError> {
        let mut memory = lock(&self.memory);
        let gives = memory.each_gives;
        memory.reclaimed.push(*id);
        if let Some(room) = &mut memory.room {
            room.free_bytes += gives;
        }
        Ok(gives)
    }

    async fn set_network(&self, id: &SandboxId, network: &Network) -> Result<(), RuntimeError> {
        if self.fails(&[Failure::Network]).is_some() {
            return Err(scripted("change the rules"));
        }
        self.change(id, |guest| guest.network = network.clone())
    }

    async fn learned(&self, id: &SandboxId) -> Result<Vec<Reached>, RuntimeError> {
        self.change(id, |guest| guest.reached.clone())
    }

    async fn usage(&self, id: &SandboxId) -> Result<Usage, RuntimeError> {
        self.change(id, |guest| Usage {
            oom_kills: guest.oom_kills,
            traffic: Some(Traffic::default()),
            ..Usage::default()
        })
    }
}

/// A port in a guest that the server listens on.
#[derive(Debug)]
struct FakeListener(tokio::net::TcpListener);

#[async_trait]
impl Listen for FakeListener {
    async fn accept(&mut self) -> std::io::Result<Box<dyn Duplex>> {
        Ok(Box::new(self.0.accept().await?.0))
    }
}

/// A clock that a test moves.
#[derive(Debug, Default)]
pub struct FakeClock(AtomicU64);

impl FakeClock {
    /// A clock that shows this many milliseconds since 1970.
    pub fn at(millis: u64) -> Self {
        Self(AtomicU64::new(millis))
    }

    /// Moves it forward.
    pub fn advance(&self, length: Duration) {
        let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

fn scripted(operation: &'static str) -> RuntimeError {
    RuntimeError::Host { operation, source: "a scripted failure".into() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
