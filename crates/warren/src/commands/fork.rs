//! `warren fork`

use std::process::ExitCode;

use warren_api::snapshot::{ForkSandbox, SnapshotKind};

use super::{
    Context,
    variables::VariableArgs,
    wanted::{pairs, whole_seconds},
};
use crate::{config::Lasting, error::CliError};

/// Make independent sandboxes from the live state of one
///
/// Each has the parent's files as they are at one moment, and an id, a hostname and addresses of
/// its own. `warren diff` compares them, `warren keep` adopts the best one's files into the parent.
#[derive(clap::Args, Debug)]
pub(crate) struct ForkArgs {
    /// The parent's id or name
    sandbox: String,
    /// How many
    #[arg(short = 'n', long, default_value_t = 1, value_name = "NUMBER")]
    count: u32,
    /// What to call them; where there are several, `-1`, `-2` and so on is put after it
    #[arg(long)]
    name: Option<String>,
    /// A label in place of the parent's; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    #[command(flatten)]
    variables: VariableArgs,
    /// Give them the environment that the parent was given, which may hold secrets
    #[arg(long)]
    with_env: bool,
    /// Carry the parent's processes over, where the server can
    #[arg(long)]
    processes: bool,
    /// How long each lives at most, such as `10m`; `0` for no limit
    #[arg(long, value_name = "DURATION")]
    ttl: Option<Lasting>,
}

pub(crate) async fn fork(cx: &Context<'_>, args: ForkArgs) -> Result<ExitCode, CliError> {
    let labels = pairs("--label", &args.labels)?;
    let request = ForkSandbox {
        count: args.count,
        name: args.name,
        labels: (!labels.is_empty()).then_some(labels),
        env: args.variables.read(cx.environment)?,
        with_env: args.with_env,
        kind: args.processes.then_some(SnapshotKind::Memory),
        lifetime_seconds: args.ttl.map(|ttl| whole_seconds(ttl.0)),
    };
    let forks = cx.wait("forking the sandbox", cx.client.fork_sandbox(&args.sandbox, &request));
    let forks = forks.await?;
    if cx.output.json {
        cx.output.value(&forks)?;
        return Ok(ExitCode::SUCCESS);
    }
    for sandbox in &forks.sandboxes {
        cx.output.line(&sandbox.id)?;
    }
    Ok(ExitCode::SUCCESS)
}
