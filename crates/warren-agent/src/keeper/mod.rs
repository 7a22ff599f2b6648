//! The keeper: the small process that every guest is forked from, and that outlives the server.
//!
//! It runs the agent's own image with one thread and no secret. It forks guests, reaps them,
//! writes down how they ended and enforces their deadlines while no server is there. A forked
//! child sets itself up in `guest` and becomes the agent without an exec.
//!
//! ```text
//! server --- Request ---> keeper --- clone3 ---> child --- Prepare, Bind ---> agent
//!        <--- Event -----        <--- SIGCHLD --
//! ```
//!
//! The keeper lives in a mount namespace of its own that holds `/proc` and nothing else, so that a
//! fork copies two mounts instead of the host's hundreds, and so that a guest never saw the host's
//! files, not even before it changed its root. Whatever it needs of the host comes as descriptors:
//!
//! | descriptor | what |
//! |---|---|
//! | 0 | the listening socket that servers connect to |
//! | 1 | the directory that exit records are written to |
//! | 2 | the null device |

mod guests;
mod record;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use warren_proto::keeper::{Event, MAX_MESSAGE, Message, Request, VERSION};
use warren_sys::{
    channel::{Channel, Listener},
    fork::SingleThreaded,
    mount, privilege, process,
};

use guests::Guests;

/// How long a keeper without guests waits for a server to come back before it ends.
const LINGER: Duration = Duration::from_secs(5);

/// Runs the keeper until it has no guest left and nobody who could ask for one.
#[must_use]
pub fn main() -> std::process::ExitCode {
    match Keeper::start().and_then(|mut keeper| keeper.run()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        // Nobody reads a keeper's output; the status tells its parent that it failed.
        Err(_error) => std::process::ExitCode::FAILURE,
    }
}

struct Keeper {
    listener: Listener,
    connections: Vec<Channel>,
    signals: OwnedFd,
    guests: Guests,
    draining: bool,
    /// Since when neither a guest nor a server has been there.
    alone_since: Option<Instant>,
}

