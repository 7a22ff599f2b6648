//! What is known about one sandbox, what somebody may ask for, and the task that owns it.
//!
//! [`Sandbox`] is a snapshot: the driver task publishes a new one at each change, and everybody
//! else only reads. Nobody but the driver changes anything.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    caller::Owner,
    clock::Timestamp,
    credentials::Credentials,
    exposure::Exposure,
    git::WantedGit,
    id::{SandboxId, SnapshotId, TemplateId},
    runtime::{DeadlineAction, Exit, ExitReason},
    spec::{Image, Limits, Network, Profile, Spec, Stack},
    state::State,
    templates::model::Start,
};

pub(crate) mod birth;
pub(crate) mod driver;
pub(crate) mod handle;
pub(crate) mod past;
pub(crate) mod reach;
pub(crate) mod rest;

/// One sandbox as it was when this was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Its identity.
    pub id: SandboxId,
    /// Whose it is.
    pub owner: Owner,
    /// The name given to it, unique among the owner's living sandboxes.
    pub name: Option<String>,
    /// What it is doing.
    pub state: State,
    /// What it was made from.
    pub spec: Spec,
    /// Free text for finding it again.
    pub labels: BTreeMap<String, String>,
    /// What its commands get to know beyond the image.
    pub setup: Setup,
    /// How long it may live and what happens then.
    pub lifetime: Lifetime,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its lifetime ends; none without limit and while it is paused.
    pub expires_at: Option<Timestamp>,
    /// How and when it ended.
    pub end: Option<End>,
    /// The name of the runtime that made it.
    pub runtime: Arc<str>,
    /// Whether it came from the warm pool.
    pub warm: bool,
    /// Whether its files are kept although it ended: it can be started again.
    pub kept: bool,
    /// Where its files come from.
    pub history: History,
    /// What it is for.
    pub program: Program,
    /// Who reaches its ports from outside.
    pub exposure: Exposure,
}

/// What a sandbox is for, as the template or the image says that it was made from. Snapshots and
/// forks inherit it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The command that a template names, empty where it names none; absent where there is no
    /// template: the image says it then.
    pub command: Option<Vec<String>>,
    /// What is started in it whenever its processes begin anew, and what is waited for then.
    pub start: Option<Start>,
}

/// Where the files of a sandbox come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The sandbox that it was forked from.
    pub parent: Option<SandboxId>,
    /// The last snapshot that was made of it, that it was made from, or that it went back to: the
    /// next one's parent in the tree.
    pub snapshot: Option<SnapshotId>,
    /// The template that it was made from, or the sandbox that it was forked from.
    pub template: Option<TemplateId>,
    /// What it is going back to: its own files may be gone already.
    pub(crate) going_back: Option<Stack>,
}

/// Variables that tell programs in which dialect their sandbox was made, and of what.
pub const MARKS: [&str; 2] = ["E2B_SANDBOX", "E2B_TEMPLATE_ID"];

/// What reaches the guest agent by its initialisation and never the runtime.
#[derive(Clone, PartialEq, Eq)]
pub struct Setup {
    /// Environment of every command. May hold secrets: it is in no log and in no answer.
    pub env: BTreeMap<String, String>,
    /// What of it comes with the image and is no secret: snapshots and forks inherit it.
    pub image_env: BTreeMap<String, String>,
    /// Who commands run as unless they say otherwise.
    pub user: String,
    /// Where commands start unless they say otherwise.
    pub workdir: String,
}

impl Setup {
    /// Whether these are the same but for [`MARKS`], on which nothing depends that a template
    /// starts.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let plain = |(name, _): &(&String, &String)| !MARKS.contains(&name.as_str());
        (&self.user, &self.workdir, &self.image_env)
            == (&other.user, &other.workdir, &other.image_env)
            && self.env.iter().filter(plain).eq(other.env.iter().filter(plain))
    }
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("env", &format_args!("{} variables", self.env.len()))
            .field("user", &self.user)
            .field("workdir", &self.workdir)
            .finish()
    }
}

