//! Rows of templates, builds and results of steps.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    objects::{Object, ObjectKind},
    row::{ImageRow, egress, network},
};
use crate::{
    clock::Timestamp,
    sandbox::Program,
    spec::Network,
    templates::{
        BuildLogEntry, CachedStep, Level,
        model::{
            Build, BuildFailure, BuildStatus, Ready, Start, Tagged, Template, TemplateConfig,
            TemplateVersion, WantedLimits,
        },
    },
};

#[derive(Serialize, Deserialize)]
struct TemplateRow {
    name: String,
    #[serde(default)]
    public: bool,
    created_at: u64,
    updated_at: u64,
    tags: BTreeMap<String, (String, u64)>,
    versions: Vec<VersionRow>,
    next_number: u32,
    #[serde(default)]
    warm: u32,
}

#[derive(Serialize, Deserialize)]
struct VersionRow {
    build: String,
    number: u32,
    created_at: u64,
    image: ImageRow<'static>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    workdir: Option<String>,
    #[serde(default)]
    entrypoint: Vec<String>,
    #[serde(default)]
    cmd: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    cpu_millis: Option<u32>,
    #[serde(default)]
    memory_bytes: Option<u64>,
    #[serde(default)]
    pids: Option<u32>,
    #[serde(default)]
    disk_bytes: Option<u64>,
    /// What a sandbox may reach: nothing of these three where nobody said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    offline: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    open: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    egress: Option<String>,
    #[serde(default)]
    start: Option<StartRow>,
    #[serde(default)]
    bytes: u64,
}

/// What a sandbox is for, as a part of its row or of a snapshot's.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct ProgramRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<StartRow>,
}

impl ProgramRow {
    pub(super) fn is_empty(&self) -> bool {
        self.command.is_none() && self.start.is_none()
    }

    pub(super) fn into_program(self) -> Program {
        Program { command: self.command, start: self.start.map(start) }
    }
}

impl From<&Program> for ProgramRow {
    fn from(program: &Program) -> Self {
        Self { command: program.command.clone(), start: program.start.as_ref().map(start_row) }
    }
}

#[derive(Serialize, Deserialize)]
struct StartRow {
    command: Vec<String>,
    ready: Option<ReadyRow>,
    timeout_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReadyRow {
    Port(u16),
    Http { port: u16, path: String },
    Command(String),
    File(String),
}

/// What a sandbox may use, as far as somebody said it.
#[derive(Default, Serialize, Deserialize)]
struct LimitsRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpu_millis: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pids: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk_bytes: Option<u64>,
}

impl LimitsRow {
    fn is_empty(&self) -> bool {
        WantedLimits::from(self) == WantedLimits::default()
    }
}

impl From<&LimitsRow> for WantedLimits {
    fn from(row: &LimitsRow) -> Self {
        let LimitsRow { cpu_millis, memory_bytes, pids, disk_bytes } = *row;
        Self { cpu_millis, memory_bytes, pids, disk_bytes }
    }
}

impl From<WantedLimits> for LimitsRow {
    fn from(limits: WantedLimits) -> Self {
        let WantedLimits { cpu_millis, memory_bytes, pids, disk_bytes } = limits;
        Self { cpu_millis, memory_bytes, pids, disk_bytes }
    }
}

#[derive(Serialize, Deserialize)]
struct BuildRow {
    template: String,
    name: String,
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "LimitsRow::is_empty")]
    limits: LimitsRow,
    status: String,
    created_at: u64,
    #[serde(default)]
    finished_at: Option<u64>,
    #[serde(default)]
    steps: u32,
    #[serde(default)]
    done: u32,
    #[serde(default)]
    cached: u32,
    #[serde(default)]
    failure: Option<(String, Option<u32>, Option<String>)>,
    #[serde(default)]
    sandbox: Option<String>,
    #[serde(default)]
    log: Vec<(u64, u64, String, Option<u32>, String)>,
}

