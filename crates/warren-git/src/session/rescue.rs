//! Branches beside a session for commits that its own branch cannot take.

use super::{GitMachine, commit::changed_files};
use crate::{
    access::Right,
    error::GitError,
    events::Event,
    git::{Git, step},
    machine::Machine,
    name::BranchName,
    porcelain::{self, Pushed},
};

/// How often another number is tried, when others make rescue branches at the same time.
const TRIES: u32 = 8;
/// How many names an error gives.
const NAMES: usize = 20;

impl<M: Machine> GitMachine<M> {
    /// Pushes a commit to a rescue branch: to the one that has it already, else to a new one.
    pub(super) async fn rescue(
        &self,
        git: &Git<'_, M>,
        branch: &BranchName,
        sha: &str,
    ) -> Result<BranchName, GitError> {
        let mut reason = "its rescue branches are taken".to_owned();
        for _ in 0..TRIES {
            let (known, next) = self.rescues(git, branch, sha).await?;
            if let Some(rescue) = known {
                git.done(step(["update-ref", &rescue.tracking(), sha])).await?;
                return Ok(rescue);
            }
            let rescue = branch.rescue(next);
            match self.push_ref(git, sha, &rescue, true).await? {
                Pushed::Done => return Ok(rescue),
                Pushed::Moved => {}
                Pushed::Refused(said) => {
                    reason = said;
                    break;
                }
            }
        }
        Err(GitError::Refused { branch: branch.rescue(0).to_string(), reason })
    }

    /// The rescue branch that is at this commit, and the first number that is free.
    async fn rescues(
        &self,
        git: &Git<'_, M>,
        branch: &BranchName,
        sha: &str,
    ) -> Result<(Option<BranchName>, u32), GitError> {
        let prefix = format!("refs/heads/session/{branch}/rescue-");
        let words = ["ls-remote", "--quiet", &git.repository.url(), &format!("{prefix}*")];
        let listed = git.done(step(words).outside().remote(Right::Read)).await?;
        let (mut known, mut next) = (None, 1);
        for (name, id) in porcelain::remote_refs(&listed.stdout) {
            let number = name.strip_prefix(&prefix).and_then(|number| number.parse::<u32>().ok());
            let Some(number) = number else { continue };
            next = next.max(number.saturating_add(1));
            if id == sha {
                known = Some(branch.rescue(number));
            }
        }
        Ok((known, next))
    }

    /// Makes sure that all work is on the remote, or says what is not: with `push`, whatever other
    /// branches and stashes have goes to rescue branches.
    pub(super) async fn all_saved(&self, git: &Git<'_, M>, push: bool) -> Result<(), GitError> {
        let mut what = changed_files(git).await?;
        if what.is_empty() {
            for (name, sha) in self.tips(git).await? {
                if self.is_on_remote(git, &sha).await? {
                    continue;
                }
                if !push {
                    what.push(name);
                    continue;
                }
                let branch = self.branch().or_else(|| local_branch(&name));
                let branch = branch.ok_or(GitError::NoBranch)?;
                let rescue = self.rescue(git, &branch, &sha).await?;
                let reason = format!("{name} is on no branch of the remote");
                let (branch, rescue) = (name, Some(rescue.to_string()));
                self.emit(&Event::PushFailed { branch, reason, rescue });
            }
        }
        what.truncate(NAMES);
        if what.is_empty() { Ok(()) } else { Err(GitError::Unsaved { what }) }
    }

    /// Everything that holds commits: branches, stashes, and a HEAD that is on none. Name and commit.
    pub(super) async fn tips(&self, git: &Git<'_, M>) -> Result<Vec<(String, String)>, GitError> {
        let words = ["for-each-ref", "--format=%(objectname)%09%(refname)", "refs/heads"];
        let listed = git.done(step(words).keep(16 * 1024 * 1024)).await?;
        let mut tips = porcelain::remote_refs(&listed.stdout);
        // A stash below another one is in the log of the ref alone.
        let words = ["log", "--walk-reflogs", "--format=%H%x09%gd", "refs/stash", "--"];
        tips.extend(porcelain::remote_refs(&git.run(step(words)).await?.stdout));
        if git.head().await?.is_none() {
            let head = git.resolve("HEAD^{commit}").await?;
            tips.extend(head.map(|sha| ("HEAD".to_owned(), sha)));
        }
        Ok(tips)
    }

    async fn is_on_remote(&self, git: &Git<'_, M>, sha: &str) -> Result<bool, GitError> {
        let words = ["rev-list", "--max-count=1", sha, "--not", "--remotes=origin", "--"];
        Ok(git.done(step(words)).await?.stdout.is_empty())
    }
}

/// The branch that a full name names.
fn local_branch(full: &str) -> Option<BranchName> {
    BranchName::parse(full.strip_prefix("refs/heads/")?).ok()
}
