//! `warren attach`

use std::process::ExitCode;

use warren_api::exec::ExecInfo;

use super::{Context, run::finish};
use crate::{
    error::{CliError, Kind},
    session::{self, Signals},
};

/// Follow the output of a command in a sandbox
///
/// First what is kept of it, then what comes. The exit status is the command's own when it ends,
/// or 125 when it could not be followed. Ctrl-C stops following; the command runs on.
#[derive(clap::Args, Debug)]
pub(crate) struct AttachArgs {
    /// The sandbox, by id or name
    sandbox: String,
    /// The command, by its id from `ps`; may be left out where there is one alone
    #[arg(value_name = "EXEC")]
    exec: Option<String>,
    /// Leave out so many bytes of its output, counted from its start
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    offset: u64,
}

pub(crate) async fn attach(cx: &Context<'_>, args: AttachArgs) -> Result<ExitCode, CliError> {
    let mut signals = Signals::watch()?;
    let exec = match args.exec {
        Some(exec) => exec,
        None => only(cx.client.list_execs(&args.sandbox).await?.execs)?,
    };
    let mut follower =
        session::Follower::new(&cx.client, &args.sandbox, &exec, args.offset, cx.output);
    match follower.watch(&mut signals).await {
        Ok(end) => Ok(finish(cx.output, &end)),
        Err(error) => match error.kind {
            Kind::Interrupted(_) => {
                let offset = follower.printed();
                cx.output.talk(&format!(
                    "the command runs on; `warren attach {} {exec} --offset {offset}` goes on here",
                    args.sandbox
                ));
                Ok(ExitCode::from(error.kind.status()))
            }
            _ => Err(error),
        },
    }
}

/// The one command there is.
fn only(execs: Vec<ExecInfo>) -> Result<String, CliError> {
    let count = execs.len();
    let [exec] = <[ExecInfo; 1]>::try_from(execs).map_err(|_not_one| {
        CliError::usage(format!("there are {count} commands in it: expected the id of one"))
            .hint("`warren ps SANDBOX` lists them")
    })?;
    Ok(exec.exec_id)
}
