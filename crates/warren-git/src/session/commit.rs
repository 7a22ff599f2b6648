//! What has changed becomes a commit.

use super::GitMachine;
use crate::{
    error::GitError,
    events::Event,
    git::{Git, step},
    machine::Machine,
    porcelain,
};

/// The message of a commit that nobody gave one, and of one that nobody asked for.
const MESSAGE: &str = "checkpoint";
const AUTO_MESSAGE: &str = "auto: checkpoint";
/// Bytes of a list of changes: each has some 100.
const LIST_BYTES: usize = 64 * 1024 * 1024;
/// How many names an error gives.
const NAMES: usize = 20;

/// A commit that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its name.
    pub sha: String,
    /// Its message.
    pub message: String,
    /// Directories that are repositories of their own and no submodules: git takes no files of them,
    /// so they are not in it.
    pub left_out: Vec<String>,
}

/// Who wants a commit.
#[derive(Clone, Copy)]
pub(super) enum Asked<'a> {
    /// A caller, with a message or without. Hooks of the repository run and may refuse.
    Caller(Option<&'a str>),
    /// A pause or a stop. Hooks do not run: what they would refuse has to be saved as well.
    Nobody,
}

impl<M: Machine> GitMachine<M> {
    /// Commits everything that has changed, but what `.gitignore` names; `None` without a change.
    ///
    /// Hooks of the repository run, inside the machine.
    ///
    /// # Errors
    ///
    /// [`GitError::Conflict`] while a merge with conflicts is under way, [`GitError::Git`] where a hook
    /// or git refuses, [`GitError::Locked`] where another git does not end.
    pub async fn commit(&self, message: Option<&str>) -> Result<Option<Commit>, GitError> {
        let message = message.map(str::to_owned);
        if message.as_ref().is_some_and(|it| it.trim().is_empty() || it.contains('\0')) {
            return Err(GitError::Message);
        }
        self.operate(|this| async move {
            let asked = Asked::Caller(message.as_deref());
            this.awake("commit", async { this.committed(&this.git(), asked).await }).await
        })
        .await
    }

    /// Commits, and tells about it.
    pub(super) async fn committed(
        &self,
        git: &Git<'_, M>,
        asked: Asked<'_>,
    ) -> Result<Option<Commit>, GitError> {
        let result = self.make_commit(git, asked).await;
        match &result {
            Ok(Some(commit)) => self.emit(&Event::Committed {
                sha: commit.sha.clone(),
                message: commit.message.clone(),
            }),
            Ok(None) => {}
            Err(error) => {
                if let GitError::Conflict { branch, paths } = error {
                    let (branch, paths) = (branch.clone(), paths.clone());
                    self.emit(&Event::Conflict { branch, paths });
                }
                self.emit(&Event::CommitFailed { reason: error.sentence() });
            }
        }
        result
    }

    async fn make_commit(
        &self,
        git: &Git<'_, M>,
        asked: Asked<'_>,
    ) -> Result<Option<Commit>, GitError> {
        // Adding a file with marks of a conflict would say that it is solved.
        let listed = git.done(step(["ls-files", "--unmerged", "-z"])).await?;
        if !listed.stdout.is_empty() {
            let mut paths = porcelain::unmerged(&listed.stdout);
            paths.truncate(NAMES);
            let branch = self.branch().map_or_else(|| "HEAD".to_owned(), |it| it.to_string());
            return Err(GitError::Conflict { branch, paths });
        }
        git.locked(|| step(["add", "--all"])).await?;
        let (mut changed, left_out) = leave_out(git).await?;
        if !changed {
            // A merge that was solved is a commit without any change of its own.
            changed = git.resolve("MERGE_HEAD").await?.is_some();
        }
        if !changed {
            return Ok(None);
        }
        let (message, hooks) = match asked {
            Asked::Caller(message) => (message.unwrap_or(MESSAGE), true),
            Asked::Nobody => (AUTO_MESSAGE, false),
        };
        let identity = &self.inner.config.identity;
        git.locked(|| {
            let words = ["commit", "--quiet", "--no-gpg-sign", "--cleanup=whitespace", "--file=-"];
            let step = step(words).stdin(message);
            let step = step.env("GIT_AUTHOR_NAME", &identity.name);
            let step = step.env("GIT_AUTHOR_EMAIL", &identity.email);
            if hooks { step.hooks() } else { step }
        })
        .await?;
        let sha = git.resolve("HEAD^{commit}").await?.ok_or(crate::git::answer("commit"))?;
        Ok(Some(Commit { sha, message: message.to_owned(), left_out }))
    }
}

/// Takes repositories within the repository out of what is to be committed, but submodules.
///
/// Git would write down their commit and none of their files, and nobody could fetch it.
/// Returns whether anything else is to be committed, and what was taken out.
async fn leave_out<M: Machine>(git: &Git<'_, M>) -> Result<(bool, Vec<String>), GitError> {
    let list = || {
        let words = ["diff", "--cached", "--raw", "-z", "--no-renames", "--no-ext-diff"];
        step(words.into_iter().chain(["--ignore-submodules=none"])).keep(LIST_BYTES)
    };
    let (changed, mut inner) = porcelain::staged(&git.done(list()).await?.stdout);
    if inner.is_empty() {
        return Ok((changed, Vec::new()));
    }
    let words = ["config", "-z", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$"];
    let known = git.run(step(words)).await?;
    let known = porcelain::config_values(&known.stdout);
    inner.retain(|path| !known.contains(&path.as_slice()));
    if inner.is_empty() {
        return Ok((changed, Vec::new()));
    }
    git.locked(|| {
        let words = ["rm", "--cached", "--force", "--quiet", "--pathspec-from-file=-"];
        step(words.into_iter().chain(["--pathspec-file-nul"]))
            .env("GIT_LITERAL_PATHSPECS", "1")
            .stdin(inner.join(&0))
    })
    .await?;
    let (changed, _) = porcelain::staged(&git.done(list()).await?.stdout);
    let names = inner.iter().take(NAMES).map(|path| String::from_utf8_lossy(path).into_owned());
    Ok((changed, names.collect()))
}

/// Files that differ from the commit that is checked out, and new ones: the first names.
pub(super) async fn changed_files<M: Machine>(git: &Git<'_, M>) -> Result<Vec<String>, GitError> {
    let words = ["status", "--porcelain=v2", "-z", "--untracked-files=normal"];
    let step = step(words.into_iter().chain(["--ignore-submodules=none"]));
    let output = git.done(step.env("GIT_OPTIONAL_LOCKS", "0")).await?;
    let mut paths = porcelain::status(&output.stdout);
    paths.truncate(NAMES);
    Ok(paths)
}
