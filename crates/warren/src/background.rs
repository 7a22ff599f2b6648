//! The server of this data directory: found, started when there is none, replaced when it is of
//! another build.
//!
//! Two locks (`flock`) in the run directory order everything:
//!
//! * `lock` is held by a server from before it listens until nothing of it runs. It comes to the
//!   server from the command that starts it, together with the listening socket: from then on
//!   clients connect and wait in the socket's queue, and nobody polls.
//! * `gate` is held for a moment by who starts a server, and by a server that decides to end. A
//!   client that finds no socket passes through it, so it never sees a half-gone server.
//!
//! ```text
//! connect ── works ──────────────────────────────────────────────▶ use it
//!    └─ no ─▶ take gate ─▶ connect ── works ─▶ release gate ─────▶ use it
//!                             └─ no ─▶ take lock ─▶ listen ─▶ start server ─▶ release gate
//! ```

use std::{
    ffi::CString,
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::{
        fd::AsFd as _,
        unix::{
            fs::OpenOptionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    sync::{Mutex, mpsc},
    time::Duration,
};

use warren_api::client::{Client, ClientError, Connect, Connecting, Connection, UnixSocket};
use warren_sys::spawn::{Program, Streams, spawn};

use crate::{config::Environment, dirs::Dirs, output::Output, version::version};

/// How long a server that ends may take before a command gives up on it.
const ENDING: Duration = Duration::from_secs(20);

/// How many connections may wait until a server takes them.
const QUEUE: i32 = 4096;

/// How many servers one command starts before it says that they do not last.
const STARTS: u32 = 2;

/// How long a log may be when a server starts to write to it.
const LONGEST_LOG: u64 = 8 << 20;

/// The way to this user's server.
#[derive(Debug)]
pub(crate) struct LocalServer {
    dirs: Dirs,
    environment: Vec<String>,
    arguments: Vec<String>,
    output: Output,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the server's build was looked at.
    checked: bool,
    starts: u32,
    /// How long the log was before the last start.
    log_length: u64,
}

impl LocalServer {
    pub(crate) fn new(
        dirs: Dirs,
        environment: &Environment,
        arguments: Vec<String>,
        output: Output,
    ) -> Self {
        let environment = environment.for_server();
        Self { dirs, environment, arguments, output, state: Mutex::default() }
    }

    /// A connection to a server that has our build, started if need be.
    async fn open(&self) -> io::Result<UnixStream> {
        let stream = match self.try_connect()? {
            Some(stream) => stream,
            None => return self.start(),
        };
        match self.skew() {
            Skew::None => Ok(stream),
            Skew::Background => {
                drop(stream);
                self.output.talk("the server is of another build: replacing it, sandboxes live on");
                stop(&self.dirs).await.map_err(io::Error::other)?;
                self.start()
            }
            Skew::Foreground(theirs) => {
                self.output.warn(&format!(
                    "the server is of another build ({theirs}); restart it where it was started"
                ));
                Ok(stream)
            }
        }
    }

    /// A connection if somebody listens.
    fn try_connect(&self) -> io::Result<Option<UnixStream>> {
        try_connect(&self.dirs.socket())
    }

    /// Whether the server is of another build; answered once, for servers do not change.
    fn skew(&self) -> Skew {
        let Ok(mut state) = self.state.lock() else { return Skew::None };
        if std::mem::replace(&mut state.checked, true) {
            return Skew::None;
        }
        match Record::read(&self.dirs) {
            None => Skew::None, // it is being written
            Some(record) if record.version == version() => Skew::None,
            Some(record) if record.background => Skew::Background,
            Some(record) => Skew::Foreground(record.version),
        }
    }

    /// Starts a server, unless somebody else has meanwhile.
    fn start(&self) -> io::Result<UnixStream> {
        let gate = lock_file(&self.dirs.gate())?;
        gate.lock()?;
        if let Some(stream) = self.try_connect()? {
            return Ok(stream);
        }
        let lock = self.lifetime_lock()?;
        self.count_start()?;
        let listener = listen(&self.dirs.socket())?;
        Record { version: version(), background: true, pid: 0 }.write(&lock)?;
        self.spawn(&listener, &lock)?;
        UnixStream::connect(self.dirs.socket())
    }

    /// Takes the lock of a server's lifetime; one that is ending may still have it.
    fn lifetime_lock(&self) -> io::Result<File> {
        let lock = lock_file(&self.dirs.lock())?;
        wait_for_lock(lock, ENDING)?.ok_or_else(|| {
            let seconds = ENDING.as_secs();
            let pid = Record::read(&self.dirs).map_or(0, |record| record.pid);
            io::Error::other(format!(
                "a server (process {pid}) has not listened for {seconds} s, and does not end"
            ))
        })
    }

    fn count_start(&self) -> io::Result<()> {
        let Ok(mut state) = self.state.lock() else { return Ok(()) };
        if state.starts == STARTS {
            return Err(io::Error::other("the server that was started in the background ended"));
        }
        state.starts += 1;
        state.checked = true;
        let length = fs::metadata(self.dirs.log()).map_or(0, |log| log.len());
        state.log_length = if length > LONGEST_LOG { 0 } else { length };
        Ok(())
    }

    /// Runs this program again as a server: session of its own, nothing of the caller's open.
    ///
    /// The listener and the lock travel as its standard input and output.
    fn spawn(&self, listener: &UnixListener, lock: &File) -> io::Result<()> {
        let log = open_log(&self.dirs.log())?;
        let own = ["warren", "serve", "--background"].map(str::to_owned);
        let arguments = own.iter().chain(&self.arguments).map(|it| CString::new(it.as_str()));
        let environment = self.environment.iter().map(|it| CString::new(it.as_str()));
        spawn(&Program {
            path: c"/proc/self/exe",
            arguments: &arguments.collect::<Result<Vec<_>, _>>()?,
            environment: &environment.collect::<Result<Vec<_>, _>>()?,
            directory: c"/",
            identity: None,
            streams: Streams::Each([listener.as_fd(), lock.as_fd(), log.as_fd()]),
            open_files: None,
            mark: None,
        })
        .map(drop)
        .map_err(io::Error::other)
    }

    /// Whether this command has started the server.
    pub(crate) fn was_started(&self) -> bool {
        self.state.lock().is_ok_and(|state| state.starts > 0)
    }

    /// What a server that this command has started wrote last, if anything.
    pub(crate) fn last_words(&self) -> Option<String> {
        let state = self.state.lock().ok()?;
        if state.starts == 0 {
            return None;
        }
        let mut log = File::open(self.dirs.log()).ok()?;
        log.seek(SeekFrom::Start(state.log_length)).ok()?;
        let mut text = String::new();
        log.take(1 << 20).read_to_string(&mut text).ok()?;
        text.lines().rev().find(|line| !line.trim().is_empty()).map(ToOwned::to_owned)
    }
}

/// Opens the log to be written on; a long one is put aside first, in place of the one before it.
fn open_log(log: &Path) -> io::Result<File> {
    if fs::metadata(log).is_ok_and(|found| found.len() > LONGEST_LOG) {
        fs::rename(log, log.with_extension("log.old"))?;
    }
    File::options().append(true).create(true).mode(0o600).open(log)
}

impl Connect for LocalServer {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async move {
            let stream = self.open().await?;
            stream.set_nonblocking(true)?;
            Ok(Box::new(tokio::net::UnixStream::from_std(stream)?) as Box<dyn Connection>)
        })
    }

    fn is_unix(&self) -> bool {
        true
    }
}

