//! Sessions of git: begun with a sandbox, worked with, and saved before a sandbox goes.

use std::{sync::Arc, time::Instant};

use warren_git::{Branch, Commit, Diff, GitError, Logged, Pull, Push, Status, wire::Request};

use super::Sandboxes;
use crate::{
    caller::Caller,
    error::SandboxError,
    exec::{self, Exec},
    git::{
        Admission, GitRights, GitSession, Settings, WantedGit, WantedToken, check,
        session::{self, Session},
    },
    id::SandboxId,
    pool,
    sandbox::{
        Made, Sandbox,
        handle::{Command, Handle},
    },
    shared::Shared,
    spec::Network,
    store::{Object, ObjectChange, ObjectKind, git_object, object_git},
};

/// How much of what a command says goes into the log.
const SAID_BYTES: usize = 2000;

impl Sandboxes {
    /// From now on sandboxes find the broker of git at this address, such as
    /// `http://10.0.0.1:418`; nowhere with none. Sandboxes that an earlier server left without their
    /// repository are gone when this returns, and work that it left is being saved.
    pub async fn set_git_broker(&self, base: Option<String>) {
        let there = base.is_some();
        self.shared.git.set_broker(base);
        self.undo_what_is_half_made().await;
        if there {
            self.save_what_is_left();
        }
    }

    /// The caller's sessions whose sandboxes are there.
    #[must_use]
    pub fn git_sessions(&self, caller: &Caller) -> Vec<(GitSession, Arc<Sandbox>)> {
        let all = self.shared.git.of(caller.owner()).into_iter();
        let there = |session: Arc<Session>| {
            let handle = self.shared.any(session.settings.sandbox)?;
            Some((session.shown(), handle.sandbox()))
        };
        let mut found: Vec<_> = all.filter_map(there).collect();
        found.sort_unstable_by_key(|(_, sandbox)| {
            std::cmp::Reverse((sandbox.created_at, sandbox.id))
        });
        found
    }

