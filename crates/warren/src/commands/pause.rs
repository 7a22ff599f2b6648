//! `warren pause`

use std::process::ExitCode;

use super::Context;
use crate::error::CliError;

/// Freeze the processes of sandboxes; their memory is kept
#[derive(clap::Args, Debug)]
pub(crate) struct PauseArgs {
    /// Their ids or names
    #[arg(required = true, value_name = "SANDBOX")]
    sandboxes: Vec<String>,
}

pub(crate) async fn pause(cx: &Context<'_>, args: PauseArgs) -> Result<ExitCode, CliError> {
    for sandbox in &args.sandboxes {
        let sandbox = cx.wait("pausing the sandbox", cx.client.pause_sandbox(sandbox)).await?;
        cx.show_state(&sandbox)?;
    }
    Ok(ExitCode::SUCCESS)
}
