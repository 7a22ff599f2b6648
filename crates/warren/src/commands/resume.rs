//! `warren resume`

use std::process::ExitCode;

use super::Context;
use crate::error::CliError;

/// Let paused sandboxes go on
#[derive(clap::Args, Debug)]
pub(crate) struct ResumeArgs {
    /// Their ids or names
    #[arg(required = true, value_name = "SANDBOX")]
    sandboxes: Vec<String>,
}

pub(crate) async fn resume(cx: &Context<'_>, args: ResumeArgs) -> Result<ExitCode, CliError> {
    for sandbox in &args.sandboxes {
        let sandbox = cx.wait("resuming the sandbox", cx.client.resume_sandbox(sandbox)).await?;
        cx.show_state(&sandbox)?;
    }
    Ok(ExitCode::SUCCESS)
}
