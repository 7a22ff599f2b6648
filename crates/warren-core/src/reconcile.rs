//! At start: what the store remembers against what the runtime finds. Afterwards: the runtime's
//! news, passed on to whom they concern.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    error::SandboxError,
    events::{Draft, EventKind},
    id::SandboxId,
    identity,
    runtime::{Denial, GuestState, RuntimeError, RuntimeEvent},
    sandbox::{End, Sandbox, birth::Birth, driver::Driver, handle::Handle, rest},
    sandboxes::{credentials, domains, git, rescues, secrets, volumes},
    shared::Shared,
    snapshots::Status,
    spec::Image,
    state::State,
    store::{Object, ObjectKind, object_snapshot},
    templates,
};

/// How long a server's start waits for agents that are told again whose they are.
const TOLD: Duration = Duration::from_secs(5);

/// What is to be done about one sandbox.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It lives: go on with it in this state.
    Adopt { state: State, initialise: bool },
    /// It ended while no server was there; its files are kept where there are any and this says so.
    Ended { end: End, keep: bool },
    /// It had ended before, and its files are there.
    Rest,
    /// It was being removed: finish that.
    Remove,
    /// It had ended before.
    Keep,
}

/// Brings store and runtime together.
///
/// # Errors
///
/// When either cannot say what it has. What fails for one sandbox is logged and fails it alone.
pub(crate) async fn reconcile(shared: &Arc<Shared>) -> Result<(), SandboxError> {
    let loaded =
        shared.store.load().await.map_err(SandboxError::store("read the stored sandboxes"))?;
    let found = shared.runtime.list().await;
    let found = found.map_err(SandboxError::runtime("list the guests of this host"))?;
    let mut found: HashMap<_, _> = found.into_iter().map(|guest| (guest.id, guest.state)).collect();
    shared.restore_access(loaded.projects, loaded.api_keys);
    restore_snapshots(shared, &loaded.objects).await?;
    // A build that was under way has failed; the files of its last step are nobody's.
    let (builders, change) = templates::restore(shared, &loaded.objects);
    for id in builders {
        found.remove(&id);
        destroy(shared, id).await;
    }
    let noted = shared.store.change_objects(change).await;
    noted.map_err(SandboxError::store("note the end of builds"))?;
    secrets::restore(shared, &loaded.objects);
    volumes::restore(shared, &loaded.objects).await;
    domains::restore(shared, &loaded.objects);
    identity::restore(shared, &loaded.objects).await;
    // The key of a sandbox that was never made, or is gone, is free again.
    let rows: HashSet<_> = loaded.sandboxes.iter().map(|sandbox| sandbox.id).collect();
    let change = credentials::restore(shared, &loaded.objects, |id| rows.contains(&id));
    let forgotten = shared.store.change_objects(change).await;
    forgotten.map_err(SandboxError::store("forget credentials of sandboxes that are gone"))?;
    rescues::restore(shared, &loaded.objects).await;
    let change = git::restore(shared, &loaded.objects, |id| rows.contains(&id));
    let forgotten = shared.store.change_objects(change).await;
    forgotten.map_err(SandboxError::store("forget sessions of sandboxes that are gone"))?;
    shared.restore_keys(loaded.keys.into_iter().filter(|key| rows.contains(&key.sandbox)));
    let mut told = Vec::new();
    for mut sandbox in loaded.sandboxes {
        let mut guest = found.remove(&sandbox.id);
        if sandbox.history.going_back.is_some() {
            finish_going_back(shared, &mut sandbox, &mut guest).await;
        }
        let mut verdict = judge(shared, &sandbox, guest.as_ref());
        match &mut verdict {
            // Its files are put aside, if that was not done before.
            Verdict::Ended { keep, .. } if *keep => *keep = put_aside(shared, sandbox.id).await,
            Verdict::Ended { .. } | Verdict::Remove | Verdict::Keep => {
                // Of an ended guest the host may still hold files.
                destroy(shared, sandbox.id).await;
            }
            Verdict::Rest => {
                if !put_aside(shared, sandbox.id).await {
                    verdict = Verdict::Keep;
                }
            }
            Verdict::Adopt { .. } => {}
        }
        if matches!(verdict, Verdict::Adopt { initialise: true, .. }) {
            told.push(sandbox.id);
        }
        settle(shared, sandbox, verdict);
    }
    // Parked ones of a server before this, and those it had begun to make or to remove.
    for (id, guest) in found {
        if guest == GuestState::Stopped {
            // Perhaps the database was lost, or is an older copy: then these are all that is left.
            tracing::warn!(sandbox.id = %id, "there are files of a stopped sandbox without a row");
            continue;
        }
        tracing::info!(sandbox.id = %id, "a guest that is nobody's is removed");
        destroy(shared, id).await;
    }
    wait_until_made(shared, &told).await;
    Ok(())
}

