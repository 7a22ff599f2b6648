//! Where a system keeps whom it trusts, and how an authority gets in and out.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use warren_tls::program;

/// How long one program may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where a system's bundle is made from: the directory, and the program that makes it.
///
/// # Source
///
/// update-ca-certificates(8) of Debian and of SUSE, update-ca-trust(8) of Fedora, and trust(1) as
/// Arch uses it.
const BUNDLES: [(&str, &[&str]); 4] = [
    ("usr/local/share/ca-certificates", &["update-ca-certificates"]),
    ("etc/pki/ca-trust/source/anchors", &["update-ca-trust", "extract"]),
    ("etc/ca-certificates/trust-source/anchors", &["trust", "extract-compat"]),
    ("etc/pki/trust/anchors", &["update-ca-certificates"]),
];

/// Where programs are.
const PROGRAMS: [&str; 6] =
    ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"];

/// The environment of those programs.
const ENVIRONMENT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What will be done, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// What cannot be done here, and why.
    pub(super) notes: Vec<String>,
}

/// One change of the system.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Write the certificate to this file.
    Write(PathBuf),
    /// Remove this file.
    Remove(PathBuf),
    /// Run a program.
    Run(PathBuf, Vec<String>),
    /// Run a program that may find that there is nothing to do.
    Try(PathBuf, Vec<String>),
}