#[derive(Serialize, Deserialize)]
struct StepRow {
    image: ImageRow<'static>,
    bytes: u64,
    used_at: u64,
}

fn object(
    kind: ObjectKind,
    id: String,
    owner: &crate::caller::Owner,
    row: &impl Serialize,
) -> Object {
    // These rows hold nothing that JSON cannot.
    let record = serde_json::to_string(row).unwrap_or_default();
    Object { kind, id, owner: owner.clone(), record }
}

/// The row of a template.
pub(crate) fn template_object(template: &Template) -> Object {
    let tag =
        |(tag, it): (&String, &Tagged)| (tag.clone(), (it.build.to_string(), it.at.as_millis()));
    let row = TemplateRow {
        name: template.name.clone(),
        public: template.public,
        created_at: template.created_at.as_millis(),
        updated_at: template.updated_at.as_millis(),
        tags: template.tags.iter().map(tag).collect(),
        versions: template.versions.iter().map(|version| version_row(version)).collect(),
        next_number: template.next_number,
        warm: template.warm,
    };
    object(ObjectKind::Template, template.id.to_string(), &template.owner, &row)
}

/// The template that a row says; none where it cannot be understood.
pub(crate) fn template(object: &Object) -> Option<Template> {
    let row: TemplateRow = serde_json::from_str(&object.record).ok()?;
    let tag = |(tag, (build, at)): (String, (String, u64))| {
        Some((tag, Tagged { build: build.parse().ok()?, at: Timestamp::from_millis(at) }))
    };
    Some(Template {
        id: object.id.parse().ok()?,
        owner: object.owner.clone(),
        name: row.name,
        public: row.public,
        created_at: Timestamp::from_millis(row.created_at),
        updated_at: Timestamp::from_millis(row.updated_at),
        tags: row.tags.into_iter().map(tag).collect::<Option<_>>()?,
        versions: row
            .versions
            .into_iter()
            .map(|it| version(it).map(Arc::new))
            .collect::<Option<_>>()?,
        next_number: row.next_number,
        warm: row.warm,
    })
}

fn version_row(version: &TemplateVersion) -> VersionRow {
    let TemplateVersion { config, limits, .. } = version;
    VersionRow {
        build: version.build.to_string(),
        number: version.number,
        created_at: version.created_at.as_millis(),
        image: ImageRow::owned(&version.image),
        env: config.env.clone(),
        user: config.user.clone(),
        workdir: config.workdir.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        labels: config.labels.clone(),
        ports: config.ports.clone(),
        cpu_millis: limits.cpu_millis,
        memory_bytes: limits.memory_bytes,
        pids: limits.pids,
        disk_bytes: limits.disk_bytes,
        offline: version.network == Some(Network::None),
        open: version.network == Some(Network::Open),
        egress: version.network.as_ref().and_then(egress),
        start: version.start.as_ref().map(start_row),
        bytes: version.bytes,
    }
}

fn version(row: VersionRow) -> Option<TemplateVersion> {
    Some(TemplateVersion {
        build: row.build.parse().ok()?,
        number: row.number,
        created_at: Timestamp::from_millis(row.created_at),
        image: row.image.into_image()?,
        config: TemplateConfig {
            env: row.env,
            user: row.user,
            workdir: row.workdir,
            entrypoint: row.entrypoint,
            cmd: row.cmd,
            labels: row.labels,
            ports: row.ports,
        },
        limits: WantedLimits {
            cpu_millis: row.cpu_millis,
            memory_bytes: row.memory_bytes,
            pids: row.pids,
            disk_bytes: row.disk_bytes,
        },
        network: match (row.open || row.offline, row.egress) {
            (false, None) => None,
            (_, egress) => Some(network(row.offline, egress)?),
        },
        start: row.start.map(start),
        bytes: row.bytes,
    })
}

