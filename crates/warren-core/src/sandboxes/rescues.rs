//! Work that is saved although nobody waits: at a deadline, when a sandbox must go, when the server
//! ends, and when the next one begins.

use std::{fs::File, sync::Arc, time::Duration};

use tokio::io::AsyncWrite;
use warren_git::{Bundle, GitError, MachineState};

use super::{Sandboxes, git::failed};
use crate::{
    caller::Caller,
    error::SandboxError,
    git::{Rescue, rescue::Limited, session::Session},
    id::SandboxId,
    runtime::DeadlineAction,
    sandbox::{EndReason, handle::Command},
    shared::Shared,
    state::State,
    store::{Object, ObjectChange, ObjectKind, object_rescue, rescue_object},
};

/// How long a remote is waited for where a sandbox must go.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long saving may take in all where a sandbox must go: a guest that hinders it goes then.
const LONGEST: Duration = Duration::from_secs(120);
/// How long the end of the server waits for work to be saved.
const AT_THE_END: Duration = Duration::from_secs(5);
/// How much of a reason is kept.
const REASON: usize = 1000;

impl Sandboxes {
    /// The caller's bundles, the newest first.
    #[must_use]
    pub fn rescues(&self, caller: &Caller) -> Vec<Arc<Rescue>> {
        self.shared.rescues.of(caller.owner())
    }

