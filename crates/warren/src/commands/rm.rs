//! `warren rm`

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use warren_api::{Code, sandbox::ListSandboxes};

use super::{Context, list::every};
use crate::error::CliError;

/// Remove sandboxes with all they hold
#[derive(clap::Args, Debug)]
pub(crate) struct RmArgs {
    /// Their ids or names
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "SANDBOX")]
    sandboxes: Vec<String>,
    /// Remove all of them
    #[arg(long)]
    all: bool,
    /// Ask nothing, and pass over those that are gone
    #[arg(long, short)]
    force: bool,
}

pub(crate) async fn rm(cx: &Context<'_>, args: RmArgs) -> Result<ExitCode, CliError> {
    let sandboxes = if args.all { all(cx, args.force).await? } else { args.sandboxes };
    let mut status = ExitCode::SUCCESS;
    for sandbox in sandboxes {
        let removing = async {
            match args.force {
                true => cx.client.discard_sandbox(&sandbox).await,
                false => cx.client.delete_sandbox(&sandbox).await,
            }
        };
        match cx.wait(&format!("removing {sandbox}"), removing).await {
            Ok(()) => cx.output.talk(&format!("removed {sandbox}")),
            Err(error) if error.code() == Code::NotFound && args.force => {}
            Err(error) => {
                // One that cannot be removed must not keep the others.
                cx.output.error(&error.into());
                status = ExitCode::FAILURE;
            }
        }
    }
    Ok(status)
}

/// The ids of all sandboxes, when the person means it.
async fn all(cx: &Context<'_>, force: bool) -> Result<Vec<String>, CliError> {
    let sandboxes = every(cx, ListSandboxes::default()).await?;
    if !sandboxes.is_empty() && !force && !confirmed(cx, sandboxes.len())? {
        return Ok(Vec::new());
    }
    Ok(sandboxes.into_iter().map(|sandbox| sandbox.id).collect())
}

fn confirmed(cx: &Context<'_>, count: usize) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::usage(format!(
            "this removes {count} sandboxes and nobody can be asked"
        ))
        .hint("`--force` says that this is meant"));
    }
    cx.output.talk(&format!("remove {count} sandboxes with all they hold? [y/N]"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(CliError::local("read the answer"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
