//! Snapshots: what the files of sandboxes were at some moment, as a tree.
//!
//! A [`Snapshot`] is one node. Its files are a *stack*: its own layer, those of the snapshots that
//! its sandbox was made from, and an image below. So one snapshot's layer may be part of others'
//! stacks and of sandboxes, also after it was removed from everybody's sight: it is *hidden* then,
//! and its files go when nothing needs them any more.
//!
//! All snapshots are in memory; a row of each survives the server. A row is written before there
//! are files and removed after them, so files without a row are nobody's leftovers: perhaps the
//! database is an older copy, and they are all that is left.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    caller::Owner,
    clock::Timestamp,
    error::SandboxError,
    id::{SandboxId, SnapshotId},
    plan::Base,
    sandbox::{History, Program},
    spec::{Image, Limits, Network, Profile, Stack},
};

/// One saved state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its identity.
    pub id: SnapshotId,
    /// Whose it is.
    pub owner: Owner,
    /// A name, unique among the owner's snapshots.
    pub name: Option<String>,
    /// Words for finding it again.
    pub tags: BTreeSet<String>,
    /// The snapshot that came before it, in the same sandbox or in the one that it was made from.
    pub parent: Option<SnapshotId>,
    /// The sandbox that it was made of; none for one that came from elsewhere.
    pub sandbox: Option<SandboxId>,
    /// Its files.
    pub stack: Stack,
    /// What a sandbox that is made from it gets where its request does not say.
    pub inherited: Inherited,
    /// When it was made.
    pub created_at: Timestamp,
    /// What its own layer holds, in bytes.
    pub bytes: u64,
    /// How many files that are, of whatever kind.
    pub files: u64,
    /// What it is.
    pub status: Status,
}

/// What sandboxes get from a snapshot beside its files.
#[derive(Clone, PartialEq, Eq)]
pub struct Inherited {
    /// Environment of every command: what came with the image, and more where that was asked for.
    pub env: BTreeMap<String, String>,
    /// Who commands run as.
    pub user: String,
    /// Where commands start.
    pub workdir: String,
    /// What the guest may use.
    pub limits: Limits,
    /// How much its root may do.
    pub profile: Profile,
    /// What it may reach.
    pub network: Network,
    /// What it is for.
    pub program: Program,
}

impl std::fmt::Debug for Inherited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inherited")
            .field("env", &format_args!("{} variables", self.env.len()))
            .field("user", &self.user)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is being made: what there is of it goes if the server ends now.
    Making,
    /// It can be seen and used.
    Ready,
    /// Nobody sees it; it is there for what is made from it.
    Hidden,
    /// Nobody sees it; somebody else's row needs it and says when it is to go.
    Held,
}

impl Snapshot {
    /// What a sandbox gets that is made from this.
    pub(crate) fn base(&self) -> Base {
        let Inherited { env, user, workdir, limits, profile, network, program } =
            self.inherited.clone();
        Base {
            image: Image::Snapshot(self.stack.clone()),
            env,
            user: Some(user),
            workdir: Some(workdir),
            limits: Some(limits),
            profile: Some(profile),
            network: Some(network),
            history: History { snapshot: Some(self.id), ..History::default() },
            program,
        }
    }
}

/// All snapshots.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    table: Mutex<Table>,
    /// Something may be needed no more.
    pub(crate) freed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    all: HashMap<SnapshotId, Arc<Snapshot>>,
    names: HashMap<(Owner, String), SnapshotId>,
    /// Layers that something needs which cannot be seen yet, and how many such there are.
    held: HashMap<SnapshotId, u32>,
}

/// Layers stay as long as this lives.
#[derive(Debug)]
pub(crate) struct Hold {
    snapshots: Arc<Snapshots>,
    layers: Vec<SnapshotId>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut table = self.snapshots.lock();
        for layer in &self.layers {
            if let Some(count) = table.held.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    table.held.remove(layer);
                }
            }
        }
        drop(table);
        self.snapshots.look_again();
    }
}

impl Snapshots {
    /// Remembers what was stored.
    pub(crate) fn restore(&self, snapshots: Vec<Snapshot>) {
        let mut table = self.lock();
        for snapshot in snapshots {
            table.insert(Arc::new(snapshot));
        }
    }