impl Keeper {
    fn start() -> io::Result<Self> {
        let proof = SingleThreaded::check()?;
        // It was executed from a descriptor, whose number would be its name.
        rustix::thread::set_name(c"warren-keeper")?;
        let [listener, records] = given_descriptors()?;
        leave_the_host()?;
        privilege::keep_capabilities_across_ids()?;
        Ok(Self {
            listener: Listener::from(listener),
            connections: Vec::new(),
            signals: process::signals_as_reads()?,
            guests: Guests::new(proof, records)?,
            draining: false,
            alone_since: Some(Instant::now()),
        })
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            self.alone_since = match (self.connections.is_empty(), self.guests.is_empty()) {
                (true, true) => self.alone_since.or_else(|| Some(Instant::now())),
                _ => None,
            };
            let alone_too_long = self.alone_since.is_some_and(|since| since.elapsed() >= LINGER);
            if self.guests.is_empty() && (self.draining || alone_too_long) {
                return Ok(());
            }
            self.wait_and_serve()?;
        }
    }

    /// Waits for one thing to happen and deals with all that has happened by then.
    fn wait_and_serve(&mut self) -> io::Result<()> {
        let mut polled = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        polled.extend(self.connections.iter().map(|it| PollFd::new(it, PollFlags::IN)));
        let timeout = self.timeout();
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = polled.iter().map(|it| !it.revents().is_empty()).collect();
        drop(polled);
        let (fixed, connections) = ready.split_at(2);
        if fixed.first() == Some(&true) {
            self.read_signals();
        }
        // Before anybody is told anything, for that drops connections that have closed, and the
        // places in `connections` are from before. From the back for the same reason.
        for (index, _) in connections.iter().enumerate().rev().filter(|(_, ready)| **ready) {
            if !self.serve(index) {
                self.connections.swap_remove(index);
            }
        }
        if fixed.get(1) == Some(&true) {
            self.connections.push(self.listener.accept()?);
        }
        for event in self.guests.reap() {
            self.tell(&event);
        }
        self.guests.enforce_deadlines();
        Ok(())
    }

    fn timeout(&self) -> Option<Timespec> {
        let alone = self.alone_since.map(|since| LINGER.saturating_sub(since.elapsed()));
        let wait = match (self.guests.next_deadline(), alone) {
            (Some(deadline), Some(alone)) => deadline.min(alone),
            (deadline, alone) => deadline.or(alone)?,
        };
        // A millisecond more, so that the time has come when the wait ends.
        Timespec::try_from(wait + Duration::from_millis(1)).ok()
    }

    /// SIGCHLD is only the wake-up; a request to end means to end when the last guest has.
    fn read_signals(&mut self) {
        for signal in process::read_signals(self.signals.as_fd()) {
            self.draining |= signal != process::SIGCHLD;
        }
    }

    /// Answers one message of a connection; false when it has ended.
    fn serve(&mut self, index: usize) -> bool {
        let Some(connection) = self.connections.get(index) else { return true };
        let mut buffer = [0; MAX_MESSAGE];
        let Ok(received) = connection.receive(&mut buffer) else { return false };
        let Some(message) = buffer.get(..received.length).filter(|it| !it.is_empty()) else {
            return false;
        };
        let Ok(request) = Request::decode(message) else { return false };
        match request {
            Request::Hello { .. } => self.introduce(connection),
            Request::Fork { .. } if self.draining => false,
            Request::Fork { slot, ids, groups, oom_score, roles } => {
                let order = guests::Order { slot, ids, groups, oom_score, roles };
                match self.guests.fork(order, received.descriptors) {
                    Ok(forked) => {
                        let descriptors = [
                            forked.pidfd.as_fd(),
                            forked.namespaces.users.as_fd(),
                            forked.namespaces.mounts.as_fd(),
                        ];
                        let event = Event::Forked { slot, pid: forked.pid.unsigned_abs() };
                        connection.send(&event.encode(), &descriptors).is_ok()
                    }
                    Err(error) => {
                        let errno = error.source.raw_os_error().unwrap_or_default();
                        let event = Event::Failed { slot, step: error.step, errno };
                        connection.send(&event.encode(), &[]).is_ok()
                    }
                }
            }
            Request::Deadline { slot, at_ns, freeze } => {
                self.guests.set_deadline(slot, at_ns, freeze);
                true
            }
            Request::Kill { slot } => {
                self.guests.kill(slot);
                true
            }
            Request::Drain => {
                self.draining = true;
                true
            }
        }
    }

    fn introduce(&self, connection: &Channel) -> bool {
        let hello =
            Event::Hello { version: VERSION, pid: std::process::id(), forks: self.guests.forks() };
        let guests = self.guests.iter().map(|(slot, pid)| Event::Guest { slot, pid });
        std::iter::once(hello)
            .chain(guests)
            .chain(std::iter::once(Event::Known))
            .all(|event| connection.send(&event.encode(), &[]).is_ok())
    }

    fn tell(&mut self, event: &Event) {
        let message = event.encode();
        self.connections.retain(|connection| connection.send(&message, &[]).is_ok());
    }
}

/// Takes what the server gave as standard streams, and puts the null device in their place.
fn given_descriptors() -> io::Result<[OwnedFd; 2]> {
    let given = [rustix::stdio::stdin(), rustix::stdio::stdout()];
    let [listener, records] = given.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3));
    let null = rustix::stdio::stderr();
    rustix::stdio::dup2_stdin(null)?;
    rustix::stdio::dup2_stdout(null)?;
    Ok([listener?, records?])
}

/// Moves to a mount namespace that holds `/proc` alone.
fn leave_the_host() -> io::Result<()> {
    warren_sys::namespaces::leave_mounts()?;
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )?;
    let here = rustix::fs::CWD;
    // Where something is mounted below /proc and locked there, only the whole can be copied.
    let proc = mount::clone_tree(here, "/proc".as_ref(), false)
        .or_else(|_locked| mount::clone_tree(here, "/proc".as_ref(), true))?;
    let options = [("mode", Some("755")), ("size", Some("64k"))];
    let attributes = mount::Attributes { no_suid: true, no_dev: true, ..Default::default() };
    let root = mount::new_filesystem("tmpfs", &options, attributes)?;
    mount::attach(root.as_fd(), here, "/proc")?;
    rustix::process::fchdir(&root)?;
    rustix::fs::mkdir("proc", 0o555.into())?;
    // Guests put their own root here.
    rustix::fs::mkdir("root", 0o755.into())?;
    mount::attach(proc.as_fd(), here, "proc")?;
    mount::pivot_here()
}