enum Skew {
    None,
    Background,
    Foreground(String),
}

/// Asks a server to end and waits until nothing of it runs. False when there was none.
pub(crate) async fn stop(dirs: &Dirs) -> Result<bool, ClientError> {
    let client = Client::new(UnixSocket(dirs.socket()));
    match client.shutdown().await {
        Ok(()) => {}
        // One that is on its way out holds the lock to the last.
        Err(ClientError::Connect { source }) if nobody(&source) => {
            let free = lock_file(&dirs.lock()).and_then(|lock| wait_for_lock(lock, Duration::ZERO));
            if !matches!(free, Ok(None)) {
                return Ok(false);
            }
        }
        Err(error) => return Err(error),
    }
    let ended = lock_file(&dirs.lock()).and_then(|lock| wait_for_lock(lock, ENDING));
    match ended {
        Ok(Some(_ended)) => Ok(true),
        Ok(None) => {
            let pid = Record::read(dirs).map_or(0, |record| record.pid);
            let text = format!("the server does not end; it is process {pid}");
            let source = io::Error::new(io::ErrorKind::TimedOut, text);
            Err(ClientError::Connect { source })
        }
        Err(source) => Err(ClientError::Connect { source }),
    }
}

/// Listens at `socket`. Who calls this holds the lifetime lock, so what is there is left over.
pub(crate) fn listen(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    // The standard library's queue is short; asking again replaces its length.
    rustix::net::listen(&listener, QUEUE)?;
    Ok(listener)
}

