//! `warren logs`

use std::{io, process::ExitCode};

use warren_api::{
    Base64,
    client::{ClientError, LogStream},
    logs::{LogEntry, LogSource, ReadLogs},
};

use super::Context;
use crate::{
    backoff::Backoff,
    error::{CliError, Kind},
    session::Signals,
};

/// Show what the detached commands of a sandbox wrote
///
/// Their standard output goes to ours, their standard error to ours, and what happened to them is
/// said on standard error. The server keeps the newest part, also when the command, or the
/// sandbox, has ended.
#[derive(clap::Args, Debug)]
pub(crate) struct LogsArgs {
    /// The sandbox, by id or name
    sandbox: String,
    /// Go on with what comes, until the sandbox ends or Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines of what is there, so many of them
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
    /// Only what this command wrote, by its id from `ps`
    #[arg(long, value_name = "EXEC")]
    exec: Option<String>,
    /// Begin each piece of output with the time at which it was written down
    #[arg(long, short)]
    timestamps: bool,
}

pub(crate) async fn logs(cx: &Context<'_>, args: LogsArgs) -> Result<ExitCode, CliError> {
    let mut signals = Signals::watch()?;
    let shown = show(cx, &args);
    tokio::select! {
        shown = shown => shown,
        ended = signals.end() => match ended.kind {
            // Whoever follows ends it so.
            Kind::Interrupted(_) if args.follow => Ok(ExitCode::from(ended.kind.status())),
            _ => Err(ended),
        },
    }
}

async fn show(cx: &Context<'_>, args: &LogsArgs) -> Result<ExitCode, CliError> {
    let mut wanted = ReadLogs { exec_id: args.exec.clone(), ..ReadLogs::default() };
    let mut entries = Vec::new();
    loop {
        let page = cx.client.logs(&args.sandbox, &wanted).await?;
        wanted.after = page.entries.last().map(|entry| entry.seq).or(wanted.after);
        entries.extend(page.entries);
        if page.next_after.is_none() {
            break;
        }
        if args.tail.is_none() {
            for entry in entries.drain(..) {
                print(cx, args, &entry)?;
            }
        }
    }
    if let Some(lines) = args.tail {
        entries = tail(entries, lines);
    }
    for entry in &entries {
        print(cx, args, entry)?;
    }
    if args.follow {
        follow(cx, args, wanted).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Follows the log to its end, also when the server is restarted on the way.
async fn follow(cx: &Context<'_>, args: &LogsArgs, mut wanted: ReadLogs) -> Result<(), CliError> {
    let mut stream = cx.client.follow_logs(&args.sandbox, &wanted).await?;
    let mut backoff = Backoff::default();
    loop {
        let before = wanted.after;
        let mut error = match read(cx, args, &mut stream, &mut wanted).await? {
            Some(error) => error,
            None => return Ok(()),
        };
        if wanted.after > before {
            backoff.reset();
        }
        stream = loop {
            backoff.after(error).await?;
            match cx.client.follow_logs(&args.sandbox, &wanted).await {
                Ok(stream) => break stream,
                Err(again) => error = again,
            }
        };
    }
}

/// Prints what comes; gives what broke the stream, or nothing at the log's end.
async fn read(
    cx: &Context<'_>,
    args: &LogsArgs,
    stream: &mut LogStream,
    wanted: &mut ReadLogs,
) -> Result<Option<ClientError>, CliError> {
    loop {
        match stream.next().await {
            Ok(Some(entry)) => {
                wanted.after = Some(entry.seq);
                print(cx, args, &entry)?;
            }
            Ok(None) => return Ok(None),
            Err(error @ ClientError::Refused(_)) => return Err(error.into()),
            Err(error) => return Ok(Some(error)),
        }
    }
}

fn print(cx: &Context<'_>, args: &LogsArgs, entry: &LogEntry) -> Result<(), CliError> {
    if cx.output.json {
        let line = serde_json::to_string(entry).map_err(CliError::local("write JSON"))?;
        return cx.output.line(&line);
    }
    let mut bytes = Vec::new();
    if args.timestamps {
        bytes.extend_from_slice(format!("{} ", entry.time).as_bytes());
    }
    bytes.extend_from_slice(&entry.data.0);
    match entry.source {
        LogSource::Stdout | LogSource::Tty => cx.output.bytes(&mut io::stdout().lock(), &bytes),
        LogSource::Stderr => cx.output.bytes(&mut io::stderr().lock(), &bytes),
        LogSource::System => {
            let text = String::from_utf8_lossy(&bytes);
            cx.output.talk(&format!("[{} {text}]", entry.exec_id));
            Ok(())
        }
    }
}

/// The last `lines` lines of what commands wrote, and what was said between them.
fn tail(mut entries: Vec<LogEntry>, lines: usize) -> Vec<LogEntry> {
    let mut ends = 0;
    for index in (0..entries.len()).rev() {
        let Some(entry) = entries.get(index) else { break };
        if entry.source == LogSource::System {
            continue;
        }
        // The end of the last line begins no line.
        let text = match ends == 0 {
            true => entry.data.0.strip_suffix(b"\n").unwrap_or(&entry.data.0),
            false => &entry.data.0,
        };
        ends += usize::from(ends == 0);
        for at in (0..text.len()).rev().filter(|at| text.get(*at) == Some(&b'\n')) {
            if ends == lines {
                let rest = entry.data.0.get(at + 1..).unwrap_or_default().to_vec();
                let mut kept = entries.split_off(index);
                if let Some(first) = kept.first_mut() {
                    first.data = Base64(rest);
                }
                return kept;
            }
            ends += 1;
        }
    }
    if lines == 0 { Vec::new() } else { entries }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pieces: &[(LogSource, &str)]) -> Vec<LogEntry> {
        let entry = |(seq, (source, text)): (usize, &(LogSource, &str))| LogEntry {
            seq: seq as u64,
            time: "2026-11-21T10:00:00.000Z".parse().unwrap(),
            exec_id: "ex-a".to_owned(),
            source: *source,
            data: Base64(text.as_bytes().to_vec()),
        };
        pieces.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn the_last_lines_are_counted_across_pieces() {
        use LogSource::{Stderr, Stdout, System};
        let all = entries(&[(System, "s"), (Stdout, "a\nb"), (Stderr, "c\n"), (Stdout, "d\ne\n")]);
        let text = |lines| {
            let kept = tail(all.clone(), lines);
            let texts = kept.iter().map(|it| String::from_utf8(it.data.0.clone()).unwrap());
            texts.collect::<Vec<_>>().concat()
        };
        assert_eq!(text(0), "");
        assert_eq!(text(1), "e\n");
        assert_eq!(text(2), "d\ne\n");
        assert_eq!(text(3), "bc\nd\ne\n");
        assert_eq!(text(9), "sa\nbc\nd\ne\n");
    }
}
