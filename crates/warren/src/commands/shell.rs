//! `warren shell`

use std::process::ExitCode;

use super::{Context, exec::attended, run::CommandArgs, variables::VariableArgs};
use crate::{error::CliError, terminal};

/// Open a shell in a sandbox
#[derive(clap::Args, Debug)]
pub(crate) struct ShellArgs {
    /// The sandbox, by id or name
    sandbox: String,
    /// Open it as `user` or `root`
    #[arg(long, short, value_name = "NAME")]
    user: Option<String>,
    /// Start in this directory of the sandbox
    #[arg(long, short, value_name = "PATH")]
    workdir: Option<String>,
}

/// Not every image has bash.
const SHELL: &str = "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi";

pub(crate) async fn shell(cx: &Context<'_>, args: ShellArgs) -> Result<ExitCode, CliError> {
    let command = CommandArgs {
        interactive: true,
        tty: terminal::is_input(),
        variables: VariableArgs { env: vec!["TERM".to_owned()], ..VariableArgs::default() },
        user: args.user,
        workdir: args.workdir,
        timeout: None,
    };
    let words = ["/bin/sh", "-c", SHELL].map(str::to_owned).to_vec();
    attended(cx, &args.sandbox, &command.request(words, cx)?).await
}