fn start_row(start: &Start) -> StartRow {
    StartRow {
        command: start.command.clone(),
        ready: start.ready.clone().map(|ready| match ready {
            Ready::Port(port) => ReadyRow::Port(port),
            Ready::Http { port, path } => ReadyRow::Http { port, path },
            Ready::Command(command) => ReadyRow::Command(command),
            Ready::File(path) => ReadyRow::File(path),
        }),
        timeout_ms: u64::try_from(start.timeout.as_millis()).unwrap_or(u64::MAX),
    }
}

fn start(row: StartRow) -> Start {
    Start {
        command: row.command,
        ready: row.ready.map(|ready| match ready {
            ReadyRow::Port(port) => Ready::Port(port),
            ReadyRow::Http { port, path } => Ready::Http { port, path },
            ReadyRow::Command(command) => Ready::Command(command),
            ReadyRow::File(path) => Ready::File(path),
        }),
        timeout: Duration::from_millis(row.timeout_ms),
    }
}

/// The row of a build.
pub(crate) fn build_object(build: &Build, log: &[BuildLogEntry]) -> Object {
    let entry = |it: &BuildLogEntry| {
        (it.seq, it.time.as_millis(), it.level.name().to_owned(), it.step, it.message.clone())
    };
    let row = BuildRow {
        template: build.template.to_string(),
        name: build.name.clone(),
        tags: build.tags.clone(),
        limits: build.limits.into(),
        status: build.status.name().to_owned(),
        created_at: build.created_at.as_millis(),
        finished_at: build.finished_at.map(Timestamp::as_millis),
        steps: build.steps,
        done: build.done,
        cached: build.cached,
        failure: build.failure.clone().map(|it| (it.message, it.line, it.step)),
        sandbox: build.sandbox.map(|id| id.to_string()),
        log: log.iter().map(entry).collect(),
    };
    object(ObjectKind::Build, build.id.to_string(), &build.owner, &row)
}

/// The build that a row says, and the end of its log.
pub(crate) fn build(object: &Object) -> Option<(Build, Vec<BuildLogEntry>)> {
    let row: BuildRow = serde_json::from_str(&object.record).ok()?;
    let entry = |(seq, time, level, step, message): (u64, u64, String, Option<u32>, String)| {
        let (time, level) = (Timestamp::from_millis(time), Level::from_name(&level)?);
        Some(BuildLogEntry { seq, time, level, step, message })
    };
    let build = Build {
        id: object.id.parse().ok()?,
        template: row.template.parse().ok()?,
        name: row.name,
        owner: object.owner.clone(),
        tags: row.tags,
        limits: WantedLimits::from(&row.limits),
        status: BuildStatus::from_name(&row.status)?,
        created_at: Timestamp::from_millis(row.created_at),
        finished_at: row.finished_at.map(Timestamp::from_millis),
        steps: row.steps,
        done: row.done,
        cached: row.cached,
        failure: row.failure.map(|(message, line, step)| BuildFailure { message, line, step }),
        sandbox: row.sandbox.and_then(|id| id.parse().ok()),
    };
    Some((build, row.log.into_iter().filter_map(entry).collect()))
}

/// The key of a step's row: two owners never share one.
pub(crate) fn step_id(owner: &crate::caller::Owner, key: &str) -> String {
    format!("{}/{key}", owner.as_str())
}

/// The row of what a step made.
pub(crate) fn step_object(step: &CachedStep) -> Object {
    let row = StepRow {
        image: ImageRow::owned(&step.image),
        bytes: step.bytes,
        used_at: step.used_at.as_millis(),
    };
    object(ObjectKind::BuildStep, step_id(&step.owner, &step.key), &step.owner, &row)
}

/// What a step made, as a row says.
pub(crate) fn step(object: &Object) -> Option<CachedStep> {
    let row: StepRow = serde_json::from_str(&object.record).ok()?;
    let (_owner, key) = object.id.rsplit_once('/')?;
    Some(CachedStep {
        key: key.to_owned(),
        owner: object.owner.clone(),
        image: row.image.into_image()?,
        bytes: row.bytes,
        used_at: Timestamp::from_millis(row.used_at),
    })
}
