//! Pauses, resumes and stops. No stop loses work.

use std::time::Duration;

use tokio::{io::AsyncWrite, time::Instant};

use super::{Bundle, Commit, GitMachine, Push, commit::Asked};
use crate::{
    error::GitError,
    events::Event,
    git::Git,
    machine::{Machine, MachineState},
};

/// What a pause or a stop did for the work.
#[derive(Debug, Default)]
pub struct Saved {
    /// The commit that was made of what had changed.
    pub commit: Option<Commit>,
    /// What became of the push.
    pub push: Option<Push>,
    /// Why a pause did neither. The work is in the paused machine.
    pub trouble: Option<GitError>,
}

/// What a stop that could not wait did for the work.
#[derive(Debug)]
pub struct Forced {
    /// What is on the remote; `None` where the work could not get there.
    pub saved: Option<Saved>,
    /// What the bundle has, where the work could not get to the remote and there was some.
    pub bundle: Option<Bundle>,
    /// Why the work could not get to the remote.
    pub trouble: Option<GitError>,
}

impl<M: Machine> GitMachine<M> {
    /// Commits what has changed, pushes where [`PushOn`](crate::PushOn) says so, and pauses the
    /// machine. Work that cannot be committed or pushed stays in the machine, and does not keep it from
    /// being paused: [`Saved::trouble`] says so.
    ///
    /// # Errors
    ///
    /// [`GitError::Hook`] where the hook fails: the machine goes on running. [`GitError::Machine`] where
    /// the machine cannot be paused.
    pub async fn pause(&self) -> Result<Saved, GitError> {
        self.live("pause", |this| async move {
            let mut saved = Saved::default();
            match this.inner.machine.state() {
                MachineState::Running => {}
                MachineState::Paused => return Ok(saved),
                state => {
                    let (operation, wanted) = ("pause", "running");
                    return Err(GitError::State { operation, wanted, state });
                }
            }
            let config = &this.inner.config;
            let git = this.git();
            saved.trouble = this.save(&git, config.push_on.pause, &mut saved).await.err();
            this.hook("on_pause", config.on_pause.as_ref()).await?;
            this.sleep().await?;
            this.emit(&Event::Paused);
            Ok(saved)
        })
        .await
    }

    /// Lets the machine go on.
    ///
    /// # Errors
    ///
    /// [`GitError::Machine`] where it cannot, [`GitError::Hook`] where the hook fails: the machine runs
    /// then.
    pub async fn resume(&self) -> Result<(), GitError> {
        self.live("resume", |this| async move {
            let machine = &this.inner.machine;
            match machine.state() {
                MachineState::Running => return Ok(()),
                MachineState::Paused => {}
                state => {
                    let (operation, wanted) = ("resume", "paused");
                    return Err(GitError::State { operation, wanted, state });
                }
            }
            let resumed = machine.resume().await;
            resumed.map_err(|source| GitError::Machine { operation: "resume", source })?;
            this.hook("on_resume", this.inner.config.on_resume.as_ref()).await?;
            this.emit(&Event::Resumed);
            Ok(())
        })
        .await
    }

    /// Commits, pushes, tells `stopping`, runs `on_end`, and stops the machine.
    ///
    /// It stops no machine with work that is not on the remote: what has changed and is not
    /// committed, branches, stashes, repositories within the repository. Such a machine is paused.
    /// What programs inside go on to write while they are being stopped is not waited for: `on_end`
    /// is the place to end them.
    ///
    /// # Errors
    ///
    /// [`GitError::Kept`] with the reason where the work could not be saved, [`GitError::Hook`] where
    /// `on_end` fails: the machine is as it was before.
    pub async fn stop(&self) -> Result<Saved, GitError> {
        self.live("stop", |this| async move {
            let Some(asleep) = this.awaken().await? else { return Ok(Saved::default()) };
            match this.wind_up(&this.git()).await {
                Ok(saved) => {
                    this.end().await?;
                    Ok(saved)
                }
                Err(error @ GitError::Hook { .. }) => {
                    if asleep {
                        this.sleep().await?;
                    }
                    Err(error)
                }
                Err(error) => Err(this.keep(error).await),
            }
        })
        .await
    }

