//! What the edges call: templates, their tags, and their builds.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::{
    builder,
    files::{BuildFiles, Contents, FilesError, Taken},
    log::{BuildLog, BuildLogEntry},
    model::{
        Build, BuildStatus, DEFAULT_TAG, Tagged, Template, WantedLimits, check_name, check_tag,
    },
    request::BuildRequest,
    resolve,
    table::BuildHandle,
};
use crate::{
    Sandboxes,
    caller::Caller,
    error::SandboxError,
    id::{BuildId, TemplateId},
    shared::Shared,
    store::{ObjectChange, ObjectKind, templates as rows},
};

/// The most bytes that one upload of files may have, unpacked.
const MOST_UPLOAD: u64 = 8 << 30;
/// How long a change waits for room on a full disk, where what it lets go makes that room.
const ROOM: Duration = Duration::from_secs(10);

/// The templates of this server. A clone is another handle to the same ones.
#[derive(Clone, Debug)]
pub struct Templates {
    pub(super) sandboxes: Sandboxes,
}

impl Sandboxes {
    /// The templates of this server.
    #[must_use]
    pub fn templates(&self) -> Templates {
        Templates { sandboxes: self.clone() }
    }
}

impl Templates {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.sandboxes.shared
    }

    /// The caller's templates, in the order of their names.
    #[must_use]
    pub fn list(&self, caller: &Caller) -> Vec<Arc<Template>> {
        self.shared().templates.of(caller.owner())
    }

    /// The template of this id or name: the caller's, or a public one.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoTemplate`].
    pub fn get(&self, caller: &Caller, name: &str) -> Result<Arc<Template>, SandboxError> {
        resolve::find(self.shared(), caller, name)
    }

    /// Takes files in that builds copy from: a tar archive. `id` is what they will be called; one
    /// is made up where there is none. Files of different owners never meet.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Invalid`] for an archive that cannot be taken,
    /// [`SandboxError::Unsupported`].
    pub async fn upload(
        &self,
        caller: &Caller,
        id: Option<&str>,
        archive: Contents,
    ) -> Result<(String, Taken), SandboxError> {
        let id = match id {
            Some(id) if warren_dockerfile::steps::is_hash(id) => id.to_owned(),
            Some(_) => {
                let reason = "expected a SHA-256: 64 hexadecimal digits";
                return Err(SandboxError::invalid("hash", reason));
            }
            None => BuildId::mint().to_string(),
        };
        let files = self.files()?;
        let taken = files.take(&stored_id(caller, &id), archive, MOST_UPLOAD).await;
        Ok((id, taken.map_err(files_error)?))
    }

    /// Whether files of this id were uploaded before.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Unsupported`].
    pub async fn has_files(&self, caller: &Caller, id: &str) -> Result<bool, SandboxError> {
        let wellformed = warren_dockerfile::steps::is_hash(id) || id.parse::<BuildId>().is_ok();
        Ok(wellformed && self.files()?.has(&stored_id(caller, id)).await)
    }

    /// Announces a build: the template is made where there is none, and the build waits for
    /// [`Templates::start`]. `limits` is remembered for whoever starts it.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Invalid`], [`SandboxError::Store`].
    pub async fn announce(
        &self,
        caller: &Caller,
        name: &str,
        tags: &[String],
        limits: WantedLimits,
    ) -> Result<Arc<Build>, SandboxError> {
        check_name(name)?;
        tags.iter().try_for_each(|tag| check_tag(tag))?;
        let shared = self.shared();
        let _turn = shared.templates.changing.lock().await;
        let now = shared.clock.now();
        let mut change = ObjectChange { durable: true, ..ObjectChange::default() };
        let known = shared.templates.by_name(caller.owner(), name);
        let template = known.unwrap_or_else(|| {
            let template = Template {
                id: TemplateId::mint(),
                owner: caller.owner().clone(),
                name: name.to_owned(),
                public: false,
                created_at: now,
                updated_at: now,
                tags: BTreeMap::new(),
                versions: Vec::new(),
                next_number: 1,
                warm: 0,
            };
            change.put.push(rows::template_object(&template));
            Arc::new(template)
        });
        let tags = match tags.is_empty() {
            true => vec![DEFAULT_TAG.to_owned()],
            false => tags.to_vec(),
        };
        let build = Build {
            id: BuildId::mint(),
            template: template.id,
            name: name.to_owned(),
            owner: caller.owner().clone(),
            tags,
            limits,
            status: BuildStatus::Waiting,
            created_at: now,
            finished_at: None,
            steps: 0,
            done: 0,
            cached: 0,
            failure: None,
            sandbox: None,
        };
        change.put.push(rows::build_object(&build, &[]));
        shared.write(change).await?;
        shared.templates.put(template);
        let handle = BuildHandle::new(build, BuildLog::new(Vec::new()));
        let published = handle.build();
        let gone = shared.templates.put_build(handle);
        forget_builds(shared, gone).await?;
        Ok(published)
    }

    /// Starts an announced build. It goes on whoever waits for it.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoBuild`], [`SandboxError::Invalid`] for what cannot be built, or where it
    /// was started before; [`SandboxError::Unsupported`] where this runtime makes no layers.
    pub fn start(
        &self,
        caller: &Caller,
        id: BuildId,
        request: BuildRequest,
    ) -> Result<Arc<Build>, SandboxError> {
        request.check()?;
        if request.warm.is_some_and(|warm| warm > 0) {
            caller.require_host("have sandboxes of a template wait ready")?;
        }
        let handle = self.own_build(caller, id)?;
        let shared = self.shared();
        if shared.runtime.capabilities().snapshot.is_none() {
            return Err(SandboxError::Unsupported { operation: "build templates" });
        }
        let globals = request.globals()?;
        let plan = request.recipe.plan(request.target.as_deref(), &globals);
        let plan = plan.map_err(|error| SandboxError::invalid("dockerfile", error.to_string()))?;
        let mut started = false;
        handle.published.send_modify(|build| {
            let waits = build.status == BuildStatus::Waiting && build.steps == 0;
            if waits && build.name == request.name {
                Arc::make_mut(build).steps = builder::count_steps(&request.recipe, &plan);
                started = true;
            }
        });
        if !started {
            return Err(SandboxError::invalid("build", "it was started before, or is another's"));
        }
        let build = builder::Builder::new(self, caller, Arc::clone(&handle), request, globals);
        shared.store.tasks().spawn(build.run(plan));
        Ok(handle.build())
    }

    /// Announces a build and starts it.
    ///
    /// # Errors
    ///
    /// As [`Templates::announce`] and [`Templates::start`]; nothing is left of it then.
    pub async fn build(
        &self,
        caller: &Caller,
        request: BuildRequest,
    ) -> Result<Arc<Build>, SandboxError> {
        request.check()?;
        let globals = request.globals()?;
        let planned = request.recipe.plan(request.target.as_deref(), &globals);
        planned.map_err(|error| SandboxError::invalid("dockerfile", error.to_string()))?;
        let existed = self.shared().templates.by_name(caller.owner(), &request.name).is_some();
        let build = self.announce(caller, &request.name, &request.tags, request.limits).await?;
        match self.start(caller, build.id, request) {
            Ok(build) => Ok(build),
            Err(error) => {
                if existed {
                    self.shared().templates.drop_build(build.id);
                    forget_builds(self.shared(), vec![build.id]).await?;
                } else {
                    self.delete(caller, &build.template.to_string()).await?;
                }
                Err(error)
            }
        }
    }

    /// The builds of a template that are remembered, the newest first.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoTemplate`].
    pub fn builds(&self, caller: &Caller, name: &str) -> Result<Vec<Arc<Build>>, SandboxError> {
        let template = resolve::find_own(self.shared(), caller, name)?;
        let builds = self.shared().templates.builds_of(template.id);
        Ok(builds.into_iter().map(|handle| handle.build()).collect())
    }

    /// One of the caller's builds.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoBuild`].
    pub fn get_build(&self, caller: &Caller, id: BuildId) -> Result<Arc<Build>, SandboxError> {
        self.own_build(caller, id).map(|handle| handle.build())
    }

    /// At most `limit` entries of a build's log behind `after`, in order.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoBuild`].
    pub fn build_log(
        &self,
        caller: &Caller,
        id: BuildId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<BuildLogEntry>, SandboxError> {
        Ok(self.own_build(caller, id)?.log.read(after, limit))
    }

    /// A build's log from some place on, and what is added to it until the build ends.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoBuild`].
    pub fn follow_build(
        &self,
        caller: &Caller,
        id: BuildId,
        after: u64,
    ) -> Result<BuildFollower, SandboxError> {
        let handle = self.own_build(caller, id)?;
        let (written, published) = (handle.log.written(), handle.published.subscribe());
        Ok(BuildFollower { handle, after, written, published })
    }

    /// Ends a build that runs or waits; one that has ended stays as it is.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoBuild`].
    pub async fn cancel(&self, caller: &Caller, id: BuildId) -> Result<Arc<Build>, SandboxError> {
        let handle = self.own_build(caller, id)?;
        handle.cancel.cancel();
        if handle.build().steps == 0 && handle.build().status == BuildStatus::Waiting {
            // It was never started: nobody else ends it.
            builder::end_cancelled(self.shared(), &handle).await?;
        }
        let mut published = handle.published.subscribe();
        // The sender is the handle's own.
        published.wait_for(|build| build.status.is_over()).await.ok();
        Ok(handle.build())
    }

    /// Gives a version more tags; tags that other versions have go over to it.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoTemplate`], [`SandboxError::Invalid`], [`SandboxError::Store`].
    pub async fn tag(
        &self,
        caller: &Caller,
        source: &str,
        tags: &[String],
    ) -> Result<Arc<Template>, SandboxError> {
        tags.iter().try_for_each(|tag| check_tag(tag))?;
        let (template, version) = self.resolve(caller, source)?;
        self.change(caller, &template.id.to_string(), |template, now| {
            for tag in tags {
                template.tags.insert(tag.clone(), Tagged { build: version.build, at: now });
            }
            Ok(())
        })
        .await
    }

    /// Takes a tag away. Versions without a tag go after a while.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoTemplate`], also where it has no such tag.
    pub async fn untag(
        &self,
        caller: &Caller,
        name: &str,
        tag: &str,
    ) -> Result<Arc<Template>, SandboxError> {
        self.change(caller, name, |template, _now| match template.tags.remove(tag) {
            Some(_) => Ok(()),
            None => Err(SandboxError::NoTemplate { name: format!("{name}:{tag}") }),
        })
        .await
    }

    /// Changes whether others may use it, and how many of its sandboxes wait ready.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoTemplate`], [`SandboxError::Invalid`], [`SandboxError::Denied`].
    pub async fn update(
        &self,
        caller: &Caller,
        name: &str,
        public: Option<bool>,
        warm: Option<u32>,
    ) -> Result<Arc<Template>, SandboxError> {
        if warm.is_some_and(|warm| warm > 0) {
            caller.require_host("have sandboxes of a template wait ready")?;
        }
        if warm.is_some_and(|warm| warm > 16) {
            return Err(SandboxError::invalid("warm", "at most 16 are allowed"));
        }
        self.change(caller, name, |template, _now| {
            template.public = public.unwrap_or(template.public);
            template.warm = warm.unwrap_or(template.warm);
            Ok(())
        })
        .await
    }

    /// Removes a template with its versions and builds. Sandboxes made from it go on.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoTemplate`], [`SandboxError::Store`].
    pub async fn delete(&self, caller: &Caller, name: &str) -> Result<(), SandboxError> {
        let shared = self.shared();
        let _turn = shared.templates.changing.lock().await;
        let template = resolve::find_own(shared, caller, name)?;
        for handle in shared.templates.builds_of(template.id) {
            handle.cancel.cancel();
        }
        let builds = shared.templates.builds_of(template.id).into_iter().map(|it| it.build().id);
        let mut remove = vec![(ObjectKind::Template, template.id.to_string())];
        remove.extend(builds.map(|id| (ObjectKind::Build, id.to_string())));
        shared.write(ObjectChange { remove, durable: true, ..ObjectChange::default() }).await?;
        shared.templates.forget(&template);
        self.sandboxes.provide_warm(&template, None).await;
        shared.collect_layers();
        Ok(())
    }

    /// Forgets what the steps of the caller's builds made, so that the next build does them anew.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Store`].
    pub async fn forget_cache(&self, caller: &Caller) -> Result<usize, SandboxError> {
        let shared = self.shared();
        let keys = shared.templates.forget_steps(caller.owner());
        // First of all: on a disk that is full there is no room for a change before they have gone.
        shared.collect_layers();
        let row = |key: &String| (ObjectKind::BuildStep, rows::step_id(caller.owner(), key));
        let remove: Vec<_> = keys.iter().map(row).collect();
        let change = || ObjectChange { remove: remove.clone(), ..ObjectChange::default() };
        let until = Instant::now() + ROOM;
        loop {
            match shared.write(change()).await {
                Ok(()) => return Ok(keys.len()),
                Err(SandboxError::Exhausted { .. }) if Instant::now() < until => {
                    tokio::time::sleep(ROOM / 50).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Changes one of the caller's templates, in memory when it is on the disk.
    pub(super) async fn change(
        &self,
        caller: &Caller,
        name: &str,
        change: impl FnOnce(&mut Template, crate::clock::Timestamp) -> Result<(), SandboxError>,
    ) -> Result<Arc<Template>, SandboxError> {
        let shared = self.shared();
        let changed = {
            let _turn = shared.templates.changing.lock().await;
            let mut template = (*resolve::find_own(shared, caller, name)?).clone();
            let now = shared.clock.now();
            change(&mut template, now)?;
            template.updated_at = now;
            template.drop_old_versions();
            let put = vec![rows::template_object(&template)];
            shared.write(ObjectChange { put, durable: true, ..ObjectChange::default() }).await?;
            let template = Arc::new(template);
            shared.templates.put(Arc::clone(&template));
            template
        };
        self.sandboxes.warm_up_template(&changed).await;
        shared.collect_layers();
        Ok(changed)
    }

    pub(super) fn files(&self) -> Result<Arc<dyn BuildFiles>, SandboxError> {
        let files = self.shared().runtime.build_files();
        files.ok_or(SandboxError::Unsupported { operation: "keep files for builds" })
    }

    fn own_build(&self, caller: &Caller, id: BuildId) -> Result<Arc<BuildHandle>, SandboxError> {
        let found = self.shared().templates.build(id);
        found
            .filter(|handle| handle.build().owner == *caller.owner())
            .ok_or(SandboxError::NoBuild { name: id.to_string() })
    }
}

/// What an owner's files are called where they are kept.
pub(super) fn stored_id(caller: &Caller, id: &str) -> String {
    format!("{}_{id}", caller.owner().as_str())
}

/// What trouble with files means to a caller.
pub(super) fn files_error(error: FilesError) -> SandboxError {
    match error {
        FilesError::NotFound { .. } | FilesError::NoSource { .. } => {
            SandboxError::invalid("context", error.to_string())
        }
        FilesError::Refused { reason } => SandboxError::invalid("context", reason),
        FilesError::Broken(source) => {
            tracing::debug!(%source, "an upload broke off");
            SandboxError::invalid("context", "the upload broke off")
        }
        FilesError::Host { operation, source } => {
            let source = crate::runtime::RuntimeError::Host { operation, source: source.into() };
            SandboxError::Runtime { operation, source }
        }
    }
}

pub(super) async fn forget_builds(shared: &Shared, ids: Vec<BuildId>) -> Result<(), SandboxError> {
    if ids.is_empty() {
        return Ok(());
    }
    let remove = ids.into_iter().map(|id| (ObjectKind::Build, id.to_string())).collect();
    shared.write(ObjectChange { remove, ..ObjectChange::default() }).await
}

/// A build's log, as it grows.
#[derive(Debug)]
pub struct BuildFollower {
    handle: Arc<BuildHandle>,
    after: u64,
    written: watch::Receiver<u64>,
    published: watch::Receiver<Arc<Build>>,
}

impl BuildFollower {
    /// The next entries; none when the build has ended and everything was given. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Option<Vec<BuildLogEntry>> {
        loop {
            // Asked first: what is written before the end is read after it.
            let over = self.published.borrow_and_update().status.is_over();
            self.written.borrow_and_update();
            let entries = self.handle.log.read(self.after, 256);
            if let Some(last) = entries.last() {
                self.after = last.seq;
                return Some(entries);
            }
            if over {
                return None;
            }
            tokio::select! {
                _ = self.written.changed() => {}
                _ = self.published.changed() => {}
            }
        }
    }

    /// The build as it is now.
    #[must_use]
    pub fn build(&self) -> Arc<Build> {
        self.handle.build()
    }
}
