//! Templates and their builds: `/v1/templates`, `/v1/builds`, `/v1/build-files`.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{Base64, Timestamp, network::Network};

/// `POST /v1/builds`: a template that is to be built. Its name and either `dockerfile` or `steps`
/// must be there.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BuildTemplate {
    /// The template's name: `[a-z0-9][a-z0-9_-]{0,62}`. It is made where there is none.
    pub name: String,
    /// What the new version is tagged; `latest` where absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The text of a Dockerfile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// The same as a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<BuildSteps>,
    /// The files that `COPY` and `ADD` take: what `PUT /v1/build-files` answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Values for `ARG`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// Secrets for `RUN --mount=type=secret`, by their id. They are in no layer and in no log.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Base64>,
    /// The stage that is wanted, by name or number; the last where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Whether every step is done, although its result is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_cache: bool,
    /// Whether other projects may use the template; as before, or not, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// What sandboxes of the template may use where their request does not say.
    #[serde(default, skip_serializing_if = "TemplateLimits::is_empty")]
    pub limits: TemplateLimits,
    /// What they may reach where their request does not say: `open`, `none`, or rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// What is started in a new sandbox, and awaited, before anybody has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<TemplateStart>,
    /// How many sandboxes wait started and ready, 0 to 16; for callers on the server's own host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<u32>,
    /// What the sandboxes of the build may use.
    #[serde(default, skip_serializing_if = "TemplateLimits::is_empty")]
    pub build_limits: TemplateLimits,
    /// How long the build may take, 1 to 86400; 3600 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

impl fmt::Debug for BuildTemplate {
    // It may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildTemplate").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A build as a list of steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BuildSteps {
    /// What it stands on, as in a `FROM`: `host`, `template:NAME`, or an OCI reference.
    pub from: String,
    /// What commands are run by; `["/bin/sh", "-c"]` where absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// What is done, in order.
    #[serde(default)]
    pub steps: Vec<BuildStep>,
}

/// One step: it has exactly one of `run`, `copy`, `env` and `workdir`, or `user` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BuildStep {
    /// A command for the shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// A path or pattern in the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<String>,
    /// Where copied files go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Variables for all that follows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The working directory from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Who the command runs as, or copied files belong to; alone: who all that follows runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The permission bits of copied files, in octal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The hash of an upload that has this step's files, in place of the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    /// Whether it is done although its result is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// Limits; what is absent is the server's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TemplateLimits {
    /// Processor time in thousandths of one core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// Memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Bytes that may be written to the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
}

impl TemplateLimits {
    /// Whether all of it is left to the server.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is started in a new sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TemplateStart {
    /// The program and its arguments; absent where there is only something to wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// What is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<ReadyCheck>,
    /// For how long, 1 to 3600; 60 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// How to see that what was started is ready: exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ReadyCheck {
    /// Something listens on this TCP port.
    Port(u16),
    /// A GET of this port and path, such as `8080/health`, is answered with a status below 400.
    Http(String),
    /// A shell command ends with 0.
    Command(String),
    /// A file is there.
    File(String),
}

/// `PUT /v1/build-files`: files that builds can copy from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BuildFiles {
    /// What they are called; the hash where one was given.
    pub id: String,
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// A template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Template {
    /// Its identity: `tp-` and 16 characters.
    pub id: String,
    /// Its name, unique within the project.
    pub name: String,
    /// The project that it belongs to.
    pub project: String,
    /// Whether other projects may use it, as `PROJECT/NAME`.
    pub public: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When something of it changed last.
    pub updated_at: Timestamp,
    /// The number of the version that each tag names.
    pub tags: BTreeMap<String, u32>,
    /// Its versions, the oldest first: those with a tag and the newest of the others.
    pub versions: Vec<TemplateVersion>,
    /// How many sandboxes wait started and ready.
    pub warm: u32,
}

/// One version of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateVersion {
    /// Its place among the template's versions, from 1.
    pub number: u32,
    /// The build that made it.
    pub build_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What its layers lie on: `host`, or the image's name.
    pub base: String,
    /// How many layers it has of its own.
    pub layers: u32,
    /// What they take, in bytes.
    pub bytes: u64,
    /// Environment of every command.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Who commands run as; the server's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where commands start; the user's home where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// The program that it is for, and its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Ports it means to listen on, such as `80/tcp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// What a sandbox of it may use where its request does not say.
    #[serde(default, skip_serializing_if = "TemplateLimits::is_empty")]
    pub limits: TemplateLimits,
    /// What it may reach where its request does not say; the server's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// What is started in a new sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<TemplateStart>,
}

/// `GET /v1/templates`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateList {
    /// The project's templates, by name.
    pub templates: Vec<Template>,
}

/// `PATCH /v1/templates/{template}`: what is to change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdateTemplate {
    /// Whether other projects may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// How many sandboxes wait started and ready, 0 to 16; for callers on the server's own host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<u32>,
}

/// `POST /v1/templates/{template}/tags`: tags for the version that the path names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TagTemplate {
    /// The tags; those that other versions have go over.
    pub tags: Vec<String>,
}

/// A build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Build {
    /// Its identity, a UUID.
    pub id: String,
    /// The id of the template.
    pub template: String,
    /// The name of the template.
    pub name: String,
    /// The tags that its version gets.
    pub tags: Vec<String>,
    /// How it stands.
    pub status: BuildStatus,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// How many steps it has.
    pub steps: u32,
    /// How many of them are done.
    pub done: u32,
    /// How many of these had been done before.
    pub cached: u32,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<BuildFailure>,
}

/// How a build stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BuildStatus {
    /// It waits for its turn.
    Waiting,
    /// Its steps are being done.
    Building,
    /// Its version is there.
    Ready,
    /// It ended without a version.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

/// Why a build failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BuildFailure {
    /// A sentence.
    pub message: String,
    /// The line of the Dockerfile, or the number of the step in a list, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The step as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

/// `GET /v1/templates/{template}/builds`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BuildList {
    /// Those that are remembered, the newest first.
    pub builds: Vec<Build>,
}

/// One line of a build's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BuildLogEntry {
    /// Its place in the log, from 1.
    pub seq: u64,
    /// When it was said.
    pub time: Timestamp,
    /// How much it matters: what commands write is `debug` and `warn`.
    pub level: BuildLogLevel,
    /// The number of the step that it is about, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// The text, without an end of line.
    pub message: String,
}

/// How much an entry matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BuildLogLevel {
    /// A command's standard output.
    Debug,
    /// What the builder does.
    Info,
    /// A command's standard error, and what may surprise.
    Warn,
    /// What went wrong.
    Error,
}

/// A page of a build's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BuildLogPage {
    /// The entries, in order.
    pub entries: Vec<BuildLogEntry>,
    /// What to give as `after` for the next page; absent when there is no more now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<u64>,
}

/// One line of a followed build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BuildLine {
    /// An entry of the log.
    Entry(BuildLogEntry),
    /// Nothing happened for a while.
    Keepalive,
    /// The build has ended, and this is how.
    End(Build),
}

/// `DELETE /v1/build-cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CacheForgotten {
    /// How many results were forgotten.
    pub steps: u64,
}
