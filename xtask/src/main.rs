//! The only task runner of this repository: `cargo xtask <task>`.
//!
//! Tasks are plain functions over a [`workspace::Workspace`]; each has its own module. Everything a
//! task needs besides the toolchain it makes under `target/`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task runner speaks to people")]

mod bench;
mod codegen;
mod dist;
mod fuzz;
mod shell;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use workspace::Workspace;

const USAGE: &str = "\
Usage: cargo xtask <task>

Tasks:
  tidy                  check the walls between crates and the rules no compiler checks
  codegen [--check]     write the generated files, or fail if one is stale
  test [tier...]        run all tests, or those of: unit doc integration e2e fuzz
  fuzz [--seconds N] [target...]
                        build the fuzz targets and replay their seeds, or fuzz for N seconds each
  bench [args...]       measure this machine; args go to the benchmark (see --help there)
  dist                  make target/dist/warren, one static file
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        print!("{USAGE}");
        return Ok(ExitCode::FAILURE);
    }
    let task = arguments.remove(0);
    let workspace = Workspace::find()?;
    match task.as_str() {
        "tidy" => tidy::run(&workspace, &arguments),
        "codegen" => codegen::run(&workspace, &arguments),
        "test" => test::run(&workspace, &arguments),
        "fuzz" => fuzz::run(&workspace, &arguments),
        "bench" => bench::run(&workspace, &arguments),
        "dist" => dist::run(&workspace, &arguments),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("no task is called {other}\n\n{USAGE}"),
    }
}