/// Remembers the stored snapshots, and removes what there is of those that were being made.
async fn restore_snapshots(shared: &Arc<Shared>, objects: &[Object]) -> Result<(), SandboxError> {
    let there = shared.runtime.snapshots().await;
    let there: HashSet<_> = there
        .map_err(SandboxError::runtime("list the snapshots of this host"))?
        .into_iter()
        .collect();
    let (mut known, mut rows) = (Vec::new(), HashSet::new());
    for object in objects.iter().filter(|it| it.kind == ObjectKind::Snapshot) {
        let Some(mut snapshot) = object_snapshot(object) else {
            tracing::error!(snapshot.id = object.id, "a stored snapshot cannot be understood");
            continue;
        };
        rows.insert(snapshot.id);
        if snapshot.status == Status::Making {
            (snapshot.status, snapshot.name) = (Status::Hidden, None);
        }
        if snapshot.status != Status::Hidden && !there.contains(&snapshot.id) {
            tracing::error!(snapshot.id = %snapshot.id, "the files of a snapshot are gone");
        }
        known.push(snapshot);
    }
    for id in there.difference(&rows) {
        // Perhaps the database was lost, or is an older copy: then these are all that is left.
        tracing::warn!(snapshot.id = %id, "there are files of a snapshot without a row");
    }
    shared.snapshots.restore(known);
    shared.snapshots.look_again();
    Ok(())
}

/// The server before this ended while a sandbox was going back to a snapshot: unless its guest
/// still runs on the files that it was to give up, that is finished.
async fn finish_going_back(shared: &Shared, sandbox: &mut Sandbox, guest: &mut Option<GuestState>) {
    let Some(stack) = sandbox.history.going_back.take() else { return };
    let ended = matches!(guest, Some(GuestState::Exited(_) | GuestState::Stopped));
    if ended && put_aside(shared, sandbox.id).await {
        match shared.runtime.reset(&sandbox.id).await {
            Ok(()) => sandbox.spec.image = Image::Snapshot(stack),
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                tracing::error!(sandbox.id = %sandbox.id, error = cause, "not taken back: {error}");
            }
        }
        *guest = Some(GuestState::Stopped);
    }
    shared.store.save(Arc::new(sandbox.clone()), Vec::new());
}

/// Waits until these are made, or are not to be.
///
/// The server before this may have told their owners that they run, and died before its store
/// had it: who comes back at once must not be told that they do not run yet.
async fn wait_until_made(shared: &Shared, sandboxes: &[SandboxId]) {
    let all = async {
        for handle in sandboxes.iter().filter_map(|id| shared.any(*id)) {
            // One without a driver changes no more.
            handle
                .watch()
                .wait_for(|sandbox| !matches!(sandbox.state, State::Creating | State::Starting))
                .await
                .ok();
        }
    };
    if tokio::time::timeout(TOLD, all).await.is_err() {
        tracing::warn!("an agent did not answer at start; its sandbox is not running yet");
    }
}

