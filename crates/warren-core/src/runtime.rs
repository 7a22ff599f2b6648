//! The seam to what makes guests: one [`Runtime`] per way of isolating.

use std::{collections::BTreeMap, fs::File, io, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{broadcast, mpsc},
};

use crate::{
    compare::{Change, Comparison, Files},
    credentials::Granted,
    egress::{Attempt, Explanation, Protocol, Question},
    git::RescueFiles,
    id::{SandboxId, SnapshotId},
    images::ImageStore,
    spec::{Limits, Network, Spec, Stack},
    templates::files::BuildFiles,
    volumes::VolumeFiles,
};

/// A byte stream to a guest.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// One way of isolating a guest on this host.
///
/// A runtime gives lifecycle, limits, events and byte streams. It never runs commands or touches
/// files inside: the guest agent does, behind [`Runtime::connect`].
#[async_trait]
pub trait Runtime: Send + Sync + std::fmt::Debug + 'static {
    /// The name used in configuration, in the database and in logs.
    fn name(&self) -> &'static str;

    /// What this backend can do here; asked before an operation, never found out by its failing.
    fn capabilities(&self) -> Capabilities;

    /// Makes the guest and starts its agent. On an error nothing of it is left on the host.
    ///
    /// When this returns, [`Runtime::connect`] works; the agent's first answer is the proof that
    /// the guest runs.
    async fn create(&self, id: &SandboxId, spec: &Spec) -> Result<Created, RuntimeError>;

    /// Opens a byte stream to the guest's agent, which speaks HTTP/1.1 and h2 on it.
    async fn connect(
        &self,
        id: &SandboxId,
        service: Service,
    ) -> Result<Box<dyn Duplex>, RuntimeError>;

    /// Kills the guest and removes all it holds. Removing one that is gone is not an error.
    ///
    /// Returns when no process of the guest runs any more; what is slow to remove (its files) has
    /// been made unreachable by then and goes in the background.
    async fn destroy(&self, id: &SandboxId) -> Result<(), RuntimeError>;

    /// Every guest of ours that exists on this host, for reconciling after a restart.
    async fn list(&self) -> Result<Vec<Found>, RuntimeError>;

    /// What one guest is doing now.
    async fn state(&self, id: &SandboxId) -> Result<GuestState, RuntimeError> {
        let found = self.list().await?.into_iter().find(|it| it.id == *id);
        found.map(|it| it.state).ok_or(RuntimeError::NotFound { id: *id })
    }

    /// Exits and other things that happen to guests without being asked for.
    ///
    /// A receiver that lags must call [`Runtime::list`] to catch up.
    fn events(&self) -> broadcast::Receiver<RuntimeEvent>;

    /// Records when the guest must end if nobody extends its life. `None` takes the record back.
    ///
    /// The runtime enforces it even while no server runs, a grace period later than the server
    /// itself would.
    async fn set_deadline(
        &self,
        id: &SandboxId,
        deadline: Option<Deadline>,
    ) -> Result<(), RuntimeError>;

    /// Where the files are kept that builds of templates copy from, where this runtime can.
    fn build_files(&self) -> Option<Arc<dyn BuildFiles>> {
        None
    }

    /// Where bundles of work are kept whose sandboxes had to go, where this runtime keeps any.
    fn rescue_files(&self) -> Option<Arc<dyn RescueFiles>> {
        None
    }

    /// Where OCI images are kept, where this runtime takes any.
    fn images(&self) -> Option<Arc<dyn ImageStore>> {
        None
    }

    /// Says whether a guest could be made now, without making one.
    async fn check(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// Opens a byte stream to a TCP port on the guest's own loopback.
    async fn dial(&self, _id: &SandboxId, _port: u16) -> Result<Box<dyn Duplex>, RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "dial a port" })
    }

    /// Listens on a TCP port of the guest's own loopback, for as long as what is given lives. What
    /// connects there inside is accepted out here.
    async fn listen(&self, _id: &SandboxId, _port: u16) -> Result<Box<dyn Listen>, RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "listen on a port" })
    }

    /// Stops every process of the guest where it is; memory is kept.
    async fn pause(&self, _id: &SandboxId) -> Result<(), RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "pause" })
    }

    /// Lets a paused guest go on.
    async fn resume(&self, _id: &SandboxId) -> Result<(), RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "resume" })
    }

    /// How much memory there is for guests, and how much of it is free, where that is known.
    async fn memory_room(&self) -> Option<Room> {
        None
    }

    /// Has the host take back what it can of a paused guest's memory: what it can read again from a
    /// disk, and what goes to swap. The guest finds all of it when it goes on. Gives how much, in
    /// bytes; nothing for a guest that is not paused.
    async fn reclaim(&self, _id: &SandboxId) -> Result<u64, RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "take memory back" })
    }

    /// What the guest uses now.
    async fn usage(&self, _id: &SandboxId) -> Result<Usage, RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "measure usage" })
    }

    /// What went over a guest's network, which may be known where the rest of its usage is not;
    /// none for one that has none.
    async fn traffic(&self, id: &SandboxId) -> Result<Option<Traffic>, RuntimeError> {
        Ok(self.usage(id).await?.traffic)
    }

    /// Kills the guest and keeps its files: [`Runtime::start`] makes a guest on them again. One
    /// that has ended is stopped as well; one that is stopped already is no error.
    ///
    /// What the guest had written is on the disk when this returns.
    async fn stop(&self, _id: &SandboxId) -> Result<(), RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "stop and keep the files" })
    }

    /// Makes a guest anew on the files of one that was stopped. On an error they are still there,
    /// and nothing else is.
    async fn start(&self, _id: &SandboxId, _spec: &Spec) -> Result<Created, RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "start again" })
    }

    /// Saves what the guest has written, exactly as it is at one moment, as the files of
    /// `snapshot`. A running guest stands still for that moment alone; one that is paused stays
    /// so, and a stopped one's files are read where they are kept.
    ///
    /// `previous` is the last snapshot that was made of these files, if there is one: what has
    /// not changed since need not be read again. On an error nothing of the snapshot is left.
    async fn capture(
        &self,
        _id: &SandboxId,
        _snapshot: &SnapshotId,
        _previous: Option<&SnapshotId>,
        _haste: Haste,
    ) -> Result<Captured, RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "make snapshots" })
    }

    /// Makes the files of a stopped guest the files of `snapshot`, without reading them. Of the
    /// guest nothing is left then.
    async fn convert(&self, _id: &SandboxId, _snapshot: &SnapshotId) -> Result<(), RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "make snapshots" })
    }

    /// Writes down what a snapshot's files are (checksums), and has all of it on the disk when it
    /// returns. `previous` is as for [`Runtime::capture`].
    async fn seal(
        &self,
        _snapshot: &SnapshotId,
        _previous: Option<&SnapshotId>,
    ) -> Result<Sealed, RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "make snapshots" })
    }

    /// Puts the layers below a snapshot's into its own, so that it needs none of them. `below` has
    /// all of them, the topmost first. On an error the snapshot is as it was.
    async fn flatten(
        &self,
        _snapshot: &SnapshotId,
        _below: &[SnapshotId],
    ) -> Result<(), RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "make snapshots" })
    }

    /// Makes the kept files of a stopped guest none at all, so that a start finds its image as it
    /// is. Done twice is the same as once.
    async fn reset(&self, _id: &SandboxId) -> Result<(), RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "go back to a snapshot" })
    }

    /// Removes a snapshot's files. One that is gone is no error.
    async fn remove_snapshot(&self, _snapshot: &SnapshotId) -> Result<(), RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "make snapshots" })
    }

    /// Every snapshot whose files are on this host, sealed or not.
    async fn snapshots(&self) -> Result<Vec<SnapshotId>, RuntimeError> {
        Ok(Vec::new())
    }

    /// Packs a snapshot with what is below it as an OCI image in one file, which has no name and
    /// is at its start.
    async fn pack_snapshot(&self, _packing: &Packing) -> Result<File, RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "export snapshots" })
    }

    /// Makes the files of `snapshot` of what [`Runtime::pack_snapshot`] packed somewhere. On an
    /// error nothing of it is left; [`RuntimeError::Image`] says what is wrong with the archive.
    async fn unpack_snapshot(
        &self,
        _snapshot: &SnapshotId,
        _archive: Arriving,
    ) -> Result<Imported, RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "import snapshots" })
    }

    /// Compares files and gives what differs, in the order of paths, until all is compared or
    /// nobody takes any more.
    async fn compare(
        &self,
        _before: &Files,
        _after: &Files,
        _comparison: Comparison,
        _changes: mpsc::Sender<Change>,
    ) -> Result<(), RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "compare files" })
    }

    /// The files of volumes, where this backend keeps any.
    fn volumes(&self) -> Option<Arc<dyn VolumeFiles>> {
        None
    }

    /// The TCP ports on which something in the guest listens, in order.
    async fn ports(&self, _id: &SandboxId) -> Result<Vec<Port>, RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "list ports" })
    }

    /// Changes what a guest may reach, while it runs: what is still allowed goes on, what is not
    /// is cut, and there is no moment without rules. The same again changes nothing.
    async fn set_network(&self, _id: &SandboxId, _network: &Network) -> Result<(), RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "change the network" })
    }

    /// Lets a guest connect to the broker of git at its gateway, for as long as it is there.
    async fn let_to_broker(&self, _id: &SandboxId) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// Why a guest reaches something, or does not. `network` is what it may reach by its policy;
    /// a runtime adds what it knows itself: networks that the operator allows, addresses that were
    /// answered for a name.
    async fn explain(
        &self,
        _id: &SandboxId,
        network: &Network,
        question: &Question,
    ) -> Result<Explanation, RuntimeError> {
        Ok(network.explain(question))
    }

    /// What a guest has reached, or tried to, while its rules were for learning or a dry run.
    async fn learned(&self, _id: &SandboxId) -> Result<Vec<Reached>, RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "learn what is reached" })
    }

    /// Gives a guest's requests these credentials, in place of those they were given before; none
    /// where there are none. They are kept in memory alone, and asked for again after a restart.
    ///
    /// Gives the certificate, as PEM, of who signs for the hosts of the rules towards the guest:
    /// the guest is to trust it, and it is the same one as long as the guest runs.
    async fn set_credentials(
        &self,
        _id: &SandboxId,
        _credentials: &Granted,
    ) -> Result<Option<String>, RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "set credentials on requests" })
    }

    /// Changes the limits of a running guest.
    async fn update_limits(&self, _id: &SandboxId, _limits: &Limits) -> Result<(), RuntimeError> {
        Err(RuntimeError::Unsupported { operation: "change limits" })
    }
}

