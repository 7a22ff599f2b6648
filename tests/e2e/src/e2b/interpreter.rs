//! The code interpreter: its template, made from packages, and its clients.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Clients, Server, passed, tools};
use crate::harness::{Home, command, run, skip};

/// The templates that come with the repository.
const TEMPLATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../templates");

/// A copy of the template's files, with packages beside them: nothing is asked of a registry then.
fn with_packages(home: &Home, packages: &Path) -> PathBuf {
    let directory = home.data().with_file_name("code-interpreter-v1");
    let from = Path::new(TEMPLATES).join("code-interpreter-v1");
    run(command("cp").arg("-r").arg(from).arg(&directory), b"").good();
    let wheels = packages.join("wheels");
    run(command("cp").arg("-rl").arg(wheels).arg(directory.join("wheels")), b"").good();
    directory
}

/// Builds `base` of the host's own programs.
#[track_caller]
pub(super) fn build_base(home: &Home) {
    let base = Path::new(TEMPLATES).join("base");
    let base = base.to_str().expect("UTF-8");
    home.warren(&["template", "build", "--tag", "base", "--build-arg", "BASE=host", base]).good();
}

#[test]
fn code_runs_in_real_kernels() {
    let (Some(packages), Some(clients)) = (tools("kernel-pip"), Clients::of("newest")) else {
        skip!("the packages of E2B's code interpreter are not installed");
    };
    let home = Home::new();
    let server = Server::start(&home);
    build_base(&home);
    let directory = with_packages(&home, &packages);
    let directory = directory.to_str().expect("UTF-8");
    let build = ["template", "build", "--tag", "code-interpreter-v1", "--build-memory", "2G"];
    home.warren(&[&build[..], &[directory]].concat()).good();
    fs::remove_dir_all(directory).expect("remove a copy");

    let scripts = [
        ("interpreter.py", clients.python("interpreter.py")),
        ("interpreter.mjs", clients.node("interpreter.mjs")),
    ];
    for (name, mut client) in scripts {
        passed(name, run(server.told(&mut client), b""));
    }
}

#[test]
fn base_has_what_clients_expect() {
    let home = Home::new();
    build_base(&home);
    let sandbox = home.create(&serde_json::json!({"template": "base"}));
    let line = "id -un; id -gn; pwd; sudo -n id -un; python --version; python3 --version; \
                git daemon --help >/dev/null 2>&1 || command -v git; tput -T xterm cols; curl --version";
    let outcome = sandbox.exec(&["bash", "-l", "-c", line]);
    let said = outcome["stdout"].as_str().expect("text");
    assert_eq!(outcome["exit_code"], 0, "{outcome}");
    assert!(said.starts_with("user\nuser\n/home/user\nroot\nPython 3."), "{said}");
    if Path::new("/usr/bin/node").exists() {
        assert_eq!(sandbox.exec(&["node", "--version"])["exit_code"], 0);
    }
}
