//! `warren doctor`

use std::process::ExitCode;

use super::Setup;
use crate::{
    config::{Config, ConfigError},
    doctor::{self, Outcome},
    error::CliError,
};

/// Look for what is missing on this machine, and say what mends it
///
/// Everything is tried, not guessed. The exit status is 0 when sandboxes can run here, else 1.
#[derive(clap::Args, Debug)]
pub(crate) struct DoctorArgs {}

pub(crate) fn doctor(
    setup: &Setup<'_>,
    _args: DoctorArgs,
    config: Result<Config, ConfigError>,
) -> Result<ExitCode, CliError> {
    let report = doctor::examine(setup.environment, config);
    if setup.output.json {
        setup.output.value(&report)?;
    } else {
        print(setup, &report)?;
    }
    Ok(if report.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(setup: &Setup<'_>, report: &doctor::Report) -> Result<(), CliError> {
    let mut area = "";
    for check in &report.checks {
        if setup.output.quiet && check.outcome == Outcome::Works {
            continue;
        }
        if check.area != area {
            area = check.area;
            setup.output.line(area)?;
        }
        setup.output.line(&format!(
            "  {:<8} {}: {}",
            check.outcome.word(),
            check.name,
            check.found
        ))?;
        if let Some(mend) = &check.mend {
            setup.output.line(&format!("           to mend it: {mend}"))?;
        }
    }
    let verdict = if report.healthy {
        "sandboxes can run on this machine"
    } else {
        "sandboxes can not run on this machine as it is"
    };
    setup.output.line(verdict)
}
