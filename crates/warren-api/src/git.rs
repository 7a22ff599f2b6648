//! Sandboxes whose work is a branch of a repository.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/sandboxes` with `git` ([`Git`]) | the sandbox, in which the repository is |
//! | `GET /v1/git/sessions` | [`GitSessionList`] |
//! | `GET /v1/sandboxes/{id}/git` | [`GitStatus`] |
//! | `GET /v1/sandboxes/{id}/git/diff` | a patch, as it is |
//! | `POST /v1/sandboxes/{id}/git/commit` with [`CommitGit`] | [`GitCommitted`] |
//! | `POST /v1/sandboxes/{id}/git/push` | [`GitPushed`] |
//! | `POST /v1/sandboxes/{id}/git/pull` | [`GitPulled`] |
//! | `GET /v1/sandboxes/{id}/git/log` | [`GitLog`] |
//! | `GET /v1/sandboxes/{id}/git/branches` | [`GitBranchList`] |
//! | `GET /v1/git/rescues` | [`GitRescueList`] |
//! | `GET /v1/git/rescues/{id}` | a bundle of git, as it is |
//! | `DELETE /v1/git/rescues/{id}` | 204 |

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Where the repository is inside, where nothing else is said.
pub const PATH: &str = "/home/user/repo";

/// The repository that a new sandbox works in.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(example = json!({"repository": "https://github.com/team/agent.git", "session": "fix-login", "secret": "GITHUB_TOKEN"}))
)]
#[serde(deny_unknown_fields)]
pub struct Git {
    /// Its address, `https://HOST/PATH`, without a token in it.
    pub repository: String,
    /// The branch, tag or commit at which a new session begins; the remote's default branch where
    /// absent.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The session's name, which is its branch: continued where the remote has it, else begun.
    /// `warren/ID` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Where the repository is inside: an absolute path; `/home/user/repo` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whose name commits have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<GitIdentity>,
    /// The token or password for the repository; it never reaches the sandbox. Kept encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The secret that has the token, in its place; looked up for each request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The name that goes with the token; `x-access-token` where absent, which most hosts of
    /// repositories take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether the sandbox may only read the repository: nothing of its work is saved then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Whether changes are committed before a pause and a stop; true where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_commit: Option<bool>,
    /// When commits are pushed without being asked for; at all of these where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_on: Option<Vec<GitMoment>>,
    /// What to do when the remote's branch has moved; `rebase` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_moved: Option<GitOnMoved>,
    /// So many commits of each branch, and no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
    /// No files but those that are checked out; git fetches others when it needs them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blobless: bool,
    /// Only the session's branch, or the default branch where the remote has none of that name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_branch: bool,
    /// Submodules that everybody may read, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub submodules: bool,
}

impl fmt::Debug for Git {
    // The token is for nobody to see.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Git")
            .field("repository", &self.repository)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// Whose name commits have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GitIdentity {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
}

/// When commits are pushed without being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum GitMoment {
    /// Before a pause.
    Pause,
    /// Before a stop, and before the sandbox is removed.
    Stop,
    /// When its lifetime is over, when the server ends, and when the next one begins.
    Deadline,
}

/// What to do when the remote's branch has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum GitOnMoved {
    /// Commits of the sandbox are put on top.
    Rebase,
    /// A merge of both.
    Merge,
    /// Commits go to a rescue branch, `session/NAME/rescue-N`.
    Rescue,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitSession {
    /// The id of the sandbox it is in.
    pub sandbox_id: String,
    /// What that sandbox does.
    pub state: crate::sandbox::State,
    /// The repository's address.
    pub repository: String,
    /// The session's name, which is its branch.
    pub session: String,
    /// Where the repository is inside.
    pub path: String,
    /// Whether it may only be read.
    pub read_only: bool,
    /// The last commit that was made or pushed from here, as far as the server knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What of it the remote has, as far as the server knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed: Option<String>,
    /// Why the last attempt to save work failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// When any of that was noticed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
}

/// The caller's sessions, the newest sandbox first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitSessionList {
    /// They.
    pub sessions: Vec<GitSession>,
}

/// How the repository of a sandbox is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitStatus {
    /// The session.
    #[serde(flatten)]
    pub session: GitSession,
    /// The branch that is checked out; absent for a HEAD that is on none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit that is checked out; absent before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// How many commits the remote's branch has not, as far as was fetched.
    pub ahead: u64,
    /// How many commits the remote's branch has that this one has not, as far as was fetched.
    pub behind: u64,
    /// Files that differ from the commit, and new ones: at most 1000.
    pub changed: Vec<String>,
    /// Whether there are more.
    pub truncated: bool,
}

/// `POST /v1/sandboxes/{id}/git/commit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CommitGit {
    /// The message; `checkpoint` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What became of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitCommitted {
    /// The commit; absent where nothing had changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// Its message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Directories that are repositories of their own, of which git takes no files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitPushed {
    /// The branch that was to be pushed.
    pub branch: String,
    /// What became of it.
    pub outcome: GitPushOutcome,
    /// The commit; absent where there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// The branch of the remote that has the commits in place of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescue: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum GitPushOutcome {
    /// There is no commit yet.
    Nothing,
    /// The remote's branch is at the commit.
    Pushed,
    /// The remote's branch had moved; both have all commits now.
    Integrated,
    /// The remote's branch is as it was; the commits are on a rescue branch.
    Rescued,
}

/// What became of a pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitPulled {
    /// The commit that the branch is at; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
}

/// The last commits, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitLog {
    /// They.
    pub commits: Vec<GitLogEntry>,
}

/// A commit in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitLogEntry {
    /// Its name.
    pub sha: String,
    /// Who wrote it.
    pub author: String,
    /// That one's address.
    pub email: String,
    /// When it was made, as it says itself, in seconds since 1970.
    pub time: u64,
    /// The first line of its message.
    pub subject: String,
}

/// Branches of a sandbox and of its remote, as far as they were fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitBranchList {
    /// They.
    pub branches: Vec<GitBranch>,
}

/// A branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitBranch {
    /// Its name.
    pub name: String,
    /// The commit at its tip.
    pub sha: String,
    /// Whether it is the remote's.
    pub remote: bool,
}

/// Work that could not get to its remote and whose sandbox had to go, as a bundle of git.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitRescue {
    /// Its id, which is that of the sandbox.
    pub id: String,
    /// The repository's address.
    pub repository: String,
    /// The session, which is the branch that was worked on.
    pub session: String,
    /// Why the work could not get to the remote.
    pub reason: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its refs. `refs/warren/uncommitted` has what was not committed.
    pub refs: Vec<GitRescueRef>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A ref in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitRescueRef {
    /// Its full name.
    pub name: String,
    /// Its commit.
    pub sha: String,
}

/// The caller's bundles, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GitRescueList {
    /// They.
    pub rescues: Vec<GitRescue>,
}
