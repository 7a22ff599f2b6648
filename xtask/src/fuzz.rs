//! `cargo xtask fuzz`: builds the targets of `fuzz/` on the stable toolchain and runs them.
//!
//! The targets need unstable flags of the compiler, which `RUSTC_BOOTSTRAP=1` allows, and libFuzzer's
//! C++ runtime, which `libfuzzer-sys` compiles.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{dist::host_triple, shell, workspace::Workspace};

/// Coverage instrumentation that libFuzzer is steered by, and assertions that make a bug visible.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "--cfg=fuzzing",
];

/// Builds all targets; replays the seeds, or fuzzes for `--seconds N` each.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let mut seconds = None;
    let mut chosen = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                let text = arguments.next().context("--seconds needs a number")?;
                seconds = Some(text.parse::<u64>().context("--seconds needs a number")?);
            }
            name => chosen.push(name.to_owned()),
        }
    }
    if let Some(reason) = obstacle() {
        println!("fuzz targets not built: {reason}");
        return Ok(ExitCode::FAILURE);
    }
    let all = build(workspace)?;
    let mut good = true;
    for target in all.iter().filter(|name| chosen.is_empty() || chosen.contains(name)) {
        match seconds {
            None => good &= replay(workspace, target)?.is_ok(),
            Some(seconds) => good &= fuzz(workspace, target, seconds)?,
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why the targets cannot be built here, if they cannot.
pub(crate) fn obstacle() -> Option<&'static str> {
    if shell::find_program("c++").or_else(|| shell::find_program("clang++")).is_none() {
        return Some("no C++ compiler is installed");
    }
    None
}

/// Builds every target and returns their names.
pub(crate) fn build(workspace: &Workspace) -> Result<Vec<String>> {
    let mut cargo = shell::cargo(&workspace.root);
    cargo.args(["build", "--release", "--quiet", "--manifest-path", "fuzz/Cargo.toml"]);
    cargo.args(["--target", &host_triple()?, "--target-dir"]).arg(directory(workspace));
    cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    shell::run(&mut cargo).context("build the fuzz targets")?;
    names(&workspace.root.join("fuzz/fuzz_targets"))
}

/// Runs one target over its seeds once. The inner result tells whether it lived through them.
pub(crate) fn replay(workspace: &Workspace, target: &str) -> Result<Result<()>> {
    let corpus = workspace.root.join("fuzz/corpus").join(target);
    let seeds = fs::read_dir(&corpus).map(Iterator::count).unwrap_or(0);
    if seeds == 0 {
        return Ok(Err(anyhow::anyhow!(
            "fuzz target {target} has no seed in {}",
            corpus.display()
        )));
    }
    let mut process = shell::command(executable(workspace, target)?);
    process.current_dir(&workspace.target).arg("-runs=0").arg(&corpus);
    let output = process.output().with_context(|| format!("start {process:?}"))?;
    if output.status.success() {
        println!("fuzz {target}: {seeds} seeds replayed");
        return Ok(Ok(()));
    }
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    eprintln!("{log}");
    Ok(Err(anyhow::anyhow!("fuzz target {target} failed on its seeds: {}", output.status)))
}

fn fuzz(workspace: &Workspace, target: &str, seconds: u64) -> Result<bool> {
    let artifacts = workspace.root.join("fuzz/artifacts").join(target);
    let found = workspace.target.join("fuzz/found").join(target);
    fs::create_dir_all(&artifacts)?;
    fs::create_dir_all(&found)?;
    let mut process = shell::command(executable(workspace, target)?);
    process.arg(format!("-max_total_time={seconds}")).arg("-rss_limit_mb=2048");
    process.arg(format!("-artifact_prefix={}/", artifacts.display()));
    // What is found goes to the first directory; the seeds in git are only read.
    process.arg(found).arg(workspace.root.join("fuzz/corpus").join(target));
    Ok(process.status().with_context(|| format!("start {process:?}"))?.success())
}

fn directory(workspace: &Workspace) -> std::path::PathBuf {
    workspace.target.join("fuzz")
}

fn executable(workspace: &Workspace, target: &str) -> Result<std::path::PathBuf> {
    Ok(directory(workspace).join(host_triple()?).join("release").join(target))
}

fn names(targets: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(targets).with_context(|| format!("list {}", targets.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            names.push(stem.context("a fuzz target's name is not text")?.to_owned());
        }
    }
    names.sort();
    if names.is_empty() {
        bail!("no fuzz target in {}", targets.display());
    }
    Ok(names)
}
