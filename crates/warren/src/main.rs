//! `warren`: the command line, and the server that it starts.
//!
//! `main` is a page: parse, load the configuration, run the command, map the error to an exit
//! status. What commands do is in [`commands`], one file each; what a person reads goes through
//! [`output`]; the server is put together in [`serve`].

mod cli;

mod commands;

mod config;

mod dirs;

mod background;

mod remote;

mod backoff;

mod serve;

mod doctor;

mod uninstall;

mod selftest;

mod terminal;

mod session;

mod transfer;

mod output;

mod error;

mod clock;

mod version;

#[cfg(test)]
mod golden;

#[cfg(test)]
mod api_reference;

use std::process::ExitCode;

use clap::Parser as _;

use cli::Cli;
use config::Environment;
use output::Output;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::refuse(&error),
    };
    let environment = Environment::read();
    let output = Output::new(cli.output, &environment);
    let failed = cli.command.failed_status();
    match commands::run(cli, &environment, output) {
        Ok(status) => status,
        Err(error) => {
            output.error(&error);
            ExitCode::from(failed(error.kind))
        }
    }
}
