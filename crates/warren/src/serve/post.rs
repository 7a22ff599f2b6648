//! A server's post: the listener and the lock of its lifetime, and giving both up in order.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixListener,
    },
};

use rustix::event::{PollFd, PollFlags};

use warren_api::client::{Client, ClientError, UnixSocket};

use crate::{
    background::{self, Record},
    commands::block_on,
    dirs::Dirs,
    error::{CliError, Kind},
    version::version,
};

/// What makes this process the server of a data directory.
#[derive(Debug)]
pub(crate) struct Post {
    listener: UnixListener,
    /// Held until nothing of this server runs.
    lock: File,
    /// Whether a command has started this server, and it ends by itself when idle.
    pub(super) background: bool,
}

/// The way in. Closing it turns clients away; they find the next server.
#[derive(Debug)]
pub(super) struct Door {
    listener: UnixListener,
    /// As [`Post::background`].
    pub(super) background: bool,
}

impl Post {
    /// Takes over what a command that started us passes on as standard input and output, and puts
    /// the null device there.
    pub(crate) fn inherited() -> io::Result<Self> {
        let listener: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
        let lock: OwnedFd = io::stdout().as_fd().try_clone_to_owned()?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        // It was started as `exe`, which says nothing in a list of processes.
        rustix::thread::set_name(c"warren")?;
        Ok(Self { listener: listener.into(), lock: lock.into(), background: true })
    }

    /// Becomes the server in the foreground. One that a command has started makes room.
    ///
    /// # Errors
    ///
    /// When there is one in the foreground already.
    pub(crate) fn claimed(dirs: &Dirs) -> Result<Self, CliError> {
        let step = CliError::local;
        let gate = background::lock_file(&dirs.gate()).map_err(step("open the gate"))?;
        gate.lock().map_err(step("pass the gate"))?;
        let lock = background::lock_file(&dirs.lock()).map_err(step("open the lock file"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => relieve(dirs, &lock)?,
            Err(TryLockError::Error(error)) => return Err(step("take the lock")(error)),
        }
        let listener = background::listen(&dirs.socket()).map_err(step("listen"))?;
        Ok(Self { listener, lock, background: false })
    }

    /// Says who holds the post.
    pub(super) fn sign(&self) -> io::Result<()> {
        let pid = std::process::id();
        Record { version: version(), background: self.background, pid }.write(&self.lock)
    }

    /// The lock, to be held to the last, and the way in.
    pub(super) fn split(self) -> (File, Door) {
        let Self { listener, lock, background } = self;
        (lock, Door { listener, background })
    }
}

impl Door {
    /// The listener, to accept with; it listens until both are dropped.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Lets no further client in, unless one is on its way: then everything stays as it was.
    ///
    /// Holding the gate, the socket is put aside: who looks for it now waits at the gate. If the
    /// queue is empty then, nobody has seen it, and it is removed.
    pub(super) fn close_if_nobody_waits(&self, dirs: &Dirs) -> io::Result<bool> {
        let gate = background::lock_file(&dirs.gate())?;
        match gate.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false), // somebody is about to start us
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let (socket, aside) = (dirs.socket(), dirs.run.join("api.sock.closing"));
        fs::rename(&socket, &aside)?;
        if somebody_waits(&self.listener)? {
            fs::rename(&aside, &socket)?;
            return Ok(false);
        }
        fs::remove_file(&aside)?;
        Ok(true)
    }

    /// Lets no further client in. One that is in the queue is turned away by the closing of the
    /// listener, before it got any answer.
    pub(super) fn close(self, dirs: &Dirs) -> io::Result<()> {
        match fs::remove_file(dirs.socket()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Asks a server that a command has started to end, and takes its lock. Commands wait at the gate
/// meanwhile, so that none starts another.
fn relieve(dirs: &Dirs, lock: &File) -> Result<(), CliError> {
    if !Record::read(dirs).is_some_and(|record| record.background) {
        return Err(taken(dirs));
    }
    let asked = block_on(Client::new(UnixSocket(dirs.socket())).shutdown())?;
    match asked {
        // One that does not listen any more is about to end.
        Ok(()) | Err(ClientError::Connect { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    // Not by a thread with a deadline: no thread may run before the server's own namespaces are
    // entered. A service manager has one.
    lock.lock().map_err(CliError::local("take the lock"))
}

/// The error that says who is the server.
fn taken(dirs: &Dirs) -> CliError {
    let text = match Record::read(dirs) {
        Some(record) => format!("a server runs already, as process {}", record.pid),
        None => "a server runs already".to_owned(),
    };
    CliError::new(Kind::Local, text).hint("`warren serve --stop` ends it; sandboxes live on")
}

/// Whether a connection is in the listener's queue.
fn somebody_waits(listener: &UnixListener) -> io::Result<bool> {
    let mut wanted = [PollFd::new(listener, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(rustix::event::poll(&mut wanted, Some(&now))? > 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn post(base: &tempfile::TempDir) -> (Dirs, Post) {
        let dirs = Dirs::of_test(base.path());
        let post = Post::claimed(&dirs).unwrap();
        (dirs, post)
    }

    fn door(base: &tempfile::TempDir) -> (Dirs, Door) {
        let (dirs, post) = post(base);
        (dirs, post.split().1)
    }

    #[test]
    fn an_idle_post_is_left_and_nothing_stays() {
        let base = tempfile::tempdir().unwrap();
        let (dirs, door) = door(&base);
        assert!(door.close_if_nobody_waits(&dirs).unwrap());
        assert!(!dirs.socket().exists());
        assert!(UnixStream::connect(dirs.socket()).is_err());
    }

    #[test]
    fn a_client_in_the_queue_keeps_the_post() {
        let base = tempfile::tempdir().unwrap();
        let (dirs, door) = door(&base);
        let waiting = UnixStream::connect(dirs.socket()).unwrap();
        assert!(!door.close_if_nobody_waits(&dirs).unwrap());
        assert!(dirs.socket().exists());
        drop(waiting);
    }

    #[test]
    fn a_client_at_the_gate_keeps_the_post() {
        let base = tempfile::tempdir().unwrap();
        let (dirs, door) = door(&base);
        let gate = background::lock_file(&dirs.gate()).unwrap();
        gate.lock().unwrap();
        assert!(!door.close_if_nobody_waits(&dirs).unwrap());
        assert!(dirs.socket().exists());
    }

    #[test]
    fn a_second_server_is_told_of_the_first() {
        let base = tempfile::tempdir().unwrap();
        let (dirs, post) = post(&base);
        post.sign().unwrap();
        let error = Post::claimed(&dirs).unwrap_err();
        let pid = std::process::id();
        assert_eq!(error.source.to_string(), format!("a server runs already, as process {pid}"));
    }
}
