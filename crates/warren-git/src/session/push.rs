//! Commits go to the remote's branch.

use super::GitMachine;
use crate::{
    access::Right,
    config::OnMoved,
    error::GitError,
    events::Event,
    git::{Git, step},
    machine::Machine,
    name::BranchName,
    porcelain::{self, Pushed},
};

/// How often a push is tried while others push to the same branch.
const TRIES: usize = 5;

/// What a push came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The branch that was to be pushed.
    pub branch: BranchName,
    /// What became of it.
    pub outcome: PushOutcome,
}

/// What became of a push that left nothing behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    /// There is no commit yet.
    Nothing,
    /// The remote's branch is at this commit.
    Pushed {
        /// The commit.
        sha: String,
    },
    /// The remote's branch had moved, and this branch has those commits too now.
    Integrated {
        /// The commit that both branches are at.
        sha: String,
    },
    /// The remote's branch stays as it was, and this commit is on a rescue branch beside it.
    Rescued {
        /// The commit.
        sha: String,
        /// The rescue branch.
        rescue: BranchName,
        /// Why, as one sentence.
        reason: String,
    },
}

impl<M: Machine> GitMachine<M> {
    /// Pushes the branch. Where the remote's branch has moved, its commits are taken in first, as
    /// [`OnMoved`] says; where that cannot be, the commits go to a rescue branch
    /// `session/BRANCH/rescue-N`, and the branches stay as they are.
    ///
    /// # Errors
    ///
    /// [`GitError::Refused`] where the remote does not want the commits, [`GitError::Remote`] where it
    /// cannot be reached, [`GitError::NoBranch`] where there is none.
    pub async fn push(&self) -> Result<Push, GitError> {
        self.operate(|this| async move {
            this.awake("push", async { this.pushed(&this.git()).await }).await
        })
        .await
    }

    /// Pushes, and tells about it.
    pub(super) async fn pushed(&self, git: &Git<'_, M>) -> Result<Push, GitError> {
        let branch = self.needed_branch()?;
        let name = branch.to_string();
        let result = self.push_branch(git, &branch).await;
        match &result {
            Ok(outcome) => match outcome {
                PushOutcome::Nothing => {}
                PushOutcome::Pushed { sha } | PushOutcome::Integrated { sha } => {
                    self.emit(&Event::Pushed { branch: name, sha: sha.clone() });
                }
                PushOutcome::Rescued { rescue, reason, .. } => {
                    let (reason, rescue) = (reason.clone(), Some(rescue.to_string()));
                    self.emit(&Event::PushFailed { branch: name, reason, rescue });
                }
            },
            Err(error) => {
                let reason = error.sentence();
                self.emit(&Event::PushFailed { branch: name, reason, rescue: None });
            }
        }
        Ok(Push { branch, outcome: result? })
    }

    async fn push_branch(
        &self,
        git: &Git<'_, M>,
        branch: &BranchName,
    ) -> Result<PushOutcome, GitError> {
        let mut integrated = false;
        for _ in 0..TRIES {
            let Some(sha) = git.resolve(&branch.full()).await? else {
                return Ok(PushOutcome::Nothing);
            };
            match self.push_ref(git, &sha, branch, false).await? {
                Pushed::Done if integrated => return Ok(PushOutcome::Integrated { sha }),
                Pushed::Done => return Ok(PushOutcome::Pushed { sha }),
                Pushed::Refused(reason) => {
                    return Err(GitError::Refused { branch: branch.to_string(), reason });
                }
                Pushed::Moved => {}
            }
            if self.inner.config.on_moved == OnMoved::Rescue {
                return self.rescued(git, branch, &sha, "its commits are not to be taken in").await;
            }
            match self.integrate(git, branch).await {
                Ok(_) => integrated = true,
                Err(error @ (GitError::Conflict { .. } | GitError::Moved { .. })) => {
                    return self.rescued(git, branch, &sha, &error.sentence()).await;
                }
                Err(error) => return Err(error),
            }
        }
        let sha = git.resolve(&branch.full()).await?.ok_or(GitError::NoBranch)?;
        self.rescued(git, branch, &sha, "others push to it all the time").await
    }

    async fn rescued(
        &self,
        git: &Git<'_, M>,
        branch: &BranchName,
        sha: &str,
        reason: &str,
    ) -> Result<PushOutcome, GitError> {
        let rescue = self.rescue(git, branch, sha).await?;
        Ok(PushOutcome::Rescued { sha: sha.to_owned(), rescue, reason: reason.to_owned() })
    }

    /// Pushes one commit to one branch of the remote; with `new`, only where that branch is none yet.
    pub(super) async fn push_ref(
        &self,
        git: &Git<'_, M>,
        sha: &str,
        to: &BranchName,
        new: bool,
    ) -> Result<Pushed, GitError> {
        let options = &self.inner.config.clone;
        if options.lfs {
            // The hook that would do it does not run: it could read the credential.
            let words = ["lfs", "push", &git.repository.url(), sha];
            git.done(step(words).remote(Right::Write)).await?;
        }
        let full = to.full();
        let mut words: Vec<String> =
            ["push", "--porcelain", "--no-verify"].map(str::to_owned).to_vec();
        // A commit that names a commit of a submodule which is nowhere else is refused.
        let check = if options.submodules { "check" } else { "no" };
        words.push(format!("--recurse-submodules={check}"));
        if new {
            words.push(format!("--force-with-lease={full}:"));
        }
        // The address and not `origin`: what runs inside may have changed what that means.
        words.extend([git.repository.url(), format!("{sha}:{full}")]);
        let output = git.run(step(words).remote(Right::Write)).await?;
        let fate = porcelain::pushed(&output.stdout, &full);
        let done = output.success() && fate == Some(Pushed::Done);
        if done {
            git.done(step(["update-ref", &to.tracking(), sha])).await?;
        }
        match fate {
            Some(Pushed::Refused(reason)) => {
                let said = remote_said(&output.stderr_text());
                Ok(Pushed::Refused(if said.is_empty() {
                    reason
                } else {
                    format!("{reason}: {said}")
                }))
            }
            Some(fate) if done || fate == Pushed::Moved => Ok(fate),
            _ => Err(git.failure("push", true, &output)),
        }
    }
}

/// What the remote's hooks said, which git shows after `remote: `; its end, as one line.
fn remote_said(stderr: &str) -> String {
    let lines = stderr.lines().filter_map(|line| line.strip_prefix("remote: ")).map(str::trim);
    let said = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    let skip = said.chars().count().saturating_sub(500);
    said.chars().skip(skip).collect()
}
