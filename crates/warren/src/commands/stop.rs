//! `warren stop`

use std::process::ExitCode;

use super::Context;
use crate::error::CliError;

/// End the processes of sandboxes and keep their files
#[derive(clap::Args, Debug)]
pub(crate) struct StopArgs {
    /// Their ids or names
    #[arg(required = true, value_name = "SANDBOX")]
    sandboxes: Vec<String>,
}

pub(crate) async fn stop(cx: &Context<'_>, args: StopArgs) -> Result<ExitCode, CliError> {
    for sandbox in &args.sandboxes {
        let sandbox = cx.wait("stopping the sandbox", cx.client.stop_sandbox(sandbox)).await?;
        cx.show_state(&sandbox)?;
    }
    Ok(ExitCode::SUCCESS)
}