    /// Stops the machine as [`GitMachine::stop`] does where that takes no longer than `limit`, else
    /// writes a bundle of the work and stops the machine then.
    ///
    /// The bundle has every commit that is not on the remote and, as a commit of its own, what is not
    /// committed; see [`GitMachine::bundle`]. `on_end` does not run on that way.
    ///
    /// # Errors
    ///
    /// [`GitError::Kept`] where the bundle could not be written either: the machine is paused.
    pub async fn stop_within<W>(&self, limit: Duration, into: W) -> Result<Forced, GitError>
    where
        W: AsyncWrite + Send + Unpin + 'static,
    {
        self.live("stop", move |this| async move {
            let mut forced = Forced { saved: None, bundle: None, trouble: None };
            if this.awaken().await?.is_none() {
                return Ok(forced);
            }
            let git = Git { deadline: Some(Instant::now() + limit), ..this.git() };
            match this.wind_up(&git).await {
                Ok(saved) => forced.saved = Some(saved),
                Err(error) => {
                    forced.trouble = Some(error);
                    match this.write_bundle(&this.git(), into).await {
                        Ok(bundle) => forced.bundle = bundle,
                        Err(error) => return Err(this.keep(error).await),
                    }
                    this.emit(&Event::Stopping);
                }
            }
            this.end().await?;
            Ok(forced)
        })
        .await
    }

    /// Stops the machine and lets go of what is in it alone, without hooks.
    ///
    /// # Errors
    ///
    /// [`GitError::Machine`] where the machine cannot be stopped.
    pub async fn discard(&self) -> Result<(), GitError> {
        self.live("discard", |this| async move {
            if matches!(this.inner.machine.state(), MachineState::Idle | MachineState::Stopped) {
                return Ok(());
            }
            this.emit(&Event::Stopping);
            this.end().await
        })
        .await
    }

    /// Makes a machine run that is to be stopped. Whether it was paused; `None` where it has ended.
    async fn awaken(&self) -> Result<Option<bool>, GitError> {
        match self.inner.machine.state() {
            MachineState::Idle | MachineState::Stopped => Ok(None),
            MachineState::Running | MachineState::Paused => {
                let asleep = self.wake("stop").await?;
                // Not for a moment only: `on_end` may run commands.
                self.shared().woken = false;
                Ok(Some(asleep))
            }
        }
    }

    /// Everything before the machine itself is stopped.
    async fn wind_up(&self, git: &Git<'_, M>) -> Result<Saved, GitError> {
        let config = &self.inner.config;
        let mut saved = Saved::default();
        self.save_all(git, &mut saved).await?;
        self.emit(&Event::Stopping);
        if config.on_end.is_some() {
            self.hook("on_end", config.on_end.as_ref()).await?;
            self.save_all(git, &mut saved).await?;
        }
        Ok(saved)
    }

    async fn save_all(&self, git: &Git<'_, M>, saved: &mut Saved) -> Result<(), GitError> {
        let push = self.inner.config.push_on.stop;
        self.save(git, push, saved).await?;
        self.all_saved(git, push).await
    }

    /// Commits and pushes, as far as that was asked for.
    pub(super) async fn save(
        &self,
        git: &Git<'_, M>,
        push: bool,
        saved: &mut Saved,
    ) -> Result<(), GitError> {
        if self.inner.config.auto_commit
            && let Some(commit) = self.committed(git, Asked::Nobody).await?
        {
            saved.commit = Some(commit);
        }
        if push && self.branch().is_some() {
            saved.push = Some(self.pushed(git).await?);
        }
        Ok(())
    }

    async fn end(&self) -> Result<(), GitError> {
        let stopped = self.inner.machine.stop().await;
        self.shared().woken = false;
        stopped.map_err(|source| GitError::Machine { operation: "stop", source })?;
        self.emit(&Event::Stopped);
        Ok(())
    }

    /// Keeps a machine whose work is nowhere else, paused if it can be.
    pub(super) async fn keep(&self, reason: GitError) -> GitError {
        // A machine that cannot be paused is kept all the same; the error says in which state.
        drop(self.sleep().await);
        let id = self.id().unwrap_or_default();
        GitError::Kept { id, state: self.inner.machine.state(), reason: Box::new(reason) }
    }
}
