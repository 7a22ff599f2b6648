//! Everything about templates, in memory: what they are, their builds, and what steps have made.
//!
//! A change is written to the store first and counts when that is done. No lock is held meanwhile:
//! changes take their turn behind one asynchronous lock, readers see the state before or after.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{
    log::BuildLog,
    model::{Build, BuildFailure, BuildStatus, Template},
};
use crate::{
    caller::Owner,
    clock::Timestamp,
    error::SandboxError,
    id::{BuildId, SandboxId, SnapshotId, TemplateId},
    shared::Shared,
    spec::Image,
    store::{Object, ObjectChange, ObjectKind, templates as rows},
};

/// How many builds run at once; others wait.
const AT_ONCE: usize = 4;
/// How many builds of one template are remembered.
const REMEMBERED: usize = 10;
/// How many results of steps each owner has at most; those used longest ago go.
const MOST_STEPS: usize = 500;

/// All templates, builds and results of steps.
#[derive(Debug)]
pub(crate) struct Table {
    inner: Mutex<Inner>,
    /// Held by whoever changes a template.
    pub(super) changing: tokio::sync::Mutex<()>,
    pub(super) places: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Inner {
    templates: HashMap<TemplateId, Arc<Template>>,
    names: HashMap<(Owner, String), TemplateId>,
    builds: HashMap<BuildId, Arc<BuildHandle>>,
    steps: HashMap<(Owner, String), CachedStep>,
}

/// What a step made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CachedStep {
    /// The hash of what it was made from: 64 hexadecimal digits.
    pub(crate) key: String,
    pub(crate) owner: Owner,
    /// What there was after it: its own layer is the topmost.
    pub(crate) image: Image,
    /// What its own layer takes, in bytes.
    pub(crate) bytes: u64,
    pub(crate) used_at: Timestamp,
}

/// A build that runs, or has ended.
#[derive(Debug)]
pub(crate) struct BuildHandle {
    pub(super) published: watch::Sender<Arc<Build>>,
    pub(super) log: BuildLog,
    pub(super) cancel: CancellationToken,
}

impl BuildHandle {
    pub(super) fn new(build: Build, log: BuildLog) -> Arc<Self> {
        let published = watch::Sender::new(Arc::new(build));
        Arc::new(Self { published, log, cancel: CancellationToken::new() })
    }

    pub(super) fn build(&self) -> Arc<Build> {
        Arc::clone(&self.published.borrow())
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Build)) {
        self.published.send_modify(|build| change(Arc::make_mut(build)));
    }
}

impl Default for Table {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Self { inner: Mutex::default(), changing: tokio::sync::Mutex::default(), places }
    }
}

impl Table {
    pub(super) fn by_id(&self, id: TemplateId) -> Option<Arc<Template>> {
        self.lock().templates.get(&id).cloned()
    }

    pub(super) fn by_name(&self, owner: &Owner, name: &str) -> Option<Arc<Template>> {
        let inner = self.lock();
        let id = inner.names.get(&(owner.clone(), name.to_owned()))?;
        inner.templates.get(id).cloned()
    }

    /// The owner's templates, in the order of their names.
    pub(super) fn of(&self, owner: &Owner) -> Vec<Arc<Template>> {
        let mut found: Vec<_> =
            self.lock().templates.values().filter(|it| it.owner == *owner).cloned().collect();
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        found
    }

    pub(super) fn every(&self) -> Vec<Arc<Template>> {
        self.lock().templates.values().cloned().collect()
    }

    pub(super) fn put(&self, template: Arc<Template>) {
        let mut inner = self.lock();
        inner.names.insert((template.owner.clone(), template.name.clone()), template.id);
        inner.templates.insert(template.id, template);
    }

    pub(super) fn forget(&self, template: &Template) -> Vec<BuildId> {
        let mut inner = self.lock();
        inner.templates.remove(&template.id);
        inner.names.remove(&(template.owner.clone(), template.name.clone()));
        let builds: Vec<_> = inner
            .builds
            .iter()
            .filter(|(_, handle)| handle.build().template == template.id)
            .map(|(id, _)| *id)
            .collect();
        for id in &builds {
            inner.builds.remove(id);
        }
        builds
    }

    pub(super) fn build(&self, id: BuildId) -> Option<Arc<BuildHandle>> {
        self.lock().builds.get(&id).cloned()
    }

    /// The builds of a template, the newest first.
    pub(super) fn builds_of(&self, template: TemplateId) -> Vec<Arc<BuildHandle>> {
        let mut found: Vec<_> = self
            .lock()
            .builds
            .values()
            .filter(|handle| handle.build().template == template)
            .cloned()
            .collect();
        found.sort_unstable_by_key(|handle| {
            let build = handle.build();
            std::cmp::Reverse((build.created_at, build.id))
        });
        found
    }

