//! The host as it is: what a server has left on it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    Home,
    process::{command, kill},
};

/// How long something may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition that nothing announces; fails the test after [`PATIENCE`].
#[track_caller]
pub(crate) fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    wait_at_most(PATIENCE, what, holds);
}

/// The same for what takes longer by its nature.
#[track_caller]
pub(crate) fn wait_at_most(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < patience, "not after {patience:?}: {what}");
        #[expect(clippy::disallowed_methods, reason = "nothing announces what other processes do")]
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Host objects of one server, each as a line that says where it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Leftovers(pub(crate) BTreeSet<String>);

impl Leftovers {
    /// Everything of this home's server that is on the host, but for its own files.
    pub(crate) fn of(home: &Home) -> Self {
        let mut found = BTreeSet::new();
        let name = format!("warren-{}", home.instance());
        for cgroup in cgroups(&name) {
            for pid in all_lines(&cgroup, "cgroup.procs") {
                found.insert(format!("process {pid} in {}", cgroup.display()));
            }
            found.extend(children(&cgroup).map(|child| format!("cgroup {}", child.display())));
        }
        let data = home.data();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let data_text = data.display().to_string();
        let below = mounts.lines().filter(|line| line.contains(&data_text));
        found.extend(below.map(|line| format!("mount {line}")));
        for interface in children(Path::new("/sys/class/net")) {
            let alias = fs::read_to_string(interface.join("ifalias")).unwrap_or_default();
            if alias.contains(&format!("warren {}", home.instance())) {
                found.insert(format!("interface {}", interface.display()));
            }
        }
        for directory in ["sandboxes", "trash", "blanks"] {
            let entries = children(&data.join(directory));
            found.extend(entries.map(|entry| format!("directory {}", entry.display())));
        }
        found.extend(
            children(&home.run_directory().join("s"))
                .map(|entry| format!("sockets {}", entry.display())),
        );
        Self(found)
    }

    /// Processes of this home that a server leaves behind on purpose.
    pub(crate) fn keepers(home: &Home) -> Vec<u32> {
        let Some(server) = home.server_pid() else { return Vec::new() };
        processes_named("warren-keeper")
            .into_iter()
            .filter(|pid| parent(*pid) == Some(server))
            .collect()
    }

    /// The processes of this home's sandboxes, by their numbers on the host.
    pub(crate) fn processes(home: &Home) -> Vec<u32> {
        let groups = cgroups(&format!("warren-{}", home.instance()));
        let pids = groups.iter().flat_map(|group| all_lines(group, "cgroup.procs"));
        let pids: BTreeSet<u32> = pids.filter_map(|pid| pid.parse().ok()).collect();
        pids.into_iter().collect()
    }

    /// Lets everything of this home's server go on that is frozen: nothing frozen dies.
    pub(crate) fn thaw(home: &Home) {
        for cgroup in cgroups(&format!("warren-{}", home.instance())) {
            for group in children(&cgroup).chain([cgroup]) {
                drop(fs::write(group.join("freezer.state"), "THAWED")); // only v1 has it
                drop(fs::write(group.join("cgroup.freeze"), "0")); // only v2 has it
            }
        }
    }

    /// Removes what a server that was killed has left, as far as this process may.
    pub(super) fn remove(home: &Home) {
        let name = format!("warren-{}", home.instance());
        let groups = cgroups(&name);
        for cgroup in &groups {
            drop(fs::write(cgroup.join("freezer.state"), "THAWED")); // only v1 has it
            for below in children(cgroup) {
                drop(fs::write(below.join("freezer.state"), "THAWED"));
                all_lines(&below, "cgroup.procs").filter_map(|pid| pid.parse().ok()).for_each(kill);
            }
        }
        for cgroup in &groups {
            for below in children(cgroup) {
                drop(fs::remove_dir(below)); // a cgroup with a dying process goes with the machine
            }
            drop(fs::remove_dir(cgroup));
        }
        let pool = home.data().join("pool");
        if pool.exists() {
            // Where none is mounted there is nothing to take down.
            drop(command("umount").args(["-l"]).arg(pool).output());
        }
        let run = home.run_directory();
        if run.exists() {
            drop(fs::remove_dir_all(&run));
        }
        if let Some(base) = run.parent().filter(|base| base.starts_with("/tmp")) {
            drop(fs::remove_dir(base)); // another test of the same user may still be in it
        }
        drop(command("nft").args(["delete", "table", "inet", &name]).output());
    }
}

/// Every process whose command line starts with this word.
pub(crate) fn processes_named(word: &str) -> Vec<u32> {
    let named = |path: &PathBuf| {
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).next() == Some(word.as_bytes())
    };
    children(Path::new("/proc")).filter(named).filter_map(|path| pid_of(&path)).collect()
}

/// Whether the process does anything: one that has ended may wait for its parent.
pub(super) fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    status_field("Uid:") == 0
}

pub(super) fn status_field(name: &str) -> u32 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the field is there");
    line.split_whitespace().nth(1).expect("the effective one").parse().expect("a number")
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

fn pid_of(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.parse().ok()
}

/// The directories of a server in every hierarchy, wherever below the top they are.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut level = vec![PathBuf::from("/sys/fs/cgroup")];
    for _ in 0..6 {
        let next: Vec<PathBuf> = level.iter().flat_map(|directory| children(directory)).collect();
        found.extend(next.iter().filter(|path| path.ends_with(name)).cloned());
        level = next;
    }
    found
}

/// The directories directly below.
fn children(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

fn all_lines(directory: &Path, file: &str) -> impl Iterator<Item = String> + use<> {
    let mut lines = Vec::new();
    for path in children(directory).chain([directory.to_owned()]) {
        let text = fs::read_to_string(path.join(file)).unwrap_or_default();
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.into_iter()
}
