//! `warren extend`

use std::process::ExitCode;

use super::Context;
use crate::{clock, config::Lasting, error::CliError};

/// Give a sandbox another lifetime, from now on
#[derive(clap::Args, Debug)]
pub(crate) struct ExtendArgs {
    /// Its id or name
    sandbox: String,
    /// How long it lives from now on, such as `2h`; 0 for no limit
    #[arg(value_name = "DURATION")]
    lifetime: Lasting,
}

pub(crate) async fn extend(cx: &Context<'_>, args: ExtendArgs) -> Result<ExitCode, CliError> {
    let seconds = args.lifetime.0.as_secs();
    if seconds == 0 && !args.lifetime.0.is_zero() {
        return Err(CliError::usage("a lifetime is at least one second; 0 for no limit"));
    }
    let sandbox = cx.client.extend_sandbox(&args.sandbox, seconds).await?;
    if cx.output.json {
        cx.output.value(&sandbox)?;
    } else {
        let ends = sandbox.expires_at.map(|at| clock::distance(clock::now(), at));
        cx.output.talk(&match ends {
            Some(distance) => format!("{} ends in {distance}", sandbox.id),
            None => format!("{} has no end set", sandbox.id),
        });
    }
    Ok(ExitCode::SUCCESS)
}