/// A listener on a port in a guest. Dropping it closes the port.
#[async_trait]
pub trait Listen: Send + std::fmt::Debug + 'static {
    /// The next connection from inside.
    async fn accept(&mut self) -> io::Result<Box<dyn Duplex>>;
}

/// Which of the agent's two sockets to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Initialisation and other things for the host alone: `/init`, `/health`.
    Control,
    /// Processes and files: the envd protocol.
    Envd,
}

/// What a backend can do on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// [`Runtime::pause`] and [`Runtime::resume`].
    pub pause: bool,
    /// [`Runtime::stop`] and [`Runtime::start`].
    pub stop: bool,
    /// [`Runtime::dial`].
    pub dial: bool,
    /// Guests reach the outside ([`crate::spec::Network::Open`]).
    pub network: bool,
    /// [`crate::spec::Network::Rules`] are enforced, and [`Runtime::set_network`] changes them.
    pub network_rules: bool,
    /// [`Runtime::set_credentials`].
    pub credentials: bool,
    /// [`Limits::memory_bytes`] is enforced.
    pub memory_limit: bool,
    /// [`Limits::cpu_millis`] is enforced.
    pub cpu_limit: bool,
    /// [`Limits::pids`] is enforced.
    pub pids_limit: bool,
    /// [`Runtime::usage`].
    pub usage: bool,
    /// [`Runtime::capture`] and what belongs to it; none where snapshots cannot be made.
    pub snapshot: Option<Cost>,
    /// [`Limits::disk_bytes`] is enforced.
    pub disk_limit: bool,
    /// The guest has more than one user id: `user` and `root` differ.
    pub users: bool,
    /// What is weaker here than it could be, each a sentence for people.
    pub warnings: Vec<String>,
}

