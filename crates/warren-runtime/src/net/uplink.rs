//! A way out for a server that an ordinary user runs.
//!
//! Such a server is in a network namespace of its own, where it may do everything and nothing
//! leads out. A program outside, `pasta` or `slirp4netns`, gives the namespace one interface and
//! carries what goes through it over the user's own sockets. Then the rest of this module works
//! inside as it does for root.
//!
//! ```text
//!  outside, the user's own rights          inside the server's namespaces
//!  supervisor --> pasta ---- tap device ----> interface, default route
//!                                             gateway address, rules, sandboxes
//! ```
//!
//! The program is told to keep the host's loopback out of reach and to forward no ports; one that
//! is too old to understand that ends at once, and the next one is tried. It has an
//! address for questions about names, which it passes to the host's resolver wherever that is.
//! Whoever supervises ([`Uplink::supervise`]) must stay outside and live as long as sandboxes do.

use std::{
    ffi::CString,
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
};
use warren_sys::{
    netlink::{NetlinkError, Socket, route},
    spawn::{Program, SpawnError, Spawned, Streams, spawn},
};

/// The packet size inside: that of the Ethernet most packets travel on in the end.
const MTU: &str = "1500";
/// Where `pasta` is told to take questions about names; link-local, so nobody else's.
const PASTA_DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Where `slirp4netns` takes them.
const SLIRP_DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// Where programs are looked for unless the configuration says otherwise.
pub const DIRECTORIES: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"];
/// The first pause before a program that ended is started again; each doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a program must have run for the pauses to start anew.
const STEADY: Duration = Duration::from_secs(60);

/// Programs that can be the way out, the preferred first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `pasta`, of the `passt` package.
    Pasta,
    /// `slirp4netns`.
    Slirp4netns,
}

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// Neither program is there.
    #[error(
        "neither pasta (package `passt`) nor slirp4netns is installed, so sandboxes have no network"
    )]
    NotInstalled,
    /// Both programs need this device.
    #[error("this user cannot open /dev/net/tun, so sandboxes have no network")]
    Device {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program could not be started.
    #[error("could not start {}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: SpawnError,
    },
    /// A system call failed.
    #[error("could not {operation}")]
    Host {
        /// What was being done.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel would not say whether there is a way out.
    #[error("could not look for a default route")]
    Routes {
        /// Why.
        #[source]
        source: NetlinkError,
    },
    /// There is no default route.
    #[error("no default route appeared within {waited:?}; the uplink's log says more")]
    Silent {
        /// How long it was waited for.
        waited: Duration,
    },
    /// Every program that is there was tried.
    #[error("{tried}; the server's log has their words, and sandboxes have no network")]
    Useless {
        /// What became of each.
        tried: String,
    },
}

impl Tool {
    /// The programs that are in one of these directories, the preferred first, and their paths.
    pub fn find(directories: &[PathBuf]) -> Vec<(Self, PathBuf)> {
        let found = [Self::Pasta, Self::Slirp4netns].into_iter().filter_map(|tool| {
            let mut paths = directories.iter().map(|directory| directory.join(tool.name()));
            Some((tool, paths.find(|path| path.is_file())?))
        });
        found.collect()
    }

    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }

    /// Where, inside, questions about names are to be sent.
    pub fn name_server(self) -> SocketAddr {
        match self {
            Self::Pasta => (PASTA_DNS, 53).into(),
            Self::Slirp4netns => (SLIRP_DNS, 53).into(),
        }
    }

    /// Everything after the program's name; `target` is a process in the namespace.
    fn arguments(self, target: i32) -> Vec<String> {
        let words: &[&str] = match self {
            // In the foreground; the host's gateway address does not lead to the host; no port of
            // either side is forwarded to the other.
            Self::Pasta => &[
                "--foreground",
                "--quiet",
                "--ipv4-only",
                "--config-net",
                "--no-map-gw",
                "--mtu",
                MTU,
                "-t",
                "none",
                "-u",
                "none",
                "-T",
                "none",
                "-U",
                "none",
                "--dns-forward",
            ],
            Self::Slirp4netns => &["--configure", "--disable-host-loopback", "--mtu", MTU],
        };
        let mut arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match self {
            Self::Pasta => arguments.extend([PASTA_DNS.to_string(), target.to_string()]),
            Self::Slirp4netns => arguments.extend([target.to_string(), "tap0".to_owned()]),
        }
        arguments
    }
}

/// How to start a way out.
#[derive(Clone, Debug)]
pub struct UplinkConfig<'a> {
    /// A process in the namespaces, as this process numbers it. The same user's.
    pub target: i32,
    /// Where to look for the programs; [`DIRECTORIES`] as a rule.
    pub directories: &'a [PathBuf],
    /// The only program to try, where somebody has chosen.
    pub only: Option<Tool>,
    /// Where the program's messages go.
    pub log: BorrowedFd<'a>,
    /// How long one program may take.
    pub patience: Duration,
}

