//! `warren exec`

use std::process::ExitCode;

use warren_api::exec::ExecRequest;

use super::{
    Context,
    run::{CommandArgs, finish},
};
use crate::{
    error::CliError,
    session::{OnSignal, Signals, converse},
};

/// Run a command in a sandbox
///
/// Output is passed through as it arrives. The exit status is the command's own, 124 when its time
/// was over, or 125 when it could not be run. Signals go to the command.
#[derive(clap::Args, Debug)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    command: CommandArgs,
    /// Let it run on, and print its id
    #[arg(long, short, conflicts_with_all = ["interactive", "tty"])]
    detach: bool,
    /// The sandbox to run it in, by id or name
    sandbox: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    words: Vec<String>,
}

pub(crate) async fn exec(cx: &Context<'_>, args: ExecArgs) -> Result<ExitCode, CliError> {
    let request = args.command.request(args.words, cx)?;
    if args.detach {
        let started = cx.client.exec_detached(&args.sandbox, &request).await?;
        if cx.output.json {
            cx.output.value(&started)?;
        } else {
            cx.output.line(&started.exec_id)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    attended(cx, &args.sandbox, &request).await
}

/// Runs a command that this process waits for.
pub(super) async fn attended(
    cx: &Context<'_>,
    sandbox: &str,
    request: &ExecRequest,
) -> Result<ExitCode, CliError> {
    let mut signals = Signals::watch()?;
    let end =
        converse(&cx.client, sandbox, request, OnSignal::Forward, &mut signals, cx.output).await?;
    Ok(finish(cx.output, &end))
}
