//! A machine gets its repository, on its branch.

use super::GitMachine;
use crate::{
    access::Right,
    error::GitError,
    events::Event,
    git::{Git, step},
    machine::{Command, Machine, MachineState},
    name::BranchName,
    porcelain,
};

/// Removes what an earlier clone has left, and an empty directory at the repository's place, $1.
/// Ends with 1 where that place is taken.
const CLEAR: &str = r#"rm -rf -- "$2" || exit 2; [ ! -e "$1" ] || rmdir -- "$1" || exit 1"#;

/// Moves the repository to its place. Ends with 1 where something came there meanwhile.
const PLACE: &str = r#"[ ! -e "$1" ] || exit 1; mv -- "$2" "$1" || exit 2"#;

impl<M: Machine> GitMachine<M> {
    /// Starts the machine, clones the repository, and checks out the session's branch. A repository
    /// that the machine has already is gone on with.
    ///
    /// # Errors
    ///
    /// [`GitError`] where any of that fails, also the hook. The machine is stopped again then; one
    /// with work that is not on the remote is paused instead ([`GitError::Kept`]).
    pub async fn start(&self) -> Result<(), GitError> {
        self.live("start", |this| async move {
            let machine = &this.inner.machine;
            match machine.state() {
                MachineState::Idle | MachineState::Stopped => {}
                state => {
                    let (operation, wanted) = ("start", "idle or stopped");
                    return Err(GitError::State { operation, wanted, state });
                }
            }
            let started = machine.start().await;
            started.map_err(|source| GitError::Machine { operation: "start", source })?;
            match this.begin().await {
                Ok(()) => Ok(()),
                Err(error) => Err(this.give_up(error).await),
            }
        })
        .await
    }

    async fn begin(&self) -> Result<(), GitError> {
        let git = self.git();
        let config = &self.inner.config;
        if self.has_repository(&git).await? {
            self.go_on(&git).await?;
        } else {
            self.clone_repository(&git).await?;
        }
        self.find_branch(&git).await?;
        let session = config.session.as_ref().map(ToString::to_string);
        self.emit(&Event::Started { session, path: config.path.clone() });
        self.hook("on_start", config.on_start.as_ref()).await
    }

    /// Stops a machine that did not get so far as to be used.
    async fn give_up(&self, error: GitError) -> GitError {
        let git = self.git();
        let saved = match self.has_repository(&git).await {
            Ok(true) => self.all_saved(&git, false).await,
            Ok(false) | Err(GitError::NoGit) => Ok(()),
            Err(error) => Err(error),
        };
        if saved.is_err() {
            return self.keep(error).await;
        }
        match self.inner.machine.stop().await {
            Ok(()) => error,
            Err(_) => self.keep(error).await,
        }
    }

    /// Takes over what is there already.
    pub(crate) async fn connect(&self) -> Result<(), GitError> {
        self.live("connect", |this| async move {
            this.awake("connect", async {
                let git = this.git();
                if !this.has_repository(&git).await? {
                    return Err(this.other_repository());
                }
                this.find_branch(&git).await
            })
            .await?;
            this.emit(&Event::Reconnected { id: this.id().unwrap_or_default() });
            Ok(())
        })
        .await
    }

    /// Whether the repository is at its path; another one there is an error.
    async fn has_repository(&self, git: &Git<'_, M>) -> Result<bool, GitError> {
        // A repository above the path would say where it is.
        let found = git.run(step(["rev-parse", "--git-dir"])).await?;
        if found.stderr_text().contains("dubious ownership") {
            return Err(git.failure("rev-parse", false, &found));
        }
        if !found.success() || found.stdout != b".git\n" {
            return Ok(false);
        }
        let url = git.run(step(["config", "--get", "remote.origin.url"])).await?;
        if url.stdout_text().trim_end_matches('\n') != git.repository.url() {
            return Err(self.other_repository());
        }
        Ok(true)
    }

    fn other_repository(&self) -> GitError {
        let wanted = self.inner.config.repository.url();
        GitError::OtherRepository { path: self.path().to_owned(), wanted }
    }

    /// Where no session was named, the branch that is checked out is the one.
    async fn find_branch(&self, git: &Git<'_, M>) -> Result<(), GitError> {
        if self.inner.config.session.is_none() {
            let head = git.head().await?;
            let name = head.as_deref().and_then(|head| head.strip_prefix("refs/heads/"));
            self.shared().branch = name.and_then(|name| BranchName::parse(name).ok());
        }
        Ok(())
    }