/// How long a sandbox may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// From its creation, and again from each resume; none for no limit.
    pub length: Option<Duration>,
    /// What happens then.
    pub action: DeadlineAction,
}

/// Another lifetime for a sandbox, from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// It lives so long; none for no limit. With nothing left its end comes at once.
    To(Option<Duration>),
    /// It lives at least so long: what is longer already stays as it is.
    AtLeast(Duration),
}

/// How a sandbox ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// Why, for machines.
    pub reason: EndReason,
    /// Why, in one sentence for people.
    pub message: String,
    /// The exit status of its first process, where it ended by itself.
    pub exit_code: Option<i32>,
}

/// Why a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Its first process ended.
    Exit,
    /// Its lifetime was over.
    Timeout,
    /// It went over its memory limit.
    OutOfMemory,
    /// Somebody removed it.
    Killed,
    /// Somebody stopped it, to start it again perhaps.
    Stopped,
    /// The host failed it.
    Host,
}

impl EndReason {
    const ALL: [Self; 6] =
        [Self::Exit, Self::Timeout, Self::OutOfMemory, Self::Killed, Self::Stopped, Self::Host];

    /// The name used in the database and in events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Timeout => "timeout",
            Self::OutOfMemory => "out_of_memory",
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::Host => "host",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl End {
    /// What the runtime's account of an exit means to the owner of the sandbox.
    pub(crate) fn from_exit(at: Timestamp, exit: &Exit, limits: &Limits) -> Self {
        let (reason, message, exit_code) = match exit.reason {
            ExitReason::Status(code) => (
                EndReason::Exit,
                format!("the first process of the sandbox ended with status {code}"),
                Some(code),
            ),
            // A guest that is out of memory may lose its first process to it: the kernel then
            // reports a kill that nobody sent.
            ExitReason::Signal(9) if exit.oom_kills > 0 => out_of_memory(limits),
            ExitReason::Signal(signal) => (
                EndReason::Exit,
                format!("signal {signal} ended the first process of the sandbox"),
                Some(128 + signal),
            ),
            ExitReason::OutOfMemory => out_of_memory(limits),
            ExitReason::Deadline => timeout(),
            ExitReason::Killed => {
                (EndReason::Killed, "the sandbox was removed on request".to_owned(), None)
            }
            ExitReason::Unknown => (
                EndReason::Host,
                "the sandbox went away with its host, or how it ended was not recorded".to_owned(),
                None,
            ),
        };
        Self { at, reason, message, exit_code }
    }

    pub(crate) fn timeout(at: Timestamp) -> Self {
        let (reason, message, exit_code) = timeout();
        Self { at, reason, message, exit_code }
    }

    pub(crate) fn stopped(at: Timestamp) -> Self {
        let message = "the sandbox was stopped on request".to_owned();
        Self { at, reason: EndReason::Stopped, message, exit_code: None }
    }

    pub(crate) fn host(at: Timestamp, message: &str) -> Self {
        Self { at, reason: EndReason::Host, message: message.to_owned(), exit_code: None }
    }
}

fn out_of_memory(limits: &Limits) -> (EndReason, String, Option<i32>) {
    let message =
        format!("the sandbox went over its memory limit of {} bytes", limits.memory_bytes);
    (EndReason::OutOfMemory, message, None)
}

fn timeout() -> (EndReason, String, Option<i32>) {
    (EndReason::Timeout, "the lifetime of the sandbox was over".to_owned(), None)
}

/// What is wanted of a new sandbox. What is absent gets the server's default.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// What the root filesystem is made from.
    pub image: Option<Image>,
    /// The id or name of a snapshot that it is made from instead.
    pub snapshot: Option<String>,
    /// The template that says all that the request leaves open: `[project/]name[:tag]`, or its id.
    pub template: Option<String>,
    /// A name: `[a-z0-9][a-z0-9._-]{0,62}`.
    pub name: Option<String>,
    /// Free text for finding it again: at most 64, keys of 1 to 128 and values of up to 1024 bytes.
    pub labels: BTreeMap<String, String>,
    /// Environment of every command: at most 64 KiB in all.
    pub env: BTreeMap<String, String>,
    /// Who commands run as unless they say otherwise.
    pub user: Option<String>,
    /// Where commands start unless they say otherwise; an absolute path.
    pub workdir: Option<String>,
    /// Thousandths of one core, 10 to 1,024,000.
    pub cpu_millis: Option<u32>,
    /// Bytes, at least 16 MiB.
    pub memory_bytes: Option<u64>,
    /// Processes and threads, at least 8.
    pub pids: Option<u32>,
    /// Open files of one process, at least 64.
    pub open_files: Option<u32>,
    /// What it may write to its root filesystem, in bytes, at least 16 MiB.
    pub disk_bytes: Option<u64>,
    /// How long it lives; zero for no limit.
    pub lifetime: Option<Duration>,
    /// What happens then.
    pub on_deadline: Option<DeadlineAction>,
    /// How much the guest's root may do.
    pub profile: Option<Profile>,
    /// What the guest may reach.
    pub network: Option<Network>,
    /// The name the guest sees as its own.
    pub hostname: Option<String>,
    /// Directories of the host that it sees.
    pub mounts: Vec<WantedMount>,
    /// Volumes that it sees.
    pub volumes: Vec<WantedVolume>,
    /// What its requests are given on their way out.
    pub credentials: Credentials,
    /// Who reaches its ports from outside; nobody without a token where nothing is said.
    pub exposure: Exposure,
    /// The repository that it works in.
    pub git: Option<WantedGit>,
    /// Whether it must be made anew, although a parked one would do.
    pub cold: bool,
}

