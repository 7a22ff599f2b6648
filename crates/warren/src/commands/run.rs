//! `warren run`

use std::process::ExitCode;

use warren_api::{
    exec::{ExecEnd, ExecRequest},
    git,
    sandbox::Sandbox,
};

use super::{
    Context,
    copying::CopyArgs,
    making::{made, removed},
    variables::VariableArgs,
    wanted::WantedArgs,
};
use crate::{
    config::{Lasting, Size},
    error::{CliError, Kind},
    output::Output,
    session::{OnSignal, Signals, converse},
    terminal,
};

/// Run a command in a new sandbox
///
/// Output is passed through as it arrives. The exit status is the command's own, 124 when its time
/// was over, or 125 when it could not be run. The sandbox is removed when the command ends.
#[derive(clap::Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    command: CommandArgs,
    /// Keep the sandbox when the command ends
    #[arg(long)]
    keep: bool,
    /// Let the command run on, print the id of its sandbox, and keep both
    ///
    /// `warren ps` names the command, `warren attach` follows its output, and `warren rm` removes
    /// the sandbox.
    #[arg(long, short, conflicts_with_all = ["interactive", "tty"])]
    detach: bool,
    #[command(flatten)]
    wanted: WantedArgs,
    #[command(flatten)]
    copies: CopyArgs,
    /// The command and its arguments; where none is given, what the template names, or an image of a
    /// registry
    #[arg(required_unless_present_any = ["image", "template"], trailing_var_arg = true, value_name = "COMMAND")]
    words: Vec<String>,
}

/// How a command is run.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct CommandArgs {
    /// Pass standard input on
    #[arg(long, short)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    #[command(flatten)]
    pub(crate) variables: VariableArgs,
    /// Run it as `user` or `root`
    #[arg(long, short, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Start it in this directory of the sandbox
    #[arg(long, short, value_name = "PATH")]
    pub(crate) workdir: Option<String>,
    /// Kill it with all it started after this long, such as `30s`
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<Lasting>,
}

impl CommandArgs {
    /// The request that these flags and words describe.
    pub(crate) fn request(
        self,
        words: Vec<String>,
        cx: &Context<'_>,
    ) -> Result<ExecRequest, CliError> {
        if self.tty && self.interactive && !terminal::is_input() {
            return Err(CliError::usage("`-it` needs a terminal at standard input")
                .hint("leave `-t` out to pass a pipe or a file on"));
        }
        Ok(ExecRequest {
            command: words,
            env: self.variables.read(cx.environment)?,
            user: self.user,
            workdir: self.workdir,
            timeout_ms: self
                .timeout
                .map(|timeout| u64::try_from(timeout.0.as_millis()).unwrap_or(u64::MAX)),
            stdin: self.interactive,
            tty: self.tty.then(terminal::size),
            ..ExecRequest::default()
        })
    }
}

pub(crate) async fn run(cx: &Context<'_>, args: RunArgs) -> Result<ExitCode, CliError> {
    let copies = args.copies.open()?;
    let mut request = args.command.request(args.words, cx)?;
    request.workdir = request.workdir.or_else(|| copies.workdir());
    let wanted = args.wanted.request(cx)?;
    let repository = wanted.git.as_ref().map(|git| git.path.as_deref().unwrap_or(git::PATH));
    request.workdir = request.workdir.or_else(|| repository.map(str::to_owned));
    let mut signals = Signals::watch()?;
    let created = made(cx, &wanted, &mut signals).await?;
    cx.say_what_is_weaker(&created);
    copies.send(cx, &created.id, request.user.as_deref(), &mut signals).await?;
    if args.detach {
        return detached(cx, &created, &request, &mut signals).await;
    }
    let result = in_sandbox(cx, &created.id, &request, &mut signals).await;
    let interrupted = matches!(&result, Err(error) if matches!(error.kind, Kind::Interrupted(_)));
    if args.keep && !interrupted {
        cx.output.talk(&format!("sandbox {} is kept", created.id));
    } else {
        removed(cx, &created.id, &mut signals).await;
    }
    result
}

/// Starts the command and leaves it and its sandbox alone; a sandbox without it is of no use.
async fn detached(
    cx: &Context<'_>,
    created: &Sandbox,
    request: &ExecRequest,
    signals: &mut Signals,
) -> Result<ExitCode, CliError> {
    let started = tokio::select! {
        started = cx.client.exec_detached(&created.id, request) => started.map_err(Into::into),
        end = signals.end() => Err(end),
    };
    let started = match started {
        Ok(started) => started,
        Err(error) => {
            removed(cx, &created.id, signals).await;
            return Err(error);
        }
    };
    if cx.output.json {
        let mut value =
            serde_json::to_value(&started).map_err(CliError::local("write the answer"))?;
        if let Some(object) = value.as_object_mut() {
            object.insert("sandbox_id".to_owned(), created.id.as_str().into());
        }
        cx.output.value(&value)?;
    } else {
        cx.output.line(&created.id)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the command; with `--json` its outcome is printed as one object at the end.
async fn in_sandbox(
    cx: &Context<'_>,
    sandbox: &str,
    request: &ExecRequest,
    signals: &mut Signals,
) -> Result<ExitCode, CliError> {
    if cx.output.json && request.tty.is_none() && !request.stdin {
        let outcome = tokio::select! {
            outcome = cx.client.exec(sandbox, request) => outcome?,
            end = signals.end() => return Err(end),
        };
        let status = status(&outcome.end);
        let mut value =
            serde_json::to_value(&outcome).map_err(CliError::local("write the outcome"))?;
        if let Some(object) = value.as_object_mut() {
            object.insert("sandbox_id".to_owned(), sandbox.into());
        }
        cx.output.value(&value)?;
        return Ok(ExitCode::from(status));
    }
    let end = converse(&cx.client, sandbox, request, OnSignal::Leave, signals, cx.output).await?;
    Ok(finish(cx.output, &end))
}

/// The exit status that a command's end becomes, with a word about ends that need one.
pub(crate) fn finish(output: Output, end: &ExecEnd) -> ExitCode {
    if let Some(out_of_memory) = end.out_of_memory {
        let limit = Size(out_of_memory.limit_bytes);
        output.warn(&format!("killed: out of memory, the sandbox's limit is {limit}"));
    }
    if end.timed_out {
        output.warn("killed: its time was over");
    }
    ExitCode::from(status(end))
}

/// 124 is what `timeout(1)` says.
fn status(end: &ExecEnd) -> u8 {
    if end.timed_out { 124 } else { u8::try_from(end.exit_code & 0xff).unwrap_or(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_is_the_commands_own() {
        let end = |exit_code, timed_out| ExecEnd { exit_code, timed_out, ..ExecEnd::default() };
        assert_eq!(status(&end(3, false)), 3);
        assert_eq!(status(&end(137, false)), 137);
        assert_eq!(status(&end(137, true)), 124);
    }
}
