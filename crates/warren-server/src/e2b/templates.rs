//! Templates: announced, listed, changed and removed. Their builds are in `builds`.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode},
};
use serde::{Deserialize, Serialize};
use warren_api::Timestamp;
use warren_core::{
    Caller, SandboxError,
    templates::model::{Build, BuildStatus, DEFAULT_TAG, Template, WantedLimits},
};

use super::{
    ENVD_VERSION, Refusal,
    extract::{Body, Parameters, Segment, Team},
    names, snapshots,
};
use crate::{app::App, convert::timestamp};

pub(super) mod builds;
pub(super) mod files;
mod steps;
pub(super) mod tags;

/// What a sandbox of a template may use where nobody says it.
const CPUS: u32 = 2;
const MEMORY_MB: u64 = 1024;
/// How many templates a page has at most.
const PAGE: usize = 100;
/// The build of a template that has none.
const NO_BUILD: &str = "00000000-0000-0000-0000-000000000000";

/// What is asked for by `POST /v3/templates`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewTemplate {
    name: Option<String>,
    /// What older clients call the name.
    alias: Option<String>,
    tags: Option<Vec<String>>,
    cpu_count: Option<u32>,
    #[serde(rename = "memoryMB")]
    memory_mb: Option<u64>,
}

/// A build that waits for its steps.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Announced {
    #[serde(rename = "templateID")]
    template_id: String,
    #[serde(rename = "buildID")]
    build_id: String,
    public: bool,
    names: Vec<String>,
    aliases: Vec<String>,
    tags: Vec<String>,
}

/// A template in a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    #[serde(rename = "templateID")]
    template_id: String,
    #[serde(rename = "buildID")]
    build_id: String,
    cpu_count: u32,
    #[serde(rename = "memoryMB")]
    memory_mb: u64,
    #[serde(rename = "diskSizeMB")]
    disk_size_mb: u64,
    public: bool,
    aliases: Vec<String>,
    names: Vec<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// Nobody: keys are no people.
    created_by: Option<()>,
    /// Not counted.
    last_spawned_at: Option<Timestamp>,
    spawn_count: u64,
    build_count: usize,
    envd_version: &'static str,
    build_status: &'static str,
}

/// A template with its builds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detail {
    #[serde(rename = "templateID")]
    template_id: String,
    public: bool,
    aliases: Vec<String>,
    names: Vec<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    last_spawned_at: Option<Timestamp>,
    spawn_count: u64,
    builds: Vec<ListedBuild>,
}

/// A build of a template.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedBuild {
    #[serde(rename = "buildID")]
    build_id: String,
    status: &'static str,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    cpu_count: u32,
    #[serde(rename = "memoryMB")]
    memory_mb: u64,
    #[serde(rename = "diskSizeMB")]
    disk_size_mb: u64,
    envd_version: &'static str,
}

/// What a name stands for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named {
    #[serde(rename = "templateID")]
    template_id: String,
    public: bool,
}

/// What of a template is to change.
#[derive(Debug, Deserialize)]
pub(super) struct Change {
    public: Option<bool>,
}

/// What a changed template is called.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    names: Vec<String>,
}

/// `POST /v3/templates`
pub(super) async fn create_template(
    State(app): State<App>,
    Team(caller): Team,
    Body(wanted): Body<NewTemplate>,
) -> Result<(StatusCode, Json<Announced>), Refusal> {
    let NewTemplate { name, alias, tags, cpu_count, memory_mb } = wanted;
    let text = name.or(alias).ok_or_else(|| Refusal::bad("name: expected a template's name"))?;
    let (name, tag) = names::parts(&text);
    let name = own_name(&caller, name)?;
    let limits = limits(cpu_count, memory_mb)?;
    let told: Vec<_> = tag.map(str::to_owned).into_iter().chain(tags.unwrap_or_default()).collect();
    let native: Vec<_> = told.iter().map(|tag| tags::native(tag).to_owned()).collect();
    let build = app.sandboxes.templates().announce(&caller, name, &native, limits).await?;
    let template = app.sandboxes.templates().get(&caller, &build.template.to_string())?;
    let tags = if told.is_empty() { vec![names::DEFAULT_TAG.to_owned()] } else { told };
    let announced = Announced {
        template_id: template.id.to_string(),
        build_id: build.id.to_string(),
        public: template.public,
        names: names_of(&template),
        aliases: vec![template.name.clone()],
        tags,
    };
    Ok((StatusCode::ACCEPTED, Json(announced)))
}