/// Opens a file to be locked.
pub(crate) fn lock_file(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Takes a lock, waiting that long for it.
pub(crate) fn wait_for_lock(file: File, patience: Duration) -> io::Result<Option<File>> {
    match file.try_lock() {
        Ok(()) => return Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // The kernel has no lock with a deadline: a thread waits, and is left behind if in vain.
    let (locked, result) = mpsc::channel();
    std::thread::spawn(move || {
        let taken = file.lock().map(|()| file);
        drop(locked.send(taken)); // nobody waits any more: the file closes and the lock is free
    });
    match result.recv_timeout(patience) {
        Ok(taken) => taken.map(Some),
        Err(_too_late) => Ok(None),
    }
}

fn try_connect(socket: &Path) -> io::Result<Option<UnixStream>> {
    match UnixStream::connect(socket) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if nobody(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a failure to connect means that nobody listens.
fn nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// What the lock file says about the server that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its version with the build.
    pub(crate) version: String,
    /// Whether a command has started it, and may end it.
    pub(crate) background: bool,
    /// Its process id; 0 until it has started.
    pub(crate) pid: u32,
}

impl Record {
    /// The record, if there is one to read.
    pub(crate) fn read(dirs: &Dirs) -> Option<Self> {
        let text = fs::read_to_string(dirs.lock()).ok()?;
        let mut words = text.split_ascii_whitespace();
        Some(Self {
            version: words.next()?.to_owned(),
            background: words.next()? == "background",
            pid: words.next()?.parse().ok()?,
        })
    }

    /// Writes it into the locked file.
    pub(crate) fn write(&self, mut lock: &File) -> io::Result<()> {
        let how = if self.background { "background" } else { "foreground" };
        lock.set_len(0)?;
        lock.seek(SeekFrom::Start(0))?;
        lock.write_all(format!("{} {how} {}\n", self.version, self.pid).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(base: &tempfile::TempDir) -> Dirs {
        Dirs::of_test(base.path())
    }

    #[test]
    fn a_record_reads_back_and_its_absence_too() {
        let base = tempfile::tempdir().unwrap();
        let dirs = dirs(&base);
        assert_eq!(Record::read(&dirs), None);
        let record = Record { version: "1.2.3+ab".into(), background: true, pid: 77 };
        record.write(&lock_file(&dirs.lock()).unwrap()).unwrap();
        assert_eq!(Record::read(&dirs), Some(record));
    }

    #[test]
    fn a_lock_that_is_held_is_waited_for_and_then_given_up() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("lock");
        let held = wait_for_lock(lock_file(&path).unwrap(), Duration::ZERO).unwrap().unwrap();
        let second = wait_for_lock(lock_file(&path).unwrap(), Duration::from_millis(5));
        assert!(second.unwrap().is_none());
        drop(held);
        let third = wait_for_lock(lock_file(&path).unwrap(), ENDING).unwrap();
        assert!(third.is_some());
    }

    #[test]
    fn a_left_over_socket_is_replaced() {
        let base = tempfile::tempdir().unwrap();
        let socket = base.path().join("api.sock");
        drop(listen(&socket).unwrap());
        assert!(try_connect(&socket).unwrap().is_none());
        let _listener = listen(&socket).unwrap();
        assert!(try_connect(&socket).unwrap().is_some());
    }

    #[test]
    fn a_long_log_is_put_aside() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("server.log");
        open_log(&path).unwrap().set_len(LONGEST_LOG + 1).unwrap();
        assert_eq!(open_log(&path).unwrap().metadata().unwrap().len(), 0);
        assert!(base.path().join("server.log.old").exists());
    }

    #[tokio::test]
    async fn stopping_nobody_is_no_error() {
        let base = tempfile::tempdir().unwrap();
        assert!(!stop(&dirs(&base)).await.unwrap());
    }
}
