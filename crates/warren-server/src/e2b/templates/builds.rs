//! Builds of templates: started with their steps, watched until they end, and read afterwards.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::{StatusCode, request::Parts},
};
use serde::{Deserialize, Serialize};
use warren_api::Timestamp;
use warren_core::{
    Caller,
    templates::{
        BuildLogEntry,
        model::{Build, BuildFailure, BuildStatus, Ready, Start},
        request::BuildRequest,
    },
};

use super::{
    super::{
        Refusal,
        extract::{Body, Parameters, Team},
    },
    found, status,
    steps::{self, WantedStep},
};
use crate::{app::App, convert::timestamp};

/// How many lines of a log one answer has at most.
const PAGE: usize = 100;
/// How long what is started is waited for, when it is tried and in each sandbox.
const READY: Duration = Duration::from_secs(600);
/// What an unknown user is told by, in the middle of a command's failure.
const UNKNOWN_USER: &str = "invalid username: ";

/// `{template}` and `{build}` of a path.
#[derive(Debug)]
pub(in crate::e2b) struct OfTemplate {
    template: String,
    build: String,
}

impl FromRequestParts<App> for OfTemplate {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let both = Path::<(String, String)>::from_request_parts(parts, app).await;
        let Path((template, build)) = both.map_err(|error| Refusal::bad(error.body_text()))?;
        Ok(Self { template, build })
    }
}

impl OfTemplate {
    fn find(&self, app: &App, caller: &Caller) -> Result<Arc<Build>, Refusal> {
        let template = found(app, caller, &self.template)?;
        let id = self.build.parse().ok();
        let build = id.and_then(|id| app.sandboxes.templates().get_build(caller, id).ok());
        let build = build.filter(|build| build.template == template.id);
        build.ok_or_else(|| Refusal::not_found(format!("build '{}' not found", self.build)))
    }
}

/// What is asked for by `POST /v2/templates/{template}/builds/{build}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::e2b) struct StartBuild {
    from_image: Option<String>,
    from_template: Option<String>,
    from_image_registry: Option<serde_json::Value>,
    start_cmd: Option<String>,
    ready_cmd: Option<String>,
    steps: Option<Vec<WantedStep>>,
    force: Option<bool>,
}

/// How a build stands, and a page of what it said.
#[derive(Debug, Serialize)]
pub(in crate::e2b) struct Status {
    #[serde(rename = "templateID")]
    template_id: String,
    #[serde(rename = "buildID")]
    build_id: String,
    status: &'static str,
    logs: Vec<String>,
    #[serde(rename = "logEntries")]
    log_entries: Vec<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

/// Why a build has no result.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reason {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    log_entries: Vec<Line>,
}

/// A line of a log.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    timestamp: Timestamp,
    level: &'static str,
    message: String,
}

/// A page of a log.
#[derive(Debug, Serialize)]
pub(in crate::e2b) struct Logs {
    logs: Vec<Line>,
}

/// `POST /v2/templates/{template}/builds/{build}`
pub(in crate::e2b) async fn start_build(
    State(app): State<App>,
    Team(caller): Team,
    at: OfTemplate,
    Body(wanted): Body<StartBuild>,
) -> Result<StatusCode, Refusal> {
    let build = at.find(&app, &caller)?;
    if wanted.from_image_registry.as_ref().is_some_and(|it| !it.is_null()) {
        let message = "fromImageRegistry: this server takes no passwords of registries from \
                       requests; whoever runs it can give it one";
        return Err(Refusal::bad(message));
    }
    let said = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let (image, template) = (said(wanted.from_image), said(wanted.from_template));
    let ground = steps::ground(&app, &caller, image.as_deref(), template.as_deref())?;
    let recipe = steps::recipe(ground, wanted.steps.unwrap_or_default())?;
    let start = start(said(wanted.start_cmd), said(wanted.ready_cmd));
    let request = BuildRequest {
        tags: build.tags.clone(),
        no_cache: wanted.force.unwrap_or_default(),
        limits: build.limits,
        build_limits: build.limits,
        try_start: start.is_some(),
        start,
        ..BuildRequest::new(build.name.clone(), recipe)
    };
    app.sandboxes.templates().start(&caller, build.id, request)?;
    Ok(StatusCode::ACCEPTED)
}

/// `GET /templates/{template}/builds/{build}/status`
pub(in crate::e2b) async fn get_status(
    State(app): State<App>,
    Team(caller): Team,
    at: OfTemplate,
    parameters: Parameters,
) -> Result<Json<Status>, Refusal> {
    let offset: usize = parameters.number("logsOffset")?.unwrap_or_default();
    let build = at.find(&app, &caller)?;
    // The build first: of one that has ended, everything is in the log by then.
    let entries = app.sandboxes.templates().build_log(&caller, build.id, 0, usize::MAX)?;
    let entries: Vec<_> = entries.iter().skip(offset).take(PAGE).collect();
    Ok(Json(Status {
        template_id: build.template.to_string(),
        build_id: build.id.to_string(),
        status: status(&build),
        logs: entries.iter().map(|entry| entry.message.clone()).collect(),
        log_entries: entries.into_iter().map(line).collect(),
        reason: reason(&build),
    }))
}

