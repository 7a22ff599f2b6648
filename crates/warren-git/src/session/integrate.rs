//! The remote's commits come into the machine's branch.

use super::GitMachine;
use crate::{
    access::Right,
    config::OnMoved,
    error::GitError,
    events::Event,
    git::{Git, Step, step},
    machine::Machine,
    name::BranchName,
    porcelain,
};

/// What a pull came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// The branch.
    pub branch: BranchName,
    /// The commit it was at.
    pub before: Option<String>,
    /// The commit it is at.
    pub after: Option<String>,
}

impl<M: Machine> GitMachine<M> {
    /// Takes in what the remote's branch has: by moving forward where the machine's branch has
    /// nothing of its own, else as [`OnMoved`] says. A branch that the remote has not is no error.
    ///
    /// # Errors
    ///
    /// [`GitError::Conflict`] where changes do not go together, [`GitError::Moved`] where files are not
    /// committed that stand in the way or commits are not to be mixed; nothing has changed then.
    pub async fn pull(&self) -> Result<Pull, GitError> {
        self.operate(|this| async move {
            this.awake("pull", async {
                let branch = this.needed_branch()?;
                let pull = this.pull_branch(&this.git(), branch).await?;
                let (branch, sha) = (pull.branch.to_string(), pull.after.clone());
                this.emit(&Event::Pulled { branch, sha });
                Ok(pull)
            })
            .await
        })
        .await
    }

    async fn pull_branch(&self, git: &Git<'_, M>, branch: BranchName) -> Result<Pull, GitError> {
        let before = git.resolve(&branch.full()).await?;
        let Some(theirs) = self.fetch(git, &branch).await? else {
            return Ok(Pull { branch, after: before.clone(), before });
        };
        self.on_branch(git, &branch).await?;
        if before.is_none() || git.contains(&theirs, "HEAD").await? {
            let words = ["merge", "--ff-only", "--no-stat", "--quiet", &theirs];
            git.locked(|| step(words).files()).await?;
            self.large_files(git).await?;
        } else if !git.contains("HEAD", &theirs).await? {
            if self.inner.config.on_moved == OnMoved::Rescue {
                return Err(moved(
                    &branch,
                    "this side has commits that are not to be mixed with it",
                ));
            }
            self.join(git, &branch).await?;
        }
        let after = git.resolve(&branch.full()).await?;
        Ok(Pull { branch, before, after })
    }

    /// Fetches the branch; the commit it is at, or `None` where the remote has none.
    pub(super) async fn fetch(
        &self,
        git: &Git<'_, M>,
        branch: &BranchName,
    ) -> Result<Option<String>, GitError> {
        let (full, tracking) = (branch.full(), branch.tracking());
        let words = ["ls-remote", "--quiet", &git.repository.url(), &full];
        let listed = git.done(step(words).outside().remote(Right::Read)).await?;
        let refs = porcelain::remote_refs(&listed.stdout);
        if !refs.iter().any(|(name, _)| *name == full) {
            return Ok(None);
        }
        let words = ["fetch", "--quiet", "--no-write-fetch-head", "--recurse-submodules=no"];
        let mut words = words.map(str::to_owned).to_vec();
        if git.partial {
            words.push("--filter=blob:none".to_owned());
        }
        words.extend([git.repository.url(), format!("+{full}:{tracking}")]);
        git.done(step(words).remote(Right::Read)).await?;
        git.resolve(&tracking).await
    }

    /// Takes in the remote's commits for a push.
    pub(super) async fn integrate(
        &self,
        git: &Git<'_, M>,
        branch: &BranchName,
    ) -> Result<(), GitError> {
        self.on_branch(git, branch).await?;
        if self.fetch(git, branch).await?.is_some() {
            self.join(git, branch).await?;
        }
        Ok(())
    }

    /// Puts the branch on top of what was fetched, or merges that.
    async fn join(&self, git: &Git<'_, M>, branch: &BranchName) -> Result<(), GitError> {
        let words = ["status", "--porcelain=v2", "-z", "--untracked-files=no"];
        let changed = git.done(step(words).env("GIT_OPTIONAL_LOCKS", "0")).await?;
        if !porcelain::status(&changed.stdout).is_empty() {
            return Err(moved(branch, "this side has changes that are not committed"));
        }
        let tracking = branch.tracking();
        let (begin, undo): (Step, [&str; 2]) = if self.inner.config.on_moved == OnMoved::Merge {
            let words = ["merge", "--no-edit", "--no-stat", "--quiet", "--no-gpg-sign", &tracking];
            let identity = &self.inner.config.identity;
            let step = step(words).env("GIT_AUTHOR_NAME", &identity.name);
            (step.env("GIT_AUTHOR_EMAIL", &identity.email), ["merge", "--abort"])
        } else {
            let words = ["rebase", "--quiet", "--rebase-merges", "--no-autostash", "--no-gpg-sign"];
            let step =
                step(words.into_iter().chain(["--no-autosquash", "--empty=drop", &tracking]));
            (step.setting("rebase.updateRefs=false"), ["rebase", "--abort"])
        };
        let name = undo.first().copied().unwrap_or_default();
        let output = git.run(begin.files()).await?;
        if output.success() {
            return self.large_files(git).await;
        }
        let listed = git.done(step(["ls-files", "--unmerged", "-z"])).await?;
        let paths = porcelain::unmerged(&listed.stdout);
        // Where it did not begin, there is nothing to undo.
        let undone = git.run(step(undo)).await?;
        if !paths.is_empty() && !undone.success() {
            return Err(git.failure(name, false, &undone));
        }
        if paths.is_empty() {
            return Err(moved(branch, &git.failure(name, false, &output).sentence()));
        }
        let conflict = GitError::Conflict { branch: branch.to_string(), paths: paths.clone() };
        self.emit(&Event::Conflict { branch: branch.to_string(), paths });
        Err(conflict)
    }

    /// Large files of what was taken in: commands that have no credential leave them out.
    async fn large_files(&self, git: &Git<'_, M>) -> Result<(), GitError> {
        if self.inner.config.clone.lfs {
            git.done(step(["lfs", "pull"]).remote(Right::Read)).await?;
        }
        Ok(())
    }

    /// Only the branch that is checked out can take something in.
    async fn on_branch(&self, git: &Git<'_, M>, branch: &BranchName) -> Result<(), GitError> {
        if git.head().await?.as_deref() == Some(branch.full().as_str()) {
            return Ok(());
        }
        Err(moved(branch, "another branch is checked out"))
    }
}

fn moved(branch: &BranchName, reason: &str) -> GitError {
    GitError::Moved { branch: branch.to_string(), reason: reason.to_owned() }
}

impl<M: Machine> Git<'_, M> {
    /// Whether the first commit has the second in its past.
    pub(crate) async fn contains(&self, newer: &str, older: &str) -> Result<bool, GitError> {
        let output = self.run(step(["merge-base", "--is-ancestor", older, newer])).await?;
        match output.exit_code() {
            0 => Ok(true),
            1 => Ok(false),
            _ => Err(self.failure("merge-base", false, &output)),
        }
    }
}
