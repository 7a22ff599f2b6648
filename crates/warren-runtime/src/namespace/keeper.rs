//! The server's side of the keeper: starting one, asking it, hearing from it.
//!
//! A keeper is named by the agent image that it runs, so a newer server starts one of its own and
//! leaves the older one to keep its guests until they end.

use std::{
    collections::HashMap,
    ffi::CString,
    fmt,
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use rustix::process::{WaitId, WaitIdOptions, waitid};
use warren_proto::keeper::{Ending, Event, MAX_MESSAGE, Message, Request, Role, Step, VERSION};
use warren_sys::{
    channel::{Channel, Listener},
    spawn::{Program, Streams, spawn},
};

/// How long a keeper may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A keeper that has forked this many guests is followed by a new one: all its children share one
/// address space layout.
pub(crate) const FORKS_PER_KEEPER: u32 = 10_000;
const PREFIX: &str = "keeper-";

/// A connection to one keeper.
pub(crate) struct Keeper {
    channel: Arc<Channel>,
    waiting: Arc<Mutex<HashMap<u32, mpsc::SyncSender<Answer>>>>,
    forks: AtomicU32,
    pid: u32,
    name: String,
    /// Set when it has gone, before anybody is told.
    gone: Arc<AtomicBool>,
}

/// The living guests of a keeper: slot and pid.
pub(crate) type Living = Vec<(u32, u32)>;

/// A forked guest.
#[derive(Debug)]
pub(crate) struct Forked {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) user_namespace: OwnedFd,
    pub(crate) mount_namespace: OwnedFd,
}

type Answer = Result<Forked, KeeperError>;

/// A guest of this keeper has ended.
#[derive(Debug)]
pub(crate) struct Exited {
    pub(crate) slot: u32,
    pub(crate) pid: u32,
    pub(crate) ending: Ending,
}

/// Why a keeper did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeeperError {
    #[error("could not {}", step.name())]
    Step {
        step: Step,
        #[source]
        source: io::Error,
    },
    #[error("the keeper did not answer")]
    Silent,
    #[error("could not {operation} the keeper")]
    Host {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("name", &self.name).finish_non_exhaustive()
    }
}

fn host(operation: &'static str) -> impl FnOnce(io::Error) -> KeeperError {
    move |source| KeeperError::Host { operation, source }
}

/// The sockets of keepers in `run_dir`, whether or not anybody listens.
pub(crate) fn sockets(run_dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(run_dir).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|it| it.file_name().is_some_and(|it| it.to_string_lossy().starts_with(PREFIX)))
        .collect()
}

/// Whether a keeper of the server at `run_dir` lives.
pub(crate) fn any_lives(run_dir: &Path) -> bool {
    sockets(run_dir).iter().any(|it| Channel::connect(it).is_ok())
}

/// Starts a keeper that runs `image` and listens in `run_dir`; gives its socket's path.
///
/// It is not waited for here: the listening socket is made before, so the first connection
/// queues until the keeper is up.
pub(crate) fn start(
    run_dir: &Path,
    image: &Image,
    generation: u32,
    records: &Path,
) -> Result<PathBuf, KeeperError> {
    let path = run_dir.join(format!("{}{generation}.sock", image.prefix));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(host("make room for")(error));
        }
        _ => {}
    }
    let listener = Listener::bind(&path).map_err(host("listen for"))?;
    let records = File::open(records).map_err(host("open the exit records of"))?;
    execute(image.bytes, &listener, &records).map_err(host("start"))?;
    Ok(path)
}

/// Runs `image` from sealed memory, so that what is on disk can be replaced at any time.
fn execute(image: &[u8], listener: &Listener, records: &File) -> io::Result<()> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut memory = File::from(rustix::fs::memfd_create(super::KEEPER, flags)?);
    memory.write_all(image)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    // By way of this process, for the child closes everything before it executes.
    let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
    let program = Program {
        path: &CString::new(path)?,
        arguments: &[CString::new(super::KEEPER)?],
        environment: &[],
        directory: c"/",
        identity: None,
        streams: Streams::Each([listener.as_fd(), records.as_fd(), null.as_fd()]),
        open_files: None,
        mark: None,
    };
    let keeper = spawn(&program).map_err(|error| error.source)?;
    std::thread::Builder::new().name("keeper-reaper".to_owned()).spawn(move || {
        // The keeper outlives most servers; where it does not, no zombie is to stay.
        waitid(WaitId::PidFd(keeper.pidfd.as_fd()), WaitIdOptions::EXITED).ok();
    })?;
    Ok(())
}

/// The agent's image and what keepers that run it are called.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    bytes: &'static [u8],
    prefix: String,
}

impl Image {
    /// Names `bytes` by what they are. Reads all of them, so once is enough.
    pub(crate) fn new(bytes: &'static [u8]) -> Self {
        let words = bytes
            .chunks(8)
            .map(|chunk| chunk.iter().fold(0_u64, |word, byte| (word << 8) | u64::from(*byte)));
        let hash = words.fold(0xcbf2_9ce4_8422_2325_u64, |hash, word| {
            (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29)
        });
        Self { bytes, prefix: format!("{PREFIX}{:08x}-", hash >> 32) }
    }
}

