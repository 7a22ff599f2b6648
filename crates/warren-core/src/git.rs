//! Sandboxes whose work is a branch of a repository.
//!
//! [`warren_git::GitMachine`] does the work inside; here is which sandbox has which session, what
//! is stored of it, and what its broker may do for it. The credential of a session never goes into
//! its sandbox: git inside speaks with a broker at the gateway, which asks [`GitRights`] about each
//! request.
//!
//! | module | what |
//! |---|---|
//! | `check` | what somebody wants of git, and whether it can be |
//! | `machine` | a sandbox as a [`warren_git::Machine`] |
//! | `rescue` | work that could not get to its remote, as files |
//! | `session` | a session that runs: its machine, its news, its rights |

use std::{
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use warren_git::{
    BranchName, CloneOptions, Identity, OnMoved, Repository,
    wire::{Request, Rights},
};
use zeroize::Zeroizing;

use crate::{
    caller::Owner,
    clock::Timestamp,
    id::SandboxId,
    secrets::{Sealed, SecretValue},
};

pub(crate) mod check;
pub(crate) mod machine;
pub(crate) mod rescue;
pub(crate) mod session;

pub use rescue::{Rescue, RescueFiles};

use session::Session;

/// What git answers.
pub mod answers {
    pub use warren_git::{Branch, Commit, Diff, Logged, Pull, Push, PushOutcome, Status};
}

/// What git is to do in a new sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WantedGit {
    /// The repository's address, `https://`, without a secret in it.
    pub repository: String,
    /// A branch, tag or commit of the remote to begin at; its default branch where absent.
    pub reference: Option<String>,
    /// The session's name, which is its branch; one made of the sandbox's id where absent.
    pub session: Option<String>,
    /// Where the repository is inside: an absolute path, `/home/user/repo` where absent.
    pub path: Option<String>,
    /// Name and address that commits have.
    pub identity: Option<(String, String)>,
    /// The name that goes with the token; what hosts of repositories take where absent.
    pub user: Option<String>,
    /// The token, or a secret of the caller's project; none for a repository that asks for none.
    pub token: Option<WantedToken>,
    /// Whether the sandbox may push its session's branch. It only reads where not, and nothing of
    /// its work is saved.
    pub push: bool,
    /// Whether changes are committed without being asked for.
    pub auto_commit: bool,
    /// When commits are pushed without being asked for.
    pub push_on: PushMoments,
    /// What to do when the remote's branch has moved.
    pub on_moved: WhenMoved,
    /// What is fetched.
    pub fetch: Fetch,
}

/// What a session begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fetch {
    /// So many commits of each branch, and no more.
    pub depth: Option<u32>,
    /// No files but those that are checked out.
    pub blobless: bool,
    /// Only the session's branch, or the default branch.
    pub single_branch: bool,
    /// Submodules that everybody may read, too.
    pub submodules: bool,
}

/// When commits are pushed without being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PushMoments {
    /// Before a pause.
    pub pause: bool,
    /// Before a stop.
    pub stop: bool,
    /// When its lifetime is over, when the server ends, and when the next one begins.
    pub deadline: bool,
}

impl Default for PushMoments {
    fn default() -> Self {
        Self { pause: true, stop: true, deadline: true }
    }
}

/// What to do when the remote's branch has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WhenMoved {
    /// Commits of the sandbox are put on top.
    #[default]
    Rebase,
    /// A merge of both.
    Merge,
    /// Commits go to a rescue branch.
    Rescue,
}

/// Where a token comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum WantedToken {
    /// The caller sent it.
    Given(Zeroizing<String>),
    /// A secret of the caller's project has it.
    Secret(String),
}

impl Hash for WantedToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Given(token) => (0, token.as_str()).hash(state),
            Self::Secret(name) => (1, name.as_str()).hash(state),
        }
    }
}

impl fmt::Debug for WantedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given"),
            Self::Secret(name) => f.debug_tuple("Secret").field(name).finish(),
        }
    }
}

/// What is known and stored about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) sandbox: SandboxId,
    pub(crate) owner: Owner,
    pub(crate) repository: Repository,
    pub(crate) reference: Option<String>,
    pub(crate) session: BranchName,
    pub(crate) path: Option<String>,
    pub(crate) identity: Option<Identity>,
    pub(crate) user: String,
    pub(crate) token: Token,
    pub(crate) push: bool,
    pub(crate) auto_commit: bool,
    pub(crate) push_on: PushMoments,
    pub(crate) on_moved: WhenMoved,
    pub(crate) fetch: Fetch,
    /// Whether the repository may be at an address that no sandbox reaches: its owner commands this
    /// host.
    pub(crate) anywhere: bool,
    /// Whether its sandbox had the repository, when this was stored.
    pub(crate) begun: bool,
    /// Whether its sandbox was stopped with all work on the remote, when this was stored.
    pub(crate) saved: bool,
}

