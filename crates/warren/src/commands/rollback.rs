//! `warren rollback`

use std::process::ExitCode;

use super::Context;
use crate::error::CliError;

/// Take a sandbox back to a snapshot, in place
///
/// Its processes end and what it wrote since is gone; it runs again on the files of the snapshot,
/// with its own id, name and settings.
#[derive(clap::Args, Debug)]
pub(crate) struct RollbackArgs {
    /// The sandbox's id or name
    sandbox: String,
    /// The snapshot's id or name
    snapshot: String,
}

pub(crate) async fn rollback(cx: &Context<'_>, args: RollbackArgs) -> Result<ExitCode, CliError> {
    let back = cx.client.rollback_sandbox(&args.sandbox, &args.snapshot);
    cx.show_state(&cx.wait("going back", back).await?)?;
    Ok(ExitCode::SUCCESS)
}