    /// Remembers a build, and says which ended ones are too many by now.
    pub(super) fn put_build(&self, handle: Arc<BuildHandle>) -> Vec<BuildId> {
        let build = handle.build();
        self.lock().builds.insert(build.id, handle);
        let over = self.builds_of(build.template).into_iter().map(|it| it.build());
        let gone: Vec<_> =
            over.skip(REMEMBERED).filter(|it| it.status.is_over()).map(|it| it.id).collect();
        let mut inner = self.lock();
        for id in &gone {
            inner.builds.remove(id);
        }
        gone
    }

    /// Forgets a build.
    pub(super) fn drop_build(&self, id: BuildId) {
        self.lock().builds.remove(&id);
    }

    /// What a step made before, if it is remembered.
    pub(super) fn step(&self, owner: &Owner, key: &str, now: Timestamp) -> Option<CachedStep> {
        let mut inner = self.lock();
        let step = inner.steps.get_mut(&(owner.clone(), key.to_owned()))?;
        step.used_at = now;
        Some(step.clone())
    }

    /// Remembers what a step made; gives the keys of those that are too many by now.
    pub(super) fn put_step(&self, step: CachedStep) -> Vec<String> {
        let mut inner = self.lock();
        let owner = step.owner.clone();
        inner.steps.insert((owner.clone(), step.key.clone()), step);
        let mut own: Vec<_> = inner
            .steps
            .values()
            .filter(|step| step.owner == owner)
            .map(|step| (step.used_at, step.key.clone()))
            .collect();
        let too_many = own.len().saturating_sub(MOST_STEPS);
        own.sort_unstable();
        let gone: Vec<_> = own.into_iter().take(too_many).map(|(_, key)| key).collect();
        for key in &gone {
            inner.steps.remove(&(owner.clone(), key.clone()));
        }
        gone
    }

    /// Forgets all that the steps of an owner made; gives the keys.
    pub(super) fn forget_steps(&self, owner: &Owner) -> Vec<String> {
        let mut inner = self.lock();
        let keys: Vec<_> = inner
            .steps
            .keys()
            .filter(|(whose, _)| whose == owner)
            .map(|(_, key)| key.clone())
            .collect();
        inner.steps.retain(|(whose, _), _| whose != owner);
        keys
    }

    /// Every image that a template or a remembered step needs.
    pub(crate) fn images(&self) -> Vec<Image> {
        let inner = self.lock();
        let versions = inner.templates.values().flat_map(|template| &template.versions);
        let versions = versions.map(|version| version.image.clone());
        versions.chain(inner.steps.values().map(|step| step.image.clone())).collect()
    }

    /// Every saved layer that a template or a remembered step needs.
    pub(crate) fn layers(&self) -> HashSet<SnapshotId> {
        self.images().iter().flat_map(|image| image.layers().to_vec()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills the table from what was stored. A build that was under way has failed, and the sandbox it
/// had is removed: gives those.
pub(crate) fn restore(shared: &Shared, objects: &[Object]) -> (Vec<SandboxId>, ObjectChange) {
    let table = &shared.templates;
    let mut lost = Vec::new();
    let mut change = ObjectChange::default();
    for object in objects {
        match object.kind {
            ObjectKind::Template => match rows::template(object) {
                Some(template) => table.put(Arc::new(template)),
                None => tracing::error!(id = object.id, "the row of a template cannot be read"),
            },
            ObjectKind::Build => {
                let Some((mut build, log)) = rows::build(object) else { continue };
                let log = BuildLog::new(log);
                if !build.status.is_over() {
                    lost.extend(build.sandbox.take());
                    fail_interrupted(&mut build, &log, shared.clock.now());
                    change.put.push(rows::build_object(&build, &log.tail()));
                }
                table.put_build(BuildHandle::new(build, log));
            }
            ObjectKind::BuildStep => {
                if let Some(step) = rows::step(object) {
                    table.put_step(step);
                }
            }
            _ => {}
        }
    }
    (lost, change)
}

fn fail_interrupted(build: &mut Build, log: &BuildLog, now: Timestamp) {
    let message = "the server ended while this was being built: build it again, finished steps \
                   are found"
        .to_owned();
    log.say(now, super::Level::Error, None, &message);
    build.status = BuildStatus::Failed;
    build.finished_at = Some(now);
    build.failure = Some(BuildFailure { message, line: None, step: None });
}

impl Shared {
    /// Writes rows; they are on the disk when this answers, where they are to be durable.
    pub(super) async fn write(&self, change: ObjectChange) -> Result<(), SandboxError> {
        self.store.change_objects(change).await.map_err(SandboxError::store("store the template"))
    }
}