    /// The session of a sandbox.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::NoSuch`] for a sandbox without one.
    pub fn git_session(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<GitSession, SandboxError> {
        Ok(self.session_of(caller, id_or_name)?.shown())
    }

    /// How the repository of a sandbox is.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::git_session`], and [`SandboxError::InUse`] with git's own words.
    pub async fn git_status(&self, caller: &Caller, name: &str) -> Result<Status, SandboxError> {
        let session = self.session_of(caller, name)?;
        failed(&session, session.machine.status().await)
    }

    /// What has changed and is not committed.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::git_status`].
    pub async fn git_diff(&self, caller: &Caller, name: &str) -> Result<Diff, SandboxError> {
        let session = self.session_of(caller, name)?;
        failed(&session, session.machine.diff().await)
    }

    /// Commits everything that has changed.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::git_status`]; [`SandboxError::Invalid`] for a message that is none.
    pub async fn git_commit(
        &self,
        caller: &Caller,
        name: &str,
        message: Option<&str>,
    ) -> Result<Option<Commit>, SandboxError> {
        let session = self.session_of(caller, name)?;
        failed(&session, session.machine.commit(message).await)
    }

    /// Pushes the session's branch.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::git_status`].
    pub async fn git_push(&self, caller: &Caller, name: &str) -> Result<Push, SandboxError> {
        let session = self.session_of(caller, name)?;
        failed(&session, session.machine.push().await)
    }

    /// Takes in what the remote's branch has.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::git_status`].
    pub async fn git_pull(&self, caller: &Caller, name: &str) -> Result<Pull, SandboxError> {
        let session = self.session_of(caller, name)?;
        failed(&session, session.machine.pull().await)
    }

    /// The last commits, the newest first.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::git_status`].
    pub async fn git_log(
        &self,
        caller: &Caller,
        name: &str,
        limit: u32,
    ) -> Result<Vec<Logged>, SandboxError> {
        let session = self.session_of(caller, name)?;
        failed(&session, session.machine.log(limit).await)
    }

    /// The branches, of the sandbox and of the remote as far as was fetched.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::git_status`].
    pub async fn git_branches(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Vec<Branch>, SandboxError> {
        let session = self.session_of(caller, name)?;
        failed(&session, session.machine.branches().await)
    }

    /// Removes a sandbox once its work is on the remote; one without a session at once.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::delete`]; [`SandboxError::InUse`] where the work could not be saved: the
    /// sandbox is paused then.
    pub async fn delete_saved(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<(), SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        if let Some(session) = self.saving(&handle) {
            if handle.sandbox().kept && !handle.sandbox().state.is_living() {
                self.wake_unsaved(caller, &session).await?;
            }
            self.stop_session(&session).await?;
        }
        self.delete(caller, id_or_name).await
    }

    /// Refuses what could not be before anything is made of it.
    pub(super) fn check_git(
        &self,
        caller: &Caller,
        wanted: &WantedGit,
        network: &Network,
    ) -> Result<(), SandboxError> {
        let key = self.shared.config.seal_key.as_ref();
        check::settings(wanted, SandboxId::mint(), caller, key)?;
        if let Some(WantedToken::Secret(name)) = &wanted.token
            && self.shared.secrets.find(caller.owner(), name).is_none()
        {
            let reason = format!("there is no secret {name}; `warren secret set {name}` makes it");
            return Err(SandboxError::invalid("git.secret", reason));
        }
        if *network == Network::None {
            let reason = "a sandbox without a network reaches no repository: expected another \
                          `network`";
            return Err(SandboxError::invalid("git", reason));
        }
        if self.shared.git.broker().is_none() {
            return Err(SandboxError::Unsupported { operation: "speak with repositories" });
        }
        Ok(())
    }

    /// Brings the repository into a new sandbox. One that cannot have it is removed.
    pub(super) async fn begin_git(
        &self,
        caller: &Caller,
        mut made: Made,
        wanted: Option<WantedGit>,
    ) -> Result<Made, SandboxError> {
        let Some(wanted) = wanted else { return Ok(made) };
        let id = made.sandbox.id;
        if self.shared.git.get(id).is_some() {
            // Made by an earlier request with the same key.
            return Ok(made);
        }
        let began = Instant::now();
        let key = self.shared.config.seal_key.as_ref();
        let settings = check::settings(&wanted, id, caller, key)?;
        let this = self.clone();
        let begun = self.to_the_end(async move {
            let begun = this.start_session(settings).await;
            if begun.is_err() {
                this.undo_git(id).await;
            }
            begun
        });
        begun.await?;
        made.steps.push(("git", began.elapsed()));
        Ok(made)
    }

    /// Removes a sandbox that did not get its repository.
    pub(super) async fn undo_git(&self, id: SandboxId) {
        self.forget_git(id).await;
        if let Some(handle) = self.shared.any(id) {
            pool::remove(&handle).await;
        }
    }

    /// Waits until a sandbox has its repository that an earlier request is making.
    pub(super) async fn git_begun(&self, id: SandboxId) -> Result<(), SandboxError> {
        let Some(session) = self.shared.git.get(id) else { return Ok(()) };
        // Its turn comes after the start; how the repository is does not matter.
        drop(session.machine.status().await);
        self.shared.any(id).map(drop).ok_or(SandboxError::KeyFailed)
    }

    async fn start_session(&self, settings: Settings) -> Result<(), SandboxError> {
        let put = vec![git_object(&settings)];
        let change = ObjectChange { put, ..ObjectChange::default() };
        let stored = self.shared.store.change_objects(change).await;
        stored.map_err(SandboxError::store("store the session of git"))?;
        let session = self.shared.git.put(Session::new(&self.shared, settings)?);
        let everywhere = self.point(&session, true).await;
        failed(&session, session.machine.start().await)?;
        if !everywhere {
            self.point(&session, false).await;
        }
        // It is whole from here on, also for the next server.
        self.note_saved(&session, false).await;
        // What happens at the end of its lifetime is another thing from now on.
        if let Some(handle) = self.shared.any(session.settings.sandbox) {
            handle.ask(Command::Retell).await?;
        }
        Ok(())
    }

    /// Has every git of a sandbox speak with the broker about the session's repository: by the
    /// system's settings, else by the repository's own. Whether that could be.
    async fn point(&self, session: &Session, system: bool) -> bool {
        let Some(base) = self.shared.git.broker() else { return false };
        self.let_to_broker(session).await;
        let scope = match system {
            true => ["--system", "/"],
            false => ["--local", session.machine.path()],
        };
        let argv = session::point(&base, &session.settings.repository, scope);
        let user = system.then(|| "root".to_owned());
        let command =
            exec::Command { argv, user, workdir: Some("/".to_owned()), ..exec::Command::default() };
        let Some(handle) = self.shared.any(session.settings.sandbox) else { return false };
        let run = async {
            let mut exec = Exec::start(handle, &command).await?;
            exec.outcome(SAID_BYTES).await
        };
        match run.await {
            Ok(outcome) if outcome.end.exit_code == 0 => true,
            Ok(_) | Err(_) => {
                let id = session.settings.sandbox;
                tracing::info!(sandbox.id = %id, system, "git is not pointed at its broker");
                false
            }
        }
    }

    /// Lets a sandbox connect to the broker: those without a session cannot.
    pub(super) async fn let_to_broker(&self, session: &Session) {
        let id = session.settings.sandbox;
        if let Err(error) = self.shared.runtime.let_to_broker(&id).await {
            tracing::warn!(sandbox.id = %id, %error, "it does not reach its repository");
        }
    }

    /// Commits and pushes what a sandbox that is about to be paused has, and pauses it.
    pub(super) async fn pause_session(&self, session: &Session) -> Result<(), SandboxError> {
        let saved = failed(session, session.machine.pause().await)?;
        let trouble = saved.trouble.map(|error| error.sentence());
        session.note_trouble(self.shared.clock.now(), trouble);
        Ok(())
    }

    /// Commits and pushes what a sandbox has, and stops it; it is paused where that fails.
    pub(super) async fn stop_session(&self, session: &Session) -> Result<(), SandboxError> {
        let stopped = session.machine.stop().await;
        let trouble = stopped.as_ref().err().map(GitError::sentence);
        session.note_trouble(self.shared.clock.now(), trouble);
        failed(session, stopped)?;
        self.note_saved(session, true).await;
        Ok(())
    }

    /// Starts a sandbox that ended without its work being saved.
    async fn wake_unsaved(&self, caller: &Caller, session: &Session) -> Result<(), SandboxError> {
        if session.is_saved() {
            return Ok(());
        }
        self.start(caller, session.settings.sandbox.as_str()).await.map(drop)
    }

    /// What a sandbox that was started again needs for its session.
    pub(super) async fn go_on_with_git(&self, id: SandboxId) {
        let Some(session) = self.shared.git.get(id) else { return };
        self.note_saved(&session, false).await;
        self.point_again(&session).await;
    }

    /// Writes down whether a session's work is all on its remote.
    async fn note_saved(&self, session: &Session, saved: bool) {
        session.note_saved(saved);
        let put = vec![git_object(&Settings { saved, begun: true, ..session.settings.clone() })];
        let change = ObjectChange { put, ..ObjectChange::default() };
        if let Err(error) = self.shared.store.change_objects(change).await {
            tracing::warn!(%error, "the next server looks again whether work is saved");
        }
    }

    /// Points every git of a sandbox at the broker, which may be elsewhere by now.
    pub(super) async fn point_again(&self, session: &Session) {
        if !self.point(session, true).await {
            self.point(session, false).await;
        }
    }

    /// The session of a sandbox whose work is saved before it is paused or ends.
    pub(super) fn saving(&self, handle: &Handle) -> Option<Arc<Session>> {
        self.shared.git.get(handle.id()).filter(|session| session.settings.push)
    }

    /// Forgets the session of a sandbox that is being removed. A row that stays is removed by the
    /// next server.
    pub(super) async fn forget_git(&self, id: SandboxId) {
        if self.shared.git.remove(id).is_none() {
            return;
        }
        let remove = vec![(ObjectKind::Git, id.to_string())];
        let change = ObjectChange { remove, ..ObjectChange::default() };
        if let Err(error) = self.shared.store.change_objects(change).await {
            let cause = &error as &dyn std::error::Error;
            tracing::warn!(sandbox.id = %id, error = cause, "the row of its session is left");
        }
    }

    fn session_of(&self, caller: &Caller, name: &str) -> Result<Arc<Session>, SandboxError> {
        let id = self.find(caller, name)?.id();
        let none = || SandboxError::NoSuch { what: "session of git in", name: name.to_owned() };
        self.shared.git.get(id).ok_or_else(none)
    }
}

impl GitRights for Sandboxes {
    fn admit(
        &self,
        sandbox: SandboxId,
        authority: &str,
        request: &Request,
    ) -> Result<Admission, String> {
        let session = self.shared.git.get(sandbox);
        let session = session.ok_or("this sandbox has no session of git")?;
        session.admit(&self.shared, authority, request)
    }

    fn refused(&self, sandbox: SandboxId, repository: &str, reason: &str) {
        match self.shared.git.get(sandbox) {
            Some(session) => {
                session::tell_refused(&self.shared, &session, sandbox, repository, reason);
            }
            None => tracing::warn!(sandbox.id = %sandbox, "asked for a repository, and has none"),
        }
    }
}

/// A failure of git as one of the sandbox's.
pub(super) fn failed<T>(session: &Session, result: Result<T, GitError>) -> Result<T, SandboxError> {
    result.map_err(|error| match error {
        GitError::Message => SandboxError::invalid("message", error.to_string()),
        GitError::Ended => SandboxError::ShuttingDown,
        error => SandboxError::InUse {
            what: "session",
            name: session.settings.session.to_string(),
            reason: format!("could not go on: {}", error.sentence()),
        },
    })
}

/// Remembers the stored sessions of sandboxes that are there; what is to be forgotten.
pub(crate) fn restore(
    shared: &Arc<Shared>,
    objects: &[Object],
    known: impl Fn(SandboxId) -> bool,
) -> ObjectChange {
    let mut change = ObjectChange::default();
    for object in objects.iter().filter(|it| it.kind == ObjectKind::Git) {
        let there = object.id.parse().ok().filter(|id| known(*id)).is_some();
        if !there {
            change.remove.push((object.kind, object.id.clone()));
            continue;
        }
        let settings = object_git(object).map(|it| Session::new(shared, it));
        match settings {
            Some(Ok(session)) => drop(shared.git.put(session)),
            Some(Err(_)) | None => {
                tracing::error!(sandbox.id = object.id, "its session of git is not understood");
            }
        }
    }
    change
}
