//! What this machine allows, found out by trying it, and what mends what is missing.
//!
//! One file per area. Each gives [`Check`]s; nothing here prints. What is tried is tried in a
//! child process, so nothing of it stays.

mod kernel;

mod namespaces;

mod filesystem;

mod storage;

mod cgroups;

mod network;

mod users;

mod limits;

mod session;

mod certificates;

use std::{fs, io, path::PathBuf};

use rustix::thread::UnshareFlags;
use serde::Serialize;
use warren_runtime::storage::backing::{self, Backing, BackingError};
use warren_sys::{fork::SingleThreaded, probe};

use crate::{
    config::{Config, ConfigError, Environment},
    dirs::Dirs,
};

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether sandboxes can run here.
    pub(crate) healthy: bool,
    /// One by one, those of an area together.
    pub(crate) checks: Vec<Check>,
}

/// One capability of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What it belongs to.
    pub(crate) area: &'static str,
    /// What was looked at.
    pub(crate) name: &'static str,
    /// How it is.
    pub(crate) outcome: Outcome,
    /// What was found, and for what is missing why it matters.
    pub(crate) found: String,
    /// The command or step that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mend: Option<String>,
}

/// How a capability is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It works.
    Works,
    /// It is not there; sandboxes run without it, and are weaker or slower.
    Weaker,
    /// It is not there, and no sandbox runs without it.
    Missing,
}

impl Outcome {
    /// The word of a report.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Works => "ok",
            Self::Weaker => "weaker",
            Self::Missing => "missing",
        }
    }
}

impl Check {
    fn works(area: &'static str, name: &'static str, found: impl Into<String>) -> Self {
        Self { area, name, outcome: Outcome::Works, found: found.into(), mend: None }
    }

    fn weaker(area: &'static str, name: &'static str, found: impl Into<String>) -> Lacking {
        Lacking(Self { outcome: Outcome::Weaker, ..Self::works(area, name, found) })
    }

    fn missing(area: &'static str, name: &'static str, found: impl Into<String>) -> Lacking {
        Lacking(Self { outcome: Outcome::Missing, ..Self::works(area, name, found) })
    }
}

/// What is not as it should be, and no finding before it says what mends it.
#[derive(Debug)]
#[must_use]
struct Lacking(Check);

impl Lacking {
    fn mend(self, how: impl Into<String>) -> Check {
        Check { mend: Some(how.into()), ..self.0 }
    }
}

/// What the areas are given to look with.
#[derive(Debug)]
struct Host<'a> {
    proof: SingleThreaded,
    environment: &'a Environment,
    config: &'a Config,
    /// The storage pool that is recorded, if any.
    pool: Result<Option<Backing>, BackingError>,
    /// The data directory, made if need be, or the pool that is mounted in it.
    data: &'a PathBuf,
    uid: u32,
    gid: u32,
}

impl Host<'_> {
    fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Tries `step` as a sandbox's maker would do it: in new `namespaces`, and for an ordinary
    /// user as root of a user namespace.
    fn attempt(
        &self,
        namespaces: UnshareFlags,
        step: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        probe::attempt(&self.proof, || {
            if !self.is_root() {
                probe::enter_new(UnshareFlags::NEWUSER)?;
                probe::become_root_inside(self.uid, self.gid)?;
            }
            probe::enter_new(namespaces)?;
            if namespaces.contains(UnshareFlags::NEWNS) {
                keep_mounts_here()?;
            }
            step()
        })
    }
}

/// Mounts of this process must not spread to the rest of the machine.
fn keep_mounts_here() -> io::Result<()> {
    use rustix::mount::{MountPropagationFlags, mount_change};
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(io::Error::from)
}

/// Looks at everything. No thread may run meanwhile: children are forked.
pub(crate) fn examine(environment: &Environment, config: Result<Config, ConfigError>) -> Report {
    let mut checks = Vec::new();
    let config = config.unwrap_or_else(|error| {
        checks.push(broken_configuration(&error));
        Config::default()
    });
    match (Dirs::open(&config, environment), SingleThreaded::check()) {
        (Ok(dirs), Ok(proof)) => {
            let host = Host {
                proof,
                environment,
                config: &config,
                pool: Backing::find(&dirs.data),
                data: &backing::mounted(&dirs.data).unwrap_or(dirs.data),
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
            };
            let areas = [
                kernel::checks,
                namespaces::checks,
                filesystem::checks,
                storage::checks,
                cgroups::checks,
                network::checks,
                users::checks,
                limits::checks,
                session::checks,
                certificates::checks,
            ];
            checks.extend(areas.iter().flat_map(|area| area(&host)));
        }
        (Ok(_), Err(error)) => checks.push(
            Check::missing("setup", "process", sentence(&error))
                .mend("run it by itself: warren doctor"),
        ),
        (Err(error), _) => checks.push(
            Check::missing("setup", "directories", sentence(&error))
                .mend("WARREN_DATA_DIR=/another/directory warren doctor"),
        ),
    }
    let healthy = checks.iter().all(|check| check.outcome != Outcome::Missing);
    Report { healthy, checks }
}

fn broken_configuration(error: &ConfigError) -> Check {
    Check::missing("setup", "configuration", sentence(error))
        .mend("correct it; docs/configuration.md has every setting")
}

/// An error with its causes, as one sentence.
fn sentence(error: &dyn std::error::Error) -> String {
    crate::output::chain(error).join(": ")
}

/// The text of a small file of `/proc` or `/sys`, without its last line's end.
fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

/// The number in a small file of `/proc` or `/sys`.
fn read_number(path: &str) -> Option<u64> {
    read(path)?.parse().ok()
}

/// Whether a program is on the search path.
fn has_program(environment: &Environment, name: &str) -> bool {
    let path = environment.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
    // Helpers that need more rights are often where ordinary users do not look.
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|directory| PathBuf::from(directory).join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_configuration_is_a_finding_with_its_remedy() {
        let check = broken_configuration(&ConfigError::NotAPair { text: "x".to_owned() });
        assert_eq!(check.outcome, Outcome::Missing);
        assert!(check.found.contains("expected NAME=VALUE"), "{}", check.found);
        assert!(check.mend.is_some());
    }

    #[test]
    fn a_data_directory_that_cannot_be_is_a_finding() {
        let config = Config { data_dir: Some("/dev/null/x".into()), ..Config::default() };
        let report = examine(&Environment::default(), Ok(config));
        let [check] = report.checks.as_slice() else { panic!("{report:?}") };
        assert_eq!((check.name, report.healthy), ("directories", false));
    }

    #[test]
    fn a_report_is_plain_json() {
        let check = Check::weaker("network", "tool", "not there").mend("install it");
        let json = serde_json::to_string(&check).unwrap();
        assert_eq!(
            json,
            r#"{"area":"network","name":"tool","outcome":"weaker","found":"not there","mend":"install it"}"#
        );
    }
}