impl Keeper {
    /// Connects to the keeper at `path`, and gives its living guests (slot and pid).
    ///
    /// `exited` is called, on a thread of this connection, for every guest that ends, and
    /// `closed` once when the keeper has gone.
    pub(crate) fn connect(
        path: &Path,
        exited: impl Fn(Exited) + Send + 'static,
        closed: impl FnOnce() + Send + 'static,
    ) -> Result<(Self, Living), KeeperError> {
        let channel = Channel::connect(path).map_err(host("connect to"))?;
        let hello = Request::Hello { version: VERSION };
        channel.send(&hello.encode(), &[]).map_err(host("greet"))?;
        let (pid, forks, guests) = read_greeting(&channel)?;
        let channel = Arc::new(channel);
        let waiting = Arc::<Mutex<HashMap<u32, mpsc::SyncSender<Answer>>>>::default();
        let (from, answers) = (Arc::clone(&channel), Arc::clone(&waiting));
        let gone = Arc::<AtomicBool>::default();
        let has_gone = Arc::clone(&gone);
        let listen = move || {
            listen(&from, &answers, &exited);
            has_gone.store(true, Ordering::SeqCst);
            answers.lock().unwrap_or_else(PoisonError::into_inner).clear();
            closed();
        };
        std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(listen)
            .map_err(host("listen to"))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((Self { channel, waiting, forks: forks.into(), pid, name, gone }, guests))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has ended or died.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// Whether it runs `image`.
    pub(crate) fn runs(&self, image: &Image) -> bool {
        self.name.starts_with(&image.prefix)
    }

    /// Its number among the keepers of one image.
    pub(crate) fn generation(&self) -> u32 {
        let number = self.name.trim_end_matches(".sock").rsplit_once('-');
        number.and_then(|(_, number)| number.parse().ok()).unwrap_or_default()
    }

    /// Whether its socket is at `path`.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        path.file_name().is_some_and(|it| it.to_string_lossy() == self.name)
    }

    /// Whether it has forked so many guests that a new keeper should follow it.
    pub(crate) fn is_worn(&self) -> bool {
        self.forks.load(Ordering::Relaxed) >= FORKS_PER_KEEPER
    }

    /// Forks a guest; blocks until it is there.
    pub(crate) fn fork(
        &self,
        request: &Request,
        slot: u32,
        descriptors: &[BorrowedFd<'_>],
    ) -> Answer {
        let (answer, answered) = mpsc::sync_channel(1);
        self.waiting().insert(slot, answer);
        let sent = self.channel.send(&request.encode(), descriptors).map_err(host("ask"));
        let result = sent.and_then(|()| {
            answered.recv_timeout(ANSWER_TIMEOUT).unwrap_or(Err(KeeperError::Silent))
        });
        self.waiting().remove(&slot);
        self.forks.fetch_add(1, Ordering::Relaxed);
        result
    }

    /// Asks for something that has no answer.
    pub(crate) fn tell(&self, request: &Request) -> Result<(), KeeperError> {
        self.channel.send(&request.encode(), &[]).map_err(host("tell"))
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u32, mpsc::SyncSender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn receive(channel: &Channel) -> Result<(Event, Vec<OwnedFd>), KeeperError> {
    let mut buffer = [0; MAX_MESSAGE];
    let received = channel.receive(&mut buffer).map_err(host("hear from"))?;
    let message = buffer.get(..received.length).unwrap_or_default();
    if message.is_empty() {
        return Err(KeeperError::Silent);
    }
    let event = Event::decode(message)
        .map_err(|error| host("understand")(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    Ok((event, received.descriptors))
}

/// The keeper's pid, how many guests it has forked, and those that live.
fn read_greeting(channel: &Channel) -> Result<(u32, u32, Living), KeeperError> {
    let (mut keeper, mut total, mut guests) = (0, 0, Vec::new());
    loop {
        match receive(channel)?.0 {
            Event::Hello { pid, forks, .. } => (keeper, total) = (pid, forks),
            Event::Guest { slot, pid } => guests.push((slot, pid)),
            Event::Known => return Ok((keeper, total, guests)),
            // One that ends just now is found dead by its pid.
            _ => {}
        }
    }
}

fn listen(
    channel: &Channel,
    waiting: &Mutex<HashMap<u32, mpsc::SyncSender<Answer>>>,
    exited: &impl Fn(Exited),
) {
    let answer = |slot: u32, answer: Answer| {
        let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&slot);
        if let Some(waiting) = waiting {
            // Who asked has given up; the descriptors close and the guest ends by itself.
            drop(waiting.send(answer));
        }
    };
    while let Ok((event, descriptors)) = receive(channel) {
        match event {
            Event::Forked { slot, pid } => {
                let forked = match <[OwnedFd; 3]>::try_from(descriptors) {
                    Ok([pidfd, user_namespace, mount_namespace]) => {
                        Ok(Forked { pid, pidfd, user_namespace, mount_namespace })
                    }
                    Err(_count) => Err(KeeperError::Silent),
                };
                answer(slot, forked);
            }
            Event::Failed { slot, step, errno } => {
                let source = io::Error::from_raw_os_error(errno);
                answer(slot, Err(KeeperError::Step { step, source }));
            }
            Event::Exited { slot, pid, ending } => exited(Exited { slot, pid, ending }),
            Event::Hello { .. } | Event::Guest { .. } | Event::Known => {}
        }
    }
}

/// The roles and descriptors of a fork, in the order that the message has them.
pub(crate) fn split(parts: &[(Role, OwnedFd)]) -> (Vec<Role>, Vec<BorrowedFd<'_>>) {
    parts.iter().map(|(role, fd)| (*role, fd.as_fd())).unzip()
}
