//! One build, from its first stage to its version.
//!
//! Every step that changes files runs in a sandbox of its own, which nobody sees and which does not
//! outlive the server: its image is what the steps before it made, and when it is done its files
//! become the next layer, without being copied. The layer is remembered by the hash of what it was
//! made from, so that the same step on the same files is not done again.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use warren_dockerfile::{
    Recipe,
    plan::{Base, Plan},
    recipe::{Instruction, Stage, Step},
    scope::Globals,
};

use super::{
    facade::{Templates, forget_builds},
    log::Level,
    model::{Build, BuildFailure, BuildStatus, Tagged, TemplateConfig, TemplateVersion},
    request::BuildRequest,
    table::BuildHandle,
};
use crate::{
    caller::Caller,
    error::SandboxError,
    id::SnapshotId,
    images::Held,
    shared::Shared,
    snapshots::Hold,
    spec::Image,
    store::{ObjectChange, templates as rows},
};

mod bases;
mod copy;
mod key;
mod layer;
mod run;
mod stage;
mod trial;

/// How long a build may take where its request does not say.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// How long the end of a build waits for what its steps leave to be removed.
const CLEAR_UP: Duration = Duration::from_secs(30);

/// One build that runs.
pub(super) struct Builder {
    pub(super) templates: Templates,
    pub(super) caller: Caller,
    pub(super) handle: Arc<BuildHandle>,
    pub(super) request: BuildRequest,
    pub(super) globals: Globals,
    pub(super) deadline: Instant,
    /// What is being done: it is to blame for what goes wrong.
    at: Mutex<Option<At>>,
    /// Layers that stay for as long as this runs.
    holds: Mutex<Vec<Hold>>,
    /// The images that stages stand on.
    images: Mutex<Vec<Held>>,
    /// Sandboxes of steps that are being removed, or become layers.
    leftovers: TaskTracker,
}

/// A step that is being done.
#[derive(Clone, Debug)]
struct At {
    number: u32,
    line: u32,
    text: String,
}

/// What a stage made.
#[derive(Clone, Debug)]
pub(super) struct Built {
    pub(super) image: Image,
    pub(super) config: TemplateConfig,
    /// The hash of all that it was made from.
    pub(super) key: String,
    /// What commands are run by.
    pub(super) shell: Vec<String>,
    /// What its layers take, in bytes.
    pub(super) bytes: u64,
}

