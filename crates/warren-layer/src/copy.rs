//! Copies of layers that are in use.
//!
//! ```text
//!  copy:      write back -> every file        while programs go on
//!  catch up:  write back -> what changed      the same, as often as it pays
//!  catch up:  what changed                    while they are frozen: now it is exact
//! ```
//!
//! A file is told from its earlier self by inode, time of change and size, and is looked at again
//! wherever that could deceive (see [`Stamp`]). Content is, in this order: a hard link to the same
//! file of an earlier copy that nobody writes to, a clone that shares its blocks, a copy.

pub(crate) mod content;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, linkat, makedev, mkdirat, mknodat,
    openat, openat2, readlinkat, symlinkat, syncfs,
};
use rustix::io::Errno;
use warren_archive::split;

use crate::attributes::Attributes;
use crate::manifest::Manifest;
use crate::marks::{look, open_directory};
use crate::node::{Kind, Moment, Stamp};
use crate::remove::remove;
use crate::walk::{DEPTH, FileError, join, names, open_file, open_root};

/// An earlier copy of the same layer that nobody writes to any more.
#[derive(Clone, Copy, Debug)]
pub struct Previous<'a> {
    /// What was noted about it, with stamps of the layer that it was copied from.
    pub manifest: &'a Manifest,
    /// Where it is: on the file system of the new copy, for links.
    pub directory: &'a Path,
}

/// How much was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Files, directories and others that were looked at.
    pub looked_at: u64,
    /// Of these, how many were made, or made anew.
    pub made: u64,
    /// Files that became hard links to a previous copy's.
    pub linked: u64,
    /// Files that share their blocks with the original.
    pub cloned: u64,
    /// Bytes that were copied.
    pub copied_bytes: u64,
    /// Names that were removed from the copy.
    pub removed: u64,
    /// Files that went away, or became something else, while they were looked at.
    pub vanished: u64,
}

/// What was seen when something was copied.
#[derive(Clone, Copy, Debug)]
struct Seen {
    kind: Kind,
    stamp: Stamp,
    /// Its next change will change the stamp.
    is_settled: bool,
}

/// A copy, and what is known about it.
#[derive(Debug)]
pub struct Copied {
    seen: BTreeMap<Vec<u8>, Seen>,
    amount: Amount,
}

impl Copied {
    /// What was done by [`copy`].
    #[must_use]
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// The stamp of the original, where it is certain that a change would give another.
    #[must_use]
    pub fn stamp(&self, path: &[u8]) -> Option<Stamp> {
        self.seen.get(path).filter(|it| it.is_settled).map(|it| it.stamp)
    }
}

/// Copies what is in `source` to `target`, a directory that it makes.
///
/// `source` is the upper layer of an overlay that may be in use: the copy is whole, but of no one
/// moment, until [`catch_up`] was called while nothing wrote. Owners, modes, times, extended
/// attributes, whiteouts, hard links and holes are kept; what overlayfs notes about upper layers
/// alone (`origin` and its like) is not.
///
/// With `previous`, files that have not changed since are hard links to those of that copy: neither
/// may ever be written to.
///
/// # Errors
///
/// [`FileError`]; what was copied so far stays.
pub fn copy(
    source: &Path,
    target: &Path,
    previous: Option<Previous<'_>>,
) -> Result<Copied, FileError> {
    first_pass(source, target, previous, false)
}

/// As [`copy()`], while nothing writes to the source: it need not be written back, and the copy is
/// exact.
///
/// # Errors
///
/// [`FileError`]; what was copied so far stays.
pub fn copy_frozen(
    source: &Path,
    target: &Path,
    previous: Option<Previous<'_>>,
) -> Result<Copied, FileError> {
    first_pass(source, target, previous, true)
}

fn first_pass(
    source: &Path,
    target: &Path,
    previous: Option<Previous<'_>>,
    is_frozen: bool,
) -> Result<Copied, FileError> {
    let made = rustix::fs::mkdir(target, Mode::from_raw_mode(0o700));
    made.map_err(FileError::new("make", target.as_os_str().as_encoded_bytes()))?;
    let mut copied = Copied { seen: BTreeMap::new(), amount: Amount::default() };
    copied.amount = pass(&mut copied, source, target, previous, is_frozen)?;
    Ok(copied)
}