impl Step {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Write(file) => format!("write {}", file.display()),
            Self::Remove(file) => format!("remove {}", file.display()),
            Self::Run(program, arguments) | Self::Try(program, arguments) => {
                format!("run {} {}", program.display(), arguments.join(" "))
            }
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Done {
    /// How many steps were done.
    pub(super) count: usize,
    /// What went wrong.
    pub(super) failures: Vec<String>,
}

/// Looks what there is below `root`, and for browsers below `home`.
pub(super) fn plan(
    root: &Path,
    home: Option<&Path>,
    name: &str,
    certificate: &Path,
    undo: bool,
) -> Plan {
    let mut plan = Plan::default();
    bundle(&mut plan, root, name, undo);
    keychain(&mut plan, root, certificate, undo);
    browsers(&mut plan, root, home, (name, certificate), undo);
    plan
}

/// The bundle of a Linux system.
fn bundle(plan: &mut Plan, root: &Path, name: &str, undo: bool) {
    let found = BUNDLES.iter().find(|(directory, _)| root.join(directory).is_dir());
    let Some((directory, [tool, arguments @ ..])) = found else { return };
    let Some(tool) = find(root, tool) else {
        plan.notes.push(format!("{tool} is not installed, so the system's bundle stays as it is"));
        return;
    };
    let file = root.join(directory).join(format!("{}.crt", name.replace(' ', "-").to_lowercase()));
    let mut arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
    match undo {
        false => plan.steps.push(Step::Write(file)),
        true if !file.exists() => return,
        true => {
            plan.steps.push(Step::Remove(file));
            if tool.ends_with("update-ca-certificates") {
                // Links to what was removed go as well.
                arguments.push("--fresh".to_owned());
            }
        }
    }
    plan.steps.push(Step::Run(tool, arguments));
}

/// The keychain of macOS.
fn keychain(plan: &mut Plan, root: &Path, certificate: &Path, undo: bool) {
    let keychain = root.join("Library/Keychains/System.keychain");
    let (true, Some(tool)) = (keychain.exists(), find(root, "security")) else { return };
    let (keychain, file) = (keychain.display().to_string(), certificate.display().to_string());
    let arguments = match undo {
        false => vec!["add-trusted-cert", "-d", "-r", "trustRoot", "-k", &keychain, &file],
        true => vec!["remove-trusted-cert", "-d", &file],
    };
    let arguments = arguments.into_iter().map(str::to_owned).collect();
    plan.steps.push(if undo { Step::Try(tool, arguments) } else { Step::Run(tool, arguments) });
}

/// The databases of browsers that keep whom they trust themselves.
fn browsers(
    plan: &mut Plan,
    root: &Path,
    home: Option<&Path>,
    (name, certificate): (&str, &Path),
    undo: bool,
) {
    let databases = home.map(databases).unwrap_or_default();
    if databases.is_empty() {
        return;
    }
    let Some(tool) = find(root, "certutil") else {
        let package = "libnss3-tools, nss-tools or nss";
        plan.notes.push(format!("browsers are left alone: certutil is not installed ({package})"));
        return;
    };
    for database in databases {
        let (database, file) =
            (format!("sql:{}", database.display()), certificate.display().to_string());
        let arguments = match undo {
            false => vec!["-A", "-d", &database, "-t", "C,,", "-n", name, "-i", &file],
            true => vec!["-D", "-d", &database, "-n", name],
        };
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        let step = if undo { Step::Try } else { Step::Run };
        plan.steps.push(step(tool.clone(), arguments));
    }
}

/// The directories of NSS databases that a user has.
fn databases(home: &Path) -> Vec<PathBuf> {
    let below = |directory: &str| {
        let entries = fs::read_dir(home.join(directory)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut all = vec![home.join(".pki/nssdb")];
    all.extend(below(".mozilla/firefox"));
    all.extend(below("snap/firefox/common/.mozilla/firefox"));
    all.extend(below("Library/Application Support/Firefox/Profiles"));
    all.retain(|directory| directory.join("cert9.db").is_file());
    all.sort();
    all
}

fn find(root: &Path, name: &str) -> Option<PathBuf> {
    program::find(name, &PROGRAMS.map(|directory| root.join(directory)))
}

/// Does it, up to the first step that fails for the system and on for each browser.
pub(super) fn carry_out(plan: &Plan, pem: &str) -> Done {
    let mut done = Done { count: 0, failures: Vec::new() };
    for step in &plan.steps {
        match one(step, pem) {
            Ok(()) => done.count += 1,
            Err(error) => {
                let text = crate::output::chain(error.as_ref()).join(": ");
                done.failures.push(format!("could not {}: {text}", step.text()));
                // A bundle is not made from what could not be written.
                if matches!(step, Step::Write(_) | Step::Remove(_)) {
                    break;
                }
            }
        }
    }
    done
}

fn one(step: &Step, pem: &str) -> Result<(), Box<dyn std::error::Error>> {
    let environment = [ENVIRONMENT.to_owned()];
    let run = |program: &Path, arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        program::run(program, &arguments, &environment, PATIENCE)
    };
    match step {
        Step::Write(file) => Ok(write(file, pem)?),
        Step::Remove(file) => match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        },
        Step::Run(program, arguments) => Ok(run(program, arguments)?),
        Step::Try(program, arguments) => match run(program, arguments) {
            Err(program::RunError::Failed { .. }) => Ok(()),
            other => Ok(other?),
        },
    }
}

/// Writes a file that everybody may read, whole or not at all.
fn write(file: &Path, pem: &str) -> io::Result<()> {
    let partial = file.with_extension("partial");
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o644).open(&partial);
    let written = opened.and_then(|mut it| {
        io::Write::write_all(&mut it, pem.as_bytes())?;
        it.sync_all()?;
        fs::rename(&partial, file)
    });
    if written.is_err() {
        drop(fs::remove_file(&partial));
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NAME: &str = "Warren local authority 0011aabb";
    const FILE: &str = "warren-local-authority-0011aabb.crt";

    /// A system that is none: its programs write down how they were called.
    struct System(tempfile::TempDir);

    impl System {
        fn with(directories: &[&str], programs: &[&str]) -> Self {
            let base = tempfile::tempdir().unwrap();
            for directory in directories.iter().chain(&["usr/bin", "home"]) {
                fs::create_dir_all(base.path().join(directory)).unwrap();
            }
            let called = base.path().join("called");
            for name in programs {
                let path = base.path().join("usr/bin").join(name);
                let text = format!("#!/bin/sh\necho {name} \"$@\" >> {}\n", called.display());
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            Self(base)
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn plan(&self, undo: bool) -> Plan {
            let home = self.path("home");
            plan(self.0.path(), Some(&home), NAME, Path::new("/data/ca.pem"), undo)
        }

        fn carry_out(&self, undo: bool) {
            let done = carry_out(&self.plan(undo), "PEM");
            assert!(done.failures.is_empty(), "{:?}", done.failures);
        }

        fn called(&self) -> String {
            fs::read_to_string(self.path("called")).unwrap_or_default()
        }
    }

    #[test]
    fn each_system_is_told_in_its_own_way_and_told_again_to_forget() {
        for (directory, program, first, last) in [
            ("usr/local/share/ca-certificates", "update-ca-certificates", "", "--fresh"),
            ("etc/pki/ca-trust/source/anchors", "update-ca-trust", "extract", "extract"),
            (
                "etc/ca-certificates/trust-source/anchors",
                "trust",
                "extract-compat",
                "extract-compat",
            ),
            ("etc/pki/trust/anchors", "update-ca-certificates", "", "--fresh"),
        ] {
            let system = System::with(&[directory], &[program]);
            let file = system.path(directory).join(FILE);
            system.carry_out(false);
            assert_eq!(fs::read_to_string(&file).unwrap(), "PEM");
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
            system.carry_out(true);
            assert!(!file.exists());
            let expected = format!("{program} {first}\n{program} {last}\n").replace(" \n", "\n");
            assert_eq!(system.called(), expected);
            assert!(system.plan(true).steps.is_empty(), "there is nothing more to undo");
        }
    }

    #[test]
    fn browsers_are_told_where_they_have_a_database() {
        let databases = [".pki/nssdb", ".mozilla/firefox/a.default", ".mozilla/firefox/empty"];
        let system = System::with(&[], &["certutil"]);
        for database in databases {
            fs::create_dir_all(system.path("home").join(database)).unwrap();
        }
        for database in &databases[..2] {
            fs::write(system.path("home").join(database).join("cert9.db"), "").unwrap();
        }
        system.carry_out(false);
        let called = system.called();
        assert_eq!(called.lines().count(), 2, "{called}");
        assert!(called.lines().all(|it| it.contains("-t C,, -n Warren local")), "{called}");
        fs::remove_file(system.path("usr/bin/certutil")).unwrap();
        let plan = system.plan(false);
        assert!(plan.steps.is_empty() && plan.notes[0].contains("certutil"), "{plan:?}");
    }

    #[test]
    fn a_keychain_is_told() {
        let system = System::with(&["Library/Keychains"], &["security"]);
        fs::write(system.path("Library/Keychains/System.keychain"), "").unwrap();
        system.carry_out(false);
        system.carry_out(true);
        let called = system.called();
        assert!(called.starts_with("security add-trusted-cert -d -r trustRoot -k "), "{called}");
        assert!(called.contains("\nsecurity remove-trusted-cert -d /data/ca.pem\n"), "{called}");
    }

    #[test]
    fn what_cannot_be_written_is_said_and_nothing_more_is_done() {
        let directory = "usr/local/share/ca-certificates";
        let system = System::with(&[directory], &["update-ca-certificates"]);
        let plan = system.plan(false);
        fs::remove_dir(system.path(directory)).unwrap();
        let done = carry_out(&plan, "PEM");
        assert_eq!((done.count, done.failures.len()), (0, 1));
        assert!(done.failures[0].starts_with("could not write "), "{:?}", done.failures);
        assert_eq!(system.called(), "");
        let nothing = System::with(&[], &[]);
        assert!(nothing.plan(false).steps.is_empty());
    }
}
