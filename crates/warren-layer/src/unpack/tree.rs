//! A layer's directory, filled.
//!
//! Every directory is looked up from the layer's own descriptor, as if that were the root of the
//! file system: links on the way lead where they would lead inside, and never out. Nothing else
//! changes the directory meanwhile, so files are made in place.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, ftruncate, linkat, mkdirat, mknodat,
    openat, openat2, symlinkat,
};
use rustix::io::Errno;
use warren_archive::{Entry, Piece, split};

use super::marks::{Meaning, meaning};
use super::parents::Parents;
use super::{Counts, Options, UnpackError};
use crate::attributes::Attributes;
use crate::marks::{
    Marks, is_overlay_xattr, is_whiteout, look, make_opaque, make_whiteout, open_directory,
};
use crate::remove::remove;

/// Look-ups that the kernel gave up for a rename elsewhere are tried this often.
const TRIES: usize = 32;
/// Bytes that directories' names and attributes may take together: they are kept to the end.
const DIRECTORY_BYTES: usize = 256 << 20;

/// What an entry gives to a file, of what it may give; and how much it may not.
pub(super) fn attributes(entry: Entry) -> Result<(Attributes, u64), UnpackError> {
    let id = |id: u64| {
        let id = u32::try_from(id).ok().filter(|it| *it != u32::MAX);
        id.ok_or_else(|| UnpackError::refused(&entry.name, "its owner is out of range"))
    };
    let owner = (id(entry.owner.0)?, id(entry.owner.1)?);
    for (name, _) in &entry.xattrs {
        if name.starts_with(b"trusted.") || is_overlay_xattr(name) {
            let reason = "it sets an extended attribute that is the host's";
            return Err(UnpackError::refused(&entry.name, reason));
        }
        if name.contains(&0) {
            return Err(UnpackError::refused(&entry.name, "an attribute's name is none"));
        }
    }
    let wanted = [&b"user."[..], b"security.capability", b"system.posix_acl_"];
    let is_wanted = |it: &(Vec<u8>, Vec<u8>)| wanted.iter().any(|start| it.0.starts_with(start));
    let (xattrs, others): (Vec<_>, Vec<_>) = entry.xattrs.into_iter().partition(is_wanted);
    let mode = entry.mode & 0o7777;
    Ok((Attributes { mode, owner, modified: entry.modified, xattrs }, others.len() as u64))
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Pending {
    path: Vec<u8>,
    file: File,
    attributes: Attributes,
    size: u64,
    /// Where the next bytes belong.
    offset: u64,
    /// Of a sparse file: how many bytes of the first piece are still to come, and the others.
    pieces: Option<(u64, std::vec::IntoIter<Piece>)>,
}

impl Pending {
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), UnpackError> {
        while !bytes.is_empty() {
            let room = match &mut self.pieces {
                None => bytes.len(),
                Some((left, others)) => {
                    if *left == 0 {
                        let Some(next) = others.next() else { break };
                        (self.offset, *left) = (next.offset, next.length);
                    }
                    let room = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= room as u64;
                    room
                }
            };
            let (now, later) = bytes.split_at(room);
            self.file
                .write_all_at(now, self.offset)
                .map_err(UnpackError::io("write", &self.path))?;
            self.offset += room as u64;
            bytes = later;
        }
        Ok(())
    }
}

/// The directory.
#[derive(Debug)]
pub(super) struct Tree {
    root: Rc<OwnedFd>,
    /// The directory that the last entry was in: the next one mostly is too.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// What directories get when nothing is made in them any more.
    directories: BTreeMap<Vec<u8>, Attributes>,
    directory_bytes: usize,
    below: Parents,
    marks: Marks,
    ignore_owners: bool,
    pub(super) counts: Counts,
}