/// The routes of a network namespace, watched from wherever.
#[derive(Debug)]
pub struct Routes {
    asking: Socket,
    hearing: Socket,
}

/// What [`Routes::wait`] waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    Ready,
    Ended,
    Late,
}

impl Routes {
    /// Those of the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// [`UplinkError::Routes`].
    pub fn here() -> Result<Self, UplinkError> {
        let routes = |source| UplinkError::Routes { source };
        let hearing = Socket::route().map_err(routes)?;
        hearing.subscribe(route::ROUTE_EVENTS).map_err(routes)?; // before looking, so none is missed
        Ok(Self { asking: Socket::route().map_err(routes)?, hearing })
    }

    /// What [`Routes::descriptors`] gave, in another process.
    #[must_use]
    pub fn of_another([asking, hearing]: [OwnedFd; 2]) -> Self {
        Self { asking: Socket::of_another(asking), hearing: Socket::of_another(hearing) }
    }

    /// What another process needs to watch them as well.
    #[must_use]
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.asking.as_fd(), self.hearing.as_fd()]
    }

    /// Waits for a default route, as long as a process lives and for `patience` at most.
    fn wait(
        &mut self,
        process: Option<BorrowedFd<'_>>,
        patience: Duration,
    ) -> Result<Waited, UplinkError> {
        let routes = |source| UplinkError::Routes { source };
        let deadline = Instant::now() + patience;
        loop {
            let found = route::routes(&mut self.asking).map_err(routes)?;
            if found.iter().any(|route| route.prefix == 0 && route.link.is_some()) {
                return Ok(Waited::Ready);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Waited::Late);
            }
            if process.is_some_and(|it| watch(it, None, Some(Duration::ZERO)).unwrap_or(true)) {
                return Ok(Waited::Ended);
            }
            watch(self.hearing.as_fd(), process, Some(left))?;
            self.hearing.wait(Duration::ZERO).map_err(routes)?;
        }
    }
}

/// A running program that is the way out.
#[derive(Debug)]
pub struct Uplink {
    tool: Tool,
    path: PathBuf,
    target: i32,
    log: OwnedFd,
    process: Spawned,
    started: Instant,
}

impl Uplink {
    /// Starts the first program that makes a way out of the namespace whose routes these are; to be
    /// called outside, in the namespaces that have the way out.
    ///
    /// Gives also what became of others that were tried before, sentences for people.
    ///
    /// # Errors
    ///
    /// [`UplinkError`]; nothing runs then.
    pub fn start(
        config: &UplinkConfig<'_>,
        routes: &mut Routes,
    ) -> Result<(Self, Vec<String>), UplinkError> {
        let mut tools = Tool::find(config.directories);
        tools.retain(|(tool, _)| config.only.is_none_or(|only| *tool == only));
        if tools.is_empty() {
            return Err(UplinkError::NotInstalled);
        }
        File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .map_err(|source| UplinkError::Device { source })?;
        let mut failures = Vec::new();
        for (tool, path) in tools {
            let log = config.log.try_clone_to_owned().map_err(failed("share the uplink's log"))?;
            let process = run(tool, &path, config.target, log.as_fd())?;
            let (target, started) = (config.target, Instant::now());
            let uplink = Self { tool, path, target, log, process, started };
            match routes.wait(Some(uplink.process.pidfd.as_fd()), config.patience)? {
                Waited::Ready => return Ok((uplink, failures)),
                Waited::Ended => failures.push(format!("{} ended at once", tool.name())),
                Waited::Late => failures.push(format!("{} made no default route", tool.name())),
            }
            uplink.stop()?;
        }
        Err(UplinkError::Useless { tried: failures.join(", ") })
    }

    /// Which program it is.
    pub fn tool(&self) -> Tool {
        self.tool
    }

