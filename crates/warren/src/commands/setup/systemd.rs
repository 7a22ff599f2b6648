//! `warren setup systemd`

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{
    commands::Setup,
    error::{CliError, Kind},
};

/// The unit as the repository has it.
const UNIT: &str = include_str!("../../../../../deploy/warren.service");

/// Where its program is there.
const PROGRAM: &str = "/usr/local/bin/warren";

/// Install the systemd unit that runs the server
///
/// It runs this very program, with the settings of /etc/warren/warren.toml. Nothing is started: the
/// commands that do are shown. One that is there and says something else is not replaced.
#[derive(clap::Args, Debug)]
pub(super) struct SystemdArgs {
    /// Replace a unit that is there, whatever it says
    #[arg(long)]
    force: bool,
    /// Show the unit and change nothing
    #[arg(long, conflicts_with = "force")]
    print: bool,
    /// Where units are
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/systemd/system")]
    directory: PathBuf,
}

pub(super) fn systemd(setup: &Setup<'_>, args: &SystemdArgs) -> Result<ExitCode, CliError> {
    let program = std::env::current_exe().map_err(CliError::local("find this program"))?;
    let unit = unit(&program)?;
    if args.print {
        setup.output.line(unit.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = args.directory.join("warren.service");
    install(&file, &unit, args.force)?;
    if setup.output.json {
        setup.output.value(&serde_json::json!({ "file": file, "program": program }))?;
    } else {
        setup.output.talk(&format!("installed {}", file.display()));
        setup.output.talk("to start it now and at each boot:");
        setup.output.talk("  systemctl daemon-reload && systemctl enable --now warren");
    }
    Ok(ExitCode::SUCCESS)
}

/// The unit for a program at this path.
fn unit(program: &Path) -> Result<String, CliError> {
    // What a unit would take apart, or read as more than a path.
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+".contains(letter);
    match program.to_str().filter(|it| it.chars().all(plain)) {
        Some(path) => Ok(UNIT.replace(PROGRAM, path)),
        None => Err(CliError::usage(format!(
            "a unit cannot name {}: expected a path of letters, digits and `/._-+`",
            program.display()
        ))
        .hint(format!("copy it: install -m 755 FILE {PROGRAM}"))),
    }
}

/// The unit in this directory of units, and the link that enables it, where the unit is as
/// [`systemd`] installs it for some program: one that was changed is its author's.
pub(super) fn installed(directory: &Path) -> Vec<PathBuf> {
    let file = directory.join("warren.service");
    if !fs::read_to_string(&file).is_ok_and(|text| is_ours(&text)) {
        return Vec::new();
    }
    let link = directory.join("multi-user.target.wants/warren.service");
    let enabled = fs::read_link(&link).is_ok_and(|target| target == file);
    if enabled { vec![link, file] } else { vec![file] }
}

fn is_ours(text: &str) -> bool {
    let program = text.lines().find_map(|line| line.strip_prefix("ExecStart="));
    let program = program.and_then(|line| line.strip_suffix(" serve"));
    program.is_some_and(|program| text == UNIT.replace(PROGRAM, program))
}

fn install(file: &Path, unit: &str, force: bool) -> Result<(), CliError> {
    let failed = |operation| CliError::local(operation);
    match fs::read_to_string(file) {
        Ok(found) if found == unit => return Ok(()),
        Ok(_) if !force => {
            let text = format!("{} is there and says something else", file.display());
            return Err(CliError::new(Kind::Local, text)
                .hint("`--print` shows the new one, `--force` replaces the old"));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("read the unit that is there")(error));
        }
        _ => {}
    }
    // Never half there: systemd reads it whenever it likes.
    let beside = file.with_extension("service.new");
    fs::write(&beside, unit).map_err(|error| {
        let error = failed("write the unit")(error);
        error.hint("units of the whole machine are root's: sudo warren setup systemd")
    })?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o644))
        .and_then(|()| fs::rename(&beside, file))
        .map_err(failed("write the unit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_runs_the_program_that_it_is_told() {
        let unit = unit(Path::new("/opt/warren/bin/warren")).unwrap();
        assert!(unit.contains("\nExecStart=/opt/warren/bin/warren serve\n"));
        assert!(!unit.contains(PROGRAM));
        for bad in ["/with space/warren", "/100%/warren", "/a\nExecStart=/b"] {
            assert!(super::unit(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_was_installed_here_counts_as_ours() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("warren.service");
        assert!(installed(directory.path()).is_empty());
        install(&file, &unit(Path::new("/opt/warren")).unwrap(), false).unwrap();
        assert_eq!(installed(directory.path()), std::slice::from_ref(&file));
        let wants = directory.path().join("multi-user.target.wants");
        fs::create_dir(&wants).unwrap();
        std::os::unix::fs::symlink(&file, wants.join("warren.service")).unwrap();
        let both = [wants.join("warren.service"), file.clone()];
        assert_eq!(installed(directory.path()), both);
        let changed = unit(Path::new("/opt/warren")).unwrap() + "Nice=5\n";
        install(&file, &changed, true).unwrap();
        assert!(installed(directory.path()).is_empty());
    }

    #[test]
    fn another_unit_is_replaced_by_force_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("warren.service");
        install(&file, "one", false).unwrap();
        install(&file, "one", false).unwrap();
        let error = install(&file, "two", false).unwrap_err();
        assert!(error.source.to_string().contains("says something else"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        install(&file, "two", true).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