/// What it costs to save or to copy files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// About the same whatever there is: the storage shares what is equal.
    Constant,
    /// Grows with the number of files, and not with their size.
    Files,
    /// Grows with what changed since the last time, in bytes, and with the number of files.
    Bytes,
}

/// Whose time counts when files are saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// The guest's: it stands still as shortly as can be, whatever is done before.
    Guest,
    /// That of whoever waits: all is over as soon as can be.
    Caller,
}

/// What [`Runtime::capture`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// For how long the guest stood still.
    pub frozen: Duration,
}

/// What [`Runtime::seal`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// What the snapshot's own files hold, in bytes.
    pub bytes: u64,
    /// How many there are, of whatever kind.
    pub files: u64,
}

/// A file that comes piece by piece.
pub type Arriving = BoxStream<'static, io::Result<Bytes>>;

/// A snapshot that is to be packed.
#[derive(Clone, PartialEq, Eq)]
pub struct Packing {
    /// Its files.
    pub stack: Stack,
    /// What it is called.
    pub name: String,
    /// Environment of commands.
    pub env: BTreeMap<String, String>,
    /// Who commands run as.
    pub user: String,
    /// Where commands start.
    pub workdir: String,
}

impl std::fmt::Debug for Packing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packing")
            .field("stack", &self.stack)
            .field("env", &format_args!("{} variables", self.env.len()))
            .finish_non_exhaustive()
    }
}

