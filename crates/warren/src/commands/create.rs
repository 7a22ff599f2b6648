//! `warren create`

use std::process::ExitCode;

use super::{
    Context, copying::CopyArgs, making::made, variables::VariableArgs, wanted::WantedArgs,
};
use crate::{error::CliError, session::Signals};

/// Create a sandbox and print its id
#[derive(clap::Args, Debug)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    variables: VariableArgs,
    /// Run its commands as `user` or `root` unless they say otherwise
    #[arg(long, short, value_name = "NAME")]
    user: Option<String>,
    /// Start its commands in this directory unless they say otherwise
    #[arg(long, short, value_name = "PATH")]
    workdir: Option<String>,
    #[command(flatten)]
    wanted: WantedArgs,
    #[command(flatten)]
    copies: CopyArgs,
}

pub(crate) async fn create(cx: &Context<'_>, args: CreateArgs) -> Result<ExitCode, CliError> {
    let copies = args.copies.open()?;
    let mut request = args.wanted.request(cx)?;
    request.env = args.variables.read(cx.environment)?;
    request.user = args.user;
    request.workdir = args.workdir.or_else(|| copies.workdir());
    let mut signals = Signals::watch()?;
    let sandbox = made(cx, &request, &mut signals).await?;
    copies.send(cx, &sandbox.id, None, &mut signals).await?;
    if cx.output.json {
        cx.output.value(&sandbox)?;
    } else {
        cx.say_what_is_weaker(&sandbox);
        cx.output.line(&sandbox.id)?;
    }
    Ok(ExitCode::SUCCESS)
}