/// A volume that is wanted inside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WantedVolume {
    /// Its id or name.
    pub volume: String,
    /// Where it goes inside: an absolute path.
    pub target: String,
    /// Whether it may only be read.
    pub read_only: bool,
}

/// A directory of the host that is wanted inside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WantedMount {
    /// Where it is on the server's machine: an absolute path.
    pub source: PathBuf,
    /// Where it goes inside: an absolute path.
    pub target: String,
    /// Whether it may only be read.
    pub read_only: bool,
}

impl std::fmt::Debug for Wanted {
    // Its environment may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A new sandbox, and where the time went.
#[derive(Clone, Debug)]
pub struct Made {
    /// The sandbox.
    pub sandbox: Arc<Sandbox>,
    /// The steps in order, each with how long it took; empty when it was made by an earlier
    /// request with the same idempotency key.
    pub steps: Vec<(&'static str, Duration)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(reason: ExitReason, oom_kills: u64) -> End {
        let limits = Limits {
            memory_bytes: 1 << 28,
            cpu_millis: 1000,
            pids: 64,
            open_files: 1024,
            disk_bytes: None,
        };
        End::from_exit(Timestamp::default(), &Exit { reason, oom_kills }, &limits)
    }

    #[test]
    fn a_cause_of_death_is_told_apart() {
        assert_eq!(end(ExitReason::Status(3), 0).exit_code, Some(3));
        assert_eq!(end(ExitReason::Signal(15), 0).exit_code, Some(143));
        assert_eq!(end(ExitReason::Signal(9), 0).reason, EndReason::Exit);
        assert_eq!(end(ExitReason::Signal(9), 2).reason, EndReason::OutOfMemory);
        assert_eq!(end(ExitReason::Deadline, 0).reason, EndReason::Timeout);
        assert_eq!(end(ExitReason::Unknown, 0).reason, EndReason::Host);
    }

    #[test]
    fn running_out_of_memory_names_the_limit() {
        assert!(end(ExitReason::OutOfMemory, 1).message.contains("268435456"));
    }
}
