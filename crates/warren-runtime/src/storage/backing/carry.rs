//! Bringing what is in one storage directory into another: copied, compared, and on the disk.
//!
//! Nothing of the first one is changed. What can be limited gets a subvolume or a project of its
//! own in the second, as if it had been made there.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, lchown},
    path::Path,
};

use warren_layer::{
    FileError, copy,
    manifest::{Manifest, Sources},
};

use super::{BackingError, failed};
use crate::{
    journal::Journal,
    storage::{Driver, Pool},
};

/// What a directory of the storage holds.
#[derive(Clone, Copy, Debug)]
enum Holding {
    /// Files, as they are.
    Files,
    /// Directories that are counted, each as a whole.
    Counted,
    /// Entries with a disk that is counted, and what is written down about it.
    Entries,
    /// Entries that are about to be removed: what is written down says what goes with them.
    Notes,
}

/// The directories of a storage directory, what people call what is in them, and what it is.
const DIRECTORIES: [(&str, &str, Holding); 8] = [
    ("images", "images", Holding::Files),
    ("builds", "files of builds", Holding::Files),
    ("volumes", "volumes", Holding::Counted),
    ("snapshots", "snapshots", Holding::Entries),
    ("stopped", "stopped sandboxes", Holding::Entries),
    ("sandboxes", "ended sandboxes", Holding::Entries),
    ("blanks", "", Holding::Notes),
    ("trash", "", Holding::Notes),
];
/// What is counted in an entry: its disk, and one that was to take its place.
const DISKS: [&str; 2] = ["disk", "new"];

/// The names of all directories of a storage directory.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    DIRECTORIES.iter().map(|(name, ..)| *name)
}

/// Refuses to leave a storage directory in which programs run.
pub(super) fn refuse_what_runs(storage: &Path) -> Result<(), BackingError> {
    let runs = || -> io::Result<bool> {
        let Some(journal) = Journal::existing(storage)? else { return Ok(false) };
        let records = journal.sandboxes()?.into_iter().filter_map(|(_, _, record)| record);
        let processes = records.filter(|it| it.this_boot).filter_map(|it| it.process);
        Ok(processes.into_iter().any(|it| it.lives()))
    };
    match runs().map_err(failed("read the journal"))? {
        true => Err(BackingError::Running { directory: storage.to_owned() }),
        false => Ok(()),
    }
}

/// Copies everything from one storage directory to another, which has nothing of it; what there
/// was, for people. When this returns, it is compared and on the disk.
pub(super) fn carry(from: &Path, to: &Path) -> Result<Vec<&'static str>, BackingError> {
    let open = |place: &Path| {
        Pool::open(Driver::Auto, place).map_err(failed("look at the storage directories"))
    };
    let carrier = Carrier { source: open(from)?, target: open(to)? };
    let mut carried = Vec::new();
    for (name, said, holding) in DIRECTORIES {
        let (from, to) = (from.join(name), to.join(name));
        if !from.is_dir() {
            continue;
        }
        let some = match holding {
            Holding::Files => carrier.tree(&from, &to).map(|()| true)?,
            Holding::Counted => carrier.each(&from, &to, |from, to| carrier.counted(from, to))?,
            Holding::Entries => {
                carrier.each(&from, &to, |from, to| carrier.entry(from, to, Inside::Disks))?
            }
            Holding::Notes => {
                carrier.each(&from, &to, |from, to| carrier.entry(from, to, Inside::Nothing))?
            }
        };
        if some && !said.is_empty() {
            carried.push(said);
        }
    }
    let target = File::open(to).map_err(failed("open the new storage directory"))?;
    rustix::fs::syncfs(target).map_err(failed("have everything on the disk"))?;
    Ok(carried)
}

/// What of the directories in an entry is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// All, with disks counted.
    Disks,
    /// All, as files.
    Files,
    /// None.
    Nothing,
}

#[derive(Debug)]
struct Carrier {
    source: Pool,
    target: Pool,
}

impl Carrier {
    /// Does something about everything in a directory that is not half-made; whether there was
    /// anything.
    fn each(
        &self,
        from: &Path,
        to: &Path,
        act: impl Fn(&Path, &Path) -> Result<(), BackingError>,
    ) -> Result<bool, BackingError> {
        fs::create_dir(to).map_err(could_not("make", to))?;
        like(from, to)?;
        let mut some = false;
        for entry in fs::read_dir(from).map_err(could_not("list", from))? {
            let entry = entry.map_err(could_not("list", from))?;
            let name = entry.file_name();
            let kind = entry.file_type().map_err(could_not("look at", &entry.path()))?;
            // What begins with a dot is half-made and nobody's.
            if name.as_encoded_bytes().starts_with(b".") || !kind.is_dir() {
                continue;
            }
            act(&entry.path(), &to.join(name))?;
            some = true;
        }
        Ok(some)
    }

    /// Copies files that one has for itself, and compares them.
    fn tree(&self, from: &Path, to: &Path) -> Result<(), BackingError> {
        copy::copy_frozen(from, to, None).map_err(not_copied(from))?;
        let manifest = Manifest::build(from, Sources::None, None).map_err(not_copied(from))?;
        let differences = manifest.verify(to).map_err(not_copied(from))?;
        match differences.first() {
            None => Ok(()),
            Some(found) => Err(BackingError::Differs {
                path: from.join(String::from_utf8_lossy(&found.path).as_ref()),
                what: found.what,
            }),
        }
    }