/// Where the token of a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// There is none.
    None,
    /// In the secret of this name.
    Secret(String),
    /// Here, sealed.
    Sealed(Sealed),
}

impl Settings {
    /// Whether its work is saved when the lifetime of its sandbox is over.
    pub(crate) fn saves_at_deadline(&self) -> bool {
        self.push && self.push_on.deadline
    }

    /// What a sealed token is bound to.
    pub(crate) fn binding(sandbox: SandboxId, owner: &Owner) -> Vec<u8> {
        let parts = [owner.as_str().as_bytes(), sandbox.as_str().as_bytes()];
        [b"warren git token\0", parts[0], b"\0", parts[1]].concat()
    }

    pub(crate) fn moved(&self) -> OnMoved {
        match self.on_moved {
            WhenMoved::Rebase => OnMoved::Rebase,
            WhenMoved::Merge => OnMoved::Merge,
            WhenMoved::Rescue => OnMoved::Rescue,
        }
    }

    pub(crate) fn clone_options(&self) -> CloneOptions {
        let Fetch { depth, blobless, single_branch, submodules } = self.fetch;
        CloneOptions { depth, blobless, single_branch, submodules, ..CloneOptions::default() }
    }
}

/// What a broker asks about a request of a sandbox.
pub trait GitRights: Send + Sync + fmt::Debug {
    /// Whether a sandbox may do this with the repository at `authority`, host and port, and what
    /// the broker needs for it. The error is a sentence for whoever reads what git says.
    ///
    /// # Errors
    ///
    /// What the sandbox has no right to.
    fn admit(
        &self,
        sandbox: SandboxId,
        authority: &str,
        request: &Request,
    ) -> Result<Admission, String>;

    /// Notes what was refused to a sandbox, for its owner.
    fn refused(&self, sandbox: SandboxId, repository: &str, reason: &str);
}

/// What a broker may do with one request.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Whether the remote is spoken with by TLS.
    pub https: bool,
    /// Name and token.
    pub credential: Option<(String, SecretValue)>,
    /// Whether the remote may be at an address that no sandbox reaches.
    pub anywhere: bool,
    /// What a push may change.
    pub rights: Rights,
}

/// A session as callers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSession {
    /// The sandbox it is in.
    pub sandbox: SandboxId,
    /// The repository's address.
    pub repository: String,
    /// Its branch.
    pub session: String,
    /// Where the repository is inside.
    pub path: String,
    /// Whether it pushes.
    pub push: bool,
    /// The last commit that was made or pushed from here, as far as this server knows.
    pub commit: Option<String>,
    /// What of it the remote has, as far as this server knows.
    pub pushed: Option<String>,
    /// Why the last attempt to save work failed; none when it succeeded.
    pub trouble: Option<String>,
    /// Whether its sandbox was stopped with all work on the remote, as far as this server knows.
    pub saved: bool,
    /// When any of that was noticed last.
    pub updated_at: Option<Timestamp>,
}

/// All sessions, by sandbox.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    all: Mutex<HashMap<SandboxId, Arc<Session>>>,
    /// Where the broker listens: `http://10.0.0.1:418`.
    broker: RwLock<Option<String>>,
}

impl Sessions {
    pub(crate) fn get(&self, sandbox: SandboxId) -> Option<Arc<Session>> {
        self.lock().get(&sandbox).cloned()
    }

    pub(crate) fn put(&self, session: Session) -> Arc<Session> {
        let session = Arc::new(session);
        self.lock().insert(session.settings.sandbox, Arc::clone(&session));
        session
    }

    pub(crate) fn remove(&self, sandbox: SandboxId) -> Option<Arc<Session>> {
        self.lock().remove(&sandbox)
    }

    pub(crate) fn of(&self, owner: &Owner) -> Vec<Arc<Session>> {
        self.lock().values().filter(|it| it.settings.owner == *owner).cloned().collect()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn set_broker(&self, base: Option<String>) {
        *self.broker.write().unwrap_or_else(PoisonError::into_inner) = base;
    }

    /// Where the broker listens.
    pub(crate) fn broker(&self) -> Option<String> {
        self.broker.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SandboxId, Arc<Session>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