/// `GET /templates`
pub(super) async fn list_templates(
    State(app): State<App>,
    Team(caller): Team,
) -> Result<Json<Vec<Listed>>, Refusal> {
    let templates = app.sandboxes.templates().list(&caller);
    Ok(Json(templates.iter().map(|template| listed(&app, &caller, template)).collect()))
}

/// `GET /v2/templates`
pub(super) async fn page_templates(
    State(app): State<App>,
    Team(caller): Team,
    parameters: Parameters,
) -> Result<(HeaderMap, Json<Vec<Listed>>), Refusal> {
    let limit = parameters.limit(PAGE)?;
    let templates = app.sandboxes.templates().list(&caller);
    let (page, headers) = page(templates, limit, parameters.get("nextToken"), |it| &it.name);
    Ok((headers, Json(page.iter().map(|template| listed(&app, &caller, template)).collect())))
}

/// `GET /templates/{template}`
pub(super) async fn get_template(
    State(app): State<App>,
    Team(caller): Team,
    Segment(text): Segment,
    parameters: Parameters,
) -> Result<Json<Detail>, Refusal> {
    let limit = parameters.limit(PAGE)?;
    let template = found(&app, &caller, &text)?;
    let builds = builds_of(&app, &caller, &template);
    Ok(Json(Detail {
        template_id: template.id.to_string(),
        public: template.public,
        aliases: vec![template.name.clone()],
        names: names_of(&template),
        created_at: timestamp(template.created_at),
        updated_at: timestamp(template.updated_at),
        last_spawned_at: None,
        spawn_count: 0,
        builds: builds.iter().take(limit).map(|build| listed_build(build)).collect(),
    }))
}

/// `DELETE /templates/{template}`: a template or a snapshot.
pub(super) async fn delete_template(
    State(app): State<App>,
    Team(caller): Team,
    Segment(text): Segment,
) -> Result<StatusCode, Refusal> {
    if snapshots::remove(&app, &caller, &text).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    let name = names::parts(&text).0;
    match app.sandboxes.templates().delete(&caller, name).await {
        Err(SandboxError::NoTemplate { .. }) => Err(missing(&text)),
        other => Ok(other.map(|()| StatusCode::NO_CONTENT)?),
    }
}

/// `PATCH /v2/templates/{template}`
pub(super) async fn change_template(
    State(app): State<App>,
    Team(caller): Team,
    Segment(text): Segment,
    Body(change): Body<Change>,
) -> Result<Json<Changed>, Refusal> {
    let name = names::parts(&text).0;
    match app.sandboxes.templates().update(&caller, name, change.public, None).await {
        Err(SandboxError::NoTemplate { .. }) => Err(missing(&text)),
        other => Ok(Json(Changed { names: names_of(&*other?) })),
    }
}

/// `PATCH /templates/{template}`, which older clients ask: the same without an answer.
pub(super) async fn change_template_quietly(
    state: State<App>,
    team: Team,
    segment: Segment,
    body: Body<Change>,
) -> Result<StatusCode, Refusal> {
    change_template(state, team, segment, body).await.map(|_changed| StatusCode::OK)
}

/// `GET /templates/aliases/{alias}`
pub(super) async fn get_alias(
    State(app): State<App>,
    Team(caller): Team,
    Segment(text): Segment,
) -> Result<Json<Named>, Refusal> {
    let template = found(&app, &caller, &text)?;
    Ok(Json(Named { template_id: template.id.to_string(), public: template.public }))
}

/// The template that a text names, whatever tag is behind it.
pub(super) fn found(
    app: &App,
    caller: &Caller,
    text: &str,
) -> Result<std::sync::Arc<Template>, Refusal> {
    let found = app.sandboxes.templates().get(caller, names::parts(text).0);
    found.map_err(|_none| missing(text))
}

fn missing(text: &str) -> Refusal {
    Refusal::not_found(format!("template '{text}' not found"))
}

/// A name of the caller's own: another project has its own names.
fn own_name<'a>(caller: &Caller, text: &'a str) -> Result<&'a str, Refusal> {
    match text.split_once('/') {
        Some((project, name)) if project == caller.owner().as_str() => Ok(name),
        Some((project, _)) => {
            let own = caller.owner().as_str();
            Err(Refusal::bad(format!("namespace '{project}' does not match your team '{own}'")))
        }
        None => Ok(text),
    }
}