    /// Copies what is counted, with its limit.
    fn counted(&self, from: &Path, to: &Path) -> Result<(), BackingError> {
        let limit = self.source.used(from).and_then(|it| it.limit_bytes);
        if limit.is_some() && !self.target.limits() {
            return Err(BackingError::Unlimited { path: from.to_owned() });
        }
        self.target.make_directory(to).map_err(could_not("make", to))?;
        self.fill(from, to, Inside::Files)?;
        self.target.limit(to, limit).map_err(could_not("limit", to))
    }

    /// Copies an entry: the files in it, and directories as told.
    fn entry(&self, from: &Path, to: &Path, inside: Inside) -> Result<(), BackingError> {
        fs::create_dir(to).map_err(could_not("make", to))?;
        self.fill(from, to, inside)
    }

    fn fill(&self, from: &Path, to: &Path, inside: Inside) -> Result<(), BackingError> {
        for entry in fs::read_dir(from).map_err(could_not("list", from))? {
            let entry = entry.map_err(could_not("list", from))?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type().map_err(could_not("look at", &from))?;
            let is_disk = DISKS.iter().any(|it| *it == entry.file_name());
            match inside {
                _ if kind.is_file() => file(&from, &to)?,
                Inside::Disks if kind.is_dir() && is_disk => self.counted(&from, &to)?,
                Inside::Disks | Inside::Files if kind.is_dir() => self.tree(&from, &to)?,
                _ => {}
            }
        }
        like(from, to)
    }
}

/// Copies a file that the server itself has written.
fn file(from: &Path, to: &Path) -> Result<(), BackingError> {
    let mut target = File::create_new(to).map_err(could_not("make", to))?;
    let mut source = File::open(from).map_err(could_not("open", from))?;
    io::copy(&mut source, &mut target).map_err(could_not("write", to))?;
    like(from, to)?;
    let read = |path: &Path| fs::read(path).map_err(could_not("read", path));
    match read(from)? == read(to)? {
        true => Ok(()),
        false => Err(BackingError::Differs { path: from.to_owned(), what: "its content" }),
    }
}

/// Gives a file or directory the owner and mode of another.
fn like(from: &Path, to: &Path) -> Result<(), BackingError> {
    let set = || {
        let found = fs::symlink_metadata(from)?;
        lchown(to, Some(found.uid()), Some(found.gid()))?;
        fs::set_permissions(to, fs::Permissions::from_mode(found.mode() & 0o7777))
    };
    set().map_err(could_not("set the owner and mode of", to))
}

fn could_not(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackingError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BackingError::DoesNotFit,
        _ => BackingError::NotMoved { operation, path, source: Box::new(source) },
    }
}

fn not_copied(from: &Path) -> impl FnOnce(FileError) -> BackingError {
    let path = from.to_owned();
    move |source| match source.is_full() {
        true => BackingError::DoesNotFit,
        false => BackingError::NotMoved { operation: "move", path, source: Box::new(source) },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn everything_that_counts_is_carried_and_what_is_half_made_is_not() {
        let base = tempfile::tempdir().unwrap();
        let (from, to) = (base.path().join("from"), base.path().join("to"));
        for directory in [
            "images/layers/x/tree/usr",
            "volumes/vol/files/d",
            "snapshots/s/disk/upper/etc",
            "snapshots/.half/disk/upper",
            "stopped/a/disk/upper/root",
            "stopped/a/disk/work",
            "blanks/7/disk/upper",
            "trash/x.1.2/disk",
            "unknown",
        ] {
            fs::create_dir_all(from.join(directory)).unwrap();
        }
        let carried_files = [
            "images/layers/x/tree/usr/f",
            "volumes/vol/files/d/f",
            "snapshots/s/manifest",
            "stopped/a/disk/upper/root/f",
            "blanks/7/guest",
        ];
        for file in carried_files.into_iter().chain(["unknown/f"]) {
            fs::write(from.join(file), file).unwrap();
        }
        let root = from.join("stopped/a/disk/upper/root");
        fs::hard_link(root.join("f"), root.join("g")).unwrap();
        symlink("/nowhere", root.join("link")).unwrap();
        fs::create_dir(&to).unwrap();
        let carried = carry(&from, &to).unwrap();
        assert_eq!(carried, ["images", "volumes", "snapshots", "stopped sandboxes"]);
        for file in carried_files {
            assert_eq!(fs::read_to_string(to.join(file)).unwrap(), file);
        }
        let linked = fs::metadata(to.join("stopped/a/disk/upper/root/g")).unwrap();
        assert_eq!(linked.nlink(), 2);
        assert!(to.join("snapshots/s/disk/upper/etc").is_dir());
        for gone in ["snapshots/.half", "blanks/7/disk", "unknown"] {
            assert!(!to.join(gone).exists(), "{gone}");
        }
        // A second time there is something in the way, and nothing of it is touched.
        assert!(carry(&from, &to).is_err());
    }
}
