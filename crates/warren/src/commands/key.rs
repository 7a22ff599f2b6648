//! `warren key`

use std::process::ExitCode;

use warren_api::access::{CreateKey, Key, KeyKind};

use super::Context;
use crate::{clock, config::Lasting, error::CliError};

/// Make, list and revoke API keys
///
/// Whoever uses a server over TCP shows a key. Keys are made on the server's own machine, by the
/// user who runs it.
#[derive(clap::Args, Debug)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

/// What to do with keys.
#[derive(clap::Subcommand, Debug)]
enum KeyCommand {
    Create(CreateArgs),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    Revoke(RevokeArgs),
}

/// Make a key and print it, this once
///
/// It works in the project that `--project` names, else in `default`. Clients take it from
/// WARREN_API_KEY, or send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`.
#[derive(clap::Args, Debug)]
struct CreateArgs {
    /// What to call it
    name: String,
    /// Make one that reads the server's metrics and nothing else
    #[arg(long)]
    metrics: bool,
    /// Refuse it after this long, such as `30d` (default: never)
    #[arg(long, value_name = "DURATION")]
    expires: Option<Lasting>,
}

/// List the keys of all projects
///
/// None can be shown again: PREFIX is how each begins.
#[derive(clap::Args, Debug)]
struct ListArgs {}

/// Revoke keys: they open nothing any more
#[derive(clap::Args, Debug)]
struct RevokeArgs {
    /// Their ids, or names that one key alone has
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
}

pub(crate) async fn key(cx: &Context<'_>, args: KeyArgs) -> Result<ExitCode, CliError> {
    match args.command {
        KeyCommand::Create(args) => create(cx, args).await,
        KeyCommand::List(ListArgs {}) => list(cx).await,
        KeyCommand::Revoke(args) => revoke(cx, args).await,
    }
}

async fn create(cx: &Context<'_>, args: CreateArgs) -> Result<ExitCode, CliError> {
    let expires_in_seconds = match args.expires.map(|it| it.0.as_secs()) {
        Some(0) => return Err(CliError::usage("--expires: expected a second or more")),
        seconds => seconds,
    };
    let kind = if args.metrics { KeyKind::Metrics } else { KeyKind::Project };
    let wanted = CreateKey { name: args.name, kind, project: None, expires_in_seconds };
    let new = cx.client.create_key(&wanted).await?;
    if cx.output.json {
        cx.output.value(&new)?;
        return Ok(ExitCode::SUCCESS);
    }
    cx.output.line(&new.key)?;
    let what = match &new.about.project {
        Some(project) => format!("works in project {project}"),
        None => "reads the server's metrics".to_owned(),
    };
    cx.output.talk(&format!("{} {what}; the key is not shown again", new.about.id));
    Ok(ExitCode::SUCCESS)
}

async fn list(cx: &Context<'_>) -> Result<ExitCode, CliError> {
    let list = cx.client.list_keys().await?;
    if cx.output.json {
        cx.output.value(&list)?;
    } else if cx.output.quiet {
        for key in &list.keys {
            cx.output.line(&key.id)?;
        }
    } else {
        let rows: Vec<_> = list.keys.iter().map(row).collect();
        let head = ["ID", "NAME", "PROJECT", "PREFIX", "AGE", "USED", "EXPIRES"];
        cx.output.table(head, &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(key: &Key) -> [String; 7] {
    let since = |then| clock::distance(clock::now(), then);
    let project = match key.kind {
        KeyKind::Project => key.project.clone().unwrap_or_default(),
        KeyKind::Metrics => "(metrics)".to_owned(),
    };
    [
        key.id.clone(),
        key.name.clone(),
        project,
        key.prefix.clone(),
        since(key.created_at),
        key.last_used_at.map_or("never".to_owned(), |used| format!("{} ago", since(used))),
        key.expires_at.map_or("never".to_owned(), |end| end.to_string()),
    ]
}

async fn revoke(cx: &Context<'_>, args: RevokeArgs) -> Result<ExitCode, CliError> {
    let known = cx.client.list_keys().await?.keys;
    for key in args.keys {
        let mut named = known.iter().filter(|it| it.id == key || it.name == key);
        let id = match (named.next(), named.next()) {
            (Some(one), None) => &one.id,
            (Some(_), Some(_)) => {
                let error = format!("several keys are called {key}");
                return Err(CliError::usage(error).hint("`warren key list` shows their ids"));
            }
            // The server says that there is none.
            (None, _) => &key,
        };
        cx.client.revoke_key(id).await?;
        cx.output.talk(&format!("revoked {id}"));
    }
    Ok(ExitCode::SUCCESS)
}
