//! `warren files`

pub(super) mod list;
mod watch;

use std::{io, process::ExitCode};

use clap::Subcommand;
use warren_api::files::{ChmodFile, MoveFile};

use super::Context;
use crate::{
    error::CliError,
    session::{Signals, read_input},
    transfer,
};

/// Look at and change files in a sandbox
///
/// Paths are absolute, or start at the home of the user.
#[derive(clap::Args, Debug)]
pub(crate) struct FilesArgs {
    /// As whom in the sandbox (default: its own user)
    #[arg(long, short, value_name = "NAME", global = true)]
    user: Option<String>,
    #[command(subcommand)]
    command: FilesCommand,
}

/// A path in a sandbox.
#[derive(clap::Args, Debug)]
struct Place {
    /// The sandbox, by id or name
    sandbox: String,
    /// The path in it
    path: String,
}

#[derive(Subcommand, Debug)]
enum FilesCommand {
    /// List a directory
    #[command(visible_alias = "list")]
    Ls {
        /// How many levels
        #[arg(long, value_name = "NUMBER", default_value_t = 1)]
        depth: u32,
        #[command(flatten)]
        place: Place,
    },
    /// Print a file
    Cat {
        #[command(flatten)]
        place: Place,
    },
    /// Write standard input to a file, and make the directories above it
    Write {
        /// Its permission bits in octal, such as `0644`
        #[arg(long, value_name = "MODE")]
        mode: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Remove files, and directories with everything in them
    Rm {
        /// The sandbox, by id or name
        sandbox: String,
        /// What to remove
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Make a directory and those above it
    Mkdir {
        #[command(flatten)]
        place: Place,
    },
    /// Move a file or a directory; a file that is there is replaced
    Mv {
        #[command(flatten)]
        place: Place,
        /// Its new path
        to: String,
    },
    /// Show what is at a path
    Stat {
        #[command(flatten)]
        place: Place,
    },
    /// Set the permission bits of a file or a directory
    Chmod {
        #[command(flatten)]
        place: Place,
        /// In octal, such as `0755`
        mode: String,
    },
    /// Find paths by a pattern such as `**/*.rs`
    ///
    /// `*` and `?` match within a name, `**` across directories, `[a-z]` one character, `{a,b}`
    /// either.
    Glob {
        #[command(flatten)]
        place: Place,
        /// Relative to the path
        pattern: String,
    },
    /// Print what happens in a directory, until it is interrupted
    Watch {
        /// Also everything below it
        #[arg(long, short)]
        recursive: bool,
        #[command(flatten)]
        place: Place,
    },
}

pub(crate) async fn files(cx: &Context<'_>, args: FilesArgs) -> Result<ExitCode, CliError> {
    let user = args.user.as_deref();
    let mut signals = Signals::watch()?;
    let work = async {
        match args.command {
            FilesCommand::Ls { depth, place } => list::list(cx, &place, user, depth).await,
            FilesCommand::Cat { place } => cat(cx, &place, user).await,
            FilesCommand::Write { mode, place } => write(cx, &place, user, mode.as_deref()).await,
            FilesCommand::Rm { sandbox, paths } => remove(cx, &sandbox, &paths, user).await,
            FilesCommand::Mkdir { place: Place { sandbox, path } } => {
                let made = cx.client.make_directory(&sandbox, &path, user).await?;
                if cx.output.json { cx.output.value(&made) } else { Ok(()) }
            }
            FilesCommand::Mv { place: Place { sandbox, path }, to } => {
                let user = user.map(str::to_owned);
                let moved = MoveFile { from: path, to, user };
                let moved = cx.client.move_file(&sandbox, &moved).await?;
                if cx.output.json { cx.output.value(&moved) } else { Ok(()) }
            }
            FilesCommand::Stat { place } => list::stat(cx, &place, user).await,
            FilesCommand::Chmod { place: Place { sandbox, path }, mode } => {
                let change = ChmodFile { path, mode, user: user.map(str::to_owned) };
                let changed = cx.client.chmod_file(&sandbox, &change).await?;
                if cx.output.json { cx.output.value(&changed) } else { Ok(()) }
            }
            FilesCommand::Glob { place, pattern } => list::glob(cx, &place, user, &pattern).await,
            FilesCommand::Watch { recursive, place } => {
                watch::watch(cx, &place, user, recursive).await
            }
        }
    };
    tokio::select! {
        result = work => result.map(|()| ExitCode::SUCCESS),
        end = signals.end() => Err(end),
    }
}

async fn cat(cx: &Context<'_>, place: &Place, user: Option<&str>) -> Result<(), CliError> {
    let mut stream = cx.client.read_file(&place.sandbox, &place.path, user, None).await?;
    while let Some(piece) = stream.chunk().await? {
        cx.output.bytes(&mut io::stdout().lock(), &piece)?;
    }
    Ok(())
}

async fn write(
    cx: &Context<'_>,
    place: &Place,
    user: Option<&str>,
    mode: Option<&str>,
) -> Result<(), CliError> {
    let Place { sandbox, path } = place;
    if path.ends_with('/') {
        return Err(CliError::usage(format!("`{path}` names a directory, expected a file"))
            .hint("`warren cp - SANDBOX:DIR/` unpacks an archive"));
    }
    let input = transfer::reader(read_input());
    let written = cx.client.write_file(sandbox, path, user, mode, input).await?;
    if cx.output.json { cx.output.value(&written) } else { Ok(()) }
}

async fn remove(
    cx: &Context<'_>,
    sandbox: &str,
    paths: &[String],
    user: Option<&str>,
) -> Result<(), CliError> {
    for path in paths {
        cx.client.remove_file(sandbox, path, user).await?;
    }
    if cx.output.json { cx.output.value(&serde_json::json!({ "removed": paths })) } else { Ok(()) }
}
