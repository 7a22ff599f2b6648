//! Removing trees that somebody hostile has made, or is still making.
//!
//! A tree may be any number of directories deep, each with a name as long as can be. Nothing here
//! calls itself, a bounded number of directories is open at a time, and no path is put together:
//! every step is one name in an open directory. A directory that was closed for a deeper one is
//! found again as `..`, and is gone on with only if it is the same one: who moves directories about
//! meanwhile gains nothing by it. No link is followed and no mount is entered.

use std::{
    collections::VecDeque,
    ffi::{CStr, CString, OsStr},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, unlinkat},
    io::Errno,
};

/// Directories that are open at a time, the deepest ones.
const OPEN: usize = 32;
/// How often a directory may have something new in it, or be somewhere else, before it is given
/// up: somebody works against it.
const PATIENCE: u32 = 1000;

/// Removes what is at `path` with all it holds: a directory, or anything else. The directory that
/// it is in must be trusted; links in `path` are followed up to there.
///
/// # Errors
///
/// The kernel's error: `NotFound` where there is nothing, `ResourceBusy` or `CrossesDevices` where
/// something is mounted, `DirectoryNotEmpty` where somebody fills it faster than it is emptied.
pub fn remove(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let above = path.parent().filter(|it| !it.as_os_str().is_empty());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = rustix::fs::open(above.unwrap_or(Path::new(".")), flags, Mode::empty())?;
    remove_at(&above, name)
}