    /// A repository of an earlier start: the session's branch is checked out, where another is.
    async fn go_on(&self, git: &Git<'_, M>) -> Result<(), GitError> {
        for (name, value) in self.settings() {
            git.done(step(["config", name, value])).await?;
        }
        let Some(session) = &self.inner.config.session else { return Ok(()) };
        if git.head().await? == Some(session.full()) {
            return Ok(());
        }
        if git.resolve(&session.full()).await?.is_none() {
            self.fetch(git, session).await?;
            self.make_branch(git, session).await?;
        }
        // What is not committed comes along, or stands in the way and is not lost.
        let words = ["switch", "--quiet", "--no-guess", session.as_str()];
        git.locked(|| step(words).files()).await?;
        Ok(())
    }

    /// Makes the repository beside its place and moves it there when all of it is there, so that
    /// whatever is cut off in between leaves none that is half made.
    async fn clone_repository(&self, git: &Git<'_, M>) -> Result<(), GitError> {
        let beside = format!("{}.cloning", git.path);
        place(git, CLEAR, &beside).await?;
        match self.fill(&Git { path: &beside, ..*git }).await {
            Ok(()) => place(git, PLACE, &beside).await,
            Err(error) => {
                // Should this fail, the next start begins with it.
                drop(git.plain(Command::new(["rm", "-rf", "--", &beside])).await);
                Err(error)
            }
        }
    }

    async fn fill(&self, git: &Git<'_, M>) -> Result<(), GitError> {
        let config = &self.inner.config;
        let words = self.clone_words(git).await?;
        git.done(step(words).outside().remote(Right::Read)).await?;
        match &config.session {
            Some(session) => {
                let born = self.make_branch(git, session).await?;
                git.done(step(["symbolic-ref", "HEAD", &session.full()])).await?;
                if !born {
                    return Ok(());
                }
            }
            None => {
                if let Some(reference) = &config.reference {
                    self.check_out(git, reference).await?;
                } else if git.resolve("HEAD^{commit}").await?.is_none() {
                    return Ok(());
                }
            }
        }
        if config.clone.lfs {
            git.done(step(["lfs", "install", "--local"])).await?;
        }
        // Nothing was checked out yet, so there is nothing to lose.
        git.done(step(["reset", "--hard", "--quiet"]).files()).await?;
        if config.clone.lfs {
            git.done(step(["lfs", "pull"]).remote(Right::Read)).await?;
        }
        if config.clone.submodules {
            let words =
                ["submodule", "--quiet", "update", "--init", "--recursive"].map(str::to_owned);
            let depth = config.clone.depth.map(|depth| format!("--depth={depth}"));
            git.done(step(words.into_iter().chain(depth)).remote(Right::Read)).await?;
        }
        Ok(())
    }

    async fn clone_words(&self, git: &Git<'_, M>) -> Result<Vec<String>, GitError> {
        let config = &self.inner.config;
        let options = &config.clone;
        let url = git.repository.url();
        let mut words =
            ["clone", "--quiet", "--no-checkout", "--origin=origin"].map(str::to_owned).to_vec();
        words.extend(self.settings().map(|(name, value)| format!("--config={name}={value}")));
        words.extend(options.depth.map(|depth| format!("--depth={depth}")));
        if options.blobless {
            words.push("--filter=blob:none".to_owned());
        }
        words.extend(options.references.iter().map(|it| format!("--reference-if-able={it}")));
        let only = if options.single_branch { "--single-branch" } else { "--no-single-branch" };
        words.push(only.to_owned());
        if options.single_branch {
            let branch = match &config.session {
                Some(session) if self.remote_has(git, session).await? => Some(session.as_str()),
                _ => config.reference.as_deref(),
            };
            words.extend(branch.map(|branch| format!("--branch={branch}")));
        }
        words.extend(["--".to_owned(), url, git.path.to_owned()]);
        Ok(words)
    }

