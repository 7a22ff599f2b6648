//! `warren template`

use std::process::ExitCode;

use warren_api::template::{Build, BuildLine, BuildStatus, Template, UpdateTemplate};

use super::Context;
use crate::{clock, config::Size, error::CliError};

mod build;
mod context;
mod source;

pub(crate) use build::print;

/// Build, list, tag and remove templates: what sandboxes are made from, by name
///
/// A template is built from a Dockerfile, or from a list of steps in a TOML file; each step runs
/// in a sandbox of its own. `warren run --template NAME` makes a sandbox from it.
#[derive(clap::Args, Debug)]
pub(crate) struct TemplateArgs {
    #[command(subcommand)]
    command: TemplateCommand,
}

/// What to do with templates.
#[derive(clap::Subcommand, Debug)]
enum TemplateCommand {
    Build(Box<build::BuildArgs>),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    Info(InfoArgs),
    Rm(RmArgs),
    Tag(TagArgs),
    Untag(UntagArgs),
    Set(SetArgs),
    Builds(BuildsArgs),
    Logs(LogsArgs),
    Cancel(CancelArgs),
    ForgetCache(ForgetCacheArgs),
}

/// List templates
#[derive(clap::Args, Debug)]
struct ListArgs {}

/// Show one template with its versions
#[derive(clap::Args, Debug)]
struct InfoArgs {
    /// Its name or id, `PROJECT/NAME` for another project's public one
    template: String,
}

/// Remove templates with all their versions
///
/// Sandboxes made from them go on.
#[derive(clap::Args, Debug)]
struct RmArgs {
    /// Their names or ids
    #[arg(required = true, value_name = "TEMPLATE")]
    templates: Vec<String>,
}

/// Give a version more tags
#[derive(clap::Args, Debug)]
struct TagArgs {
    /// The version: `NAME[:TAG]`
    template: String,
    /// The tags; those that other versions have go over to it
    #[arg(required = true, value_name = "TAG")]
    tags: Vec<String>,
}

/// Take a tag away
#[derive(clap::Args, Debug)]
struct UntagArgs {
    /// The template's name
    template: String,
    /// The tag
    tag: String,
}

/// Change who may use a template, and how many sandboxes of it wait ready
#[derive(clap::Args, Debug)]
struct SetArgs {
    /// Its name or id
    template: String,
    /// Whether other projects may use it
    #[arg(long, value_name = "true|false")]
    public: Option<bool>,
    /// How many of its sandboxes wait started and ready, 0 to 16
    #[arg(long, value_name = "COUNT")]
    warm: Option<u32>,
}

/// List the builds of a template that are remembered
#[derive(clap::Args, Debug)]
struct BuildsArgs {
    /// Its name or id
    template: String,
}

/// Show what a build said
#[derive(clap::Args, Debug)]
struct LogsArgs {
    /// The build's id, or the template's name for its last build
    build: String,
    /// Go on with what comes, until the build ends
    #[arg(long, short)]
    follow: bool,
}

/// End a build that runs
#[derive(clap::Args, Debug)]
struct CancelArgs {
    /// The build's id, or the template's name for its last build
    build: String,
}

/// Forget what steps of builds have made: the next builds do every step anew
#[derive(clap::Args, Debug)]
struct ForgetCacheArgs {}