    /// Adds a snapshot, which takes its name.
    pub(crate) fn add(&self, snapshot: Snapshot) -> Result<Arc<Snapshot>, SandboxError> {
        let mut table = self.lock();
        table.check_name(&snapshot.owner, snapshot.name.as_deref(), snapshot.id)?;
        let snapshot = Arc::new(snapshot);
        table.insert(Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// Puts a snapshot in the place of its earlier form.
    pub(crate) fn change(
        &self,
        id: SnapshotId,
        change: impl FnOnce(&mut Snapshot),
    ) -> Result<Arc<Snapshot>, SandboxError> {
        let mut table = self.lock();
        let old = table.all.get(&id).cloned();
        let old = old.ok_or_else(|| no_such(id.as_str()))?;
        let mut new = (*old).clone();
        change(&mut new);
        table.check_name(&new.owner, new.name.as_deref(), id)?;
        if let Some(name) = &old.name {
            table.names.remove(&(old.owner.clone(), name.clone()));
        }
        let new = Arc::new(new);
        table.insert(Arc::clone(&new));
        drop(table);
        if new.status == Status::Hidden {
            self.look_again();
        }
        Ok(new)
    }

    /// Forgets a snapshot that could not be made.
    pub(crate) fn forget(&self, id: SnapshotId) {
        let mut table = self.lock();
        if let Some(gone) = table.all.remove(&id)
            && let Some(name) = &gone.name
        {
            table.names.remove(&(gone.owner.clone(), name.clone()));
        }
    }

    /// The snapshot with this id, whosever it is.
    pub(crate) fn any(&self, id: SnapshotId) -> Option<Arc<Snapshot>> {
        self.lock().all.get(&id).cloned()
    }

    /// The owner's snapshot with this id or name.
    pub(crate) fn find(&self, owner: &Owner, name: &str) -> Result<Arc<Snapshot>, SandboxError> {
        self.lock().find(owner, name)
    }

    /// The owner's snapshot with this id or name, which stays as long as the hold.
    pub(crate) fn hold_named(
        self: &Arc<Self>,
        owner: &Owner,
        name: &str,
    ) -> Result<(Arc<Snapshot>, Hold), SandboxError> {
        let mut table = self.lock();
        let snapshot = table.find(owner, name)?;
        let hold = table.hold(self, &snapshot.stack.layers)?;
        Ok((snapshot, hold))
    }

    /// Keeps these layers for as long as the hold lives. Fails where one has gone.
    pub(crate) fn hold(self: &Arc<Self>, layers: &[SnapshotId]) -> Result<Hold, SandboxError> {
        self.lock().hold(self, layers)
    }

    /// Every snapshot that its owner can see, oldest first.
    pub(crate) fn of(&self, owner: &Owner) -> Vec<Arc<Snapshot>> {
        let table = self.lock();
        let mine = |it: &&Arc<Snapshot>| it.status == Status::Ready && it.owner == *owner;
        let mut found: Vec<_> = table.all.values().filter(mine).cloned().collect();
        drop(table);
        found.sort_unstable_by_key(|it| (it.created_at, it.id));
        found
    }

    /// Takes what nobody sees and nothing needs any more out of the table. `in_use` gives the
    /// layers that sandboxes need.
    pub(crate) fn take_unneeded(
        &self,
        in_use: impl FnOnce() -> HashSet<SnapshotId>,
    ) -> Vec<Arc<Snapshot>> {
        let mut table = self.lock();
        if !table.all.values().any(|it| it.status == Status::Hidden) {
            return Vec::new();
        }
        // Under the lock: whoever takes a hold from now on finds only what stays, and whoever let
        // go of one before has a sandbox that is seen here.
        let mut needed = in_use();
        needed.extend(table.held.keys());
        for snapshot in table.all.values().filter(|it| it.status != Status::Hidden) {
            needed.extend(&snapshot.stack.layers);
        }
        let unneeded =
            |it: &&Arc<Snapshot>| it.status == Status::Hidden && !needed.contains(&it.id);
        let gone: Vec<_> = table.all.values().filter(unneeded).cloned().collect();
        for snapshot in &gone {
            table.all.remove(&snapshot.id);
        }
        gone
    }

    /// The images below all snapshots, hidden ones too.
    pub(crate) fn bases(&self) -> Vec<Image> {
        self.lock().all.values().map(|it| (*it.stack.base).clone()).collect()
    }

    /// Has it looked for what is needed no more.
    pub(crate) fn look_again(&self) {
        self.freed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(&mut self, snapshot: Arc<Snapshot>) {
        if let Some(name) = &snapshot.name {
            self.names.insert((snapshot.owner.clone(), name.clone()), snapshot.id);
        }
        self.all.insert(snapshot.id, snapshot);
    }

    fn check_name(
        &self,
        owner: &Owner,
        name: Option<&str>,
        id: SnapshotId,
    ) -> Result<(), SandboxError> {
        let Some(name) = name else { return Ok(()) };
        match self.names.get(&(owner.clone(), name.to_owned())) {
            Some(other) if *other != id => {
                Err(SandboxError::Taken { what: "snapshot", name: name.to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn find(&self, owner: &Owner, name: &str) -> Result<Arc<Snapshot>, SandboxError> {
        let id = match name.parse() {
            Ok(id) => Some(id),
            Err(_not_an_id) => self.names.get(&(owner.clone(), name.to_owned())).copied(),
        };
        id.and_then(|id| self.all.get(&id))
            .filter(|it| it.owner == *owner && it.status == Status::Ready)
            .cloned()
            .ok_or_else(|| no_such(name))
    }

    fn hold(
        &mut self,
        snapshots: &Arc<Snapshots>,
        layers: &[SnapshotId],
    ) -> Result<Hold, SandboxError> {
        if let Some(gone) = layers.iter().find(|id| !self.all.contains_key(id)) {
            return Err(no_such(gone.as_str()));
        }
        for layer in layers {
            *self.held.entry(*layer).or_default() += 1;
        }
        Ok(Hold { snapshots: Arc::clone(snapshots), layers: layers.to_vec() })
    }
}

fn no_such(name: &str) -> SandboxError {
    SandboxError::NoSuch { what: "snapshot", name: name.to_owned() }
}
