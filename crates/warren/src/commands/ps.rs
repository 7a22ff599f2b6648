//! `warren ps`

use std::process::ExitCode;

use warren_api::exec::{ExecEnd, ExecInfo};

use super::Context;
use crate::{clock, error::CliError};

/// List the commands of a sandbox
///
/// Those that run, and those that ended and are still kept. What they started themselves is not
/// among them.
#[derive(clap::Args, Debug)]
pub(crate) struct PsArgs {
    /// The sandbox, by id or name
    sandbox: String,
}

pub(crate) async fn ps(cx: &Context<'_>, args: PsArgs) -> Result<ExitCode, CliError> {
    let list = cx.wait("asking the sandbox", cx.client.list_execs(&args.sandbox)).await?;
    if cx.output.json {
        cx.output.value(&list)?;
    } else if cx.output.quiet {
        for exec in &list.execs {
            cx.output.line(&exec.exec_id)?;
        }
    } else if list.execs.is_empty() {
        cx.output.talk("no command runs in it; `warren exec --detach` starts one");
    } else {
        let rows: Vec<_> = list.execs.iter().map(row).collect();
        cx.output.table(["ID", "PID", "STATE", "STARTED", "EXIT", "COMMAND"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(exec: &ExecInfo) -> [String; 6] {
    let ago = |at| format!("{} ago", clock::distance(clock::now(), at));
    [
        exec.exec_id.clone(),
        exec.pid.to_string(),
        state(exec.end.as_ref()).to_owned(),
        exec.started_at.map_or_else(|| "-".to_owned(), ago),
        exec.end.as_ref().map_or_else(|| "-".to_owned(), |end| end.exit_code.to_string()),
        exec.command.iter().map(|word| shown(word)).collect::<Vec<_>>().join(" "),
    ]
}

fn state(end: Option<&ExecEnd>) -> &'static str {
    match end {
        None => "running",
        Some(end) if end.timed_out => "timed out",
        Some(end) if end.out_of_memory.is_some() => "out of memory",
        Some(end) if end.signal.is_some() => "killed",
        Some(_) => "exited",
    }
}

/// A word of a command line, in quotes where a shell would want them. What would move the cursor
/// is escaped: the words may come from anybody.
fn shown(word: &str) -> String {
    let plain = |it: char| it.is_alphanumeric() || "-_./=:,@%+".contains(it);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let escaped: String = word
        .chars()
        .flat_map(|it| match it.is_control() {
            true => it.escape_default().collect::<Vec<_>>(),
            false => vec![it],
        })
        .collect();
    format!("'{}'", escaped.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_that_matters() {
        for (word, text) in [
            ("ls", "ls"),
            ("--a=b", "--a=b"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("\x1b[2J", "'\\u{1b}[2J'"),
        ] {
            assert_eq!(shown(word), text);
        }
    }

    #[test]
    fn an_end_has_a_word() {
        let end = ExecEnd { signal: Some(9), timed_out: true, ..ExecEnd::default() };
        assert_eq!(state(Some(&end)), "timed out");
        assert_eq!(state(Some(&ExecEnd { timed_out: false, ..end })), "killed");
        assert_eq!(state(Some(&ExecEnd::default())), "exited");
        assert_eq!(state(None), "running");
    }
}
