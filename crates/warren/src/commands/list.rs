//! `warren list`

use std::process::ExitCode;

use warren_api::sandbox::{ListSandboxes, Sandbox, State};

use super::{Context, wanted::pairs};
use crate::{clock, error::CliError};

/// List sandboxes
#[derive(clap::Args, Debug)]
pub(crate) struct ListArgs {
    /// Also those that have ended
    #[arg(long, short)]
    all: bool,
    /// Only those with this label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Only the one of this name
    #[arg(long)]
    name: Option<String>,
}

pub(crate) async fn list(cx: &Context<'_>, args: ListArgs) -> Result<ExitCode, CliError> {
    let filter = ListSandboxes {
        states: if args.all { EVERY_STATE.to_vec() } else { Vec::new() },
        labels: pairs("--label", &args.labels)?,
        name: args.name,
        ..ListSandboxes::default()
    };
    let sandboxes = every(cx, filter).await?;
    if cx.output.json {
        cx.output.value(&serde_json::json!({ "sandboxes": sandboxes }))?;
    } else if cx.output.quiet {
        for sandbox in &sandboxes {
            cx.output.line(&sandbox.id)?;
        }
    } else if sandboxes.is_empty() {
        cx.output.talk("there are no sandboxes; `warren run -- COMMAND` makes one");
    } else {
        let rows: Vec<_> = sandboxes.iter().map(row).collect();
        cx.output.table(["ID", "NAME", "STATE", "IMAGE", "AGE", "ENDS IN"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

const EVERY_STATE: [State; 6] = [
    State::Creating,
    State::Running,
    State::Paused,
    State::Stopping,
    State::Stopped,
    State::Failed,
];

/// All pages of a list.
pub(super) async fn every(
    cx: &Context<'_>,
    mut filter: ListSandboxes,
) -> Result<Vec<Sandbox>, CliError> {
    let mut sandboxes = Vec::new();
    loop {
        let page = cx.client.list_sandboxes(&filter).await?;
        sandboxes.extend(page.sandboxes);
        match page.next_cursor {
            Some(cursor) => filter.cursor = Some(cursor),
            None => return Ok(sandboxes),
        }
    }
}

fn row(sandbox: &Sandbox) -> [String; 6] {
    let now = clock::now();
    let ends = sandbox.expires_at.map(|at| clock::distance(now, at));
    [
        sandbox.id.clone(),
        sandbox.name.clone().unwrap_or_else(|| "-".to_owned()),
        sandbox.state.to_string(),
        sandbox.image.clone(),
        clock::distance(now, sandbox.created_at),
        ends.unwrap_or_else(|| "-".to_owned()),
    ]
}
