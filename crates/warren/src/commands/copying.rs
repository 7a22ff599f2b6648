//! `--copy` of the commands that make a sandbox.

use std::path::Path;

use super::{Context, making::removed};
use crate::{
    error::CliError,
    session::Signals,
    transfer::{self, Remote, Source},
};

/// Where copies go that name no place.
const WORKSPACE: &str = "/workspace";

/// What to copy into a new sandbox.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Sandbox")]
pub(crate) struct CopyArgs {
    /// Copy a file, or what is in a directory, into it; may be repeated
    ///
    /// DST is absolute; without it, it is /workspace, and commands start there unless `--workdir`
    /// says otherwise.
    #[arg(long = "copy", value_name = "PATH[:DST]")]
    copies: Vec<String>,
}

/// Copies that can be made: everything here was opened.
#[derive(Debug)]
pub(super) struct Copies {
    copies: Vec<(Source, String)>,
    to_workspace: bool,
}

impl CopyArgs {
    /// Opens what is to be copied.
    ///
    /// # Errors
    ///
    /// When something of it is not there or cannot be read.
    pub(super) fn open(&self) -> Result<Copies, CliError> {
        let mut to_workspace = false;
        let open = |text: &String| {
            let (path, to) = split(text);
            to_workspace |= to.is_none();
            let to = to.unwrap_or(WORKSPACE).to_owned();
            Ok((Source::open(Path::new(path))?.without_name(), to))
        };
        let copies = self.copies.iter().map(open).collect::<Result<_, CliError>>()?;
        Ok(Copies { copies, to_workspace })
    }
}

/// Takes the place in the sandbox off, if there is one.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((path, to)) if !path.is_empty() && to.starts_with('/') => (path, Some(to)),
        _ => (text, None),
    }
}

impl Copies {
    /// Where commands start, unless somebody says otherwise.
    pub(super) fn workdir(&self) -> Option<String> {
        self.to_workspace.then(|| WORKSPACE.to_owned())
    }

    /// Makes the copies in a sandbox that was made for this; it goes when one fails.
    pub(super) async fn send(
        self,
        cx: &Context<'_>,
        sandbox: &str,
        user: Option<&str>,
        signals: &mut Signals,
    ) -> Result<(), CliError> {
        if self.copies.is_empty() {
            return Ok(());
        }
        let copy = async {
            for (source, path) in self.copies {
                let to = Remote { sandbox: sandbox.to_owned(), path };
                let copied = transfer::send(&cx.client, source, &to, user).await?;
                if copied.skipped > 0 {
                    let count = copied.skipped;
                    cx.output.warn(&format!("{count} devices, pipes or sockets were not copied"));
                }
            }
            Ok(())
        };
        let result = tokio::select! {
            result = cx.wait("copying into the sandbox", copy) => result,
            end = signals.end() => Err(end),
        };
        if result.is_err() {
            removed(cx, sandbox, signals).await;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_absolute() {
        assert_eq!(split("."), (".", None));
        assert_eq!(split("a:/b"), ("a", Some("/b")));
        assert_eq!(split("a:b:/c"), ("a:b", Some("/c")));
        assert_eq!(split("a:b"), ("a:b", None));
        assert_eq!(split(":/b"), (":/b", None));
    }
}
