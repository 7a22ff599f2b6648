//! Snapshots, forks, and going back.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use super::Sandboxes;
use crate::{
    caller::Caller,
    credentials::Credentials,
    error::SandboxError,
    events::{Draft, EventKind},
    exposure::Exposure,
    id::{SandboxId, SnapshotId},
    plan::{self, Plan},
    runtime::{Haste, RuntimeError},
    sandbox::{
        History, Lifetime, Made, Setup,
        handle::{Command, Handle},
        past::{Capture, Target},
    },
    shared::Shared,
    snapshots::{Hold, Inherited, Snapshot, Status},
    spec::{Image, Spec},
    store::{ObjectChange, ObjectKind, snapshot_object},
};

/// How many forks one request may ask for.
const MOST_FORKS: u32 = 1000;
/// How many tags a snapshot may have.
const MOST_TAGS: usize = 64;

/// What is wanted of a new snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedSnapshot {
    /// A name: `[a-z0-9][a-z0-9._-]{0,62}`, unique among the caller's snapshots.
    pub name: Option<String>,
    /// Words for finding it again: at most 64, each `[A-Za-z0-9._-]{1,128}`.
    pub tags: BTreeSet<String>,
    /// Whether the environment that the sandbox was given, and not its image, goes along. It may
    /// hold secrets.
    pub with_env: bool,
}

/// What is wanted of new forks.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WantedFork {
    /// How many: 1 to 1,000.
    pub count: u32,
    /// A name; where there are several, `-1`, `-2` and so on is put after it.
    pub name: Option<String>,
    /// Labels, in place of the parent's where given.
    pub labels: Option<BTreeMap<String, String>>,
    /// More environment.
    pub env: BTreeMap<String, String>,
    /// Whether the forks get the environment that their parent was given. It may hold secrets.
    pub with_env: bool,
    /// Whether their ports are reached from outside as those of their parent are.
    pub with_exposure: bool,
    /// How long each lives; as long as the parent's lifetime where absent, zero for no limit.
    pub lifetime: Option<Duration>,
    /// Whether those that could be made stay although others could not.
    pub some_may_fail: bool,
}

impl std::fmt::Debug for WantedFork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WantedFork")
            .field("count", &self.count)
            .field("name", &self.name)
            .field("env", &format_args!("{} variables", self.env.len()))
            .finish_non_exhaustive()
    }
}

/// New forks.
#[derive(Debug)]
pub struct Forked {
    /// For how long the parent stood still.
    pub frozen: Duration,
    /// They.
    pub made: Vec<Made>,
    /// Why others could not be made, where [`WantedFork::some_may_fail`].
    pub failed: Vec<SandboxError>,
}

impl Sandboxes {
    /// Saves what a sandbox's files are, as they are at one moment. It is on the disk when this
    /// returns.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::Invalid`], [`SandboxError::Taken`],
    /// [`SandboxError::Refused`], [`SandboxError::Unsupported`], and why the runtime or the store
    /// failed; nothing of the snapshot is left then.
    pub async fn snapshot(
        &self,
        caller: &Caller,
        id_or_name: &str,
        wanted: WantedSnapshot,
    ) -> Result<(Arc<Snapshot>, Duration), SandboxError> {
        check_name(wanted.name.as_deref())?;
        check_tags(&wanted.tags)?;
        let handle = self.find(caller, id_or_name)?;
        self.require_snapshots()?;
        let shared = Arc::clone(&self.shared);
        self.to_the_end(async move {
            let saving = begin(&shared, &handle, &wanted).await?;
            let id = saving.id;
            let saved = save(&shared, &handle, id, wanted.with_env).await;
            if saved.is_err() {
                undo(&shared, id).await;
            }
            saved
        })
        .await
    }

    /// The caller's snapshots, oldest first; those of one sandbox, with one tag, where given.
    #[must_use]
    pub fn snapshots(
        &self,
        caller: &Caller,
        sandbox: Option<SandboxId>,
        tag: Option<&str>,
    ) -> Vec<Arc<Snapshot>> {
        let mut found = self.shared.snapshots.of(caller.owner());
        found.retain(|it| {
            sandbox.is_none_or(|id| it.sandbox == Some(id))
                && tag.is_none_or(|tag| it.tags.contains(tag))
        });
        found
    }

