//! `warren keep`

use std::process::ExitCode;

use super::Context;
use crate::error::CliError;

/// Adopt a fork's files into the sandbox that it was forked from
///
/// The parent's processes end, and it runs again on the files of the fork. The fork goes on; with
/// --rm it is removed.
#[derive(clap::Args, Debug)]
pub(crate) struct KeepArgs {
    /// The fork's id or name
    fork: String,
    /// Remove the fork afterwards
    #[arg(long)]
    rm: bool,
}

pub(crate) async fn keep(cx: &Context<'_>, args: KeepArgs) -> Result<ExitCode, CliError> {
    let parent = cx.wait("adopting the files", cx.client.keep_sandbox(&args.fork)).await?;
    if args.rm {
        cx.client.delete_sandbox(&args.fork).await?;
    }
    cx.show_state(&parent)?;
    Ok(ExitCode::SUCCESS)
}