/// Brings a copy up to date. `is_frozen` says that nothing writes to the source meanwhile, which
/// spares writing it back: the copy is exact then.
///
/// # Errors
///
/// [`FileError`]; the copy is of no use then.
pub fn catch_up(
    copied: &mut Copied,
    source: &Path,
    target: &Path,
    is_frozen: bool,
) -> Result<Amount, FileError> {
    pass(copied, source, target, None, is_frozen)
}

fn pass(
    copied: &mut Copied,
    source: &Path,
    target: &Path,
    previous: Option<Previous<'_>>,
    is_frozen: bool,
) -> Result<Amount, FileError> {
    let from = open_root(source)?;
    // Before the writing back: from here on each first write to a page changes a time.
    let mut written_back = Moment::default();
    if !is_frozen {
        written_back = Moment::now();
        syncfs(&from).map_err(FileError::new("write back", b""))?;
    }
    let stat = fstat(&from).map_err(FileError::new("look at", b""))?;
    let to = open_root(target)?;
    let directory = previous.map(|it| open_root(it.directory)).transpose()?;
    let mut pass = Pass {
        seen: &mut copied.seen,
        root: to.try_clone().map_err(FileError::new("open", b""))?,
        manifest: previous.map(|it| it.manifest),
        written_back,
        links: HashMap::new(),
        can_clone: true,
        amount: Amount::default(),
    };
    let is_new = !pass.seen.contains_key(&b""[..]);
    pass.run(Level::new(Vec::new(), from, to, directory, stat, is_new)?)?;
    Ok(pass.amount)
}

/// A directory that is being gone over.
#[derive(Debug)]
struct Level {
    path: Vec<u8>,
    from: OwnedFd,
    to: OwnedFd,
    /// The same directory of the previous copy.
    previous: Option<OwnedFd>,
    stat: Stat,
    names: std::vec::IntoIter<Vec<u8>>,
    is_new: bool,
    /// Something was made or removed in the copy: it needs its time again.
    is_touched: bool,
}

impl Level {
    fn new(
        path: Vec<u8>,
        from: OwnedFd,
        to: OwnedFd,
        previous: Option<OwnedFd>,
        stat: Stat,
        is_new: bool,
    ) -> Result<Self, FileError> {
        let names = names(&from).map_err(FileError::new("list", &path))?.into_iter();
        Ok(Self { path, from, to, previous, stat, names, is_new, is_touched: is_new })
    }
}

#[derive(Debug)]
struct Pass<'a> {
    seen: &'a mut BTreeMap<Vec<u8>, Seen>,
    /// The copy's root.
    root: OwnedFd,
    manifest: Option<&'a Manifest>,
    /// When the source was written back; long ago for one that was not.
    written_back: Moment,
    /// Files with several names: where the first is in the copy.
    links: HashMap<u64, Vec<u8>>,
    /// Not yet known to be impossible.
    can_clone: bool,
    amount: Amount,
}

