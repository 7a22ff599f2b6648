//! `warren project`

use std::process::ExitCode;

use warren_api::access::{CreateProject, Project, ProjectQuota};

use super::Context;
use crate::{clock, config::Size, error::CliError};

/// Make, list, limit and remove projects
///
/// Each sandbox belongs to a project, and no project sees another's. `--project` names the one to
/// work in; on the server's own machine it may be any, a key works in its own.
#[derive(clap::Args, Debug)]
pub(crate) struct ProjectArgs {
    #[command(subcommand)]
    command: ProjectCommand,
}

/// What to do with projects.
#[derive(clap::Subcommand, Debug)]
enum ProjectCommand {
    Create(CreateArgs),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    Quota(QuotaArgs),
    Rm(RmArgs),
}

/// Make a project
#[derive(clap::Args, Debug)]
struct CreateArgs {
    /// Its name: `[a-z0-9][a-z0-9-]{0,62}`
    name: String,
    #[command(flatten)]
    limits: Limits,
}

/// List projects, with what they have and may have
#[derive(clap::Args, Debug)]
struct ListArgs {}

/// Show or change what a project may have
///
/// Without a limit it shows the project. What is not named stays as it is; what the project has
/// already stays too.
#[derive(clap::Args, Debug)]
struct QuotaArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    limits: Limits,
}

/// Remove projects that have neither sandboxes nor keys
#[derive(clap::Args, Debug)]
struct RmArgs {
    /// Their names
    #[arg(required = true, value_name = "PROJECT")]
    names: Vec<String>,
}

/// What a project may have.
#[derive(clap::Args, Debug)]
struct Limits {
    /// At most so many living sandboxes; `none` for no limit
    #[arg(long, value_name = "COUNT", value_parser = limit::<u32>)]
    sandboxes: Option<Limit<u32>>,
    /// At most so much memory in all, such as `16GiB`; `none` for no limit
    #[arg(long, value_name = "SIZE", value_parser = limit::<Size>)]
    memory: Option<Limit<Size>>,
}

/// A limit, or that there is none.
#[derive(Clone, Copy, Debug)]
struct Limit<T>(Option<T>);

fn limit<T: std::str::FromStr>(text: &str) -> Result<Limit<T>, String>
where
    T::Err: ToString,
{
    match text {
        "none" => Ok(Limit(None)),
        text => text.parse().map(|it| Limit(Some(it))).map_err(|error: T::Err| error.to_string()),
    }
}

impl Limits {
    fn apply(&self, quota: ProjectQuota) -> ProjectQuota {
        ProjectQuota {
            sandboxes: self.sandboxes.map_or(quota.sandboxes, |it| it.0),
            memory_bytes: self.memory.map_or(quota.memory_bytes, |it| it.0.map(|size| size.0)),
        }
    }

    fn is_empty(&self) -> bool {
        self.sandboxes.is_none() && self.memory.is_none()
    }
}

pub(crate) async fn project(cx: &Context<'_>, args: ProjectArgs) -> Result<ExitCode, CliError> {
    match args.command {
        ProjectCommand::Create(CreateArgs { name, limits }) => {
            let quota = limits.apply(ProjectQuota::default());
            let made = cx.client.create_project(&CreateProject { name, quota }).await?;
            if cx.output.json {
                cx.output.value(&made)?;
            } else {
                cx.output.talk(&format!("made project {}", made.name));
            }
        }
        ProjectCommand::List(ListArgs {}) => list(cx).await?,
        ProjectCommand::Quota(args) => quota(cx, args).await?,
        ProjectCommand::Rm(RmArgs { names }) => {
            for name in names {
                cx.client.delete_project(&name).await?;
                cx.output.talk(&format!("removed project {name}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(cx: &Context<'_>) -> Result<(), CliError> {
    let list = cx.client.list_projects().await?;
    if cx.output.json {
        return cx.output.value(&list);
    }
    if cx.output.quiet {
        return list.projects.iter().try_for_each(|project| cx.output.line(&project.name));
    }
    table(cx, &list.projects)
}

async fn quota(cx: &Context<'_>, args: QuotaArgs) -> Result<(), CliError> {
    let mut project = cx.client.get_project(&args.name).await?;
    if !args.limits.is_empty() {
        let quota = args.limits.apply(project.quota);
        project = cx.client.set_project_quota(&args.name, &quota).await?;
    }
    if cx.output.json {
        return cx.output.value(&project);
    }
    table(cx, &[project])
}

fn table(cx: &Context<'_>, projects: &[Project]) -> Result<(), CliError> {
    let of = |has: String, may: Option<String>| match may {
        Some(may) => format!("{has} of {may}"),
        None => has,
    };
    let row = |project: &Project| {
        let Project { quota, .. } = project;
        let memory = Size(project.memory_bytes).to_string();
        [
            project.name.clone(),
            of(project.sandboxes.to_string(), quota.sandboxes.map(|it| it.to_string())),
            of(memory, quota.memory_bytes.map(|it| Size(it).to_string())),
            project.keys.to_string(),
            clock::distance(clock::now(), project.created_at),
        ]
    };
    let head = ["NAME", "SANDBOXES", "MEMORY", "KEYS", "AGE"];
    let rows: Vec<_> = projects.iter().map(row).collect();
    cx.output.table(head, &rows)
}