    /// A bundle of the caller's, by the id of its sandbox, and its file.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`].
    pub async fn open_rescue(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<(Arc<Rescue>, File), SandboxError> {
        let rescue = self.rescue_of(caller, name)?;
        let files = self.shared.rescue_files()?;
        let opened = files.open(rescue.sandbox).await;
        let file = opened.map_err(|_gone| no_such(name))?;
        Ok((rescue, file))
    }

    /// Removes a bundle of the caller's.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`], [`SandboxError::Store`].
    pub async fn remove_rescue(&self, caller: &Caller, name: &str) -> Result<(), SandboxError> {
        let rescue = self.rescue_of(caller, name)?;
        let remove = vec![(ObjectKind::Rescue, rescue.sandbox.to_string())];
        let change = ObjectChange { remove, durable: true, ..ObjectChange::default() };
        let removed = self.shared.store.change_objects(change).await;
        removed.map_err(SandboxError::store("remove the bundle"))?;
        self.shared.rescues.remove(rescue.sandbox);
        if let Err(error) = self.shared.rescue_files()?.remove(rescue.sandbox).await {
            tracing::warn!(%error, "the file of a bundle is left until the next start");
        }
        Ok(())
    }

    fn rescue_of(&self, caller: &Caller, name: &str) -> Result<Arc<Rescue>, SandboxError> {
        let id = name.parse().map_err(|_odd| no_such(name))?;
        self.shared.rescues.find(caller.owner(), id).ok_or_else(|| no_such(name))
    }

    /// Saves what a sandbox has that is removed in any case: on the remote, else as a bundle.
    pub(super) async fn save_before_removal(&self, caller: &Caller, session: &Session) {
        let id = session.settings.sandbox;
        if session.machine.state() == MachineState::Stopped {
            let Some(handle) = self.shared.any(id) else { return };
            if session.is_saved() || !handle.sandbox().kept {
                return;
            }
            if let Err(error) = self.start(caller, id.as_str()).await {
                tracing::warn!(sandbox.id = %id, %error, "its work is not looked at");
                return;
            }
        }
        save_and_stop(&self.shared, session).await;
    }

    /// Commits and pushes what every running sandbox has that saves its work.
    pub(super) async fn save_all(&self) {
        let sessions =
            self.shared.git.all().into_iter().filter(|it| it.settings.saves_at_deadline());
        let saves = sessions.map(|session| async move {
            if session.machine.state() == MachineState::Running {
                checkpoint(&self.shared, &session).await;
            }
        });
        let saves = futures::future::join_all(saves);
        if tokio::time::timeout(AT_THE_END, saves).await.is_err() {
            tracing::warn!("not all work is on its remote; the next server goes on with it");
        }
    }

    /// Removes sandboxes whose server ended while they were given their repository.
    pub(super) async fn undo_what_is_half_made(&self) {
        for session in self.shared.git.all() {
            if !session.settings.begun {
                self.undo_git(session.settings.sandbox).await;
            }
        }
    }

    /// Goes on with what an earlier server may have left: commits that were not pushed, and
    /// sandboxes whose lifetime ended while no server ran.
    pub(super) fn save_what_is_left(&self) {
        let this = self.clone();
        self.in_background(async move {
            for session in this.shared.git.all() {
                this.save_one_left(&session).await;
            }
        });
    }

    async fn save_one_left(&self, session: &Session) {
        let id = session.settings.sandbox;
        let Some(handle) = self.shared.any(id) else { return };
        let sandbox = handle.sandbox();
        if sandbox.state == State::Running {
            self.point_again(session).await;
            if session.settings.saves_at_deadline() {
                checkpoint(&self.shared, session).await;
            }
        }
        if sandbox.state == State::Paused {
            self.let_to_broker(session).await;
        }
        let timed_out = sandbox.end.as_ref().is_some_and(|it| it.reason == EndReason::Timeout);
        let to_go = timed_out && sandbox.kept && sandbox.lifetime.action == DeadlineAction::Kill;
        if to_go && session.settings.push {
            let caller = Caller::remote(sandbox.owner.clone());
            if let Err(error) = self.delete(&caller, id.as_str()).await {
                tracing::warn!(sandbox.id = %id, %error, "ended, and is not removed");
            }
        }
    }
}

/// Saves what a sandbox has whose lifetime is over, and lets its driver go on.
pub(crate) async fn save_at_deadline(shared: &Arc<Shared>, session: &Session) {
    let id = session.settings.sandbox;
    let Some(handle) = shared.any(id) else { return };
    match handle.sandbox().lifetime.action {
        DeadlineAction::Kill => {
            checkpoint(shared, session).await;
            // What could be pushed is not in it: mostly there is nothing.
            if let Err(error) = bundle(shared, session, "its lifetime was over".to_owned()).await {
                tracing::error!(sandbox.id = %id, %error, "its work is not in a bundle");
            }
        }
        DeadlineAction::Pause | DeadlineAction::Stop => checkpoint(shared, session).await,
    }
    handle.tell(Command::Due, shared.store.tasks());
}

/// Commits and pushes what a sandbox has, which goes on.
async fn checkpoint(shared: &Shared, session: &Session) {
    let saved = tokio::time::timeout(PATIENCE, session.machine.checkpoint(true)).await;
    let trouble = match saved {
        Ok(Ok(_saved)) => None,
        Ok(Err(error)) => Some(error.sentence()),
        Err(_elapsed) => Some("the remote does not answer".to_owned()),
    };
    session.note_trouble(shared.clock.now(), trouble);
}

/// Stops a sandbox that must go: with its work on the remote, else in a bundle.
async fn save_and_stop(shared: &Arc<Shared>, session: &Session) {
    let id = session.settings.sandbox;
    let stopped = async {
        let into = begin(shared, session).await?;
        let forced = failed(session, session.machine.stop_within(PATIENCE, into).await)?;
        let reason = forced.trouble.as_ref().map(GitError::sentence).unwrap_or_default();
        keep(shared, session, forced.bundle, reason).await
    };
    let late = |_elapsed| Err(SandboxError::Broken("saving its work took too long"));
    let stopped = tokio::time::timeout(LONGEST, stopped).await.unwrap_or_else(late);
    if let Err(error) = stopped {
        discard(shared, id).await;
        let cause = &error as &dyn std::error::Error;
        tracing::error!(sandbox.id = %id, error = cause, "its work is lost: {error}");
    }
}

/// Writes a bundle of what is not on the remote, if there is anything.
async fn bundle(
    shared: &Arc<Shared>,
    session: &Session,
    reason: String,
) -> Result<(), SandboxError> {
    let kept = async {
        let into = begin(shared, session).await?;
        let bundle = failed(session, session.machine.bundle(into).await)?;
        keep(shared, session, bundle, reason).await
    };
    let kept = kept.await;
    if kept.is_err() {
        discard(shared, session.settings.sandbox).await;
    }
    kept
}

/// Begins a bundle, which grows no longer than its owner has room.
async fn begin(
    shared: &Shared,
    session: &Session,
) -> Result<Limited<Box<dyn AsyncWrite + Send + Unpin>>, SandboxError> {
    let settings = &session.settings;
    let file = shared.rescue_files()?.begin(settings.sandbox).await.map_err(|_full| no_room())?;
    Ok(Limited::new(file, shared.rescues.room(&settings.owner)))
}

/// Removes what there is of a bundle that was not finished.
async fn discard(shared: &Shared, sandbox: SandboxId) {
    let Ok(files) = shared.rescue_files() else { return };
    if let Err(error) = files.discard(sandbox).await {
        tracing::warn!(sandbox.id = %sandbox, %error, "half a bundle is left until the next start");
    }
}

/// Makes a bundle whole, and writes down that it is there. There is none where all work is elsewhere.
async fn keep(
    shared: &Arc<Shared>,
    session: &Session,
    bundle: Option<Bundle>,
    reason: String,
) -> Result<(), SandboxError> {
    let Some(bundle) = bundle else {
        discard(shared, session.settings.sandbox).await;
        return Ok(());
    };
    let settings = &session.settings;
    shared.rescue_files()?.keep(settings.sandbox).await.map_err(|_full| no_room())?;
    let rescue = Rescue {
        sandbox: settings.sandbox,
        owner: settings.owner.clone(),
        repository: settings.repository.url(),
        session: settings.session.to_string(),
        reason: reason.chars().take(REASON).collect(),
        bytes: bundle.bytes,
        refs: bundle.refs,
        created_at: shared.clock.now(),
    };
    let put = vec![rescue_object(&rescue)];
    let change = ObjectChange { put, durable: true, ..ObjectChange::default() };
    let stored = shared.store.change_objects(change).await;
    stored.map_err(SandboxError::store("write down the bundle"))?;
    tracing::warn!(sandbox.id = %settings.sandbox, "its work is in a bundle");
    shared.rescues.put(rescue);
    Ok(())
}

fn no_room() -> SandboxError {
    SandboxError::Exhausted { what: "room for a bundle of work" }
}

fn no_such(name: &str) -> SandboxError {
    SandboxError::NoSuch { what: "bundle of", name: name.to_owned() }
}

/// Remembers the stored bundles, and removes files that are none.
pub(crate) async fn restore(shared: &Shared, objects: &[Object]) {
    for object in objects.iter().filter(|it| it.kind == ObjectKind::Rescue) {
        match object_rescue(object) {
            Some(rescue) => shared.rescues.put(rescue),
            None => tracing::error!(bundle = object.id, "a stored bundle is not understood"),
        }
    }
    if let Ok(files) = shared.rescue_files()
        && let Err(error) = files.retain(shared.rescues.known()).await
    {
        tracing::warn!(%error, "what is left of bundles is not removed");
    }
}

/// Whether a sandbox's files are kept when its lifetime ends without a server: its work is not
/// saved yet.
pub(crate) fn keeps_files(shared: &Shared, sandbox: SandboxId) -> bool {
    shared.git.get(sandbox).is_some_and(|session| session.settings.push)
}
