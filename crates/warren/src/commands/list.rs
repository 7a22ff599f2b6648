//! `warren list`

use std::process::ExitCode;

use clap::ValueEnum;
use warren_api::sandbox::{ListSandboxes, Sandbox, SandboxList, State};

use super::{Context, wanted::pairs};
use crate::{clock, error::CliError};

/// List sandboxes
///
/// All that live, newest first. The conditions below must all hold; `--quiet` prints ids alone.
#[derive(clap::Args, Debug)]
pub(crate) struct ListArgs {
    /// Also those that have ended
    #[arg(long, short)]
    all: bool,
    /// Only those in this state; may be repeated, for any of several
    #[arg(long = "state", value_name = "STATE", conflicts_with = "all")]
    states: Vec<StateArg>,
    /// Only those with this label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Only the one of this name
    #[arg(long)]
    name: Option<String>,
    /// At most so many (default: all)
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Those behind the last of a list with `--limit`, which ends with this text
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// [`State`], as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateArg {
    Creating,
    Running,
    Paused,
    Stopping,
    Stopped,
    Failed,
}

impl From<StateArg> for State {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::Creating => Self::Creating,
            StateArg::Running => Self::Running,
            StateArg::Paused => Self::Paused,
            StateArg::Stopping => Self::Stopping,
            StateArg::Stopped => Self::Stopped,
            StateArg::Failed => Self::Failed,
        }
    }
}

pub(crate) async fn list(cx: &Context<'_>, args: ListArgs) -> Result<ExitCode, CliError> {
    let filter = ListSandboxes {
        states: match args.all {
            true => EVERY_STATE.to_vec(),
            false => args.states.into_iter().map(Into::into).collect(),
        },
        labels: pairs("--label", &args.labels)?,
        name: args.name,
        limit: None,
        cursor: args.cursor,
    };
    let list = at_most(cx, filter, args.limit.unwrap_or(u32::MAX)).await?;
    let sandboxes = &list.sandboxes;
    if cx.output.json {
        cx.output.value(&list)?;
    } else if cx.output.quiet {
        for sandbox in sandboxes {
            cx.output.line(&sandbox.id)?;
        }
    } else if sandboxes.is_empty() {
        cx.output.talk("there are no such sandboxes; `warren run -- COMMAND` makes one");
    } else {
        let rows: Vec<_> = sandboxes.iter().map(row).collect();
        cx.output.table(["ID", "NAME", "STATE", "IMAGE", "AGE", "ENDS IN"], &rows)?;
        if let Some(cursor) = &list.next_cursor {
            cx.output.talk(&format!("there are more: --cursor {cursor} goes on behind these"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

const EVERY_STATE: [State; 7] = [
    State::Creating,
    State::Running,
    State::Paused,
    State::Stopping,
    State::Stopped,
    State::Starting,
    State::Failed,
];

/// All pages of a list.
pub(super) async fn every(
    cx: &Context<'_>,
    filter: ListSandboxes,
) -> Result<Vec<Sandbox>, CliError> {
    Ok(at_most(cx, filter, u32::MAX).await?.sandboxes)
}

/// As many pages of a list as it takes for `limit` sandboxes.
async fn at_most(
    cx: &Context<'_>,
    mut filter: ListSandboxes,
    limit: u32,
) -> Result<SandboxList, CliError> {
    let mut list = SandboxList { sandboxes: Vec::new(), next_cursor: filter.cursor.take() };
    loop {
        let count = u32::try_from(list.sandboxes.len()).unwrap_or(u32::MAX);
        filter.limit = Some(LARGEST_PAGE.min(limit - count.min(limit)));
        filter.cursor = list.next_cursor.take();
        let page = cx.wait("asking the server", cx.client.list_sandboxes(&filter)).await?;
        list.sandboxes.extend(page.sandboxes);
        list.next_cursor = page.next_cursor;
        if list.next_cursor.is_none() || list.sandboxes.len() >= limit as usize {
            return Ok(list);
        }
    }
}

/// The largest page that the API gives.
const LARGEST_PAGE: u32 = 1000;

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
