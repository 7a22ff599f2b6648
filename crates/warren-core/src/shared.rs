//! What the facade, the drivers and the background tasks share: the runtime, the store, and the
//! registry of all sandboxes. Its one lock is never held across an await, and nothing under it
//! takes longer than a look-up.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use tokio::sync::watch;

use crate::{
    access::KeyTable,
    caller::{Caller, Owner},
    clock::Clock,
    config::Config,
    credentials::Credentials,
    domains::Domains,
    error::SandboxError,
    git,
    id::SandboxId,
    identity::Issuer,
    pool::Pool,
    ports::Followers,
    quota,
    runtime::Runtime,
    sandbox::{Sandbox, handle::Handle},
    sandboxes::turns::Turns,
    secrets::Secrets,
    snapshots::Snapshots,
    spec::Limits,
    store::{Key, Store},
    templates,
    volumes::Volumes,
};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Config,
    pub(crate) pool: Pool,
    /// How many creates are under way: background work waits while there are any.
    pub(crate) creating: watch::Sender<u32>,
    pub(crate) api_keys: KeyTable,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) templates: templates::Table,
    pub(crate) volumes: Arc<Volumes>,
    pub(crate) secrets: Secrets,
    /// What requests of sandboxes are given, of those that are given anything.
    pub(crate) credentials: Mutex<HashMap<SandboxId, Arc<Credentials>>>,
    /// Who may say so to the runtime.
    pub(crate) turns: Turns,
    /// Who says what sandboxes are, where somebody can.
    pub(crate) issuer: OnceLock<Issuer>,
    /// Those whose credentials this server cannot open.
    pub(crate) unopened: Mutex<HashSet<SandboxId>>,
    pub(crate) followers: Followers,
    pub(crate) domains: Domains,
    pub(crate) git: git::Sessions,
    pub(crate) rescues: git::rescue::Rescues,
    registry: Mutex<Registry>,
}

mod projects;

use projects::Projects;

/// Every sandbox by its id, and what must be unique among them.
#[derive(Debug, Default)]
struct Registry {
    handles: HashMap<SandboxId, Arc<Handle>>,
    /// The names of living sandboxes.
    names: HashMap<(Owner, String), SandboxId>,
    keys: HashMap<(Owner, String), Key>,
    in_use: quota::InUse,
    projects: Projects,
    closed: bool,
}

/// The right to exist: a place in the quota, and a name. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    shared: Weak<Shared>,
    owner: Owner,
    limits: Limits,
    /// Whether the place in the quota is taken: one that is stopped has only its name.
    placed: bool,
    name: Option<(Owner, String)>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut registry = shared.lock();
        if self.placed {
            registry.in_use.release(&self.limits);
            registry.projects.release(&self.owner, &self.limits);
        }
        if let Some(name) = &self.name {
            registry.names.remove(name);
        }
    }
}

impl Admission {
    /// Gives the place in the quota back and keeps the name.
    pub(crate) fn rest(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        if std::mem::take(&mut self.placed) {
            let mut registry = shared.lock();
            registry.in_use.release(&self.limits);
            registry.projects.release(&self.owner, &self.limits);
        }
    }

    /// Takes a place in the quota again.
    pub(crate) fn take_place(&mut self) -> Result<(), SandboxError> {
        let Some(shared) = self.shared.upgrade() else { return Err(SandboxError::ShuttingDown) };
        if !self.placed {
            let registry = &mut *shared.lock();
            let project = registry.projects.admitting(&self.owner)?;
            quota::admit((&mut registry.in_use, &shared.config.quota), project, &self.limits)?;
            self.placed = true;
        }
        Ok(())
    }
}

/// One create under way, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Creating<'a>(&'a watch::Sender<u32>);

impl Drop for Creating<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// What came of looking for an idempotency key.
#[derive(Debug)]
pub(crate) enum KeyUse {
    /// It is new.
    New,
    /// The same request made this sandbox before, or is making it.
    Made(SandboxId),
}

impl Shared {
    pub(crate) fn new(
        runtime: Arc<dyn Runtime>,
        store: Store,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Self {
        let pool = Pool::new(config.pool.clone(), &config.defaults);
        let creating = watch::Sender::new(0);
        let (api_keys, registry) = (KeyTable::default(), Mutex::default());
        let (snapshots, templates) = (Arc::default(), templates::Table::default());
        let (volumes, secrets) = (Arc::default(), Secrets::default());
        Self {
            runtime,
            store,
            clock,
            config,
            pool,
            creating,
            api_keys,
            snapshots,
            templates,
            volumes,
            secrets,
            credentials: Mutex::default(),
            issuer: OnceLock::new(),
            turns: Turns::default(),
            unopened: Mutex::default(),
            followers: Followers::default(),
            domains: Domains::default(),
            git: git::Sessions::default(),
            rescues: git::rescue::Rescues::default(),
            registry,
        }
    }

    /// Where bundles of work are kept.
    pub(crate) fn rescue_files(&self) -> Result<Arc<dyn git::RescueFiles>, SandboxError> {
        let operation = "keep bundles of work";
        self.runtime.rescue_files().ok_or(SandboxError::Unsupported { operation })
    }

    /// Counts a create for as long as the guard lives.
    pub(crate) fn creating(&self) -> Creating<'_> {
        self.creating.send_modify(|count| *count += 1);
        Creating(&self.creating)
    }

