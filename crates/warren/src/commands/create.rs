//! `warren create`

use std::process::ExitCode;

use super::{
    Context,
    wanted::{WantedArgs, variables},
};
use crate::error::CliError;

/// Create a sandbox and print its id
#[derive(clap::Args, Debug)]
pub(crate) struct CreateArgs {
    /// Set a variable for all its commands; without a value, to what it is here; may be repeated
    #[arg(long, short, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// Run its commands as `user` or `root` unless they say otherwise
    #[arg(long, short, value_name = "NAME")]
    user: Option<String>,
    /// Start its commands in this directory unless they say otherwise
    #[arg(long, short, value_name = "PATH")]
    workdir: Option<String>,
    #[command(flatten)]
    wanted: WantedArgs,
}

pub(crate) async fn create(cx: &Context<'_>, args: CreateArgs) -> Result<ExitCode, CliError> {
    let mut request = args.wanted.request(cx)?;
    request.env = variables(&args.env, cx.environment)?;
    request.user = args.user;
    request.workdir = args.workdir;
    let sandbox = cx.client.create_sandbox(&request).await?;
    if cx.output.json {
        cx.output.value(&sandbox)?;
    } else {
        cx.say_what_is_weaker(&sandbox);
        cx.output.line(&sandbox.id)?;
    }
    Ok(ExitCode::SUCCESS)
}