impl Pass<'_> {
    fn run(&mut self, root: Level) -> Result<(), FileError> {
        let mut levels = vec![root];
        self.clean(levels.last_mut())?;
        while let Some(level) = levels.last_mut() {
            match level.names.next() {
                Some(name) => {
                    let deeper = self.entry(level, name)?;
                    if let Some(deeper) = deeper {
                        if levels.len() >= DEPTH {
                            let fail = FileError::new("copy directories as deep as", &deeper.path);
                            return Err(fail(Errno::NAMETOOLONG));
                        }
                        levels.push(deeper);
                        self.clean(levels.last_mut())?;
                    }
                }
                None => {
                    if let Some(level) = levels.pop() {
                        self.leave(&level)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes from the copy of a directory that has changed what is not in it any more.
    fn clean(&mut self, level: Option<&mut Level>) -> Result<(), FileError> {
        let Some(level) = level else { return Ok(()) };
        let known = self.seen.get(&level.path);
        let stamp = Stamp::of(&level.stat);
        if level.is_new || known.is_some_and(|it| it.is_settled && it.stamp == stamp) {
            return Ok(());
        }
        level.is_touched = true;
        let fail = || FileError::new("list", &level.path);
        let present: HashSet<&Vec<u8>> = level.names.as_slice().iter().collect();
        for name in names(&level.to).map_err(fail())? {
            if !present.contains(&name) {
                let path = join(&level.path, &name);
                self.remove(&level.to, &path, &name)?;
                self.amount.removed += 1;
            }
        }
        Ok(())
    }

    /// Removes something from the copy, if it is there.
    fn remove(&mut self, directory: &OwnedFd, path: &[u8], name: &[u8]) -> Result<(), FileError> {
        match remove(directory, name) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            result => result.map_err(FileError::new("remove from the copy", path))?,
        }
        self.seen.remove(path);
        let inner = join(path, b"");
        let gone = self.seen.range(inner.clone()..).map(|it| it.0);
        let gone: Vec<_> = gone.take_while(|it| it.starts_with(&inner)).cloned().collect();
        for path in gone {
            self.seen.remove(&path);
        }
        Ok(())
    }

    /// Copies one thing, unless it is known to be the same; a directory to enter.
    fn entry(&mut self, level: &mut Level, name: Vec<u8>) -> Result<Option<Level>, FileError> {
        let path = join(&level.path, &name);
        self.amount.looked_at += 1;
        let Some(stat) = look(&level.from, &name).map_err(FileError::new("look at", &path))? else {
            self.amount.vanished += 1;
            self.seen.remove(&path);
            return Ok(None);
        };
        let kind = Kind::of(&stat);
        let known = self.seen.get(&path).copied().filter(|it| it.kind == kind);
        if kind == Kind::Directory {
            return self.directory(level, name, path, known.is_some());
        }
        // Overlayfs gives all whiteouts one inode, whose time changes with each new one.
        let is_same = |it: Seen| it.is_settled && it.stamp == Stamp::of(&stat);
        if known.is_some_and(|it| kind == Kind::Whiteout || is_same(it)) {
            return Ok(None);
        }
        if !level.is_new {
            self.remove(&level.to, &path, &name)?;
        }
        level.is_touched = true;
        let made = match kind {
            Kind::File => self.file(level, &name, &path)?,
            _ => self.other(level, &name, &path, kind, &stat)?,
        };
        match made {
            Some(stat) => {
                self.amount.made += 1;
                self.note(path, kind, &stat);
            }
            None => self.amount.vanished += 1,
        }
        Ok(None)
    }

    fn note(&mut self, path: Vec<u8>, kind: Kind, stat: &Stat) {
        let stamp = Stamp::of(stat);
        let is_settled = stamp.is_settled(self.written_back);
        self.seen.insert(path, Seen { kind, stamp, is_settled });
    }

    fn directory(
        &mut self,
        level: &mut Level,
        name: Vec<u8>,
        path: Vec<u8>,
        is_known: bool,
    ) -> Result<Option<Level>, FileError> {
        let from = match open_directory(&level.from, &name) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                self.amount.vanished += 1;
                self.seen.remove(&path);
                return Ok(None);
            }
            opened => opened.map_err(FileError::new("open", &path))?,
        };
        let fail = |operation| FileError::new(operation, &path);
        let stat = fstat(&from).map_err(fail("look at"))?;
        if !is_known {
            if !level.is_new {
                self.remove(&level.to, &path, &name)?;
            }
            let mode = Mode::from_raw_mode(0o700);
            mkdirat(&level.to, name.as_slice(), mode).map_err(fail("make the directory"))?;
            level.is_touched = true;
            self.amount.made += 1;
        }
        let to = open_directory(&level.to, &name).map_err(fail("open the copy of"))?;
        let previous = level.previous.as_ref().and_then(|it| open_directory(it, &name).ok());
        Ok(Some(Level::new(path, from, to, previous, stat, !is_known)?))
    }

    /// Nothing more is made in a directory.
    fn leave(&mut self, level: &Level) -> Result<(), FileError> {
        if level.is_touched {
            let attributes = Attributes::of(&level.from, &level.stat);
            let attributes =
                attributes.map_err(FileError::new("read attributes of", &level.path))?;
            let set = attributes.set(&level.to, false);
            set.map_err(FileError::new("set attributes of", &level.path))?;
        }
        self.note(level.path.clone(), Kind::Directory, &level.stat);
        Ok(())
    }

    /// Makes a file as the source's; what that was at that moment, or `None` if it is gone.
    fn file(&mut self, level: &Level, name: &[u8], path: &[u8]) -> Result<Option<Stat>, FileError> {
        let fail = |operation| FileError::new(operation, path);
        let from = match open_file(&level.from, name) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            opened => opened.map_err(fail("open"))?,
        };
        let stat = fstat(&from).map_err(fail("look at"))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Ok(None);
        }
        if self.second_name(level, name, path, &stat)? || self.earlier(level, name, path, &stat) {
            return Ok(Some(stat));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        let to = openat(&level.to, name, flags | OFlags::CLOEXEC, mode);
        let to = to.map_err(fail("make the copy of"))?;
        self.content(&from, &to, &stat).map_err(FileError::new("copy", path))?;
        let attributes = Attributes::of(&from, &stat).map_err(fail("read attributes of"))?;
        attributes.set(&to, false).map_err(FileError::new("set attributes of", path))?;
        Ok(Some(stat))
    }

    fn content(&mut self, from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> std::io::Result<()> {
        if stat.st_size == 0 {
            return Ok(());
        }
        if self.can_clone {
            if content::clone(from, to)? {
                self.amount.cloned += 1;
                return Ok(());
            }
            self.can_clone = false;
        }
        self.amount.copied_bytes += content::copy(from, to, stat)?;
        Ok(())
    }

    /// Whether the file is another name of one that is copied.
    fn second_name(
        &mut self,
        level: &Level,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
    ) -> Result<bool, FileError> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        if let Some(first) = self.links.get(&stat.st_ino) {
            let (directory, old) = split(first);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let directory = if directory.is_empty() { b"." } else { directory };
            let linked = openat2(&self.root, directory, flags, Mode::empty(), resolve)
                .and_then(|it| linkat(&it, old, &level.to, name, AtFlags::empty()));
            match linked {
                Ok(()) => return Ok(true),
                Err(Errno::MLINK | Errno::NAMETOOLONG) => {} // the next first name
                Err(error) => return Err(FileError::new("link the copy of", path)(error)),
            }
        }
        self.links.insert(stat.st_ino, path.to_vec());
        Ok(false)
    }

    /// Whether the file could be linked to the same one of the previous copy.
    fn earlier(&mut self, level: &Level, name: &[u8], path: &[u8], stat: &Stat) -> bool {
        let (Some(manifest), Some(previous)) = (self.manifest, &level.previous) else {
            return false;
        };
        let noted = manifest.entries.get(path).and_then(|it| it.source);
        if noted != Some(Stamp::of(stat)) {
            return false;
        }
        // Whatever is in the way of a link, a copy does as well.
        let linked = linkat(previous, name, &level.to, name, AtFlags::empty()).is_ok();
        self.amount.linked += u64::from(linked);
        linked
    }

    /// Makes what has no content.
    fn other(
        &mut self,
        level: &Level,
        name: &[u8],
        path: &[u8],
        kind: Kind,
        stat: &Stat,
    ) -> Result<Option<Stat>, FileError> {
        if self.second_name(level, name, path, stat)? {
            return Ok(Some(*stat));
        }
        let fail = |operation| FileError::new(operation, path);
        let special = |kind, device| mknodat(&level.to, name, kind, Mode::empty(), device);
        let made = match kind {
            Kind::File | Kind::Directory => return Ok(None),
            Kind::Symlink => match readlinkat(&level.from, name, Vec::new()) {
                Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
                Err(error) => return Err(fail("read the link")(error)),
                Ok(target) => symlinkat(target, &level.to, name),
            },
            Kind::Pipe => special(FileType::Fifo, 0),
            Kind::Socket => special(FileType::Socket, 0),
            Kind::Whiteout => special(FileType::CharacterDevice, makedev(0, 0)),
            Kind::Device { is_block: true, major, minor } => {
                special(FileType::BlockDevice, makedev(major, minor))
            }
            Kind::Device { is_block: false, major, minor } => {
                special(FileType::CharacterDevice, makedev(major, minor))
            }
        };
        made.map_err(fail("make the copy of"))?;
        match Attributes::at(&level.from, name, stat) {
            Err(Errno::NOENT) => return Ok(None),
            attributes => {
                let attributes = attributes.map_err(fail("read attributes of"))?;
                let set = attributes.set_at(level.to.as_fd(), name, false);
                set.map_err(FileError::new("set attributes of", path))?;
            }
        }
        Ok(Some(*stat))
    }
}