    /// Whose name commits have that are made inside; those made from here are told it one by one.
    fn settings(&self) -> [(&'static str, &str); 2] {
        let identity = &self.inner.config.identity;
        [("user.name", &identity.name), ("user.email", &identity.email)]
    }

    async fn remote_has(&self, git: &Git<'_, M>, branch: &BranchName) -> Result<bool, GitError> {
        let words = ["ls-remote", "--quiet", &git.repository.url(), &branch.full()];
        let listed = git.done(step(words).outside().remote(Right::Read)).await?;
        Ok(porcelain::remote_refs(&listed.stdout).iter().any(|(name, _)| *name == branch.full()))
    }

    /// Makes the session's branch where the remote's is, else where it is to begin. Whether it has a
    /// commit: in an empty repository it will get its first one.
    async fn make_branch(&self, git: &Git<'_, M>, session: &BranchName) -> Result<bool, GitError> {
        let at = match git.resolve(&session.tracking()).await? {
            Some(sha) => Some(sha),
            None => self.beginning(git).await?,
        };
        if let Some(sha) = &at {
            git.done(step(["update-ref", &session.full(), sha])).await?;
        }
        // So that a plain `git push` inside means this branch.
        let key = |name: &str| format!("branch.{session}.{name}");
        git.done(step(["config", &key("remote"), "origin"])).await?;
        git.done(step(["config", &key("merge"), &session.full()])).await?;
        Ok(at.is_some())
    }

    /// The commit at which a new session begins; `None` in an empty repository.
    async fn beginning(&self, git: &Git<'_, M>) -> Result<Option<String>, GitError> {
        if let Some(reference) = &self.inner.config.reference {
            return Ok(Some(self.find(git, reference).await?.0));
        }
        if let Some(sha) = git.resolve("refs/remotes/origin/HEAD^{commit}").await? {
            return Ok(Some(sha));
        }
        if let Some(sha) = git.resolve("HEAD^{commit}").await? {
            return Ok(Some(sha));
        }
        let words = ["for-each-ref", "--count=1", "--format=%(objectname)", "refs/remotes/origin"];
        if git.done(step(words)).await?.stdout.is_empty() {
            return Ok(None);
        }
        // The remote's HEAD names a branch that it does not have.
        Err(GitError::NoSuchRef("HEAD".to_owned()))
    }

    /// What a reference means: a commit, and the remote's branch if it is one.
    async fn find(
        &self,
        git: &Git<'_, M>,
        reference: &str,
    ) -> Result<(String, Option<BranchName>), GitError> {
        if let Ok(branch) = BranchName::parse(reference) {
            if let Some(sha) = git.resolve(&format!("{}^{{commit}}", branch.tracking())).await? {
                return Ok((sha, Some(branch)));
            }
            if let Some(sha) = git.resolve(&format!("refs/tags/{branch}^{{commit}}")).await? {
                return Ok((sha, None));
            }
        }
        if let Some(id) = porcelain::object_id(reference) {
            if let Some(sha) = git.resolve(&format!("{id}^{{commit}}")).await? {
                return Ok((sha, None));
            }
            // A shallow clone does not have it, and the remote may give it.
            let words = ["fetch", "--quiet", "--depth=1", &git.repository.url(), id];
            git.done(step(words).remote(Right::Read)).await?;
            if let Some(sha) = git.resolve(&format!("{id}^{{commit}}")).await? {
                return Ok((sha, None));
            }
        }
        Err(GitError::NoSuchRef(reference.to_owned()))
    }

    /// Makes HEAD what was asked for, without a session: a branch, or a commit on none.
    async fn check_out(&self, git: &Git<'_, M>, reference: &str) -> Result<(), GitError> {
        let (sha, branch) = self.find(git, reference).await?;
        if let Some(branch) = branch {
            self.make_branch(git, &branch).await?;
            git.done(step(["symbolic-ref", "HEAD", &branch.full()])).await?;
        } else {
            git.done(step(["update-ref", "--no-deref", "HEAD", &sha])).await?;
        }
        Ok(())
    }
}

/// Runs one of the scripts about the repository's place.
async fn place<M: Machine>(git: &Git<'_, M>, script: &str, beside: &str) -> Result<(), GitError> {
    let output = git.plain(Command::new(["/bin/sh", "-c", script, "sh", git.path, beside])).await?;
    match output.exit_code() {
        0 => Ok(()),
        1 => Err(GitError::Taken { path: git.path.to_owned() }),
        _ => Err(git.failure("clone", false, &output)),
    }
}
