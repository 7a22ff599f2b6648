//! The cgroups of an instance, in whichever hierarchies they are.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::gone;

/// How far below a mount point an instance's own directory may be.
const DEPTH: usize = 8;

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(5);

/// The directories of this name in every mounted hierarchy, each once.
pub(super) fn find(name: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let kind = right.split(' ').next();
        if let (Some("cgroup" | "cgroup2"), Some(point)) = (kind, left.split(' ').nth(4)) {
            search(Path::new(point), name, DEPTH, &mut found);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn search(directory: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for child in children(directory) {
        if child.ends_with(name) {
            found.push(child);
        } else if depth > 0 {
            search(&child, name, depth - 1, found);
        }
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|it| it.path())
        .collect()
}

/// A directory and all below it, the deepest first.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = children(directory).iter().flat_map(|child| tree(child)).collect();
    all.push(directory.to_owned());
    all
}

/// The processes in a cgroup and in those below it. Those of other pid namespaces have no number
/// here and are left out.
pub(super) fn processes(directory: &Path) -> Vec<u32> {
    let files = tree(directory).into_iter().map(|it| it.join("cgroup.procs"));
    let texts = files.filter_map(|it| fs::read_to_string(it).ok());
    texts
        .flat_map(|text| text.lines().filter_map(|it| it.parse().ok()).collect::<Vec<u32>>())
        .filter(|pid| *pid > 0)
        .collect()
}

/// Ends every process in these cgroups, however many more it starts, and waits until all are gone.
///
/// A number is read from a cgroup that is ours and used at once: a process can only leave it by
/// ending, and the kernel gives its number to another long after.
pub(super) fn kill(directories: &[&Path]) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        let all: Vec<u32> = directories.iter().flat_map(|it| processes(it)).collect();
        if all.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{} processes do not end, among them {all:?}", all.len()),
            ));
        }
        for pid in all.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
            // One that has gone is what was wanted.
            kill_process(pid, Signal::KILL).ok();
        }
        // A frozen process takes its signal when it is thawed.
        for directory in directories.iter().flat_map(|it| tree(it)) {
            for (file, thawed) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
                let file = directory.join(file);
                if file.exists() {
                    fs::write(file, thawed).ok();
                }
            }
        }
        std::thread::park_timeout(PAUSE);
    }
}

/// Removes a cgroup without processes, with those below it.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        let removed = tree(directory).iter().try_for_each(|it| gone(fs::remove_dir(it)));
        match removed {
            // The last process is listed no more a little before it lets go.
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && begun.elapsed() < PATIENCE =>
            {
                std::thread::park_timeout(PAUSE);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_exactly_that_name_are_found() {
        let base = tempfile::tempdir().unwrap();
        for path in ["a/b/warren-x/3/inner", "warren-x", "warren-xy/1", "a/warren-y"] {
            fs::create_dir_all(base.path().join(path)).unwrap();
        }
        let mut found = Vec::new();
        search(base.path(), "warren-x", DEPTH, &mut found);
        found.sort();
        assert_eq!(found, [base.path().join("a/b/warren-x"), base.path().join("warren-x")]);
    }

    #[test]
    fn a_tree_is_read_and_removed_from_its_leaves_on() {
        let base = tempfile::tempdir().unwrap();
        let top = base.path().join("top");
        fs::create_dir_all(top.join("1/inner")).unwrap();
        fs::write(top.join("1/cgroup.procs"), "0\n7\n").unwrap();
        assert_eq!(processes(&top), [7]);
        fs::remove_file(top.join("1/cgroup.procs")).unwrap();
        remove(&top).unwrap();
        assert!(!top.exists());
        remove(&top).unwrap();
    }
}