/// As [`remove`]: what is called `name` in an open directory.
///
/// # Errors
///
/// As [`remove`].
pub fn remove_at(above: impl AsFd, name: &OsStr) -> io::Result<()> {
    let name = CString::new(name.as_bytes())?;
    let above = above.as_fd();
    match unlinkat(above, &name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return Ok(other?),
    }
    let mut removal = Removal { ids: Vec::new(), open: VecDeque::new(), setbacks: 0 };
    loop {
        removal.begin(above, &name)?;
        removal.empty()?;
        match unlinkat(above, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => removal.set_back()?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// What tells a directory from every other.
type Identity = (u64, u64);

/// A directory that is being emptied.
#[derive(Debug)]
struct Open {
    directory: Dir,
    /// Its name in the one above; none for one that was found again.
    name: Option<CString>,
}

#[derive(Debug)]
struct Removal {
    /// Every directory from the first to the deepest.
    ids: Vec<Identity>,
    /// The deepest of them.
    open: VecDeque<Open>,
    setbacks: u32,
}

/// What became of one name.
enum Name {
    Gone,
    /// A directory with something in it.
    Full(OwnedFd),
}

impl Removal {
    fn begin(&mut self, above: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        self.ids.clear();
        self.open.clear();
        let first = enter(above, name)?;
        self.push(first, None)
    }

    fn push(&mut self, directory: OwnedFd, name: Option<CString>) -> io::Result<()> {
        self.ids.push(identity(&directory)?);
        self.open.push_back(Open { directory: Dir::new(directory)?, name });
        if self.open.len() > OPEN {
            self.open.pop_front();
        }
        Ok(())
    }

    /// Counts what only happens when somebody works against this.
    fn set_back(&mut self) -> io::Result<()> {
        self.setbacks += 1;
        if self.setbacks > PATIENCE { Err(Errno::NOTEMPTY.into()) } else { Ok(()) }
    }

    /// Empties the first directory; one that is lost on the way back up ends it too early.
    fn empty(&mut self) -> io::Result<()> {
        while let Some(deepest) = self.open.back_mut() {
            match deepest.directory.next() {
                Some(entry) => {
                    let entry = entry?;
                    let name = entry.file_name();
                    if matches!(name.to_bytes(), b"." | b"..") {
                        continue;
                    }
                    let directory = deepest.directory.fd()?;
                    if let Name::Full(deeper) = clear(directory, name, entry.file_type())? {
                        let name = name.to_owned();
                        self.push(deeper, Some(name))?;
                    }
                }
                None => {
                    if !self.leave()? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Goes back up from a directory that was gone over, and removes it; false at the top, and
    /// where the one above is lost.
    fn leave(&mut self) -> io::Result<bool> {
        let Some(left) = self.open.pop_back() else { return Ok(false) };
        self.ids.pop();
        let Some(expected) = self.ids.last() else { return Ok(false) };
        let Some(above) = self.open.back_mut() else {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let above = openat(left.directory.fd()?, c"..", flags, Mode::empty())?;
            if identity(&above)? != *expected {
                self.set_back()?;
                return Ok(false);
            }
            // It is gone over again, and what was left is removed when its name comes by.
            self.open.push_back(Open { directory: Dir::new(above)?, name: None });
            return Ok(true);
        };
        let Some(name) = left.name else { return Ok(true) };
        match unlinkat(above.directory.fd()?, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {
                above.directory.rewind();
                self.set_back()?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }
}

/// Removes one name, unless it is a directory with something in it.
fn clear(directory: BorrowedFd<'_>, name: &CStr, kind: FileType) -> io::Result<Name> {
    if !matches!(kind, FileType::Directory | FileType::Unknown) {
        match unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(Name::Gone),
            Err(Errno::ISDIR) => {} // by now
            Err(error) => return Err(error.into()),
        }
    }
    match unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(Name::Gone),
        Err(Errno::NOTEMPTY | Errno::EXIST) => match enter(directory, name) {
            Ok(deeper) => return Ok(Name::Full(deeper)),
            Err(Errno::NOENT) => return Ok(Name::Gone),
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error.into()),
        },
        Err(Errno::NOTDIR) => {}
        Err(error) => return Err(error.into()),
    }
    match unlinkat(directory, name, AtFlags::empty()) {
        // A directory again: whoever swaps them finds that it is not removed, which is an error.
        Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => Ok(Name::Gone),
        Err(error) => Err(error.into()),
    }
}

fn enter(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    loop {
        match openat2(directory, name, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {} // something was renamed on the way
            other => return other,
        }
    }
}

fn identity(directory: impl AsFd) -> io::Result<Identity> {
    let stat = fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::symlink,
        path::PathBuf,
        sync::atomic::{AtomicBool, Ordering},
    };

    use rustix::fs::{CWD, RenameFlags, mkdirat, renameat_with};

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("warren-tree-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            remove(&self.0).unwrap();
        }
    }

    /// Makes directories below each other, with a file and a link in every hundredth.
    fn dig(place: &Path, depth: usize, name: &str) {
        fs::create_dir(place).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = rustix::fs::open(place, flags, Mode::empty()).unwrap();
        for level in 0..depth {
            if level % 100 == 0 {
                rustix::fs::symlinkat("/etc", &at, "a").unwrap();
                mkdirat(&at, "z", Mode::from(0o700)).unwrap();
            }
            mkdirat(&at, name, Mode::from(0o700)).unwrap();
            at = openat(&at, name, flags, Mode::empty()).unwrap();
        }
    }

    fn descriptors() -> usize {
        fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn a_tree_of_any_depth_is_removed_with_few_descriptors_and_little_stack() {
        let folder = Folder::new("deep");
        let place = folder.0.join("tree");
        dig(&place, 20_000, &"n".repeat(255));
        let (before, most) = (descriptors(), AtomicBool::new(false));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if descriptors() > before + OPEN + 100 {
                        most.store(true, Ordering::Relaxed);
                    }
                    std::thread::park_timeout(std::time::Duration::from_millis(5));
                }
            });
            let little = std::thread::Builder::new().stack_size(64 << 10);
            let removing = little.spawn_scoped(scope, || remove(&place)).unwrap();
            let removed = removing.join();
            over.store(true, Ordering::Relaxed);
            removed.unwrap().unwrap();
        });
        assert!(!most.load(Ordering::Relaxed), "too many descriptors");
        assert!(!place.exists());
    }

    #[test]
    fn files_and_links_are_removed_and_nothing_is_not_found() {
        let folder = Folder::new("kinds");
        let target = folder.0.join("target");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("precious"), "x").unwrap();
        symlink(&target, folder.0.join("link")).unwrap();
        remove(&folder.0.join("link")).unwrap();
        assert!(target.join("precious").exists());
        for index in 0..500 {
            let wide = target.join(format!("{index}/a/b"));
            fs::create_dir_all(&wide).unwrap();
            fs::write(wide.join("file"), "x").unwrap();
            symlink("/etc", wide.join("link")).unwrap();
        }
        remove(&target).unwrap();
        assert_eq!(remove(&target).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(remove(Path::new("/")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn whoever_swaps_directories_meanwhile_saves_or_harms_nothing_outside() {
        let folder = Folder::new("swap");
        let precious = folder.0.join("precious");
        for index in 0..50 {
            fs::create_dir_all(precious.join(format!("{index}/n/n"))).unwrap();
            fs::write(precious.join(format!("{index}/n/n/file")), "x").unwrap();
        }
        symlink(&precious, folder.0.join("link")).unwrap();
        let count = || walk(&precious);
        let all = count();
        for round in 0..8 {
            let tree = folder.0.join("tree");
            dig(&tree, 300, "n");
            let (outside, inside) = (folder.0.join("link"), tree.join("n/n/n"));
            let (moved, deep) = (folder.0.join("moved"), tree.join("n/".repeat(60 + round)));
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let swap = RenameFlags::EXCHANGE;
                        renameat_with(CWD, &outside, CWD, &inside, swap).ok();
                        renameat_with(CWD, &outside, CWD, &inside, swap).ok();
                        drop(fs::rename(&deep, &moved));
                        drop(fs::rename(&moved, &deep));
                    }
                });
                // What was moved out meanwhile may be an error, or be gone.
                let removed = remove(&tree);
                over.store(true, Ordering::Relaxed);
                if removed.is_ok() {
                    assert!(!tree.exists());
                }
            });
            assert_eq!(count(), all, "something outside is gone");
            for left in [&tree, &moved, &outside] {
                drop(remove(left));
            }
            symlink(&precious, &outside).unwrap();
        }
    }

    fn walk(place: &Path) -> usize {
        let entries = fs::read_dir(place).unwrap().map(Result::unwrap);
        entries.map(|it| 1 + if it.path().is_dir() { walk(&it.path()) } else { 0 }).sum()
    }
}
