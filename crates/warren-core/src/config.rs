//! What the server's operator chose: one small struct per part of core.

use std::{path::PathBuf, time::Duration};

use crate::{
    quota::Quota,
    runtime::DeadlineAction,
    secrets::SealKey,
    spec::{Image, Limits, Network, Profile, Spec},
};

/// Everything core needs to know.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What a new sandbox gets where its request does not say.
    pub defaults: Defaults,
    /// How much there may be.
    pub quota: Quota,
    /// Which sandboxes wait ready-made.
    pub pool: PoolConfig,
    /// How long the past is kept.
    pub retention: Retention,
    /// How much of what detached commands write is kept.
    pub logs: LogConfig,
    /// Directories of the host that every sandbox may see, with what is beneath them.
    pub mounts: Vec<AllowedDirectory>,
    /// Whether callers from afar may name directories and archives of the host as images. Whoever
    /// may can read every file that the server can.
    pub host_images_for_all: bool,
    /// The registries that callers from afar may have images pulled from, `*` for any: whoever may
    /// name one makes this server talk to it.
    pub registries_for_all: Vec<String>,
    /// What secrets are sealed with; none where none can be kept.
    pub seal_key: Option<SealKey>,
    /// The address at which this server's key is found by those who are shown a sandbox's identity.
    pub issuer: String,
    /// The domains that are the server's own, beside `localhost`: nobody else has names below them.
    pub domains: Vec<String>,
}

/// What a new sandbox gets where its request does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// What the root filesystem is made from.
    pub image: Image,
    /// What it may use.
    pub limits: Limits,
    /// How much its root may do.
    pub profile: Profile,
    /// What it may reach.
    pub network: Network,
    /// How long it lives; none for no limit.
    pub lifetime: Option<Duration>,
    /// The longest that a request may ask for; none for no limit.
    pub longest_lifetime: Option<Duration>,
    /// The most memory that a request may ask for, in bytes; none for no limit.
    pub most_memory: Option<u64>,
    /// What happens then.
    pub on_deadline: DeadlineAction,
    /// Who commands run as.
    pub user: String,
    /// Where commands start; the home of `user` or `root` where absent.
    pub workdir: Option<String>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            image: Image::Host,
            limits: Limits {
                memory_bytes: 1 << 30,
                cpu_millis: 2000,
                pids: 512,
                open_files: 4096,
                disk_bytes: None,
            },
            profile: Profile::Default,
            network: Network::Open,
            lifetime: Some(Duration::from_secs(3600)),
            longest_lifetime: None,
            most_memory: None,
            on_deadline: DeadlineAction::Kill,
            user: "user".to_owned(),
            workdir: None,
        }
    }
}

impl Defaults {
    /// What a request that says nothing asks of the runtime.
    #[must_use]
    pub fn spec(&self) -> Spec {
        Spec {
            image: self.image.clone(),
            limits: self.limits.clone(),
            profile: self.profile,
            network: self.network.clone(),
            hostname: None,
            mounts: Vec::new(),
            volumes: Vec::new(),
        }
    }
}

/// Which sandboxes wait ready-made, fully started, for somebody who asks for exactly these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolConfig {
    /// Each kind, and how many of it.
    pub parked: Vec<(Spec, usize)>,
}

/// How long the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// An ended sandbox stays listed for this long.
    pub ended: Duration,
    /// And at most so many of them, the newest.
    pub ended_count: usize,
    /// A stopped sandbox keeps its files for this long; none for as long as nobody removes it.
    pub stopped: Option<Duration>,
    /// So many of the newest events stay.
    pub events: u64,
    /// An idempotency key holds for this long.
    pub keys: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { ended: day, ended_count: 1000, stopped: None, events: 50_000, keys: day }
    }
}

/// A directory of the host that every sandbox may see, with what is beneath it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedDirectory {
    /// An absolute path.
    pub path: PathBuf,
    /// Whether it may only be read.
    pub read_only: bool,
}

/// How much of what detached commands write is kept, and how fast it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// So many bytes of each sandbox's log are kept, the newest.
    pub most_bytes: u64,
    /// So much of one command's output is taken at once.
    pub burst_bytes: u64,
    /// And then so much each second; a command that writes faster waits.
    pub bytes_per_second: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { most_bytes: 4 << 20, burst_bytes: 4 << 20, bytes_per_second: 1 << 20 }
    }
}