pub(crate) async fn template(cx: &Context<'_>, args: TemplateArgs) -> Result<ExitCode, CliError> {
    match args.command {
        TemplateCommand::Build(args) => return build::build(cx, *args).await,
        TemplateCommand::List(ListArgs {}) => list(cx).await?,
        TemplateCommand::Info(args) => info(cx, &args.template).await?,
        TemplateCommand::Rm(args) => {
            for name in &args.templates {
                cx.client.delete_template(name).await?;
                cx.output.talk(&format!("removed template {name}"));
            }
        }
        TemplateCommand::Tag(args) => {
            let template = cx.client.tag_template(&args.template, args.tags).await?;
            show(cx, &template)?;
        }
        TemplateCommand::Untag(args) => {
            let template = cx.client.untag_template(&args.template, &args.tag).await?;
            show(cx, &template)?;
        }
        TemplateCommand::Set(SetArgs { template, public, warm }) => {
            let change = UpdateTemplate { public, warm };
            show(cx, &cx.client.update_template(&template, &change).await?)?;
        }
        TemplateCommand::Builds(args) => builds(cx, &args.template).await?,
        TemplateCommand::Logs(args) => return logs(cx, &args).await,
        TemplateCommand::Cancel(args) => {
            let id = build_id(cx, &args.build).await?;
            let build = cx.client.cancel_build(&id).await?;
            if cx.output.json {
                cx.output.value(&build)?;
            }
            cx.output.talk(&format!("the build is {}", status(build.status)));
        }
        TemplateCommand::ForgetCache(ForgetCacheArgs {}) => {
            let forgotten = cx.client.forget_build_cache().await?;
            if cx.output.json {
                cx.output.value(&forgotten)?;
            }
            cx.output.talk(&format!("forgot {} steps", forgotten.steps));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(cx: &Context<'_>) -> Result<(), CliError> {
    let list = cx.client.list_templates().await?;
    if cx.output.json {
        return cx.output.value(&list);
    }
    if cx.output.quiet {
        return list.templates.iter().try_for_each(|template| cx.output.line(&template.name));
    }
    let row = |template: &Template| {
        let last = template.versions.last();
        [
            template.name.clone(),
            template.tags.keys().cloned().collect::<Vec<_>>().join(","),
            last.map(|it| it.base.clone()).unwrap_or_default(),
            last.map(|it| Size(it.bytes).to_string()).unwrap_or_default(),
            if template.public { "public" } else { "private" }.to_owned(),
            clock::distance(clock::now(), template.updated_at),
        ]
    };
    let rows: Vec<_> = list.templates.iter().map(row).collect();
    cx.output.table(["NAME", "TAGS", "BASE", "SIZE", "FOR", "CHANGED"], &rows)
}

async fn info(cx: &Context<'_>, name: &str) -> Result<(), CliError> {
    let template = cx.client.get_template(name).await?;
    if cx.output.json {
        return cx.output.value(&template);
    }
    cx.output.line(&format!("{} {} ({})", template.id, template.name, template.project))?;
    let rows: Vec<_> = template
        .versions
        .iter()
        .rev()
        .map(|version| {
            let tags = template.tags.iter().filter(|(_, number)| **number == version.number);
            [
                version.number.to_string(),
                tags.map(|(tag, _)| tag.as_str()).collect::<Vec<_>>().join(","),
                version.base.clone(),
                version.layers.to_string(),
                Size(version.bytes).to_string(),
                version.user.clone().unwrap_or_default(),
                version.workdir.clone().unwrap_or_default(),
                clock::distance(clock::now(), version.created_at),
            ]
        })
        .collect();
    let head = ["VERSION", "TAGS", "BASE", "LAYERS", "SIZE", "USER", "WORKDIR", "AGE"];
    cx.output.table(head, &rows)
}

fn show(cx: &Context<'_>, template: &Template) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(template);
    }
    let tag = |(tag, number): (&String, &u32)| format!("{tag}={number}");
    let tags: Vec<_> = template.tags.iter().map(tag).collect();
    cx.output.talk(&format!("{}: {}", template.name, tags.join(" ")));
    Ok(())
}

async fn builds(cx: &Context<'_>, name: &str) -> Result<(), CliError> {
    let list = cx.client.list_builds(name).await?;
    if cx.output.json {
        return cx.output.value(&list);
    }
    if cx.output.quiet {
        return list.builds.iter().try_for_each(|build| cx.output.line(&build.id));
    }
    let row = |build: &Build| {
        [
            build.id.clone(),
            status(build.status).to_owned(),
            format!("{}/{}", build.done, build.steps),
            build.cached.to_string(),
            build.tags.join(","),
            clock::distance(clock::now(), build.created_at),
            build.failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = list.builds.iter().map(row).collect();
    cx.output.table(["BUILD", "STATUS", "STEPS", "CACHED", "TAGS", "AGE", "WHY"], &rows)
}

async fn logs(cx: &Context<'_>, args: &LogsArgs) -> Result<ExitCode, CliError> {
    let id = build_id(cx, &args.build).await?;
    if args.follow {
        return build::follow(cx, &id).await;
    }
    let mut after = None;
    loop {
        let page = cx.client.build_logs(&id, after).await?;
        for entry in page.entries {
            print(cx, &BuildLine::Entry(entry))?;
        }
        after = page.next_after;
        if after.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The id of a build: as it is, or of a template's last build.
async fn build_id(cx: &Context<'_>, text: &str) -> Result<String, CliError> {
    let is_id = text.len() == 36 && text.bytes().filter(|byte| *byte == b'-').count() == 4;
    if is_id {
        return Ok(text.to_owned());
    }
    let builds = cx.client.list_builds(text).await?.builds;
    let last = builds.into_iter().next().map(|build| build.id);
    last.ok_or_else(|| CliError::usage(format!("{text} has no build that is remembered")))
}

fn status(status: BuildStatus) -> &'static str {
    match status {
        BuildStatus::Waiting => "waiting",
        BuildStatus::Building => "building",
        BuildStatus::Ready => "ready",
        BuildStatus::Failed => "failed",
        BuildStatus::Cancelled => "cancelled",
    }
}
