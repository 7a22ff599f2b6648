//! `cargo xtask bench`: builds what is measured and hands over to the `warren-bench` crate.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{shell, test, workspace::Workspace};

/// Builds the release binaries and runs the benchmark with `arguments`.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let mut build = shell::cargo(&workspace.root);
    build.args(["build", "--release", "--package", "warren", "--package", "warren-bench"]);
    shell::run(&mut build)?;
    let python = test::python_of_clients(&workspace.root);
    let release = workspace.target.join("release");
    let mut bench = shell::command(release.join("warren-bench"));
    bench.current_dir(&workspace.root).arg("--warren").arg(release.join("warren"));
    bench.arg("--python").arg(python);
    bench.arg("--results").arg(workspace.root.join("bench/results")).args(arguments);
    let status = bench.status().context("start the benchmark")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
