//! What a template is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    caller::Owner,
    clock::Timestamp,
    error::SandboxError,
    id::{BuildId, SandboxId, TemplateId},
    spec::{Image, Network},
};

/// The tag that is meant where none is named.
pub const DEFAULT_TAG: &str = "latest";

/// A template as it was when this was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its identity.
    pub id: TemplateId,
    /// Whose it is.
    pub owner: Owner,
    /// Its name, unique among the owner's: `[a-z0-9][a-z0-9_-]{0,62}`.
    pub name: String,
    /// Whether other projects may use it.
    pub public: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a version, a tag or a setting of it changed last.
    pub updated_at: Timestamp,
    /// What each tag names, and since when.
    pub tags: BTreeMap<String, Tagged>,
    /// Its versions, the oldest first.
    pub versions: Vec<Arc<TemplateVersion>>,
    /// The number that the next version gets.
    pub next_number: u32,
    /// How many sandboxes of [`DEFAULT_TAG`] wait started and ready.
    pub warm: u32,
}

/// How many versions without a tag are kept: the newest.
const UNTAGGED: usize = 2;

impl Template {
    /// Forgets versions that no tag names and that are not among the newest of those.
    pub(crate) fn drop_old_versions(&mut self) {
        let tagged: Vec<_> = self.tags.values().map(|tagged| tagged.build).collect();
        let mut untagged = self.versions.iter().filter(|it| !tagged.contains(&it.build)).count();
        self.versions.retain(|version| {
            if tagged.contains(&version.build) {
                return true;
            }
            untagged -= 1;
            untagged < UNTAGGED
        });
    }
}

/// What a tag names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// The version, by the build that made it.
    pub build: BuildId,
    /// Since when.
    pub at: Timestamp,
}

/// One version of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateVersion {
    /// The build that made it.
    pub build: BuildId,
    /// Its place among the template's versions, from 1.
    pub number: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// What sandboxes of it are made from.
    pub image: Image,
    /// What commands in it get to know.
    pub config: TemplateConfig,
    /// What a sandbox of it may use where its request does not say.
    pub limits: WantedLimits,
    /// What it may reach where its request does not say; the server's default where absent.
    pub network: Option<Network>,
    /// What is started in a new sandbox before anybody has it.
    pub start: Option<Start>,
    /// What the files of its own layers take, in bytes.
    pub bytes: u64,
}

/// What commands in a sandbox of a template get to know, and what is known about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateConfig {
    /// Their environment.
    pub env: BTreeMap<String, String>,
    /// Who they run as; the server's default where absent.
    pub user: Option<String>,
    /// Where they start; the user's home where absent.
    pub workdir: Option<String>,
    /// The program that the template is for.
    pub entrypoint: Vec<String>,
    /// Its arguments where nobody gives others, or the program where there is none.
    pub cmd: Vec<String>,
    /// Free text.
    pub labels: BTreeMap<String, String>,
    /// Ports it means to listen on, such as `80/tcp`.
    pub ports: Vec<String>,
}

impl TemplateConfig {
    /// The command that a sandbox of it is for; empty where it names none.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }
}

/// Limits that may be left to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WantedLimits {
    /// Thousandths of one core.
    pub cpu_millis: Option<u32>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Bytes that may be written to the disk.
    pub disk_bytes: Option<u64>,
}

/// What is started in a new sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Start {
    /// The program and its arguments; empty where nothing is started and something is waited for.
    pub command: Vec<String>,
    /// What is waited for.
    pub ready: Option<Ready>,
    /// For how long.
    pub timeout: Duration,
}

/// How to see that what was started is ready.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ready {
    /// Something listens on this TCP port.
    Port(u16),
    /// A GET is answered with a status below 400.
    Http {
        /// The port.
        port: u16,
        /// The path, with a slash at its start.
        path: String,
    },
    /// A shell command ends with 0.
    Command(String),
    /// A file is there.
    File(String),
}

/// A build, as it was when this was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Its identity.
    pub id: BuildId,
    /// What it makes a version of.
    pub template: TemplateId,
    /// That template's name.
    pub name: String,
    /// Whose it is.
    pub owner: Owner,
    /// The tags that its version gets.
    pub tags: Vec<String>,
    /// What was said, when it was announced, that a sandbox of its version may use.
    pub limits: WantedLimits,
    /// How it stands.
    pub status: BuildStatus,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended, one way or the other.
    pub finished_at: Option<Timestamp>,
    /// How many steps it has.
    pub steps: u32,
    /// How many of them are done.
    pub done: u32,
    /// How many of these were found and not done again.
    pub cached: u32,
    /// Why it failed.
    pub failure: Option<BuildFailure>,
    /// The sandbox in which the present step runs.
    pub sandbox: Option<SandboxId>,
}

/// How a build stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildStatus {
    /// It waits for its turn, or for its steps.
    Waiting,
    /// Its steps are being done.
    Building,
    /// Its version is there.
    Ready,
    /// It ended without a version.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl BuildStatus {
    const ALL: [Self; 5] =
        [Self::Waiting, Self::Building, Self::Ready, Self::Failed, Self::Cancelled];

    /// The name used in the database and in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Building => "building",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether nothing changes any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Waiting | Self::Building)
    }
}

/// Why a build ended without a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFailure {
    /// A sentence for people.
    pub message: String,
    /// The line of the Dockerfile, or the number of the step in a list, counted from 1; absent
    /// where no step is to blame.
    pub line: Option<u32>,
    /// The step as it was written.
    pub step: Option<String>,
}

/// Checks the name of a template.
pub(crate) fn check_name(name: &str) -> Result<(), SandboxError> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut bytes = name.bytes();
    let good = name.len() <= 63
        && bytes.next().is_some_and(letter)
        && bytes.all(|byte| letter(byte) || b"_-".contains(&byte))
        && name.parse::<TemplateId>().is_err();
    match good {
        true => Ok(()),
        false => Err(SandboxError::invalid("name", "expected [a-z0-9][a-z0-9_-]{0,62}")),
    }
}

/// Checks a tag.
pub(crate) fn check_tag(tag: &str) -> Result<(), SandboxError> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = tag.bytes();
    let good = tag.len() <= 128
        && bytes.next().is_some_and(letter)
        && bytes.all(|byte| letter(byte) || b".-".contains(&byte))
        && tag.parse::<BuildId>().is_err();
    match good {
        true => Ok(()),
        false => Err(SandboxError::invalid("tags", "expected [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tags_have_a_form() {
        assert!(["a", "a-b_1", "0"].into_iter().all(|name| check_name(name).is_ok()));
        for bad in ["", "A", "-a", "a:b", "a/b", "a.b", "tp-aaaaaaaaaaaaaaaa"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(["v1.2", "latest", "_x"].into_iter().all(|tag| check_tag(tag).is_ok()));
        let uuid = BuildId::mint().to_string();
        for bad in ["", "-a", "a b", uuid.as_str()] {
            assert!(check_tag(bad).is_err(), "{bad}");
        }
    }
}
