//! `warren setup`

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;

use super::Setup;
use crate::{
    config::{self, Config, Environment, Overrides},
    dirs::Dirs,
    error::{CliError, Kind},
    uninstall::{self, Plan},
};

pub(crate) mod storage;
mod systemd;

/// Change what this machine has of Warren
#[derive(clap::Args, Debug)]
pub(crate) struct SetupArgs {
    #[command(subcommand)]
    command: SetupCommand,
}

#[derive(clap::Subcommand, Debug)]
enum SetupCommand {
    Storage(storage::StorageArgs),
    Systemd(systemd::SystemdArgs),
    Uninstall(UninstallArgs),
}

/// Remove everything that the server of this data directory has on this machine
///
/// The server is stopped and every sandbox removed, running or not, with all files; then cgroups,
/// interfaces, packet filters, the storage pool, the run directory and the data directory go, and the systemd unit
/// where `setup systemd` has installed it. First all of it is
/// listed and asked about. It works without a server and when a part has gone already; a server of
/// another data directory is not touched. The program itself and its settings stay.
#[derive(clap::Args, Debug)]
struct UninstallArgs {
    /// Ask nothing
    #[arg(long, short)]
    yes: bool,
}

pub(crate) fn setup(
    setup: &Setup<'_>,
    args: SetupArgs,
    config: &Config,
) -> Result<ExitCode, CliError> {
    let args = match args.command {
        SetupCommand::Storage(args) => return storage::storage(setup, &args, config),
        SetupCommand::Systemd(args) => return systemd::systemd(setup, &args),
        SetupCommand::Uninstall(args) => args,
    };
    let dirs = Dirs::locate(config, setup.environment)
        .map_err(|error| CliError::new(Kind::Local, error))?;
    let plan = uninstall::plan(&dirs, units(&dirs))?;
    if plan.is_empty() {
        setup.output.talk(&format!("there is nothing of a server at {}", dirs.data.display()));
        return report(setup, &plan, &[]);
    }
    if !args.yes && !confirmed(setup, &plan)? {
        setup.output.talk("nothing was removed");
        return Ok(ExitCode::FAILURE);
    }
    let left = uninstall::carry_out(setup, config, &dirs, &plan)?;
    report(setup, &plan, &left)
}

/// The systemd unit that `setup systemd` installed, where its server is this one: a unit's server
/// has the usual settings and nothing of this environment.
fn units(dirs: &Dirs) -> Vec<PathBuf> {
    let (environment, overrides) = (Environment::default(), Overrides::default());
    let usual = config::load(&environment, &overrides, true)
        .is_ok_and(|usual| Dirs::locate(&usual, &environment).is_ok_and(|it| it.data == dirs.data));
    if !usual || !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    systemd::installed(Path::new("/etc/systemd/system"))
}

/// Lists what will go, and asks.
fn confirmed(setup: &Setup<'_>, plan: &Plan) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        let text = "this removes sandboxes with their files, and nobody can be asked";
        let lines = plan.lines().join("; ");
        return Err(
            CliError::usage(format!("{text}: {lines}")).hint("`--yes` says that this is meant")
        );
    }
    // Also with --quiet: nobody can agree to what they were not told.
    setup.output.warn("this will be removed, and cannot be had back:");
    for line in plan.lines() {
        setup.output.line(&format!("  {line}"))?;
    }
    setup.output.line("remove all of it? [y/N]")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(CliError::local("read the answer"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Says what has gone and what could not be removed.
fn report(setup: &Setup<'_>, plan: &Plan, left: &[String]) -> Result<ExitCode, CliError> {
    if setup.output.json {
        setup.output.value(&json!({ "removed": plan.done(), "left": left }))?;
    } else {
        for line in plan.done() {
            setup.output.talk(&format!("removed: {line}"));
        }
    }
    for problem in left {
        setup.output.warn(problem);
    }
    if left.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let text = format!("{} things could not be removed", left.len());
    Err(CliError::new(Kind::Local, text).hint("the same command again takes up what is left"))
}
