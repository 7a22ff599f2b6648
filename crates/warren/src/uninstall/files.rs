//! The files of a server, and nobody else's.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{config::Config, dirs::Dirs, error::CliError};

/// What a server makes in its data directory. A name that ends with `*` stands for all that begin
/// with the rest.
pub(super) const DATA: &[&str] = &[
    "sandboxes",
    "blanks",
    "trash",
    "stopped",
    "images",
    "snapshots",
    "volumes",
    "pool",
    "pool.img",
    "pool.record*",
    "pool.return",
    "builds",
    "rescues",
    "warren.db*",
    "logs.db*",
    "secrets.key*",
    "edge.key*",
    "tls",
    "backup-*",
    "server.log*",
    ".doctor-*",
];

/// What a server makes in its run directory.
pub(super) const RUN: &[&str] = &[
    "api.sock*",
    "keeper-*",
    "s",
    "exits",
    "mounts",
    "slots",
    "outer",
    "lock",
    "gate",
    "resolv.conf.new",
];

/// The names in a directory; none where it is not there.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// Stops before anything is removed through a mount, other than that of our own pool.
pub(super) fn refuse_mounts(directories: &[&Path], pool: Option<&Path>) -> Result<(), CliError> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match mount_below(&mounts, directories, pool) {
        None => Ok(()),
        Some(mount) => Err(CliError::usage(format!(
            "something is mounted at {}, and would be emptied",
            mount.display()
        ))
        .hint(format!("umount {}", mount.display()))),
    }
}

/// The first mount point strictly below one of these directories.
fn mount_below(mounts: &str, directories: &[&Path], but: Option<&Path>) -> Option<PathBuf> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    points
        .into_iter()
        .filter(|point| Some(point.as_path()) != but)
        .find(|point| directories.iter().any(|it| point.starts_with(it) && point != it))
}

/// A path as `mountinfo` writes it, where a space is `\040`.
fn unescaped(text: &str) -> PathBuf {
    PathBuf::from(text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
}

/// Removes what is known from a directory, and the directory if nothing else is in it. Gives
/// sentences about what is left.
pub(super) fn remove(directory: &Path, known: &[&str]) -> Vec<String> {
    let mut left = Vec::new();
    for name in names(directory) {
        let path = directory.join(&name);
        if !known.iter().any(|pattern| matches(pattern, &name)) {
            left.push(format!("{} is not of Warren and was left", path.display()));
        } else if let Err(error) = remove_all(&path) {
            left.push(format!("could not remove {}: {error}", path.display()));
        }
    }
    if left.is_empty()
        && let Err(error) = fs::remove_dir(directory)
        && error.kind() != io::ErrorKind::NotFound
    {
        left.push(format!("could not remove {}: {error}", directory.display()));
    }
    left
}

/// Removes single files. Gives sentences about what is left.
pub(super) fn remove_each(files: &[PathBuf]) -> Vec<String> {
    let result = |file: &PathBuf| match remove_all(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Some(format!("could not remove {}: {error}", file.display()))
        }
        _ => None,
    };
    files.iter().filter_map(result).collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

fn remove_all(path: &Path) -> io::Result<()> {
    warren_sys::tree::remove(path)
}

/// Removes the directories that run directories share, where the last has gone and nobody has
/// chosen another place.
pub(super) fn remove_empty_parents(config: &Config, dirs: &Dirs) {
    if config.run_dir.is_some() {
        return;
    }
    let Some(base) = dirs.run.parent() else { return };
    // Not empty is what they are while another server is there.
    for directory in [&base.join("slots"), base] {
        fs::remove_dir(directory).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_stays() {
        let base = tempfile::tempdir().unwrap();
        let home = base.path().join("home");
        fs::create_dir_all(home.join("sandboxes/x/disk")).unwrap();
        fs::create_dir_all(home.join("Documents")).unwrap();
        for file in
            ["warren.db", "logs.db-wal", "backup-x", "server.log.old", "thesis.tex", "warren.d"]
        {
            fs::write(home.join(file), "x").unwrap();
        }
        let left = remove(&home, DATA);
        assert_eq!(names(&home), ["Documents", "thesis.tex", "warren.d"]);
        assert_eq!(left.len(), 3);
        assert!(left.iter().all(|it| it.contains("not of Warren")), "{left:?}");
    }

    #[test]
    fn a_link_is_removed_and_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let (data, precious) = (base.path().join("data"), base.path().join("precious"));
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(precious.join("file")).unwrap();
        std::os::unix::fs::symlink(&precious, data.join("images")).unwrap();
        assert!(remove(&data, DATA).is_empty());
        assert!(!data.exists() && precious.join("file").exists());
        assert!(remove(&data, DATA).is_empty(), "once more is no error");
    }

    #[test]
    fn a_mount_below_is_seen_and_the_directory_itself_may_be_one() {
        let mounts = "36 35 98:0 / /data rw - ext4 x rw\n37 36 98:1 / /data/a\\040b rw - ext4 y rw";
        let data = Path::new("/data");
        assert_eq!(mount_below(mounts, &[data], Some(Path::new("/data/a b"))), None);
        assert_eq!(mount_below(mounts, &[data], None), Some("/data/a b".into()));
        assert_eq!(mount_below(mounts, &[Path::new("/dat")], None), None);
        assert_eq!(mount_below(mounts.lines().next().unwrap(), &[data], None), None);
    }
}