    /// The program's process id.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// Starts the program again whenever it ends, as long as somebody needs it; then ends it.
    /// Blocks all the while.
    ///
    /// `needed_by` gives what to watch: a descriptor that becomes readable or hangs up when
    /// somebody no longer needs the way out, such as the server's pidfd, and the process in the
    /// namespaces that a program is told of. It is asked again then (the server has died; its
    /// keeper may live) and says `None` when nobody is left. One that is done already (a process
    /// that nobody has reaped yet) counts as nobody.
    ///
    /// # Errors
    ///
    /// [`UplinkError`]; the program has ended then.
    pub fn supervise(
        mut self,
        mut needed_by: impl FnMut() -> Option<(OwnedFd, i32)>,
    ) -> Result<(), UplinkError> {
        let mut pause = FIRST_PAUSE;
        while let Some((user, target)) = needed_by() {
            self.target = target;
            if watch(user.as_fd(), None, Some(Duration::ZERO))? {
                break;
            }
            while !watch(user.as_fd(), Some(self.process.pidfd.as_fd()), None)? {
                reap(&self.process)?;
                if self.started.elapsed() >= STEADY {
                    pause = FIRST_PAUSE;
                }
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(tool = self.tool.name(), pause_ms, "the uplink ended");
                if watch(user.as_fd(), None, Some(pause))? {
                    break;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
                self.process = run(self.tool, &self.path, self.target, self.log.as_fd())?;
                self.started = Instant::now();
            }
        }
        self.stop()
    }

    /// Ends the program and waits until it has.
    ///
    /// # Errors
    ///
    /// [`UplinkError::Host`].
    pub fn stop(self) -> Result<(), UplinkError> {
        match pidfd_send_signal(&self.process.pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => reap(&self.process),
            Err(error) => Err(failed("end the uplink")(error)),
        }
    }
}

/// Waits, inside, until there is a default route, at most `timeout`.
///
/// # Errors
///
/// [`UplinkError::Silent`] when there is none by then.
pub fn wait_until_ready(timeout: Duration) -> Result<(), UplinkError> {
    match Routes::here()?.wait(None, timeout)? {
        Waited::Ready => Ok(()),
        Waited::Ended | Waited::Late => Err(UplinkError::Silent { waited: timeout }),
    }
}

fn run(tool: Tool, path: &Path, target: i32, log: BorrowedFd<'_>) -> Result<Spawned, UplinkError> {
    let prepare = failed("prepare the uplink's arguments");
    let text = path.to_string_lossy().into_owned();
    let arguments: Result<Vec<CString>, _> =
        std::iter::once(text).chain(tool.arguments(target)).map(CString::new).collect();
    let arguments = arguments.map_err(|nul| prepare(io::Error::from(nul)))?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(failed("open /dev/null"))?;
    let program = Program {
        path: arguments.first().ok_or(UplinkError::NotInstalled)?,
        arguments: &arguments,
        environment: &[],
        directory: c"/",
        identity: None,
        streams: Streams::Each([null.as_fd(), log, log]),
        open_files: None,
        mark: None,
    };
    spawn(&program).map_err(|source| UplinkError::Start { path: path.to_owned(), source })
}

fn reap(process: &Spawned) -> Result<(), UplinkError> {
    let ended = waitid(WaitId::PidFd(process.pidfd.as_fd()), WaitIdOptions::EXITED);
    match ended {
        Ok(_) | Err(Errno::CHILD) => Ok(()),
        Err(error) => Err(failed("wait for the uplink's end")(error)),
    }
}

/// Waits until `user` is done (true), or until a process ended or time has passed (false).
fn watch(
    user: BorrowedFd<'_>,
    process: Option<BorrowedFd<'_>>,
    timeout: Option<Duration>,
) -> Result<bool, UplinkError> {
    let timeout = timeout.map(Timespec::try_from).transpose();
    let timeout =
        timeout.map_err(|_too_long| failed("watch the uplink")(io::Error::from(Errno::INVAL)))?;
    let mut waiting: Vec<PollFd<'_>> = std::iter::once(&user)
        .chain(&process)
        .map(|descriptor| PollFd::new(descriptor, PollFlags::IN))
        .collect();
    loop {
        match poll(&mut waiting, timeout.as_ref()) {
            Ok(_) => return Ok(waiting.first().is_some_and(|user| !user.revents().is_empty())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed("watch the uplink")(error)),
        }
    }
}

fn failed<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> UplinkError {
    move |source| UplinkError::Host { operation, source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_stays_out_of_reach_and_no_port_is_forwarded() {
        let pasta = Tool::Pasta.arguments(77).join(" ");
        for needed in ["--no-map-gw", "-t none -u none -T none -U none", "--ipv4-only"] {
            assert!(pasta.contains(needed), "{pasta}");
        }
        assert!(pasta.ends_with("--dns-forward 169.254.1.1 77"), "{pasta}");
        let slirp = Tool::Slirp4netns.arguments(77).join(" ");
        assert_eq!(slirp, "--configure --disable-host-loopback --mtu 1500 77 tap0");
    }

    #[test]
    fn pasta_is_preferred_and_none_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let directories = [folder.path().join("none"), folder.path().to_owned()];
        assert_eq!(Tool::find(&directories), []);
        let [slirp, pasta] = ["slirp4netns", "pasta"].map(|name| folder.path().join(name));
        std::fs::write(&slirp, "").unwrap();
        assert_eq!(Tool::find(&directories), [(Tool::Slirp4netns, slirp.clone())]);
        std::fs::write(&pasta, "").unwrap();
        let both = [(Tool::Pasta, pasta), (Tool::Slirp4netns, slirp)];
        assert_eq!(Tool::find(&directories), both);
    }

    #[test]
    fn without_a_program_starting_says_what_to_install() {
        let null = File::open("/dev/null").unwrap();
        let (log, patience) = (null.as_fd(), Duration::ZERO);
        let config = UplinkConfig { target: 1, directories: &[], only: None, log, patience };
        let error = Uplink::start(&config, &mut Routes::here().unwrap()).unwrap_err();
        assert!(error.to_string().contains("`passt`"), "{error}");
    }
}