/// Decides about a stored sandbox, given what the runtime found of it.
fn judge(shared: &Shared, sandbox: &Sandbox, guest: Option<&GuestState>) -> Verdict {
    let now = shared.clock.now();
    let ended = |end: End, keep: bool| Verdict::Ended {
        end,
        keep: keep && shared.runtime.capabilities().stop,
    };
    match (sandbox.state, guest) {
        (State::Stopped, Some(guest)) if sandbox.kept => match guest {
            GuestState::Stopped | GuestState::Exited(_) => Verdict::Rest,
            // It was being started, and the news of that had not reached the row.
            GuestState::Running | GuestState::Paused => {
                Verdict::Adopt { state: State::Starting, initialise: true }
            }
        },
        (State::Stopped | State::Failed, _) => Verdict::Keep,
        (State::Starting, None | Some(GuestState::Exited(_) | GuestState::Stopped)) => {
            ended(End::host(now, "the server ended while the sandbox was being started"), true)
        }
        // Whoever acts on a deadline removes the guest before its end is written.
        (_, None) if sandbox.expires_at.is_some_and(|at| at <= now) => {
            ended(End::timeout(now), false)
        }
        (_, None) => ended(
            End::host(
                now,
                "the sandbox went away while no server was there, with its host or by other hands",
            ),
            false,
        ),
        (_, Some(GuestState::Exited(exit))) => ended(
            End::from_exit(now, exit, &sandbox.spec.limits),
            rest::keeps(shared, sandbox, exit),
        ),
        (_, Some(GuestState::Stopped)) if sandbox.expires_at.is_some_and(|at| at <= now) => {
            ended(End::timeout(now), true)
        }
        (_, Some(GuestState::Stopped)) => ended(End::stopped(now), true),
        (State::Stopping, Some(_)) => Verdict::Remove,
        (from @ (State::Creating | State::Starting), Some(GuestState::Running)) => {
            Verdict::Adopt { state: from, initialise: true }
        }
        (_, Some(GuestState::Running)) => {
            Verdict::Adopt { state: State::Running, initialise: false }
        }
        (_, Some(GuestState::Paused)) => Verdict::Adopt { state: State::Paused, initialise: false },
    }
}

fn settle(shared: &Arc<Shared>, mut sandbox: Sandbox, verdict: Verdict) {
    match verdict {
        Verdict::Adopt { state, initialise } => {
            let paused_meanwhile = state == State::Paused && sandbox.state != State::Paused;
            sandbox.state = state;
            if sandbox.end.take().is_some() {
                let now = shared.clock.now();
                sandbox.expires_at = sandbox.lifetime.length.map(|length| now + length);
            }
            sandbox.kept = false;
            if paused_meanwhile {
                sandbox.expires_at = None;
                let paused = draft(shared, &sandbox, EventKind::Paused);
                shared.store.save(Arc::new(sandbox.clone()), vec![paused]);
            }
            let admission = shared.readmit(&sandbox);
            Driver::start(shared, sandbox, Birth::Adopt { admission, initialise }).adopted();
        }
        Verdict::Ended { end, keep } => {
            sandbox.state = State::Stopped;
            sandbox.kept = keep;
            sandbox.expires_at = None;
            let mut stopped = draft(shared, &sandbox, EventKind::Stopped);
            stopped.detail.insert("message".to_owned(), end.message.clone());
            sandbox.end = Some(end);
            shared.store.save(Arc::new(sandbox.clone()), vec![stopped]);
            settle(shared, sandbox, if keep { Verdict::Rest } else { Verdict::Keep });
        }
        Verdict::Rest => {
            let admission = shared.readmit(&sandbox);
            Driver::start(shared, sandbox, Birth::Rest { admission });
        }
        Verdict::Remove => {
            let deleted = draft(shared, &sandbox, EventKind::Deleted);
            shared.store.forget(sandbox.id, vec![deleted]);
        }
        Verdict::Keep => {
            if std::mem::take(&mut sandbox.kept) {
                tracing::error!(sandbox.id = %sandbox.id, "the files of a stopped sandbox are gone");
                shared.store.save(Arc::new(sandbox.clone()), Vec::new());
            }
            register_ended(shared, sandbox);
        }
    }
}

