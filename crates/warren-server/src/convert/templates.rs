//! Templates and builds.

use std::{collections::BTreeMap, time::Duration};

use warren_api::template as api;
use warren_core::templates::{
    BuildLogEntry, Level,
    model::{Build, BuildStatus, Ready, Start, Template, TemplateVersion, WantedLimits},
    request::BuildRequest,
};
use warren_dockerfile::{
    Recipe,
    steps::{Action, ListedStep, Steps},
};

use super::{image_text, timestamp};
use crate::error::ApiError;

/// How long a start command is waited for where nothing else is said.
const READY: Duration = Duration::from_secs(60);

pub(crate) fn build_request(request: api::BuildTemplate) -> Result<BuildRequest, ApiError> {
    let recipe = recipe(request.dockerfile.as_deref(), request.steps)?;
    Ok(BuildRequest {
        tags: request.tags,
        context: request.context,
        arguments: request.args,
        secrets: request.secrets.into_iter().map(|(id, value)| (id, value.0.into())).collect(),
        target: request.target,
        no_cache: request.no_cache,
        public: request.public,
        limits: limits(request.limits),
        network: request.network.map(super::network::wanted).transpose()?,
        start: request.start.map(start).transpose()?,
        warm: request.warm,
        build_limits: limits(request.build_limits),
        timeout: request.timeout_seconds.map(Duration::from_secs),
        ..BuildRequest::new(request.name, recipe)
    })
}

fn recipe(dockerfile: Option<&str>, steps: Option<api::BuildSteps>) -> Result<Recipe, ApiError> {
    match (dockerfile, steps) {
        (Some(text), None) => {
            warren_dockerfile::parse(text).map_err(|error| ApiError::invalid("dockerfile", error))
        }
        (None, Some(api::BuildSteps { from, shell, steps })) => {
            let invalid = |index: usize, reason: &str| {
                ApiError::invalid("steps", format!("step {}: {reason}", index + 1))
            };
            let listed = |(index, step): (usize, api::BuildStep)| {
                let force = step.force;
                let action = action(step).map_err(|reason| invalid(index, reason))?;
                Ok(ListedStep { action, force })
            };
            let steps =
                steps.into_iter().enumerate().map(listed).collect::<Result<_, ApiError>>()?;
            let recipe = Steps { base: from, shell, steps }.recipe();
            recipe.map_err(|error| {
                ApiError::invalid("steps", format!("step {}: {}", error.line, error.reason))
            })
        }
        _ => Err(ApiError::invalid("dockerfile", "expected either `dockerfile` or `steps`")),
    }
}

fn action(step: api::BuildStep) -> Result<Action, &'static str> {
    const ONE: &str = "expected one of `run`, `copy`, `env` and `workdir`, or `user` alone";
    let api::BuildStep { run, copy, to, env, workdir, user, mode, files, force: _ } = step;
    if copy.is_none() && (to.is_some() || mode.is_some() || files.is_some()) {
        return Err("`to`, `mode` and `files` belong to `copy`");
    }
    match (run, copy, env.is_empty(), workdir, user) {
        (Some(command), None, true, None, user) => Ok(Action::Run { command, user }),
        (None, Some(source), true, None, user) => {
            let destination = to.ok_or("`copy` needs `to`")?;
            Ok(Action::Copy { source, destination, user, mode, files })
        }
        // Quoted: what is written here is meant as it is, but for variables.
        (None, None, false, None, None) => Ok(Action::Env(env.into_iter().map(quoted).collect())),
        (None, None, true, Some(path), None) => Ok(Action::Workdir(path)),
        (None, None, true, None, Some(user)) => Ok(Action::User(user)),
        _ => Err(ONE),
    }
}

