//! `warren completion`

use std::{io, process::ExitCode};

use clap::{CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use super::Setup;
use crate::{cli::Cli, error::CliError};

/// Print what lets a shell complete this program's words
///
/// For example `warren completion bash > /etc/bash_completion.d/warren`, `warren completion zsh >
/// "${fpath[1]}/_warren"`, or `warren completion fish >
/// ~/.config/fish/completions/warren.fish`.
#[derive(clap::Args, Debug)]
pub(crate) struct CompletionArgs {
    /// For which shell
    shell: ShellArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ShellArg {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn completion(setup: &Setup<'_>, args: &CompletionArgs) -> Result<ExitCode, CliError> {
    let shell = match args.shell {
        ShellArg::Bash => Shell::Bash,
        ShellArg::Zsh => Shell::Zsh,
        ShellArg::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "warren", &mut script);
    setup.output.bytes(&mut io::stdout().lock(), &script)?;
    Ok(ExitCode::SUCCESS)
}