/// `GET /templates/{template}/builds/{build}/logs`
pub(in crate::e2b) async fn get_logs(
    State(app): State<App>,
    Team(caller): Team,
    at: OfTemplate,
    parameters: Parameters,
) -> Result<Json<Logs>, Refusal> {
    let limit = parameters.limit(PAGE)?;
    let cursor: Option<u64> = parameters.number("cursor")?;
    let least = match parameters.get("level") {
        None => 0,
        Some(level) => rank(level)?,
    };
    let backward = match parameters.get("direction") {
        None | Some("forward") => false,
        Some("backward") => true,
        Some(_) => return Err(Refusal::bad("direction: expected forward or backward")),
    };
    let build = at.find(&app, &caller)?;
    let mut entries = app.sandboxes.templates().build_log(&caller, build.id, 0, usize::MAX)?;
    if backward {
        entries.reverse();
    }
    let within = |entry: &&BuildLogEntry| {
        let time = entry.time.as_millis();
        let reached = |at| if backward { time <= at } else { time >= at };
        cursor.is_none_or(reached) && rank(entry.level.name()).is_ok_and(|it| it >= least)
    };
    let logs = entries.iter().filter(within).take(limit).map(line).collect();
    Ok(Json(Logs { logs }))
}

fn rank(level: &str) -> Result<usize, Refusal> {
    let place = ["debug", "info", "warn", "error"].into_iter().position(|it| it == level);
    place.ok_or_else(|| Refusal::bad("level: expected debug, info, warn or error"))
}

fn line(entry: &BuildLogEntry) -> Line {
    Line {
        timestamp: timestamp(entry.time),
        level: entry.level.name(),
        message: entry.message.clone(),
    }
}

/// What is started in each sandbox. It is started anew in each, so that what only waits for some
/// time is not waited for.
fn start(command: Option<String>, ready: Option<String>) -> Option<Start> {
    let ready = ready.filter(|ready| !only_sleeps(ready)).map(Ready::Command);
    if command.is_none() && ready.is_none() {
        return None;
    }
    let words = |text| vec!["/bin/bash".to_owned(), "-l".to_owned(), "-c".to_owned(), text];
    Some(Start { command: command.map(words).unwrap_or_default(), ready, timeout: READY })
}

/// Whether a command is `sleep` and a number.
fn only_sleeps(command: &str) -> bool {
    let mut words = command.split_whitespace();
    let number = |word: &str| {
        let digits = word.strip_suffix('s').unwrap_or(word);
        digits.parse::<f64>().is_ok_and(f64::is_finite)
    };
    words.next() == Some("sleep") && words.next().is_some_and(number) && words.next().is_none()
}

/// Why a build failed, and which of the client's lines is to blame: `base`, the number of a step,
/// or `finalize`.
fn reason(build: &Build) -> Option<Reason> {
    let failure = match (build.status, &build.failure) {
        (BuildStatus::Cancelled, _) => {
            let message = "the build was cancelled".to_owned();
            return Some(Reason { message, step: None, log_entries: Vec::new() });
        }
        (BuildStatus::Failed, Some(failure)) => failure,
        _ => return None,
    };
    let BuildFailure { message, line, step } = failure;
    let text = step.as_deref().unwrap_or_default();
    let blamed = match line {
        None => "finalize".to_owned(),
        Some(0) => "base".to_owned(),
        Some(_) if text.starts_with("FROM ") => "base".to_owned(),
        Some(number) => number.to_string(),
    };
    let message = match text.strip_prefix("RUN ") {
        Some(command) if message.starts_with(UNKNOWN_USER) => {
            format!("failed to run command '{command}': command failed: unauthenticated: {message}")
        }
        Some(command) => format!("failed to run command '{command}': {message}"),
        None => message.clone(),
    };
    Some(Reason { message, step: Some(blamed), log_entries: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_takes_time_is_not_waited_for() {
        for sleeps in ["sleep 10", " sleep  0.5 ", "sleep 20s"] {
            assert!(only_sleeps(sleeps), "{sleeps}");
        }
        for waits in ["sleep 1; true", "sleep", "sleep x", "curl x", "sleep 1 2"] {
            assert!(!only_sleeps(waits), "{waits}");
        }
        assert_eq!(start(None, Some("sleep 10".to_owned())), None);
        let started = start(Some("x".to_owned()), Some("sleep 1".to_owned())).unwrap();
        assert_eq!((started.command.len(), started.ready), (4, None));
    }

    #[test]
    fn a_failure_blames_what_the_client_wrote() {
        let build = |message: &str, line, step: &str| {
            let (message, step) = (message.to_owned(), Some(step.to_owned()));
            let failure = BuildFailure { message, line, step };
            Build {
                id: warren_core::id::BuildId::mint(),
                template: warren_core::id::TemplateId::mint(),
                name: "t".to_owned(),
                owner: warren_core::caller::Owner::new("default"),
                tags: Vec::new(),
                limits: Default::default(),
                status: BuildStatus::Failed,
                created_at: Default::default(),
                finished_at: None,
                steps: 1,
                done: 0,
                cached: 0,
                failure: Some(failure),
                sandbox: None,
            }
        };
        let told = |message: &str, line, step: &str| {
            let Reason { message, step, .. } = reason(&build(message, line, step)).unwrap();
            (message, step.unwrap())
        };
        let (message, step) = told("invalid username: 'root123'", Some(1), "RUN whoami");
        let pinned = "failed to run command 'whoami': command failed: unauthenticated: \
                      invalid username: 'root123'";
        assert_eq!((message.as_str(), step.as_str()), (pinned, "1"));
        let (message, _) = told("it ended with status 3", Some(2), "RUN false");
        assert_eq!(message, "failed to run command 'false': it ended with status 3");
        assert_eq!(told("x", Some(1), "FROM none").1, "base");
        assert_eq!(told("x", Some(0), "USER user").1, "base");
        assert_eq!(told("x", None, "").1, "finalize");
    }
}