/// What an archive says about the snapshot in it: words of whoever made it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// What lies below its own files: `host`, or an image's reference.
    pub base_name: String,
    /// That image's identity.
    pub base_digest: Option<String>,
    /// Environment of commands.
    pub env: BTreeMap<String, String>,
    /// Who commands run as; nothing where it does not say.
    pub user: String,
    /// Where commands start; nothing where it does not say.
    pub workdir: String,
}

impl std::fmt::Debug for Imported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Imported")
            .field("base_name", &self.base_name)
            .field("env", &format_args!("{} variables", self.env.len()))
            .finish_non_exhaustive()
    }
}

/// What [`Runtime::create`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Created {
    /// The steps in order, each with how long it took.
    pub steps: Vec<(&'static str, Duration)>,
}

/// A guest that [`Runtime::list`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its identity.
    pub id: SandboxId,
    /// What it is doing.
    pub state: GuestState,
}

/// What a guest is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestState {
    /// Its processes run.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It has ended; its files may still be there.
    Exited(Exit),
    /// It was stopped: only its files are there.
    Stopped,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Why.
    pub reason: ExitReason,
    /// Processes that were killed for want of memory during its life.
    pub oom_kills: u64,
}

/// Why a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// The agent ended by itself with this status.
    Status(i32),
    /// A signal that nobody of ours sent ended the agent.
    Signal(i32),
    /// The agent was killed because the guest ran out of memory.
    OutOfMemory,
    /// Its deadline came while no server was there to act on it.
    Deadline,
    /// The host killed it on request.
    Killed,
    /// The host went away under it (a reboot), or how it ended was never recorded.
    Unknown,
}

/// Something that happened to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// It ended.
    Exited {
        /// Which.
        id: SandboxId,
        /// How.
        exit: Exit,
    },
    /// Its disk is full, or nearly, or the storage that it is on. Told again only after it was not.
    DiskFull {
        /// Which.
        id: SandboxId,
        /// What it has written, or what is used of the storage, in bytes.
        used_bytes: u64,
        /// What it may, or what the storage has.
        limit_bytes: u64,
    },
    /// It tried to reach what it may not. A runtime tells a few of these each second and counts
    /// the rest.
    Denied {
        /// Which.
        id: SandboxId,
        /// What it tried.
        denial: Denial,
    },
}

/// A destination as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// The name: of a question, or of an address that was answered for it.
    pub name: Option<String>,
    /// The address; none for a question.
    pub address: Option<IpAddr>,
    /// The kind of packet; a question's is [`Protocol::Any`].
    pub protocol: Protocol,
    /// The port; none for what has none.
    pub port: Option<u16>,
}