fn limits(cpus: Option<u32>, memory_mb: Option<u64>) -> Result<WantedLimits, Refusal> {
    let (cpus, memory_mb) = (cpus.unwrap_or(CPUS), memory_mb.unwrap_or(MEMORY_MB));
    let cpu_millis = cpus.checked_mul(1000).filter(|millis| *millis > 0);
    let cpu_millis = cpu_millis.ok_or_else(|| Refusal::bad("cpuCount: expected 1 or more"))?;
    let memory_bytes = memory_mb.checked_mul(1 << 20).filter(|bytes| *bytes > 0);
    let memory_bytes = memory_bytes.ok_or_else(|| Refusal::bad("memoryMB: expected 1 or more"))?;
    let (cpu_millis, memory_bytes) = (Some(cpu_millis), Some(memory_bytes));
    Ok(WantedLimits { cpu_millis, memory_bytes, ..WantedLimits::default() })
}

fn names_of(template: &Template) -> Vec<String> {
    vec![format!("{}/{}", template.owner.as_str(), template.name)]
}

/// The builds that are remembered, the newest first. Those of somebody else's are not told.
fn builds_of(app: &App, caller: &Caller, template: &Template) -> Vec<std::sync::Arc<Build>> {
    app.sandboxes.templates().builds(caller, &template.id.to_string()).unwrap_or_default()
}

fn listed(app: &App, caller: &Caller, template: &Template) -> Listed {
    let builds = builds_of(app, caller, template);
    let tagged = template.tags.get(DEFAULT_TAG).map(|tagged| tagged.build);
    let version = template.versions.iter().find(|version| Some(version.build) == tagged);
    let version = version.or_else(|| template.versions.last());
    let newest = builds.first();
    let build = version.map(|it| it.build).or_else(|| newest.map(|it| it.id));
    let limits = version.map(|it| it.limits).or_else(|| newest.map(|it| it.limits));
    let (cpu_count, memory_mb, disk_size_mb) = sizes(limits.unwrap_or_default());
    let built = if version.is_some() { "ready" } else { "waiting" };
    Listed {
        template_id: template.id.to_string(),
        build_id: build.map_or_else(|| NO_BUILD.to_owned(), |id| id.to_string()),
        cpu_count,
        memory_mb,
        disk_size_mb,
        public: template.public,
        aliases: vec![template.name.clone()],
        names: names_of(template),
        created_at: timestamp(template.created_at),
        updated_at: timestamp(template.updated_at),
        created_by: None,
        last_spawned_at: None,
        spawn_count: 0,
        build_count: builds.len().max(template.versions.len()),
        envd_version: ENVD_VERSION,
        build_status: newest.map_or(built, |build| status(build)),
    }
}

fn listed_build(build: &Build) -> ListedBuild {
    let (cpu_count, memory_mb, disk_size_mb) = sizes(build.limits);
    ListedBuild {
        build_id: build.id.to_string(),
        status: status(build),
        created_at: timestamp(build.created_at),
        updated_at: timestamp(build.finished_at.unwrap_or(build.created_at)),
        finished_at: build.finished_at.map(timestamp),
        cpu_count,
        memory_mb,
        disk_size_mb,
        envd_version: ENVD_VERSION,
    }
}

/// Cores, MiB of memory and MiB of disk; 0 for a disk without a limit.
fn sizes(limits: WantedLimits) -> (u32, u64, u64) {
    let cpus = limits.cpu_millis.map_or(CPUS, |millis| millis.div_ceil(1000));
    let memory = limits.memory_bytes.map_or(MEMORY_MB, |bytes| bytes >> 20);
    (cpus, memory, limits.disk_bytes.unwrap_or_default() >> 20)
}

/// How a build stands, in the words of these clients.
fn status(build: &Build) -> &'static str {
    match build.status {
        BuildStatus::Waiting => "waiting",
        BuildStatus::Building => "building",
        BuildStatus::Ready => "ready",
        BuildStatus::Failed | BuildStatus::Cancelled => "error",
    }
}

/// One page of what is in the order of its names, and the header that leads to the next.
pub(super) fn page<T>(
    all: Vec<T>,
    limit: usize,
    after: Option<&str>,
    name: impl Fn(&T) -> &str,
) -> (Vec<T>, HeaderMap) {
    let mut rest: Vec<T> =
        all.into_iter().filter(|it| after.is_none_or(|after| name(it) > after)).collect();
    let more = rest.len() > limit;
    rest.truncate(limit);
    let mut headers = HeaderMap::new();
    let next = rest.last().filter(|_| more).map(|last| HeaderValue::from_str(name(last)));
    if let Some(Ok(next)) = next {
        headers.insert("x-next-token", next);
    }
    (rest, headers)
}