/// How many steps a build has, those of stages that are not needed left out.
pub(super) fn count_steps(recipe: &Recipe, plan: &Plan) -> u32 {
    let steps = |index: usize| recipe.stages.get(index).map_or(0, |stage| stage.steps.len());
    let count: usize = plan.stages.iter().map(|stage| steps(stage.index) + 1).sum();
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Builder {
    pub(super) fn new(
        templates: &Templates,
        caller: &Caller,
        handle: Arc<BuildHandle>,
        request: BuildRequest,
        globals: Globals,
    ) -> Self {
        let deadline = Instant::now() + request.timeout.unwrap_or(TIMEOUT);
        let (templates, caller) = (templates.clone(), caller.clone());
        let (at, holds, images) = (Mutex::default(), Mutex::default(), Mutex::default());
        let leftovers = TaskTracker::new();
        Self { templates, caller, handle, request, globals, deadline, at, holds, images, leftovers }
    }

    /// Builds, and says how it ended.
    pub(super) async fn run(self, plan: Plan) {
        let cancelled = self.handle.cancel.clone();
        let stop = self.templates.sandboxes.stop_token();
        let work = tokio::time::timeout_at(self.deadline, self.work(plan));
        let done = tokio::select! {
            biased;
            () = cancelled.cancelled() => Err(Ended::Cancelled),
            () = stop.cancelled() => Err(Ended::Stopped),
            done = work => match done {
                Ok(done) => done.map_err(Ended::Failed),
                Err(_elapsed) => Err(Ended::TimedOut),
            },
        };
        if done.is_err() {
            self.clear_up().await;
        }
        let shared = self.shared();
        if let Err(ended) = done
            && let Err(error) = self.end_badly(ended).await
        {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(build.id = %self.build().id, error = cause, "its end is not stored");
        }
        let shared = Arc::clone(shared);
        drop(self);
        shared.collect_layers();
    }

    /// Keeps layers until the end of the build. Fails where one has gone.
    pub(super) fn hold(&self, layers: &[SnapshotId]) -> Result<(), SandboxError> {
        let hold = self.shared().snapshots.hold(layers)?;
        self.holds.lock().unwrap_or_else(PoisonError::into_inner).push(hold);
        Ok(())
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.templates.shared()
    }

    pub(super) fn build(&self) -> Arc<Build> {
        self.handle.build()
    }

    /// Adds a line to the log. Secrets in it are made unreadable.
    pub(super) fn say(&self, level: Level, text: &str) {
        let number = self.at().map(|at| at.number);
        let text = self.without_secrets(text);
        self.handle.log.say(self.shared().clock.now(), level, number, &text);
    }

    async fn work(&self, plan: Plan) -> Result<(), SandboxError> {
        let places = Arc::clone(&self.shared().templates.places);
        let _place = places.acquire_owned().await.map_err(|_closed| SandboxError::ShuttingDown)?;
        self.handle.change(|build| build.status = BuildStatus::Building);
        self.write_build().await?;
        for warning in &self.request.recipe.warnings {
            self.say(Level::Warn, &format!("line {}: {}", warning.line, warning.text));
        }
        self.say_unused();
        let mut built: Vec<Option<Built>> = vec![None; self.request.recipe.stages.len()];
        let mut last = None;
        for planned in &plan.stages {
            let Some(stage) = self.request.recipe.stages.get(planned.index) else { continue };
            let made = self.stage(stage, &planned.base, &built).await?;
            last = Some(made.clone());
            if let Some(place) = built.get_mut(planned.index) {
                *place = Some(made);
            }
        }
        let built = last.ok_or(SandboxError::Broken("a plan without a stage"))?;
        self.set_at(None);
        self.try_start(&built).await?;
        self.clear_up().await;
        self.finish(built).await
    }

    /// Waits until no sandbox of a step is left: whoever hears of the end finds no trace of them,
    /// and has their memory and disk back.
    async fn clear_up(&self) {
        self.leftovers.close();
        if tokio::time::timeout(CLEAR_UP, self.leftovers.wait()).await.is_err() {
            tracing::warn!(build.id = %self.build().id, "sandboxes of its steps are still there");
        }
    }

    /// Says which arguments nothing asks for.
    fn say_unused(&self) {
        let Recipe { arguments, stages, .. } = &self.request.recipe;
        let declared = |name: &str| {
            let of_stages = stages.iter().flat_map(|stage| &stage.steps);
            let mut of_stages = of_stages.filter_map(|step| match &step.instruction {
                Instruction::Arg(arguments) => Some(arguments),
                _ => None,
            });
            arguments.iter().any(|it| it.name == name)
                || of_stages.any(|them| them.iter().any(|it| it.name == name))
        };
        for name in self.globals.unused(declared) {
            self.say(Level::Warn, &format!("no ARG asks for the build argument `{name}`"));
        }
    }

    /// Makes the version, and ends the build with it.
    async fn finish(&self, built: Built) -> Result<(), SandboxError> {
        let (shared, request) = (self.shared(), &self.request);
        let build = self.build();
        let changed = {
            let _turn = shared.templates.changing.lock().await;
            let template = shared.templates.by_id(build.template);
            let template = template.ok_or(SandboxError::NoTemplate { name: build.name.clone() })?;
            let mut template = (*template).clone();
            let now = shared.clock.now();
            let version = TemplateVersion {
                build: build.id,
                number: template.next_number,
                created_at: now,
                image: built.image,
                config: built.config,
                limits: request.limits,
                network: request.network.clone(),
                start: request.start.clone(),
                bytes: built.bytes,
            };
            for tag in &build.tags {
                template.tags.insert(tag.clone(), Tagged { build: build.id, at: now });
            }
            template.next_number += 1;
            template.versions.push(Arc::new(version));
            template.updated_at = now;
            template.public = request.public.unwrap_or(template.public);
            template.warm = request.warm.unwrap_or(template.warm);
            template.drop_old_versions();
            self.say(Level::Info, &format!("{}:{} is ready", build.name, build.tags.join(", ")));
            let mut ended = (*build).clone();
            ended.status = BuildStatus::Ready;
            ended.finished_at = Some(now);
            ended.sandbox = None;
            let put = vec![
                rows::template_object(&template),
                rows::build_object(&ended, &self.handle.log.tail()),
            ];
            // Version and build in one transaction: both are there, or neither is.
            shared.write(ObjectChange { put, durable: true, ..ObjectChange::default() }).await?;
            let template = Arc::new(template);
            shared.templates.put(Arc::clone(&template));
            self.handle.change(|build| *build = ended);
            template
        };
        self.templates.sandboxes.warm_up_template(&changed).await;
        Ok(())
    }

    async fn end_badly(&self, ended: Ended) -> Result<(), SandboxError> {
        if let Ended::Cancelled = ended {
            return end_cancelled(self.shared(), &self.handle).await;
        }
        let message = match &ended {
            Ended::Failed(error) => {
                tracing::debug!(error = error as &dyn std::error::Error, "a build failed: {error}");
                self.without_secrets(&error.to_string())
            }
            Ended::TimedOut => {
                let seconds = self.request.timeout.unwrap_or(TIMEOUT).as_secs();
                format!("it took longer than {seconds} seconds")
            }
            Ended::Stopped | Ended::Cancelled => "the server was stopped".to_owned(),
        };
        self.say(Level::Error, &message);
        let at = self.at();
        let failure = BuildFailure {
            message,
            line: at.as_ref().map(|at| at.line),
            step: at.map(|at| at.text),
        };
        end(self.shared(), &self.handle, BuildStatus::Failed, Some(failure)).await
    }

    /// Writes the build down as it is now.
    pub(super) async fn write_build(&self) -> Result<(), SandboxError> {
        let put = vec![rows::build_object(&self.build(), &[])];
        self.shared().write(ObjectChange { put, ..ObjectChange::default() }).await
    }

    fn set_at(&self, at: Option<At>) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn at(&self) -> Option<At> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A step begins: the next number is its own.
    fn begin(&self, line: u32, text: &str) {
        let build = self.build();
        let number = build.done + 1;
        self.set_at(Some(At { number, line, text: text.to_owned() }));
        self.say(Level::Info, &format!("[{number}/{}] {text}", build.steps));
    }

    fn done(&self, cached: bool) {
        if cached {
            self.say(Level::Info, "done before");
        }
        self.handle.change(|build| {
            build.done += 1;
            build.cached += u32::from(cached);
        });
    }

    fn without_secrets(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in self.request.secrets.values() {
            let Ok(value) = std::str::from_utf8(value) else { continue };
            // Of a secret with several lines, a log shows each on its own.
            for part in value.lines().map(str::trim).filter(|part| part.len() >= 4) {
                if text.contains(part) {
                    text = text.replace(part, "***");
                }
            }
        }
        text
    }

    async fn stage(
        &self,
        stage: &Stage,
        base: &Base,
        built: &[Option<Built>],
    ) -> Result<Built, SandboxError> {
        let name = stage.name.as_ref().map(|name| format!(" AS {name}")).unwrap_or_default();
        let from = match base {
            Base::Empty => "scratch".to_owned(),
            Base::Stage(_) => stage.base.clone(),
            Base::Image(image) => image.clone(),
        };
        self.begin(stage.line, &format!("FROM {from}{name}"));
        let base = match base {
            Base::Stage(index) => built
                .get(*index)
                .cloned()
                .flatten()
                .ok_or(SandboxError::Broken("a stage before the one it stands on"))?,
            Base::Empty => self.empty()?,
            Base::Image(name) => self.base(name).await?,
        };
        self.done(false);
        let mut running = stage::Running::new(self, base);
        for step in &stage.steps {
            let Step { line, text, .. } = step;
            self.begin(*line, text);
            let cached = running.step(step, built).await?;
            self.done(cached);
        }
        running.finish().await
    }
}

/// Why a build ends without a version.
enum Ended {
    Failed(SandboxError),
    Cancelled,
    TimedOut,
    Stopped,
}

/// Ends a build that somebody cancelled.
pub(super) async fn end_cancelled(
    shared: &Shared,
    handle: &BuildHandle,
) -> Result<(), SandboxError> {
    handle.log.say(shared.clock.now(), Level::Error, None, "cancelled");
    end(shared, handle, BuildStatus::Cancelled, None).await
}

async fn end(
    shared: &Shared,
    handle: &BuildHandle,
    status: BuildStatus,
    failure: Option<BuildFailure>,
) -> Result<(), SandboxError> {
    let now = shared.clock.now();
    handle.change(|build| {
        build.status = status;
        build.finished_at = Some(now);
        build.failure = failure;
        build.sandbox = None;
    });
    let build = handle.build();
    if shared.templates.build(build.id).is_none() {
        // Its template was removed meanwhile.
        return forget_builds(shared, vec![build.id]).await;
    }
    let put = vec![rows::build_object(&build, &handle.log.tail())];
    shared.write(ObjectChange { put, ..ObjectChange::default() }).await
}
