//! The daemon: two listeners, one thread that serves them, and a few that may block.
//!
//! ```text
//!  envd socket ----> http::serve --+--> process/     starting, attaching, signalling
//!                                  +--> filesystem/  stat, list, move, watch
//!  control socket -> http::serve --+--> files/       contents
//!                                  '--> agent state  /init, ports
//! ```
//!
//! Everything runs on one thread; what may block (opening files, starting programs) goes to the
//! bounded `pool`. The daemon holds no secret and no way to the host: whoever owns it has gained
//! nothing.

pub(crate) mod countdown;
pub(crate) mod pool;
mod reaper;
pub(crate) mod state;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;

use crate::http::{self, Face};
use crate::process;
pub(crate) use state::Agent;

/// The two sockets that the daemon serves, both listening unix stream sockets.
#[derive(Debug)]
pub struct Listeners {
    /// Processes and files: what callers reach through the host's edge.
    pub envd: OwnedFd,
    /// Set-up and ports: the host alone.
    pub control: OwnedFd,
}

/// What the daemon must know before it serves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// It is the init process of its pid namespace: SIGTERM ends all others.
    pub init: bool,
}

/// Serves until a SIGTERM, and gives the exit status to end with.
///
/// The caller must have one thread. `ready` is called once requests are answered.
///
/// # Errors
///
/// When the event loop cannot be set up.
pub fn run(listeners: Listeners, settings: Settings, ready: impl FnOnce()) -> io::Result<i32> {
    ensure_standard_streams()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    warren_sys::memory::use_one_arena();
    let signals = warren_sys::process::signals_as_reads()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(pool::THREADS)
        .thread_keep_alive(pool::KEEP_ALIVE)
        .thread_stack_size(pool::STACK_BYTES)
        .build()?;
    let status = runtime.block_on(async {
        let agent = Arc::new(Agent::new());
        let envd = listener(listeners.envd)?;
        let control = listener(listeners.control)?;
        agent.tasks.spawn(http::serve(envd, Face::Envd, Arc::clone(&agent)));
        agent.tasks.spawn(http::serve(control, Face::Control, Arc::clone(&agent)));
        ready();
        reaper::run(&agent, signals, settings.init).await?;
        end_all(&agent, settings).await;
        Ok(0)
    });
    runtime.shutdown_background();
    status
}

/// Kills what was started here. When init ends, the kernel kills whatever its namespace holds.
async fn end_all(agent: &Arc<Agent>, settings: Settings) {
    if settings.init {
        return;
    }
    for process in agent.processes.all() {
        process::tree::kill(agent, &process).await;
    }
}

fn listener(fd: OwnedFd) -> io::Result<UnixListener> {
    let listener = StdListener::from(fd);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Registers a descriptor that does not block with the event loop.
#[expect(
    deprecated,
    reason = "sound here: a `File` keeps its one descriptor for as long as it lives"
)]
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<File>> {
    AsyncFd::new(File::from(fd))
}

/// Descriptors 0 to 2 must be something harmless: a pipe that got one of these numbers would be
/// overwritten in a new process before it is used.
fn ensure_standard_streams() -> io::Result<()> {
    loop {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let fd = OwnedFd::from(null);
        if std::os::fd::AsRawFd::as_raw_fd(&fd) > 2 {
            return Ok(());
        }
        warren_sys::memory::leave_open(fd);
    }
}