    /// A place for one more sandbox.
    pub(crate) fn admit(
        self: &Arc<Self>,
        owner: &Owner,
        id: SandboxId,
        name: Option<&str>,
        limits: &Limits,
    ) -> Result<Admission, SandboxError> {
        let registry = &mut *self.lock();
        if registry.closed {
            return Err(SandboxError::ShuttingDown);
        }
        let project = registry.projects.admitting(owner)?;
        let name = name.map(|name| (owner.clone(), name.to_owned()));
        if let Some(taken) = name.as_ref().filter(|name| registry.names.contains_key(name)) {
            return Err(SandboxError::NameTaken { name: taken.1.clone() });
        }
        quota::admit((&mut registry.in_use, &self.config.quota), project, limits)?;
        if let Some(name) = &name {
            registry.names.insert(name.clone(), id);
        }
        Ok(self.admission(owner, limits, name, true))
    }

    /// The place of a sandbox that exists already; its name alone where it is stopped.
    pub(crate) fn readmit(self: &Arc<Self>, sandbox: &Sandbox) -> Admission {
        let placed = sandbox.state.is_living();
        let limits = &sandbox.spec.limits;
        let mut registry = self.lock();
        if placed {
            registry.in_use.adopt(limits);
            registry.projects.readmit(&sandbox.owner, limits);
        }
        let name = sandbox.name.clone().map(|name| (sandbox.owner.clone(), name));
        if let Some(name) = &name {
            registry.names.insert(name.clone(), sandbox.id);
        }
        self.admission(&sandbox.owner, limits, name, placed)
    }

    fn admission(
        self: &Arc<Self>,
        owner: &Owner,
        limits: &Limits,
        name: Option<(Owner, String)>,
        placed: bool,
    ) -> Admission {
        let (shared, owner) = (Arc::downgrade(self), owner.clone());
        Admission { shared, owner, limits: limits.clone(), placed, name }
    }

    /// Makes a sandbox known.
    pub(crate) fn register(&self, handle: Arc<Handle>) {
        self.lock().handles.insert(handle.id(), handle);
    }

    /// Makes a sandbox unknown.
    pub(crate) fn unregister(&self, id: SandboxId) {
        self.lock().handles.remove(&id);
        self.snapshots.look_again();
    }

    /// The caller's sandbox with this id or name. Somebody else's is not found.
    pub(crate) fn find(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<Arc<Handle>, SandboxError> {
        let registry = self.lock();
        let id = match id_or_name.parse() {
            Ok(id) => Some(id),
            Err(_not_an_id) => {
                registry.names.get(&(caller.owner().clone(), id_or_name.to_owned())).copied()
            }
        };
        id.and_then(|id| registry.handles.get(&id))
            .filter(|handle| handle.sandbox().owner == *caller.owner())
            .cloned()
            .ok_or_else(|| SandboxError::not_found(id_or_name))
    }

    /// The sandbox with this id, whosever it is.
    pub(crate) fn any(&self, id: SandboxId) -> Option<Arc<Handle>> {
        self.lock().handles.get(&id).cloned()
    }

    /// All sandboxes, parked ones too.
    pub(crate) fn all(&self) -> Vec<Arc<Handle>> {
        self.lock().handles.values().cloned().collect()
    }

    /// How many living sandboxes have an owner.
    pub(crate) fn living(&self) -> u32 {
        self.lock().in_use.sandboxes()
    }

    /// Looks for a key's first use, and takes it for `key.sandbox` where there was none.
    pub(crate) fn use_key(&self, key: &Key) -> Result<KeyUse, SandboxError> {
        let mut registry = self.lock();
        match registry.keys.get(&(key.owner.clone(), key.key.clone())) {
            None => {
                registry.keys.insert((key.owner.clone(), key.key.clone()), key.clone());
                Ok(KeyUse::New)
            }
            Some(first) if first.fingerprint == key.fingerprint => Ok(KeyUse::Made(first.sandbox)),
            Some(_other_request) => Err(SandboxError::KeyReused),
        }
    }

    /// Makes a key that was taken point to another sandbox.
    pub(crate) fn point_key(&self, key: &Key) {
        self.lock().keys.insert((key.owner.clone(), key.key.clone()), key.clone());
    }

    /// Frees the key of a request that failed.
    pub(crate) fn free_key(&self, key: &Key) {
        self.lock().keys.remove(&(key.owner.clone(), key.key.clone()));
    }

    /// Remembers keys that were stored.
    pub(crate) fn restore_keys(&self, keys: impl Iterator<Item = Key>) {
        let keyed = keys.map(|key| ((key.owner.clone(), key.key.clone()), key));
        self.lock().keys.extend(keyed);
    }

    /// Forgets the keys that `keep` refuses.
    pub(crate) fn retain_keys(&self, keep: impl Fn(&Key) -> bool) {
        self.lock().keys.retain(|_, key| keep(key));
    }

    /// Refuses new sandboxes and lets go of all handles, so that drivers end. Their sandboxes live
    /// on.
    pub(crate) fn close(&self) {
        let mut registry = self.lock();
        registry.closed = true;
        let handles = std::mem::take(&mut registry.handles);
        drop(registry);
        drop(handles);
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