    /// The caller's snapshot with this id or name.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`].
    pub fn get_snapshot(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<Arc<Snapshot>, SandboxError> {
        self.shared.snapshots.find(caller.owner(), id_or_name)
    }

    /// Gives a snapshot another name, other tags, or both. An empty name takes its name away.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`], [`SandboxError::Invalid`], [`SandboxError::Taken`].
    pub async fn change_snapshot(
        &self,
        caller: &Caller,
        id_or_name: &str,
        name: Option<String>,
        tags: Option<BTreeSet<String>>,
    ) -> Result<Arc<Snapshot>, SandboxError> {
        let name = name.map(|name| (!name.is_empty()).then_some(name));
        check_name(name.as_ref().and_then(Option::as_deref))?;
        check_tags(tags.as_ref().unwrap_or(&BTreeSet::new()))?;
        let snapshot = self.get_snapshot(caller, id_or_name)?;
        let changed = self.shared.snapshots.change(snapshot.id, |it| {
            it.name = name.unwrap_or_else(|| it.name.clone());
            it.tags = tags.unwrap_or_else(|| it.tags.clone());
        })?;
        put(&self.shared, &[&changed], true).await?;
        Ok(changed)
    }

    /// Gives a snapshot a name, and takes it from whichever had it: both or neither.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`], [`SandboxError::Invalid`], [`SandboxError::Taken`].
    pub async fn move_snapshot_name(
        &self,
        caller: &Caller,
        name: &str,
        to: &str,
    ) -> Result<Arc<Snapshot>, SandboxError> {
        check_name(Some(name))?;
        let snapshots = &self.shared.snapshots;
        let snapshot = self.get_snapshot(caller, to)?;
        let before = snapshots.find(caller.owner(), name).ok().filter(|it| it.id != snapshot.id);
        let before = match before {
            Some(before) => Some(snapshots.change(before.id, |it| it.name = None)?),
            None => None,
        };
        let named = snapshots.change(snapshot.id, |it| it.name = Some(name.to_owned()));
        let named = match (named, &before) {
            (Ok(named), _) => named,
            (Err(error), None) => return Err(error),
            (Err(error), Some(before)) => {
                snapshots.change(before.id, |it| it.name = Some(name.to_owned()))?;
                return Err(error);
            }
        };
        let changed: Vec<_> = before.iter().chain([&named]).map(|it| &**it).collect();
        put(&self.shared, &changed, true).await?;
        Ok(named)
    }

    /// Removes a snapshot from sight. What was made of it later in the tree becomes its parent's;
    /// its files go as soon as no sandbox and no other snapshot needs them.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`], [`SandboxError::Store`].
    pub async fn delete_snapshot(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<(), SandboxError> {
        let shared = Arc::clone(&self.shared);
        let snapshot = self.get_snapshot(caller, id_or_name)?;
        self.to_the_end(async move {
            let (id, parent) = (snapshot.id, snapshot.parent);
            let mut changed = Vec::new();
            for child in shared.snapshots.of(&snapshot.owner) {
                if child.parent == Some(id) {
                    changed.push(shared.snapshots.change(child.id, |it| it.parent = parent)?);
                }
            }
            changed.push(shared.snapshots.change(id, |it| {
                it.status = Status::Hidden;
                it.name = None;
            })?);
            put(&shared, &changed.iter().map(|it| &**it).collect::<Vec<_>>(), true).await?;
            for handle in shared.all() {
                if handle.sandbox().history.snapshot == Some(id) {
                    handle.tell(Command::Move { from: Some(id), to: parent }, shared.store.tasks());
                }
            }
            Ok(())
        })
        .await
    }

    /// Makes independent sandboxes from the live state of one: its files as they are at one
    /// moment, with an identity of their own. All are made or none.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::snapshot`] and [`Sandboxes::create`].
    pub async fn fork(
        &self,
        caller: &Caller,
        id_or_name: &str,
        wanted: WantedFork,
    ) -> Result<Forked, SandboxError> {
        if !(1..=MOST_FORKS).contains(&wanted.count) {
            let reason = format!("expected 1 to {MOST_FORKS}");
            return Err(SandboxError::invalid("count", reason));
        }
        plan::check_env("env", &wanted.env)?;
        plan::check_labels(wanted.labels.as_ref().unwrap_or(&BTreeMap::new()))?;
        for number in [1, wanted.count] {
            plan::check_name(fork_name(&wanted, number).as_deref())?;
        }
        let length = match wanted.lifetime {
            Some(length) => Some(plan::lifetime(Some(length), &self.shared.config.defaults)?),
            None => None,
        };
        let parent = self.find(caller, id_or_name)?;
        self.require_snapshots()?;
        let (this, caller) = (self.clone(), caller.clone());
        self.to_the_end(async move {
            let _creating = this.shared.creating();
            let (capture, _hold) = this.capture_hidden(&parent).await?;
            let plans =
                (1..=wanted.count).map(|number| plan_fork(&capture, &wanted, length, number));
            let made = plans.map(|plan| {
                let (this, caller) = (&this, &caller);
                async move { this.make(caller, SandboxId::mint(), plan, true, None).await }
            });
            let made = futures::future::join_all(made).await;
            let enough = match wanted.some_may_fail {
                true => made.iter().any(Result::is_ok),
                false => made.iter().all(Result::is_ok),
            };
            if !enough {
                return Err(this.undo_forks(made).await);
            }
            let (mut forks, mut failed) = (Vec::new(), Vec::new());
            for made in made {
                match made {
                    Ok(made) => forks.push(made),
                    Err(error) => failed.push(error),
                }
            }
            Ok(Forked { frozen: capture.frozen, made: forks, failed })
        })
        .await
    }

    /// Takes a sandbox back to one of its owner's snapshots: its processes end, what it wrote
    /// since is gone, and it runs again on the files of the snapshot, under its own name and id.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NotFound`], [`SandboxError::NoSuch`], [`SandboxError::Refused`], and why
    /// the runtime failed.
    pub async fn roll_back(
        &self,
        caller: &Caller,
        id_or_name: &str,
        snapshot: &str,
    ) -> Result<Made, SandboxError> {
        let handle = self.find(caller, id_or_name)?;
        let (snapshot, hold) = self.shared.snapshots.hold_named(caller.owner(), snapshot)?;
        self.require_snapshots()?;
        let target = Target { stack: snapshot.stack.clone(), snapshot: Some(snapshot.id) };
        self.go_back(handle, target, hold).await
    }

    /// Adopts the files of a fork into the sandbox that it was forked from, which runs on them
    /// then. The fork goes on.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::roll_back`]; [`SandboxError::Invalid`] for a sandbox that is no fork, or
    /// whose parent is gone.
    pub async fn keep(&self, caller: &Caller, id_or_name: &str) -> Result<Made, SandboxError> {
        let child = self.find(caller, id_or_name)?;
        let Some(parent) = child.sandbox().history.parent else {
            return Err(SandboxError::invalid("sandbox", "it is not a fork of another sandbox"));
        };
        let parent = self.find(caller, parent.as_str()).map_err(|_gone| {
            let reason = format!("{parent}, the sandbox that it was forked from, is gone");
            SandboxError::invalid("sandbox", reason)
        })?;
        self.require_snapshots()?;
        let this = self.clone();
        self.to_the_end(async move {
            let (capture, hold) = this.capture_hidden(&child).await?;
            let target = Target { stack: capture.stack, snapshot: capture.previous };
            this.go_back(parent, target, hold).await
        })
        .await
    }

    async fn go_back(
        &self,
        handle: Arc<Handle>,
        target: Target,
        hold: Hold,
    ) -> Result<Made, SandboxError> {
        let this = self.clone();
        self.to_the_end(async move {
            let _hold = hold;
            let _creating = this.shared.creating();
            let went = handle.ask(|reply| Command::RollBack(Box::new(target), reply)).await;
            handle.adopted();
            let went = went?;
            let owner = Caller::remote(handle.sandbox().owner.clone());
            this.renew_credentials(&owner, handle.id()).await?;
            this.begin(&handle, went, false).await
        })
        .await
    }

    /// Saves a sandbox's files for what is made of them alone.
    async fn capture_hidden(&self, handle: &Handle) -> Result<(Capture, Hold), SandboxError> {
        let shared = &self.shared;
        let saving = begin(shared, handle, &WantedSnapshot::default()).await?;
        let id = saving.id;
        let captured = async {
            let hold = shared.snapshots.hold(&[id])?;
            let capture = handle.ask(|reply| Command::Capture(id, Haste::Caller, reply)).await?;
            // Its row goes on saying that it is being made: the next start takes that for hidden.
            shared.snapshots.change(id, |it| {
                it.status = Status::Hidden;
                it.stack = capture.stack.clone();
                it.parent = capture.previous;
            })?;
            Ok((capture, hold))
        };
        let captured = captured.await;
        if captured.is_err() {
            undo(shared, id).await;
        }
        captured
    }

    /// Removes the forks that were made beside one that was not; why that one was not.
    async fn undo_forks(&self, made: Vec<Result<Made, SandboxError>>) -> SandboxError {
        let mut first = None;
        for made in made {
            match made {
                Ok(made) => {
                    if let Some(handle) = self.shared.any(made.sandbox.id)
                        && let Err(error) = handle.ask(Command::Delete).await
                    {
                        tracing::error!(sandbox.id = %made.sandbox.id, %error, "not removed");
                    }
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        first.unwrap_or(SandboxError::Broken("a fork failed without a reason"))
    }

    pub(super) fn require_snapshots(&self) -> Result<(), SandboxError> {
        match self.shared.runtime.capabilities().snapshot {
            Some(_) => Ok(()),
            None => Err(SandboxError::Unsupported { operation: "make snapshots" }),
        }
    }

    /// Does something to its end, also when nobody waits for it any more.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SandboxError>> + Send + 'static,
    ) -> Result<T, SandboxError> {
        let done = self.shared.store.tasks().spawn(work).await;
        done.unwrap_or(Err(SandboxError::ShuttingDown))
    }
}

/// Writes the row of a snapshot that is to be made of a sandbox, and takes its name.
async fn begin(
    shared: &Shared,
    handle: &Handle,
    wanted: &WantedSnapshot,
) -> Result<Arc<Snapshot>, SandboxError> {
    let sandbox = handle.sandbox();
    let id = SnapshotId::mint();
    let inherited = Inherited {
        env: sandbox.setup.image_env.clone(),
        user: sandbox.setup.user.clone(),
        workdir: sandbox.setup.workdir.clone(),
        limits: sandbox.spec.limits.clone(),
        profile: sandbox.spec.profile,
        program: sandbox.program.clone(),
        network: sandbox.spec.network.clone(),
    };
    let making = shared.snapshots.add(Snapshot {
        id,
        owner: sandbox.owner.clone(),
        name: wanted.name.clone(),
        tags: wanted.tags.clone(),
        parent: None,
        sandbox: Some(sandbox.id),
        stack: sandbox.spec.image.under(id),
        inherited,
        created_at: shared.clock.now(),
        bytes: 0,
        files: 0,
        status: Status::Making,
    })?;
    if let Err(error) = put(shared, &[&making], false).await {
        shared.snapshots.forget(id);
        return Err(error);
    }
    Ok(making)
}

/// Saves the files and announces the snapshot.
async fn save(
    shared: &Shared,
    handle: &Handle,
    id: SnapshotId,
    with_env: bool,
) -> Result<(Arc<Snapshot>, Duration), SandboxError> {
    let capture = handle.ask(|reply| Command::Capture(id, Haste::Guest, reply)).await?;
    let sealed = shared.runtime.seal(&id, capture.previous.as_ref()).await;
    let sealed = sealed.map_err(SandboxError::runtime("write the snapshot"))?;
    let ready = shared.snapshots.any(id).ok_or(SandboxError::ShuttingDown)?;
    let mut ready = (*ready).clone();
    ready.status = Status::Ready;
    ready.stack = capture.stack;
    ready.parent = capture.previous.filter(|id| shared.snapshots.any(*id).is_some());
    (ready.bytes, ready.files) = (sealed.bytes, sealed.files);
    if with_env {
        ready.inherited.env = capture.sandbox.setup.env.clone();
    }
    // Nobody sees it before it is on the disk.
    put(shared, &[&ready], true).await?;
    let ready = shared.snapshots.change(id, |it| *it = ready)?;
    handle.tell(Command::Move { from: None, to: Some(id) }, shared.store.tasks());
    let mut detail = BTreeMap::from([("snapshot".to_owned(), id.to_string())]);
    detail.extend(ready.name.clone().map(|name| ("name".to_owned(), name)));
    shared.store.announce(vec![Draft {
        time: shared.clock.now(),
        kind: EventKind::Snapshotted,
        owner: ready.owner.clone(),
        sandbox: capture.sandbox.id,
        detail,
    }]);
    Ok((ready, capture.frozen))
}

/// Removes what there is of a snapshot that could not be made.
pub(super) async fn undo(shared: &Shared, id: SnapshotId) {
    shared.snapshots.forget(id);
    remove(shared, id).await;
}

/// Removes the files of a snapshot that is in no table any more, and then its row.
async fn remove(shared: &Shared, id: SnapshotId) {
    match shared.runtime.remove_snapshot(&id).await {
        Ok(()) | Err(RuntimeError::Unsupported { .. }) => {}
        Err(error) => {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(snapshot.id = %id, error = cause, "not removed: {error}");
            return;
        }
    }
    let change = ObjectChange {
        remove: vec![(ObjectKind::Snapshot, id.to_string())],
        ..ObjectChange::default()
    };
    if let Err(error) = shared.store.change_objects(change).await {
        tracing::warn!(snapshot.id = %id, %error, "removed, its row is not yet");
    }
}

/// Writes rows of snapshots.
pub(super) async fn put(
    shared: &Shared,
    all: &[&Snapshot],
    durable: bool,
) -> Result<(), SandboxError> {
    let put = all.iter().map(|snapshot| snapshot_object(snapshot)).collect();
    let change = ObjectChange { put, durable, ..ObjectChange::default() };
    let written = shared.store.change_objects(change).await;
    written.map_err(SandboxError::store("store the snapshot"))
}

/// Removes what nobody sees and nothing needs any more, until dropped.
pub(super) async fn collect(shared: Arc<Shared>) {
    loop {
        shared.snapshots.freed.notified().await;
        for gone in shared.snapshots.take_unneeded(|| layers_in_use(&shared)) {
            tracing::debug!(snapshot.id = %gone.id, "needed no more");
            remove(&shared, gone.id).await;
        }
    }
}

/// The layers that sandboxes need, or will need when they are started again.
fn layers_in_use(shared: &Shared) -> HashSet<SnapshotId> {
    let mut in_use = shared.templates.layers();
    for handle in shared.all() {
        let sandbox = handle.sandbox();
        if sandbox.state.is_living() || sandbox.kept {
            in_use.extend(sandbox.spec.image.layers());
            in_use.extend(sandbox.history.going_back.iter().flat_map(|it| &it.layers));
        }
    }
    in_use
}

/// The plan of a fork.
fn plan_fork(
    capture: &Capture,
    wanted: &WantedFork,
    length: Option<Option<Duration>>,
    number: u32,
) -> Plan {
    let parent = &*capture.sandbox;
    let setup = &parent.setup;
    let mut env = if wanted.with_env { setup.env.clone() } else { setup.image_env.clone() };
    env.extend(wanted.env.clone());
    Plan {
        name: fork_name(wanted, number),
        labels: wanted.labels.clone().unwrap_or_else(|| parent.labels.clone()),
        spec: Spec {
            image: Image::Snapshot(capture.stack.clone()),
            hostname: None,
            ..parent.spec.clone()
        },
        setup: Setup { env, ..setup.clone() },
        lifetime: Lifetime { length: length.unwrap_or(parent.lifetime.length), ..parent.lifetime },
        history: History {
            parent: Some(parent.id),
            snapshot: capture.previous,
            template: parent.history.template,
            going_back: None,
        },
        program: parent.program.clone(),
        // Whoever may use the files of another need not have its credentials.
        credentials: Credentials::default(),
        // Whoever knew the parent's ports knows nothing of the child's, unless that is asked for.
        exposure: match wanted.with_exposure {
            true => Exposure { revision: 0, ..parent.exposure.clone() },
            false => Exposure::default(),
        },
    }
}

fn fork_name(wanted: &WantedFork, number: u32) -> Option<String> {
    let name = wanted.name.as_ref()?;
    Some(if wanted.count == 1 { name.clone() } else { format!("{name}-{number}") })
}

pub(super) fn check_name(name: Option<&str>) -> Result<(), SandboxError> {
    plan::check_name(name)?;
    match name {
        Some(name) if name.parse::<SnapshotId>().is_ok() => {
            Err(SandboxError::invalid("name", "must not look like the id of a snapshot"))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_tags(tags: &BTreeSet<String>) -> Result<(), SandboxError> {
    if tags.len() > MOST_TAGS {
        return Err(SandboxError::invalid("tags", format!("at most {MOST_TAGS} are allowed")));
    }
    let good = |tag: &String| {
        (1..=128).contains(&tag.len())
            && tag.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
    };
    match tags.iter().all(good) {
        true => Ok(()),
        false => Err(SandboxError::invalid("tags", "expected 1 to 128 letters, digits, `._-`")),
    }
}