impl Destination {
    /// It as something that a policy decides about, with its name proven.
    #[must_use]
    pub fn attempt(&self) -> Attempt<'_> {
        Attempt {
            name: self.name.as_deref(),
            proven: true,
            address: self.address,
            protocol: self.protocol,
            port: self.port,
        }
    }
}

/// Something that a guest tried to reach and may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Where to.
    pub to: Destination,
    /// The rule that denies it, by its place from 0; none where no rule is about it.
    pub rule: Option<usize>,
    /// Why, as a phrase, where it is not that the rules name it: its name is hidden, say.
    pub why: Option<&'static str>,
    /// Whether it was kept from it: the rules of a dry run keep it from nothing.
    pub enforced: bool,
    /// How many denials were not told since the last one that was.
    pub untold: u64,
}

/// Something that a guest has reached, or tried to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Where to.
    pub to: Destination,
    /// How often, in connections.
    pub count: u64,
}

/// What went over a guest's network since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that it sent.
    pub sent_bytes: u64,
    /// Bytes that it got.
    pub received_bytes: u64,
    /// Packets that it sent.
    pub sent_packets: u64,
    /// Packets that it got.
    pub received_packets: u64,
    /// Connections that it began.
    pub connections: u64,
    /// Connections that were denied.
    pub denied: u64,
}

/// When a guest must end at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// How far away it is, on a clock that runs while the host sleeps (`CLOCK_BOOTTIME`).
    pub after: Duration,
    /// What is to be done then.
    pub action: DeadlineAction,
}

/// What a deadline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadlineAction {
    /// The guest is killed.
    Kill,
    /// The guest is frozen.
    Pause,
    /// The guest is killed and its files are kept.
    Stop,
}

/// A port on which something in a guest listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Whether only the guest's own loopback reaches it.
    pub loopback: bool,
}

/// Memory of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What there is, in bytes.
    pub total_bytes: u64,
    /// What of it could be had at once.
    pub free_bytes: u64,
}

impl Room {
    /// Whether a smaller part of this is free.
    #[must_use]
    pub fn is_tighter_than(self, other: Self) -> bool {
        let part =
            |one: Self, other: Self| u128::from(one.free_bytes) * u128::from(other.total_bytes);
        part(self, other) < part(other, self)
    }
}

/// What a guest uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory now, in bytes.
    pub memory_bytes: u64,
    /// The most memory it ever used, in bytes.
    pub memory_peak_bytes: u64,
    /// Processor time since it started.
    pub cpu: Duration,
    /// Processes and threads now.
    pub pids: u64,
    /// Processes killed for want of memory since it started.
    pub oom_kills: u64,
    /// What it has written to its disk and not removed, in bytes; none where nothing counts.
    pub disk_bytes: Option<u64>,
    /// What went over its network; none where it has none or nothing counts.
    pub traffic: Option<Traffic>,
}

/// Why a runtime could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// This backend does not do that, here or anywhere.
    #[error("this runtime cannot {operation} here")]
    Unsupported {
        /// What was asked, such as `pause`.
        operation: &'static str,
    },
    /// There is no such guest.
    #[error("no guest {id} on this host")]
    NotFound {
        /// Which.
        id: SandboxId,
    },
    /// The image cannot be used; the text says what was expected.
    #[error("image cannot be used: {reason}")]
    Image {
        /// What is wrong with it and what was expected, for the caller.
        reason: String,
    },
    /// A directory of the host cannot be had; the text says which and why.
    #[error("{reason}")]
    Mount {
        /// What is wrong and what was expected, for the caller.
        reason: String,
    },
    /// The host has no more of something: id ranges, addresses, memory.
    #[error("the host has no {what} left")]
    Exhausted {
        /// Of what.
        what: &'static str,
    },
    /// Something on the host failed.
    #[error("could not {operation}")]
    Host {
        /// The step that failed, such as `mount the root filesystem`.
        operation: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl RuntimeError {
    /// Names the step that an error came from; for `map_err`.
    pub fn host<E>(operation: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Host { operation, source: source.into() }
    }
}
