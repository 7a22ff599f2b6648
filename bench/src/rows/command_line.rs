//! `warren run -- true` as a whole process.

use std::{fs, process::Stdio};

use anyhow::{Context as _, Result, ensure};

use super::{Bench, Size};
use crate::{
    samples::{Figures, Unit, timed},
    server::{Server, remove_run_directory, warren_command},
};

/// With the server running.
pub(super) fn warm(server: &Server, size: Size, figures: &mut Figures) -> Result<()> {
    const NAME: &str = "`warren run -- true`, server running";
    figures.declare(NAME, Unit::Time, "10 ms", "whole process");
    for _ in 0..size.samples.div_ceil(2) {
        let mut run = server.command();
        figures.time(NAME, timed(|| run_true(&mut run))?.0);
    }
    Ok(())
}

/// With a fresh data directory and no server.
pub(super) fn cold(bench: &mut Bench<'_>) -> Result<()> {
    let (warren, data) = (bench.warren, &bench.scratch.join("cold"));
    let figures = &mut *bench.figures;
    const NAME: &str = "`warren run -- true`, server not running";
    figures.declare(NAME, Unit::Time, "80 ms", "whole process, empty data directory");
    for _ in 0..bench.size.samples.div_ceil(10) {
        fs::create_dir_all(data).with_context(|| format!("make {}", data.display()))?;
        let outcome = timed(|| run_true(&mut warren_command(warren, data)));
        let mut stop = warren_command(warren, data);
        let stopped = stop.args(["--quiet", "serve", "--stop"]).stdout(Stdio::null()).status()?;
        remove_run_directory(warren, data)?;
        fs::remove_dir_all(data)?;
        figures.time(NAME, outcome?.0);
        ensure!(stopped.success(), "warren serve --stop: {stopped}");
    }
    Ok(())
}

fn run_true(warren: &mut std::process::Command) -> Result<()> {
    let output = warren.args(["run", "--", "true"]).output().context("start warren run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "warren run: {}: {said}", output.status);
    Ok(())
}
