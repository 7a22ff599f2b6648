//! `warren secret`

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use warren_api::secret::{Secret, SetSecret};

use super::Context;
use crate::{clock, error::CliError, terminal::NoEcho};

/// The longest value, in bytes.
const LONGEST: u64 = 64 << 10;

/// Keep values that sandboxes use and never see
///
/// A secret is encrypted on the server and cannot be read back. A sandbox's network rules name it,
/// and requests to the hosts of those rules are given it on their way out.
#[derive(clap::Args, Debug)]
pub(crate) struct SecretArgs {
    #[command(subcommand)]
    command: SecretCommand,
}

/// What to do with secrets.
#[derive(clap::Subcommand, Debug)]
enum SecretCommand {
    Set(SetArgs),
    #[command(visible_alias = "ls")]
    List(ListArgs),
    Rm(RmArgs),
}

/// Set the value of a secret, from standard input
///
/// At a terminal it is asked for and not shown. One newline at the end is left out. There is no
/// way to give it as an argument: arguments are seen by everybody on a machine.
#[derive(clap::Args, Debug)]
struct SetArgs {
    /// Its name: a letter or `_`, then letters, digits, `_`, `.`, `-`
    name: String,
    /// Read the value from this file instead, as it is
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

/// List secrets, without their values
#[derive(clap::Args, Debug)]
struct ListArgs {}

/// Remove secrets: sandboxes that are given them are given them no more
#[derive(clap::Args, Debug)]
struct RmArgs {
    /// Their names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

pub(crate) async fn secret(cx: &Context<'_>, args: SecretArgs) -> Result<ExitCode, CliError> {
    match args.command {
        SecretCommand::Set(args) => set(cx, args).await,
        SecretCommand::List(ListArgs {}) => list(cx).await,
        SecretCommand::Rm(args) => rm(cx, args).await,
    }
}

async fn set(cx: &Context<'_>, args: SetArgs) -> Result<ExitCode, CliError> {
    let value = match &args.from_file {
        Some(path) => of_file(path)?,
        None if io::stdin().is_terminal() => asked(cx, &args.name)?,
        None => without_newline(text(io::stdin().lock())?),
    };
    let set = cx.client.set_secret(&args.name, &SetSecret { value }).await?;
    cx.output.talk(&format!("set secret {}, version {}", set.name, set.version));
    if cx.output.json {
        cx.output.value(&set)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn of_file(path: &Path) -> Result<String, CliError> {
    let file = std::fs::File::open(path).map_err(CliError::local("open the file"))?;
    text(file)
}

/// Reads a value, and no more than one can have.
fn text(source: impl io::Read) -> Result<String, CliError> {
    let mut value = Vec::new();
    let read = source.take(LONGEST + 2).read_to_end(&mut value);
    read.map_err(CliError::local("read the value"))?;
    if value.len() as u64 > LONGEST + 1 {
        return Err(CliError::usage(format!("a secret has at most {LONGEST} bytes")));
    }
    String::from_utf8(value).map_err(|_binary| {
        CliError::usage("a secret is UTF-8 text").hint("encode it first, as base64 for instance")
    })
}

/// What a person types, which the terminal does not show.
fn asked(cx: &Context<'_>, name: &str) -> Result<String, CliError> {
    let failed = CliError::local("read the value");
    let mut answer = String::new();
    let read = (|| {
        let _hidden = NoEcho::enter()?;
        cx.output.talk(&format!("value of {name} (it is not shown):"));
        io::stderr().flush()?;
        io::stdin().read_line(&mut answer)
    })();
    read.map_err(failed)?;
    Ok(without_newline(answer))
}

fn without_newline(mut value: String) -> String {
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    value
}

async fn list(cx: &Context<'_>) -> Result<ExitCode, CliError> {
    let list = cx.client.list_secrets().await?;
    if cx.output.json {
        cx.output.value(&list)?;
    } else if cx.output.quiet {
        for secret in &list.secrets {
            cx.output.line(&secret.name)?;
        }
    } else {
        let rows: Vec<_> = list.secrets.iter().map(row).collect();
        cx.output.table(["NAME", "VERSION", "SET", "USABLE"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(secret: &Secret) -> [String; 4] {
    [
        secret.name.clone(),
        secret.version.to_string(),
        format!("{} ago", clock::distance(clock::now(), secret.updated_at)),
        if secret.usable { "yes" } else { "no: sealed with another key" }.to_owned(),
    ]
}

async fn rm(cx: &Context<'_>, args: RmArgs) -> Result<ExitCode, CliError> {
    for name in &args.names {
        cx.client.delete_secret(name).await?;
        cx.output.talk(&format!("removed secret {name}"));
    }
    if cx.output.json {
        cx.output.value(&serde_json::json!({ "removed": args.names }))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_at_the_end_is_left_out() {
        for (given, kept) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a")] {
            assert_eq!(without_newline(given.to_owned()), kept);
        }
    }

    #[test]
    fn a_value_has_an_end() {
        assert!(text(io::repeat(b'x')).is_err());
        assert!(text(&[0xff_u8][..]).is_err());
        assert_eq!(text(&b"x"[..]).unwrap(), "x");
    }
}