/// Makes a sandbox known that has no driver any more.
fn register_ended(shared: &Shared, sandbox: Sandbox) {
    let (handle, _no_driver) = Handle::new(sandbox, Arc::clone(&shared.runtime));
    shared.register(handle);
}

fn draft(shared: &Shared, sandbox: &Sandbox, kind: EventKind) -> Draft {
    Draft {
        time: shared.clock.now(),
        kind,
        owner: sandbox.owner.clone(),
        sandbox: sandbox.id,
        detail: Default::default(),
    }
}

/// Puts the files of an ended guest aside; whether there are any.
async fn put_aside(shared: &Shared, id: SandboxId) -> bool {
    match shared.runtime.stop(&id).await {
        Ok(()) => true,
        Err(RuntimeError::NotFound { .. }) => false,
        Err(error) => {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(sandbox.id = %id, error = cause, "not put aside: {error}");
            false
        }
    }
}

async fn destroy(shared: &Shared, id: SandboxId) {
    if let Err(error) = shared.runtime.destroy(&id).await {
        let cause = &error as &dyn std::error::Error;
        tracing::error!(sandbox.id = %id, error = cause, "not removed: {error}");
    }
}

/// Passes the runtime's news on, until dropped.
pub(crate) async fn follow_exits(
    shared: Arc<Shared>,
    mut exits: broadcast::Receiver<RuntimeEvent>,
) {
    loop {
        match exits.recv().await {
            Ok(RuntimeEvent::Exited { id, exit }) => {
                if let Some(handle) = shared.any(id) {
                    handle.tell_exit(exit, shared.store.tasks());
                }
            }
            Ok(RuntimeEvent::DiskFull { id, used_bytes, limit_bytes }) => {
                tell_full(&shared, id, used_bytes, limit_bytes);
            }
            Ok(RuntimeEvent::Denied { id, denial }) => tell_denied(&shared, id, denial),
            Err(RecvError::Lagged(_)) => catch_up(&shared).await,
            Err(RecvError::Closed) => return,
        }
    }
}

/// Adds to the events that a sandbox's disk is full.
fn tell_full(shared: &Shared, id: SandboxId, used_bytes: u64, limit_bytes: u64) {
    let Some(handle) = shared.any(id) else { return };
    let sandbox = handle.sandbox();
    let mut full = draft(shared, &sandbox, EventKind::DiskFull);
    full.detail.insert("used_bytes".to_owned(), used_bytes.to_string());
    full.detail.insert("limit_bytes".to_owned(), limit_bytes.to_string());
    shared.store.announce(vec![full]);
}

/// Adds to the events that a sandbox tried what it may not.
fn tell_denied(shared: &Shared, id: SandboxId, denial: Denial) {
    let Some(handle) = shared.any(id) else { return };
    let Denial { to, rule, why, enforced, untold } = denial;
    let details = [
        ("host", to.name),
        ("address", to.address.map(|it| it.to_string())),
        ("protocol", Some(to.protocol.word().to_owned())),
        ("port", to.port.map(|it| it.to_string())),
        ("rule", rule.map(|it| it.to_string())),
        ("why", why.map(str::to_owned)),
        ("dry_run", (!enforced).then(|| "true".to_owned())),
        ("untold", (untold > 0).then(|| untold.to_string())),
    ];
    let mut denied = draft(shared, &handle.sandbox(), EventKind::Denied);
    let given = details.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    denied.detail.extend(given);
    shared.store.announce(vec![denied]);
}

/// Finds the exits whose news were lost.
async fn catch_up(shared: &Shared) {
    match shared.runtime.list().await {
        Ok(found) => {
            for guest in found {
                if let (GuestState::Exited(exit), Some(handle)) =
                    (guest.state, shared.any(guest.id))
                {
                    handle.tell_exit(exit, shared.store.tasks());
                }
            }
        }
        Err(error) => {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(error = cause, "exits may be unnoticed: {error}");
        }
    }
}
