//! `warren start`

use std::process::ExitCode;

use super::Context;
use crate::error::CliError;

/// Start stopped sandboxes again, on their files
#[derive(clap::Args, Debug)]
pub(crate) struct StartArgs {
    /// Their ids or names
    #[arg(required = true, value_name = "SANDBOX")]
    sandboxes: Vec<String>,
}

pub(crate) async fn start(cx: &Context<'_>, args: StartArgs) -> Result<ExitCode, CliError> {
    for sandbox in &args.sandboxes {
        let sandbox = cx.wait("starting the sandbox", cx.client.start_sandbox(sandbox)).await?;
        cx.show_state(&sandbox)?;
    }
    Ok(ExitCode::SUCCESS)
}
