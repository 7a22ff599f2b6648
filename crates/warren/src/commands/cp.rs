//! `warren cp`

use std::{io, path::Path, process::ExitCode};

use warren_api::files::FileKind;

use super::Context;
use crate::{
    config::Size,
    error::{CliError, Kind},
    session::{Signals, read_input},
    terminal,
    transfer::{self, Copied, Remote, Source, Target, last_part},
};

/// Copy files and directories into a sandbox, or out of it
///
/// One of the two is `SANDBOX:PATH`; a local path with a colon is written `./a:b`. What is copied
/// to a directory goes into it, under its own name; `DIR/.` means what is in the directory.
/// Where nothing is yet, a directory becomes that place. `-` is standard input or output: one
/// file, or a tar archive where the other side is a directory.
///
/// Modes, times and links are kept; set-user-id bits are not, and devices, pipes and sockets are
/// left out. Nothing that a sandbox sends is written outside of DST.
#[derive(clap::Args, Debug)]
pub(crate) struct CpArgs {
    /// As whom in the sandbox (default: its own user)
    #[arg(long, short, value_name = "NAME")]
    user: Option<String>,
    /// What to copy
    #[arg(value_name = "SRC")]
    from: String,
    /// Where to
    #[arg(value_name = "DST")]
    to: String,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Here(&'a Path),
    Remote(Remote),
    Stream,
}

impl<'a> Side<'a> {
    fn of(text: &'a str) -> Result<Self, CliError> {
        let named = text.split_once(':').filter(|(sandbox, _)| !sandbox.contains('/'));
        match (text, named) {
            ("-", _) => Ok(Self::Stream),
            ("", _) | (_, Some(("", _) | (_, ""))) => {
                Err(CliError::usage(format!("`{text}`: expected a path or SANDBOX:PATH")))
            }
            (_, Some((sandbox, path))) => {
                Ok(Self::Remote(Remote { sandbox: sandbox.to_owned(), path: path.to_owned() }))
            }
            (path, None) => Ok(Self::Here(Path::new(path))),
        }
    }
}

pub(crate) async fn cp(cx: &Context<'_>, args: CpArgs) -> Result<ExitCode, CliError> {
    let user = args.user.as_deref();
    let (from, to) = (Side::of(&args.from)?, Side::of(&args.to)?);
    // Opening may wait for the other end of a pipe: until then signals end this as they are.
    let opened = match (&from, &to) {
        (Side::Here(path), Side::Remote(_)) => Some(Source::open(path)?),
        _ => None,
    };
    let mut signals = Signals::watch()?;
    let copy = async {
        match (from, to) {
            (Side::Here(_) | Side::Stream, Side::Remote(to)) => {
                let source = opened.unwrap_or_else(|| Source::input(read_input()));
                transfer::send(&cx.client, source, &to, user).await
            }
            (Side::Remote(from), Side::Here(path)) => receive(cx, &from, path, user).await,
            (Side::Remote(from), Side::Stream) => print(cx, &from, user).await,
            _ => Err(CliError::usage("one of SRC and DST is `SANDBOX:PATH`, and only one")),
        }
    };
    let text = format!("copying {} to {}", args.from, args.to);
    let copied = tokio::select! {
        copied = cx.wait(&text, copy) => copied?,
        end = signals.end() => return Err(end),
    };
    report(cx, copied, args.to == "-")?;
    Ok(ExitCode::SUCCESS)
}

/// Copies to a path on this machine.
async fn receive(
    cx: &Context<'_>,
    from: &Remote,
    path: &Path,
    user: Option<&str>,
) -> Result<Copied, CliError> {
    let Remote { sandbox, path: source } = from;
    let info = cx.client.stat_file(sandbox, source, user).await?;
    let target = Target::of(path, last_part(source))?;
    match info.kind {
        FileKind::Directory => {
            let stream = cx.client.read_archive(sandbox, source, user).await?;
            transfer::receive_tree(stream, &target).await
        }
        FileKind::File => {
            let mode = u32::from_str_radix(&info.mode, 8).unwrap_or(0o644);
            let stream = cx.client.read_file(sandbox, source, user, None).await?;
            transfer::receive_file(stream, &target, mode).await
        }
        FileKind::Symlink | FileKind::Other => Err(no_content(from)),
    }
}

/// Copies to standard output: a file as it is, a directory as an archive.
async fn print(cx: &Context<'_>, from: &Remote, user: Option<&str>) -> Result<Copied, CliError> {
    let Remote { sandbox, path } = from;
    let mut stream = match from.kind(&cx.client, user).await? {
        Some(FileKind::Directory) if terminal::is_output() => {
            return Err(CliError::usage("an archive is not for a terminal")
                .hint("`> FILE` keeps it, `| tar -t` lists it"));
        }
        Some(FileKind::Directory) => cx.client.read_archive(sandbox, path, user).await?,
        Some(FileKind::Symlink | FileKind::Other) => return Err(no_content(from)),
        // What is not there says so by itself.
        Some(FileKind::File) | None => cx.client.read_file(sandbox, path, user, None).await?,
    };
    let mut copied = Copied { entries: 1, ..Copied::default() };
    while let Some(piece) = stream.chunk().await? {
        cx.output.bytes(&mut io::stdout().lock(), &piece)?;
        copied.bytes += piece.len() as u64;
    }
    Ok(copied)
}

fn no_content(from: &Remote) -> CliError {
    let path = &from.path;
    CliError::new(Kind::Local, format!("`{path}` is neither a file nor a directory"))
}

/// Says what was copied. `printed`: standard output has the copy itself.
fn report(cx: &Context<'_>, copied: Copied, printed: bool) -> Result<(), CliError> {
    if copied.skipped > 0 {
        let count = copied.skipped;
        cx.output.warn(&format!("{count} devices, pipes or sockets were left out"));
    }
    if printed {
        return Ok(());
    }
    if cx.output.json {
        return cx.output.value(&copied);
    }
    let what = if copied.entries == 1 { "entry" } else { "entries" };
    cx.output.talk(&format!("copied {} {what}, {}", copied.entries, Size(copied.bytes)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart() {
        let remote = |sandbox: &str, path: &str| {
            Side::Remote(Remote { sandbox: sandbox.to_owned(), path: path.to_owned() })
        };
        assert_eq!(Side::of("-").unwrap(), Side::Stream);
        assert_eq!(Side::of("a/b").unwrap(), Side::Here(Path::new("a/b")));
        assert_eq!(Side::of("./a:b").unwrap(), Side::Here(Path::new("./a:b")));
        assert_eq!(Side::of("/a:b").unwrap(), Side::Here(Path::new("/a:b")));
        assert_eq!(Side::of("box:/a:b").unwrap(), remote("box", "/a:b"));
        assert_eq!(Side::of("box:a").unwrap(), remote("box", "a"));
        for bad in ["", "box:", ":/a"] {
            assert!(Side::of(bad).is_err(), "{bad}");
        }
    }
}