impl Tree {
    pub(super) fn open(directory: &Path, options: &Options) -> Result<Self, UnpackError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory, flags, Mode::empty());
        let root = root.map_err(|error| UnpackError::Directory(error.into()))?;
        let mut tree = Self {
            root: Rc::new(root),
            last: None,
            directories: BTreeMap::new(),
            directory_bytes: 0,
            below: Parents::open(&options.below)?,
            marks: options.marks,
            ignore_owners: options.ignore_owners,
            counts: Counts::default(),
        };
        tree.note_implicit(b"")?;
        Ok(tree)
    }

    /// Does what a whiteout's name stands for; false for other names.
    pub(super) fn whiteout(&mut self, path: &[u8]) -> Result<bool, UnpackError> {
        let (parent, name) = split(path);
        let fail = || UnpackError::io("remove what is below for", path);
        let failed = || UnpackError::io("remove what is below for", path);
        match meaning(path, name)? {
            Meaning::Name => return Ok(false),
            Meaning::Unknown => self.counts.skipped += 1,
            Meaning::Opaque => {
                let directory = self.directory_at(parent)?;
                self.make_opaque(&directory, parent)?;
                self.counts.whiteouts += 1;
            }
            Meaning::Whiteout(name) => {
                let directory = self.directory_at(parent)?;
                match look(&directory, name).map_err(fail())? {
                    None => make_whiteout(&directory, name).map_err(failed())?,
                    // A layer removes what is below it, never what it has itself.
                    Some(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {
                        let inner = open_directory(&directory, name).map_err(fail())?;
                        make_opaque(&inner, self.marks).map_err(failed())?;
                    }
                    Some(_) => {}
                }
                self.counts.whiteouts += 1;
            }
        }
        Ok(true)
    }

    /// Begins a file.
    pub(super) fn file(&mut self, path: Vec<u8>, mut entry: Entry) -> Result<Pending, UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = |directory: &OwnedFd, name: &[u8]| {
            openat(directory, name, flags, Mode::from_raw_mode(0o600))
        };
        let pieces = entry.pieces.take().map(|it| (0, it.into_iter()));
        let size = entry.size;
        let attributes = self.attributes(entry)?;
        let file = self.replace(&path, "write", make)?.into();
        Ok(Pending { path, file, attributes, size, offset: 0, pieces })
    }

    /// A file's content is there.
    pub(super) fn finish_file(&mut self, pending: Pending) -> Result<(), UnpackError> {
        let Pending { path, file, attributes, size, pieces, .. } = pending;
        if pieces.is_some() {
            ftruncate(&file, size).map_err(UnpackError::io("write", &path))?;
        }
        self.apply(&file, &path, &attributes)
    }

    /// Makes a directory, unless it is there.
    pub(super) fn directory(&mut self, path: &[u8], entry: Entry) -> Result<(), UnpackError> {
        let attributes = self.attributes(entry)?;
        if !path.is_empty() {
            let fail = || UnpackError::io("make the directory", path);
            let (parent, name) = split(path);
            let directory = self.directory_at(parent)?;
            let found = look(&directory, name).map_err(fail())?;
            let is_there = found.is_some_and(|it| FileType::from_raw_mode(it.st_mode).is_dir());
            if !is_there {
                self.make_directory(&directory, path, found.as_ref())?;
            }
        }
        self.note(path, attributes)
    }

    /// Makes a symbolic link. Where it leads does not matter: look-ups stay beneath the root.
    pub(super) fn symlink(&mut self, path: &[u8], entry: Entry) -> Result<(), UnpackError> {
        let link = entry.link.clone();
        let attributes = self.attributes(entry)?;
        self.replace(path, "make the link", |directory, name| {
            symlinkat(link.as_slice(), directory, name)
        })?;
        self.set_at(path, attributes)
    }

    /// Makes a named pipe.
    pub(super) fn pipe(&mut self, path: &[u8], entry: Entry) -> Result<(), UnpackError> {
        let attributes = self.attributes(entry)?;
        self.replace(path, "make the pipe", |directory, name| {
            mknodat(directory, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        })?;
        self.set_at(path, attributes)
    }

    /// What a link or a pipe has, without extended attributes.
    fn set_at(&mut self, path: &[u8], mut attributes: Attributes) -> Result<(), UnpackError> {
        self.counts.skipped_xattrs += std::mem::take(&mut attributes.xattrs).len() as u64;
        let (parent, name) = split(path);
        let directory = self.directory_at(parent)?;
        let set = attributes.set_at(&*directory, name, self.ignore_owners);
        set.map_err(UnpackError::io("set the owner, mode or time of", path))?;
        Ok(())
    }

    fn attributes(&mut self, entry: Entry) -> Result<Attributes, UnpackError> {
        let (attributes, others) = attributes(entry)?;
        self.counts.skipped_xattrs += others;
        Ok(attributes)
    }

    /// Gives what is at `target` a second name.
    pub(super) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), UnpackError> {
        const MISSING: &str = "it is a hard link to what is not in the layer before it";
        let (from, old) = split(target);
        let from = match self.look_up(from) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(UnpackError::refused(path, MISSING)),
            opened => opened.map_err(|error| lookup_failed(error, path))?,
        };
        let fail = || UnpackError::io("make the hard link", path);
        let found = look(&from, old).map_err(fail())?;
        let found = found.filter(|it| !target.is_empty() && !is_whiteout(it));
        let Some(found) = found else { return Err(UnpackError::refused(path, MISSING)) };
        if FileType::from_raw_mode(found.st_mode).is_dir() {
            return Err(UnpackError::refused(path, "it is a hard link to a directory"));
        }
        let (parent, name) = split(path);
        let directory = self.directory_at(parent)?;
        let is_same = |it: &Stat| (it.st_dev, it.st_ino) == (found.st_dev, found.st_ino);
        if look(&directory, name).map_err(fail())?.as_ref().is_some_and(is_same) {
            return Ok(());
        }
        self.replace(path, "make the hard link", |directory, name| {
            linkat(&from, old, directory, name, AtFlags::empty()) // a final link is not followed
        })
    }

    /// Gives directories what they have, the deepest first.
    pub(super) fn finish(mut self) -> Result<Counts, UnpackError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for (path, attributes) in std::mem::take(&mut self.directories).into_iter().rev() {
            match open_in_root(&self.root, &path, flags) {
                // Replaced later by something that is no directory, under another name for it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(lookup_failed(error, &path)),
                Ok(directory) => self.apply(&directory, &path, &attributes)?,
            }
        }
        Ok(self.counts)
    }

    fn apply(
        &mut self,
        file: impl AsFd,
        path: &[u8],
        attributes: &Attributes,
    ) -> Result<(), UnpackError> {
        let set = attributes.set(file, self.ignore_owners);
        let set = set.map_err(UnpackError::io("set the owner, mode, attributes or time of", path));
        self.counts.skipped_xattrs += set?;
        Ok(())
    }

    /// Makes something under a name that may be taken.
    fn replace<T>(
        &mut self,
        path: &[u8],
        operation: &'static str,
        make: impl Fn(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        let fail = || UnpackError::io(operation, path);
        let (parent, name) = split(path);
        let directory = self.directory_at(parent)?;
        match make(&directory, name) {
            Err(Errno::EXIST) => {
                self.clear(&directory, path)?;
                make(&directory, name).map_err(fail())
            }
            made => made.map_err(fail()),
        }
    }

    /// Removes what an earlier entry made.
    fn clear(&mut self, directory: &OwnedFd, path: &[u8]) -> Result<(), UnpackError> {
        let (_, name) = split(path);
        remove(directory, name).map_err(UnpackError::io("replace", path))?;
        self.last = None;
        let mut inner = path.to_vec();
        inner.push(b'/');
        self.directories.remove(path);
        let gone = self.directories.range(inner.clone()..);
        let gone = gone.map(|it| it.0).take_while(|it| it.starts_with(&inner)).cloned();
        for path in gone.collect::<Vec<_>>() {
            self.directories.remove(&path);
        }
        Ok(())
    }

    /// Opens a directory, and makes it and what is missing above it.
    fn directory_at(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, UnpackError> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some((known, directory)) = &self.last
            && known == path
        {
            return Ok(Rc::clone(directory));
        }
        let opened = match self.look_up(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_way(path)?,
            opened => opened.map_err(|error| lookup_failed(error, path))?,
        };
        let opened = Rc::new(opened);
        self.last = Some((path.to_vec(), Rc::clone(&opened)));
        Ok(opened)
    }

    fn make_way(&mut self, path: &[u8]) -> Result<OwnedFd, UnpackError> {
        let failed = |path: &[u8]| {
            let path = path.to_vec();
            move |error| lookup_failed(error, &path)
        };
        let mut directory = self.look_up(b"").map_err(failed(path))?;
        let ends = path.iter().enumerate().filter(|it| *it.1 == b'/').map(|it| it.0);
        for end in ends.chain([path.len()]) {
            let prefix = path.get(..end).unwrap_or(path);
            directory = match self.look_up(prefix) {
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    let (_, name) = split(prefix);
                    let found = look(&directory, name).map_err(failed(prefix))?;
                    if found.as_ref().is_some_and(|it| !is_whiteout(it)) {
                        let reason = "what it is in is no directory";
                        return Err(UnpackError::refused(path, reason));
                    }
                    self.make_directory(&directory, prefix, found.as_ref())?;
                    self.counts.implicit_directories += 1;
                    self.note_implicit(prefix)?;
                    self.look_up(prefix).map_err(failed(prefix))?
                }
                opened => opened.map_err(failed(prefix))?,
            };
        }
        Ok(directory)
    }

    /// Makes a directory where there is none, but maybe something else.
    fn make_directory(
        &mut self,
        parent: &OwnedFd,
        path: &[u8],
        found: Option<&Stat>,
    ) -> Result<(), UnpackError> {
        let fail = || UnpackError::io("make the directory", path);
        let (_, name) = split(path);
        if found.is_some() {
            self.clear(parent, path)?;
        }
        mkdirat(parent, name, Mode::from_raw_mode(0o755)).map_err(fail())?;
        // What the whiteout hid stays hidden.
        if found.is_some_and(is_whiteout) {
            let made = open_directory(parent, name).map_err(fail())?;
            make_opaque(&made, self.marks).map_err(UnpackError::io("hide what is below", path))?;
        }
        Ok(())
    }

    fn make_opaque(&mut self, directory: &OwnedFd, path: &[u8]) -> Result<(), UnpackError> {
        // Opened as a path only, or for reading: attributes need the latter.
        let opened = openat(
            directory,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let opened = opened.map_err(UnpackError::io("open", path))?;
        make_opaque(opened, self.marks).map_err(UnpackError::io("hide what is below", path))?;
        self.counts.hides_all_below |= path.is_empty();
        Ok(())
    }

    fn note_implicit(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        let default = Attributes { mode: 0o755, ..Attributes::default() };
        let attributes = self.below.attributes(path).unwrap_or(default);
        self.note(path, attributes)
    }

    fn note(&mut self, path: &[u8], attributes: Attributes) -> Result<(), UnpackError> {
        self.directory_bytes += path.len() + attributes.bytes();
        if self.directory_bytes > DIRECTORY_BYTES {
            let most = DIRECTORY_BYTES as u64;
            return Err(UnpackError::too_much("bytes of directories' names", most));
        }
        self.directories.insert(path.to_vec(), attributes);
        Ok(())
    }

    fn look_up(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        open_in_root(&self.root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }
}

/// Opens a path as if `root` were the root of the file system; an empty one is the root itself.
fn open_in_root(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    for _ in 0..TRIES {
        match openat2(&root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

fn lookup_failed(error: Errno, path: &[u8]) -> UnpackError {
    match error {
        Errno::XDEV => UnpackError::refused(path, "its way leads out of the layer"),
        Errno::LOOP => UnpackError::refused(path, "a link on its way leads nowhere"),
        error => UnpackError::io("open the directory of", path)(error),
    }
}
