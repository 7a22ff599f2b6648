//! Everything below a directory, in the order of names.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::marks::{look, open_directory};

/// Directories above each other that are entered: each costs a descriptor.
pub(crate) const DEPTH: usize = 1000;

/// What went wrong, and where: a path below the directory, empty for itself.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} '{}': {source}", warren_archive::shown(.path))]
pub struct FileError {
    /// What was tried.
    pub operation: &'static str,
    /// With which file.
    pub path: Vec<u8>,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn new<E: Into<io::Error>>(
        operation: &'static str,
        path: &[u8],
    ) -> impl FnOnce(E) -> Self {
        move |error| Self { operation, path: path.to_vec(), source: error.into() }
    }

    /// Whether there is no room left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        full.contains(&self.source.kind())
    }
}

/// Something that was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Where, below the directory.
    pub(crate) path: Vec<u8>,
    /// The directory that it is in, and its name there.
    pub(crate) directory: Rc<OwnedFd>,
    pub(crate) name: Vec<u8>,
    pub(crate) stat: Stat,
}

impl Found {
    /// Opens a file for reading, whatever is there by now. Never waits for the end of a pipe.
    pub(crate) fn open(&self) -> Result<OwnedFd, Errno> {
        open_file(&*self.directory, &self.name)
    }
}

/// Opens what may be a file, and never waits for the end of a pipe; a link is not followed.
pub(crate) fn open_file(directory: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// Opens a directory by a path of the caller's.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd, FileError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(FileError::new("open", path.as_os_str().as_encoded_bytes()))
}

/// Names in an open directory, in order.
pub(crate) fn names(directory: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Path of something in a directory.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

#[derive(Debug)]
struct Level {
    path: Vec<u8>,
    directory: Rc<OwnedFd>,
    names: std::vec::IntoIter<Vec<u8>>,
}

/// Goes over a tree: a directory before what is in it. Links are not followed.
#[derive(Debug)]
pub(crate) struct Walk {
    levels: Vec<Level>,
    /// A directory that was given out and is to be entered, unless it is skipped.
    next: Option<Level>,
}

impl Walk {
    pub(crate) fn new(root: OwnedFd) -> Result<Self, FileError> {
        let mut walk = Self { levels: Vec::new(), next: None };
        walk.enter(Vec::new(), root)?;
        Ok(walk)
    }

    /// Does not enter the directory that was given out last.
    pub(crate) fn skip(&mut self) {
        self.next = None;
    }

    /// The next file; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, FileError> {
        self.levels.extend(self.next.take());
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let path = join(&level.path, &name);
            let directory = Rc::clone(&level.directory);
            let stat = look(&*directory, &name).map_err(FileError::new("look at", &path))?;
            let Some(stat) = stat else { continue };
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                let opened = open_directory(&*directory, &name);
                self.enter(path.clone(), opened.map_err(FileError::new("open", &path))?)?;
            }
            return Ok(Some(Found { path, directory, name, stat }));
        }
        Ok(None)
    }

    /// The directory that was given out last, opened.
    pub(crate) fn entered(&self) -> Option<&OwnedFd> {
        self.next.as_ref().map(|it| &*it.directory)
    }

    fn enter(&mut self, path: Vec<u8>, directory: OwnedFd) -> Result<(), FileError> {
        if self.levels.len() >= DEPTH {
            let error = FileError::new("enter so many directories above each other as", &path);
            return Err(error(Errno::NAMETOOLONG));
        }
        let names = names(&directory).map_err(FileError::new("list", &path))?;
        self.next = Some(Level { path, directory: Rc::new(directory), names: names.into_iter() });
        Ok(())
    }
}