/// A value that keeps its spaces and quotes when it is filled in.
pub(crate) fn quoted((name, value): (String, String)) -> (String, String) {
    (name, format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn limits(limits: api::TemplateLimits) -> WantedLimits {
    let api::TemplateLimits { cpu_millis, memory_bytes, pids, disk_bytes } = limits;
    WantedLimits { cpu_millis, memory_bytes, pids, disk_bytes }
}

fn start(start: api::TemplateStart) -> Result<Start, ApiError> {
    let ready = start.ready.map(|ready| -> Result<Ready, ApiError> {
        Ok(match ready {
            api::ReadyCheck::Port(port) => Ready::Port(port),
            api::ReadyCheck::Http(place) => {
                let (port, path) = place.split_once('/').unwrap_or((&place, ""));
                let port = port.parse().map_err(|_not_a_port| {
                    ApiError::invalid("start", "expected `http` such as `8080/health`")
                })?;
                Ready::Http { port, path: format!("/{path}") }
            }
            api::ReadyCheck::Command(command) => Ready::Command(command),
            api::ReadyCheck::File(path) => Ready::File(path),
        })
    });
    let ready = ready.transpose()?;
    let timeout = start.timeout_seconds.map_or(READY, Duration::from_secs);
    Ok(Start { command: start.command, ready, timeout })
}

pub(crate) fn template(template: &Template) -> api::Template {
    let number = |build| {
        let found = template.versions.iter().find(|version| version.build == build);
        found.map_or(0, |version| version.number)
    };
    let tags: BTreeMap<_, _> =
        template.tags.iter().map(|(tag, it)| (tag.clone(), number(it.build))).collect();
    api::Template {
        id: template.id.to_string(),
        name: template.name.clone(),
        project: template.owner.as_str().to_owned(),
        public: template.public,
        created_at: timestamp(template.created_at),
        updated_at: timestamp(template.updated_at),
        tags,
        versions: template.versions.iter().map(|it| version(it)).collect(),
        warm: template.warm,
    }
}

fn version(version: &TemplateVersion) -> api::TemplateVersion {
    let TemplateVersion { config, limits, .. } = version;
    api::TemplateVersion {
        number: version.number,
        build_id: version.build.to_string(),
        created_at: timestamp(version.created_at),
        base: image_text(version.image.base()),
        layers: u32::try_from(version.image.layers().len()).unwrap_or(u32::MAX),
        bytes: version.bytes,
        env: config.env.clone(),
        user: config.user.clone(),
        workdir: config.workdir.clone(),
        command: config.command(),
        labels: config.labels.clone(),
        ports: config.ports.clone(),
        limits: api::TemplateLimits {
            cpu_millis: limits.cpu_millis,
            memory_bytes: limits.memory_bytes,
            pids: limits.pids,
            disk_bytes: limits.disk_bytes,
        },
        network: version.network.as_ref().map(super::network::shown),
        start: version.start.as_ref().map(|start| api::TemplateStart {
            command: start.command.clone(),
            ready: start.ready.as_ref().map(|ready| match ready {
                Ready::Port(port) => api::ReadyCheck::Port(*port),
                Ready::Http { port, path } => api::ReadyCheck::Http(format!("{port}{path}")),
                Ready::Command(command) => api::ReadyCheck::Command(command.clone()),
                Ready::File(path) => api::ReadyCheck::File(path.clone()),
            }),
            timeout_seconds: Some(start.timeout.as_secs()),
        }),
    }
}

pub(crate) fn build(build: &Build) -> api::Build {
    api::Build {
        id: build.id.to_string(),
        template: build.template.to_string(),
        name: build.name.clone(),
        tags: build.tags.clone(),
        status: match build.status {
            BuildStatus::Waiting => api::BuildStatus::Waiting,
            BuildStatus::Building => api::BuildStatus::Building,
            BuildStatus::Ready => api::BuildStatus::Ready,
            BuildStatus::Failed => api::BuildStatus::Failed,
            BuildStatus::Cancelled => api::BuildStatus::Cancelled,
        },
        created_at: timestamp(build.created_at),
        finished_at: build.finished_at.map(timestamp),
        steps: build.steps,
        done: build.done,
        cached: build.cached,
        failure: build.failure.as_ref().map(|failure| api::BuildFailure {
            message: failure.message.clone(),
            line: failure.line,
            step: failure.step.clone(),
        }),
    }
}

pub(crate) fn build_log_entry(entry: &BuildLogEntry) -> api::BuildLogEntry {
    api::BuildLogEntry {
        seq: entry.seq,
        time: timestamp(entry.time),
        level: match entry.level {
            Level::Debug => api::BuildLogLevel::Debug,
            Level::Info => api::BuildLogLevel::Info,
            Level::Warn => api::BuildLogLevel::Warn,
            Level::Error => api::BuildLogLevel::Error,
        },
        step: entry.step,
        message: entry.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_says_one_thing() {
        let step = api::BuildStep::default;
        let some = |text: &str| Some(text.to_owned());
        let env = BTreeMap::from([("A".to_owned(), "a \"b\"".to_owned())]);
        assert!(action(api::BuildStep { run: some("x"), user: some("root"), ..step() }).is_ok());
        assert!(action(api::BuildStep { user: some("root"), ..step() }).is_ok());
        let Ok(Action::Env(pairs)) = action(api::BuildStep { env, ..step() }) else { panic!() };
        assert_eq!(pairs, [("A".to_owned(), r#""a \"b\"""#.to_owned())]);
        for bad in [
            step(),
            api::BuildStep { run: some("x"), copy: some("y"), to: some("z"), ..step() },
            api::BuildStep { copy: some("y"), ..step() },
            api::BuildStep { run: some("y"), to: some("z"), ..step() },
            api::BuildStep { workdir: some("y"), user: some("z"), ..step() },
        ] {
            assert!(action(bad.clone()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn either_text_or_list_is_expected() {
        let recipe =
            |text, steps| recipe(text, steps).map(drop).map_err(|it| it.into_body().message);
        let list = || api::BuildSteps { from: "host".into(), ..api::BuildSteps::default() };
        assert!(recipe(Some("FROM host"), None).is_ok());
        assert!(recipe(None, Some(list())).is_ok());
        assert!(recipe(None, None).is_err() && recipe(Some(""), Some(list())).is_err());
        let error = recipe(Some("FROM host\nRUNN x"), None).unwrap_err();
        assert!(error.contains("line 2"), "{error}");
        let steps = vec![
            api::BuildStep { workdir: Some("/x".into()), ..Default::default() },
            Default::default(),
        ];
        let error = recipe(None, Some(api::BuildSteps { steps, ..list() })).unwrap_err();
        assert!(error.contains("step 2"), "{error}");
    }
}
