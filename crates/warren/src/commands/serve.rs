//! `warren serve`

use std::process::ExitCode;

use super::{Setup, block_on};
use crate::{
    background,
    config::Config,
    dirs::Dirs,
    error::{CliError, Kind},
    serve,
};

/// Run the server in the foreground
///
/// Commands start a server by themselves, so this is for service managers and for looking at what
/// it does. One that a command has started is asked to end first. Sandboxes live on when it ends;
/// the next server finds them.
#[derive(clap::Args, Debug)]
pub(crate) struct ServeArgs {
    /// End the server that runs, and wait until it has ended
    #[arg(long)]
    stop: bool,
    /// Be the server that a command has started: its listener and lock are already open
    #[arg(long, hide = true, conflicts_with = "stop")]
    background: bool,
}

pub(crate) fn serve(
    setup: &Setup<'_>,
    args: &ServeArgs,
    config: &Config,
) -> Result<ExitCode, CliError> {
    let dirs =
        Dirs::open(config, setup.environment).map_err(|error| CliError::new(Kind::Local, error))?;
    if args.stop {
        let stopped = block_on(background::stop(&dirs))??;
        setup.output.talk(if stopped { "the server has ended" } else { "no server was running" });
        return Ok(ExitCode::SUCCESS);
    }
    let post = if args.background {
        serve::Post::inherited().map_err(CliError::local("take over the listener"))?
    } else {
        serve::Post::claimed(&dirs)?
    };
    let manager = serve::Manager::at(setup.environment.get("NOTIFY_SOCKET"));
    serve::serve(config, &dirs, post, &manager)?;
    Ok(ExitCode::SUCCESS)
}
