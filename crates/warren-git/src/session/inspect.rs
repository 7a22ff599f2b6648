//! What is in the repository, without changing anything.

use super::{GitMachine, Saved};
use crate::{
    error::GitError,
    git::{Git, answer, step},
    machine::Machine,
    porcelain,
};

/// Bytes of a list of changes that are read.
const LIST_BYTES: usize = 16 * 1024 * 1024;
/// How many names of changed files a status gives.
const NAMES: usize = 1000;
/// The most commits that a log gives.
const LONGEST_LOG: u32 = 1000;

/// How the repository is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The branch that is checked out; `None` for a HEAD that is on none.
    pub branch: Option<String>,
    /// The commit that is checked out; `None` before the first one.
    pub head: Option<String>,
    /// How many commits of HEAD the remote's branch of that name has not, as far as was fetched;
    /// all that are on no branch of the remote, where it has no such branch.
    pub ahead: u64,
    /// How many commits the remote's branch has that HEAD has not, as far as was fetched.
    pub behind: u64,
    /// Files that differ from the commit, and new ones: at most 1000 names.
    pub changed: Vec<String>,
    /// Whether there are more.
    pub truncated: bool,
}

/// A commit in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its name.
    pub sha: String,
    /// Who wrote it.
    pub author: String,
    /// That one's address.
    pub email: String,
    /// When it was made, in seconds since 1970.
    pub time: u64,
    /// The first line of its message.
    pub subject: String,
}

/// A branch, of the machine or of the remote as far as was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Its name.
    pub name: String,
    /// The commit at its tip.
    pub sha: String,
    /// Whether it is the remote's.
    pub remote: bool,
}

impl<M: Machine> GitMachine<M> {
    /// How the repository is. Nothing is fetched.
    ///
    /// # Errors
    ///
    /// [`GitError`] where the machine or git fails.
    pub async fn status(&self) -> Result<Status, GitError> {
        self.operate(|this| async move {
            this.awake("status", async { status(&this.git()).await }).await
        })
        .await
    }

    /// The last commits, the newest first: at most `limit`, and at most 1000.
    ///
    /// # Errors
    ///
    /// [`GitError`] where the machine or git fails.
    pub async fn log(&self, limit: u32) -> Result<Vec<Logged>, GitError> {
        self.operate(move |this| async move {
            this.awake("log", async { log(&this.git(), limit).await }).await
        })
        .await
    }

    /// The branches of the machine and those of the remote, as far as they were fetched.
    ///
    /// # Errors
    ///
    /// [`GitError`] where the machine or git fails.
    pub async fn branches(&self) -> Result<Vec<Branch>, GitError> {
        self.operate(|this| async move {
            this.awake("branches", async { branches(&this.git()).await }).await
        })
        .await
    }

    /// Commits what has changed as a pause does, and pushes where `push` says so; the machine goes
    /// on as it is. Hooks of the repository do not run.
    ///
    /// # Errors
    ///
    /// As [`GitMachine::commit`] and [`GitMachine::push`]. What was done before the failure is done.
    pub async fn checkpoint(&self, push: bool) -> Result<Saved, GitError> {
        self.operate(move |this| async move {
            let work = async {
                let (git, mut saved) = (this.git(), Saved::default());
                this.save(&git, push, &mut saved).await?;
                Ok(saved)
            };
            this.awake("checkpoint", work).await
        })
        .await
    }
}

async fn status<M: Machine>(git: &Git<'_, M>) -> Result<Status, GitError> {
    let words = ["status", "--porcelain=v2", "-z", "--untracked-files=normal"];
    let listing = step(words).env("GIT_OPTIONAL_LOCKS", "0").keep(LIST_BYTES);
    let listed = git.done(listing).await?;
    let mut changed = porcelain::status(&listed.stdout);
    let truncated = listed.truncated || changed.len() > NAMES;
    changed.truncate(NAMES);
    let branch = git.head().await?;
    let branch = branch.and_then(|it| it.strip_prefix("refs/heads/").map(str::to_owned));
    let head = git.resolve("HEAD^{commit}").await?;
    let (mut ahead, mut behind) = (0, 0);
    if let Some(head) = &head {
        let tracking = branch.as_ref().map(|it| format!("refs/remotes/origin/{it}"));
        let remote = match &tracking {
            Some(tracking) => git.resolve(&format!("{tracking}^{{commit}}")).await?,
            None => None,
        };
        match remote {
            Some(remote) => {
                ahead = count(git, head, &remote).await?;
                behind = count(git, &remote, head).await?;
            }
            None => ahead = count(git, head, "--remotes=origin").await?,
        }
    }
    Ok(Status { branch, head, ahead, behind, changed, truncated })
}

/// How many commits one has and the other has not.
async fn count<M: Machine>(git: &Git<'_, M>, of: &str, without: &str) -> Result<u64, GitError> {
    let counted = git.done(step(["rev-list", "--count", of, "--not", without, "--"])).await?;
    counted.stdout_text().trim().parse().map_err(|_not| answer("rev-list"))
}

async fn log<M: Machine>(git: &Git<'_, M>, limit: u32) -> Result<Vec<Logged>, GitError> {
    if git.resolve("HEAD^{commit}").await?.is_none() {
        return Ok(Vec::new());
    }
    let most = format!("--max-count={}", limit.min(LONGEST_LOG));
    let words = ["log", "-z", "--format=%H%x1f%an%x1f%ae%x1f%ct%x1f%s", &most, "HEAD", "--"];
    let listed = git.done(step(words).keep(LIST_BYTES)).await?;
    Ok(porcelain::log(&listed.stdout))
}

async fn branches<M: Machine>(git: &Git<'_, M>) -> Result<Vec<Branch>, GitError> {
    let format = "--format=%(objectname)%09%(refname)";
    let words = ["for-each-ref", format, "refs/heads", "refs/remotes/origin"];
    let listed = git.done(step(words).keep(LIST_BYTES)).await?;
    let branch = |(name, sha): (String, String)| {
        let (name, remote) = match name.strip_prefix("refs/heads/") {
            Some(name) => (name, false),
            None => (name.strip_prefix("refs/remotes/origin/")?, true),
        };
        // The remote's HEAD is no branch of its own.
        (!remote || name != "HEAD").then(|| Branch { name: name.to_owned(), sha, remote })
    };
    Ok(porcelain::remote_refs(&listed.stdout).into_iter().filter_map(branch).collect())
}
