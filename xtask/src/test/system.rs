//! What the tests want from the operating system.

use std::{fs, path::Path};

use crate::shell;

/// Programs and files that some tests use and the Debian packages that hold them. Without them those
/// tests skip.
const PROGRAMS: &[(&str, &str)] = &[
    ("sudo", "sudo"),
    ("newuidmap", "uidmap"),
    ("pasta", "passt"),
    ("slirp4netns", "slirp4netns"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("docker-registry", "docker-registry"),
    ("dockerd", "docker.io"),
    ("mkfs.xfs", "xfsprogs"),
    ("setpriv", "util-linux"),
    ("python3", "python3"),
    ("git", "git"),
    ("chromium", "chromium"),
    ("/usr/lib/python3/dist-packages/grpc", "python3-grpcio"),
    ("certutil", "libnss3-tools"),
    ("curl", "curl"),
];

/// Installs what is missing where that is this user's to do, and says what it did or left out.
pub(super) fn prepare() {
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| match program.starts_with('/') {
            true => !Path::new(program).exists(),
            false => shell::find_program(program).is_none(),
        })
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return;
    }
    let list = missing.join(" ");
    if !is_root() || !is_debian() {
        println!("not installed, tests that need it skip: {list}");
        return;
    }
    println!("installing for the tests: {list}");
    if let Err(error) = install(&missing) {
        println!("could not install: {error:#}; tests that need it skip");
    }
}

/// Builds the authority that tests of certificates order from, once, under `target/tools`. Without
/// it those tests skip.
pub(super) fn prepare_authority(root: &Path) {
    const MODULE: &str = "github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1";
    let directory = root.join("target/tools/bin");
    if directory.join("pebble").is_file() || shell::find_program("pebble").is_some() {
        return;
    }
    if shell::find_program("go").is_none() {
        println!("go is not installed, so tests that need pebble skip");
        return;
    }
    println!("building pebble into target/tools, once");
    let mut go = shell::command("go");
    go.args(["install", MODULE]).env("GOBIN", &directory).env("GOFLAGS", "-buildvcs=false");
    if let Err(error) = shell::run(&mut go) {
        println!("could not build pebble: {error:#}; tests that need it skip");
    }
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let apt = || {
        let mut apt = shell::command("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-o", "DPkg::Lock::Timeout=120"]);
        apt
    };
    shell::run(apt().arg("update"))?;
    shell::run(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

/// Debian or something made from it.
fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| {
        let value = line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE="));
        value.is_some_and(|value| value.contains("debian"))
    })
}
