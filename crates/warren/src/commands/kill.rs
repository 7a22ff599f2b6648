//! `warren kill`

use std::process::ExitCode;

use super::Context;
use crate::error::CliError;

/// Send a signal to a command in a sandbox
#[derive(clap::Args, Debug)]
pub(crate) struct KillArgs {
    /// The sandbox, by id or name
    sandbox: String,
    /// The command, by its id from `ps`
    #[arg(value_name = "EXEC")]
    exec: String,
    /// Which one, by name or number; `KILL` reaches all that the command started, every other the
    /// command alone
    #[arg(long, short, value_name = "SIGNAL", default_value = "TERM")]
    signal: String,
}

pub(crate) async fn kill(cx: &Context<'_>, args: KillArgs) -> Result<ExitCode, CliError> {
    let upper = args.signal.to_ascii_uppercase();
    let signal = upper.strip_prefix("SIG").unwrap_or(&upper);
    cx.client.signal_exec(&args.sandbox, &args.exec, signal).await?;
    if cx.output.json {
        cx.output.value(&serde_json::json!({ "exec_id": args.exec, "signal": signal }))?;
    }
    Ok(ExitCode::SUCCESS)
}
