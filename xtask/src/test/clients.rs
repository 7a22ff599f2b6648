//! The published packages of E2B's clients, which tests use unchanged.
//!
//! `tests/e2e/src/e2b/versions.txt` names them. They are installed under `target/tools/e2b`, once for
//! each content of that file, by the package managers as this machine has them set up.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result};

use crate::shell;

/// Where they are.
const DIRECTORY: &str = "target/tools/e2b";

/// How long a package manager may take, in seconds.
const LIMIT: &str = "300";

/// What is installed together, in a directory of its own.
struct Set {
    /// `newest`, `older` or `kernel`.
    name: String,
    /// `pip` or `npm`.
    manager: String,
    /// Packages and versions.
    packages: Vec<(String, String)>,
}

/// Installs what is missing. Without it tests skip.
pub(super) fn prepare(root: &Path) {
    install(root, |_| true);
}

/// The Python that has the newest package of it, which is installed where it is missing; nothing is
/// there where that could not be done.
pub(crate) fn python(root: &Path) -> PathBuf {
    install(root, |set| set.directory() == "newest-pip");
    root.join(DIRECTORY).join("newest-pip/bin/python")
}

fn install(root: &Path, wanted: impl Fn(&Set) -> bool) {
    let file = root.join("tests/e2e/src/e2b/versions.txt");
    let Ok(text) = fs::read_to_string(&file) else {
        println!("{} is missing, so E2B's clients are not installed", file.display());
        return;
    };
    let directory = root.join(DIRECTORY);
    thread::scope(|scope| {
        // They wait for a network, each by itself.
        for set in sets(&text).into_iter().filter(wanted) {
            let directory = directory.join(set.directory());
            scope.spawn(move || {
                if let Err(error) = set.install(&directory) {
                    let (name, manager) = (&set.name, &set.manager);
                    println!("could not install the {name} clients by {manager}: {error:#}");
                }
            });
        }
    });
}

fn sets(text: &str) -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::new();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(name), Some(manager), Some(package), Some(version)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let same = |set: &&mut Set| set.name == name && set.manager == manager;
        match sets.iter_mut().find(same) {
            Some(set) => set.packages.push((package, version)),
            None => sets.push(Set { name, manager, packages: vec![(package, version)] }),
        }
    }
    sets
}

impl Set {
    fn directory(&self) -> String {
        format!("{}-{}", self.name, self.manager)
    }

    /// Installs the set, unless that was done already. What says so is written last.
    fn install(&self, directory: &Path) -> Result<()> {
        let separator = if self.manager == "pip" { "==" } else { "@" };
        let packages: Vec<String> = self
            .packages
            .iter()
            .map(|(name, version)| format!("{name}{separator}{version}"))
            .collect();
        let (stamp, wanted) = (directory.join("installed"), packages.join("\n"));
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        if directory.exists() {
            fs::remove_dir_all(directory).context("remove another version")?;
        }
        fs::create_dir_all(directory).context("make a directory")?;
        println!("installing into target/tools, once: {}", packages.join(" "));
        match (&*self.manager, &*self.name) {
            ("pip", "kernel") => download(directory, &packages)?,
            ("pip", _) => by_pip(directory, &packages)?,
            _ => by_npm(directory, &packages)?,
        }
        fs::write(stamp, wanted).context("note what was installed")
    }
}

fn limited(program: &Path) -> Command {
    let mut command = shell::command("timeout");
    command.arg(LIMIT).arg(program);
    command
}

fn by_pip(directory: &Path, packages: &[String]) -> Result<()> {
    shell::run(limited(Path::new("python3")).args(["-m", "venv"]).arg(directory))?;
    let mut pip = limited(&directory.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    shell::run(pip.args(packages))
}

/// Files for an environment that is made elsewhere, by the Python of the system.
fn download(directory: &Path, packages: &[String]) -> Result<()> {
    let python = Path::new("/usr/bin/python3");
    let tools = directory.join("tools");
    shell::run(limited(python).args(["-m", "venv"]).arg(&tools))?;
    let mut pip = limited(&tools.join("bin/python"));
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--only-binary", ":all:", "--dest"]).arg(directory.join("wheels"));
    shell::run(pip.args(packages))?;
    fs::remove_dir_all(tools).context("remove the tools")
}

fn by_npm(directory: &Path, packages: &[String]) -> Result<()> {
    let mut npm = limited(Path::new("npm"));
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]);
    npm.args(["--no-package-lock", "--prefix"]).arg(directory);
    shell::run(npm.args(packages))
}
