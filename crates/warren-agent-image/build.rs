//! Builds `warren-agent` as a static binary and copies it to `OUT_DIR/warren-agent`.
//!
//! A nested cargo does it, because the agent needs other flags than whoever embeds it: a profile
//! for size, a static C library, an aborting panic. What could go wrong there:
//!
//! * The outer cargo holds the lock of its target directory: the nested one has its own, at a
//!   fixed place, so that all outer profiles share one build of the agent.
//! * The outer cargo (or clippy, or a fuzzer) leaves its flags and wrappers in the environment: they
//!   are taken out, or the agent would be linted instead of built, or built with the wrong flags.
//! * With flags but without `--target` the build scripts of the agent's dependencies would be linked
//!   statically as well, and proc macros could not be built: there is always a `--target`.

use std::{
    env,
    error::Error,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Names of the environment that must not reach the nested cargo.
const CLEARED: [&str; 13] = [
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_TARGET_DIR",
    "CARGO_INCREMENTAL",
    "RUSTC_BOOTSTRAP",
    "CLIPPY_ARGS",
];

/// Directories, seen from this crate, that the agent is made from.
const SOURCES: [&str; 4] =
    ["../warren-agent", "../warren-archive", "../warren-proto", "../warren-sys"];

fn main() -> ExitCode {
    if let Err(error) = run() {
        #[expect(clippy::print_stderr, reason = "a log of many lines: `Debug` makes it one")]
        {
            eprintln!("error: {error}");
        }
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run() -> Result<()> {
    for name in ["WARREN_AGENT_BIN", "CARGO_NET_OFFLINE"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    let agent = match variable("WARREN_AGENT_BIN") {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", Path::new(&path).display());
            PathBuf::from(path)
        }
        None => build()?,
    };
    let bytes = fs::read(&agent).map_err(|e| format!("read the agent {}: {e}", agent.display()))?;
    let version = format!("{}+{:016x}", required("CARGO_PKG_VERSION")?, fingerprint(&bytes));
    fs::write(PathBuf::from(required("OUT_DIR")?).join("warren-agent"), &bytes)?;
    println!("cargo::rustc-env=WARREN_AGENT_VERSION={version}");
    Ok(())
}

/// Runs the nested cargo and returns the path of the agent that it made.
fn build() -> Result<PathBuf> {
    let workspace = workspace()?;
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    for file in ["Cargo.toml", "Cargo.lock", "proto"] {
        println!("cargo::rerun-if-changed={}", workspace.join(file).display());
    }
    let target = required("TARGET")?;
    let directory = target_directory(&target)?.join("agent");
    let mut cargo = nested_cargo(&workspace)?;
    cargo.args(["build", "--package", "warren-agent", "--bin", "warren-agent"]);
    cargo.args(["--profile", "agent", "--locked", "--target", &target, "--target-dir"]);
    cargo.arg(&directory);
    let output = cargo.output().map_err(|e| format!("start the nested cargo: {e}"))?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the guest agent does not build ({}):\n{log}", output.status).into());
    }
    Ok(directory.join(target).join("agent/warren-agent"))
}

/// A cargo that starts from the workspace with none of the outer one's flags.
///
/// The job server (`CARGO_MAKEFLAGS`) stays: both cargos then share one number of jobs.
fn nested_cargo(workspace: &Path) -> Result<Command> {
    #[expect(clippy::disallowed_methods, reason = "a build script depends on nothing of ours")]
    let mut cargo = Command::new(required("CARGO")?);
    cargo.current_dir(workspace);
    for name in CLEARED {
        cargo.env_remove(name);
    }
    #[expect(clippy::disallowed_methods, reason = "a build script is configured this way")]
    for (name, _) in env::vars_os() {
        if names_outer_flags(&name.to_string_lossy()) {
            cargo.env_remove(name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    Ok(cargo)
}

/// Whether a variable changes how the outer build compiles: profiles, flags of one target.
fn names_outer_flags(name: &str) -> bool {
    name.starts_with("CARGO_PROFILE_")
        || (name.starts_with("CARGO_TARGET_") && name.ends_with("_RUSTFLAGS"))
        || name.starts_with("CARGO_FEATURE_")
        || name.starts_with("CARGO_CFG_")
}

/// The root of the workspace: two directories up.
fn workspace() -> Result<PathBuf> {
    let here = PathBuf::from(required("CARGO_MANIFEST_DIR")?);
    let root = here.ancestors().nth(2).ok_or("this crate is not in its workspace")?;
    Ok(root.to_owned())
}

/// The outer build's target directory, from `<target>[/<triple>]/<profile>/build/<package>/out`.
fn target_directory(triple: &str) -> Result<PathBuf> {
    let out = PathBuf::from(required("OUT_DIR")?);
    let above_profile = out.ancestors().nth(4).ok_or("OUT_DIR is not below a target directory")?;
    if above_profile.ends_with(triple) {
        return Ok(above_profile.parent().unwrap_or(above_profile).to_owned());
    }
    Ok(above_profile.to_owned())
}

/// FNV-1a over the bytes: enough to tell builds apart, which is all that is asked of it.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn required(name: &str) -> Result<String> {
    let value = variable(name).ok_or_else(|| format!("cargo did not set {name}"))?;
    value.into_string().map_err(|value| format!("{name} is not text: {value:?}").into())
}

fn variable(name: &str) -> Option<OsString> {
    #[expect(clippy::disallowed_methods, reason = "a build script is configured this way")]
    env::var_os(name)
}
