//! What differs between two stacks of layers.
//!
//! Directories that both take from the same layers are not entered, so the work grows with what is
//! in the layers that differ, and not with the trees.

mod patch;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::readlinkat;
use rustix::io::Errno;

use crate::attributes::Attributes;
use crate::marks::{Marks, is_overlay_xattr};
use crate::node::Kind;
use crate::stack::{Directory, Item};
use crate::walk::{DEPTH, FileError, join};

pub use patch::Patch;

/// Bytes of two files that are compared at once.
const BUFFER: usize = 128 << 10;

/// How stacks are compared.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How opaque directories are marked.
    pub marks: Marks,
    /// Paths that are not compared, nor what is below them.
    pub exclude: HashSet<Vec<u8>>,
    /// Bytes of the largest file whose lines are compared; none are with `None`.
    pub patch: Option<u64>,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is in the second stack alone.
    Added,
    /// It is in both, and not the same.
    Changed,
    /// It is in the first stack alone.
    Removed,
}

/// In what a path differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// What it is.
    Kind,
    /// A file's bytes.
    Content,
    /// Where a symbolic link leads.
    Link,
    /// Bits of the mode.
    Mode,
    /// User or group.
    Owner,
    /// Extended attributes.
    Attributes,
}

/// What one stack has at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// What it is.
    pub kind: Kind,
    /// Bytes of a file.
    pub size: u64,
    /// Bits of the mode.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Where a symbolic link leads.
    pub link: Option<Vec<u8>>,
}

/// A path at which the stacks differ. At least one side is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: Vec<u8>,
    /// What happened.
    pub what: What,
    /// In what it differs, if both have it.
    pub aspects: BTreeSet<Aspect>,
    /// What the first stack has.
    pub before: Option<Side>,
    /// What the second stack has.
    pub after: Option<Side>,
    /// The lines that differ, of a file, where they were asked for.
    pub patch: Option<Patch>,
}

/// Compares two stacks of layers, each the topmost first, and gives what differs in the order of
/// paths to `each`, until that breaks it off. Gives whether it was not.
///
/// Content, kinds, modes, owners, links and extended attributes are compared; times are not. Layers
/// may be in use: what changes meanwhile is seen as before, or as after, or as missing.
///
/// # Errors
///
/// [`FileError`].
pub fn diff<P: AsRef<Path>>(
    before: &[P],
    after: &[P],
    options: &Options,
    mut each: impl FnMut(Change) -> ControlFlow<()>,
) -> Result<bool, FileError> {
    let one = Directory::root(before, options.marks)?;
    let other = Directory::root(after, options.marks)?;
    if one.is_same(&other) {
        return Ok(true);
    }
    let mut levels = vec![Level::new(Vec::new(), Some(&one), Some(&other))?];
    while let Some(level) = levels.last_mut() {
        let Some((name, (one, other))) = level.pairs.next() else {
            levels.pop();
            continue;
        };
        let path = join(&level.path, &name);
        if options.exclude.contains(&path) {
            continue;
        }
        let pair = Pair { path: &path, one: one.as_ref(), other: other.as_ref(), options };
        if let Some(change) = pair.change()?
            && each(change).is_break()
        {
            return Ok(false);
        }
        let one = one.as_ref().and_then(|it| it.directory.as_ref());
        let other = other.as_ref().and_then(|it| it.directory.as_ref());
        let is_same = matches!((one, other), (Some(one), Some(other)) if one.is_same(other));
        if !is_same && (one.is_some() || other.is_some()) {
            let level = Level::new(path, one, other)?;
            if levels.len() >= DEPTH {
                let fail = FileError::new("compare directories as deep as", &level.path);
                return Err(fail(Errno::NAMETOOLONG));
            }
            levels.push(level);
        }
    }
    Ok(true)
}

type Pairs = BTreeMap<Vec<u8>, (Option<Item>, Option<Item>)>;

#[derive(Debug)]
struct Level {
    path: Vec<u8>,
    pairs: std::collections::btree_map::IntoIter<Vec<u8>, (Option<Item>, Option<Item>)>,
}

impl Level {
    fn new(
        path: Vec<u8>,
        one: Option<&Directory>,
        other: Option<&Directory>,
    ) -> Result<Self, FileError> {
        let list = |it: Option<&Directory>| match it {
            Some(directory) => directory.list(&path, false),
            None => Ok(BTreeMap::new()),
        };
        let mut pairs: Pairs = BTreeMap::new();
        for (name, item) in list(one)? {
            pairs.insert(name, (Some(item), None));
        }
        for (name, item) in list(other)? {
            pairs.entry(name).or_default().1 = Some(item);
        }
        Ok(Self { path, pairs: pairs.into_iter() })
    }
}

/// What two stacks have at a path.
#[derive(Debug)]
struct Pair<'a> {
    path: &'a [u8],
    one: Option<&'a Item>,
    other: Option<&'a Item>,
    options: &'a Options,
}

impl Pair<'_> {
    fn change(&self) -> Result<Option<Change>, FileError> {
        let (what, aspects) = match (self.one, self.other) {
            (None, None) => return Ok(None),
            (None, Some(_)) => (What::Added, BTreeSet::new()),
            (Some(_), None) => (What::Removed, BTreeSet::new()),
            (Some(one), Some(other)) => {
                let aspects = self.aspects(one, other)?;
                if aspects.is_empty() {
                    return Ok(None);
                }
                (What::Changed, aspects)
            }
        };
        let patch = match self.options.patch {
            Some(most) if what != What::Changed || aspects.contains(&Aspect::Content) => {
                patch::of(self.path, self.one, self.other, most)
                    .map_err(FileError::new("read", self.path))?
            }
            _ => None,
        };
        let side = |it: Option<&Item>| it.map(|it| self.side(it)).transpose();
        let (before, after) = (side(self.one)?, side(self.other)?);
        Ok(Some(Change { path: self.path.to_vec(), what, aspects, before, after, patch }))
    }

    fn side(&self, item: &Item) -> Result<Side, FileError> {
        let is_file = item.kind == Kind::File;
        let size = u64::try_from(item.stat.st_size).unwrap_or_default();
        Ok(Side {
            kind: item.kind,
            size: if is_file { size } else { 0 },
            mode: item.stat.st_mode & 0o7777,
            owner: (item.stat.st_uid, item.stat.st_gid),
            link: self.link(item)?,
        })
    }

    fn link(&self, item: &Item) -> Result<Option<Vec<u8>>, FileError> {
        if item.kind != Kind::Symlink {
            return Ok(None);
        }
        match readlinkat(&**item.parent(), item.name.as_slice(), Vec::new()) {
            Err(Errno::NOENT | Errno::INVAL) => Ok(None), // gone meanwhile
            link => {
                Ok(Some(link.map_err(FileError::new("read the link", self.path))?.into_bytes()))
            }
        }
    }

    fn aspects(&self, one: &Item, other: &Item) -> Result<BTreeSet<Aspect>, FileError> {
        let mut aspects = BTreeSet::new();
        let is_same = match (&one.directory, &other.directory) {
            (Some(one), Some(other)) => one.is_same(other),
            _ => one.id() == other.id(),
        };
        if is_same {
            return Ok(aspects);
        }
        let mut differ = |aspect, differs: bool| {
            if differs {
                aspects.insert(aspect);
            }
        };
        let attributes = |it: &Item| match it.attributes() {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Attributes::from_stat(&it.stat)),
            attributes => attributes.map_err(FileError::new("read attributes of", self.path)),
        };
        let (first, second) = (attributes(one)?, attributes(other)?);
        differ(Aspect::Owner, first.owner != second.owner);
        // A link's mode means nothing.
        let has_mode = one.kind != Kind::Symlink || other.kind != Kind::Symlink;
        differ(Aspect::Mode, has_mode && first.mode != second.mode);
        differ(Aspect::Attributes, of_callers(&first) != of_callers(&second));
        differ(Aspect::Kind, one.kind != other.kind);
        if one.kind == other.kind {
            differ(Aspect::Link, self.link(one)? != self.link(other)?);
            let differs = one.kind == Kind::File && {
                content_differs(one, other).map_err(FileError::new("read", self.path))?
            };
            differ(Aspect::Content, differs);
        }
        Ok(aspects)
    }
}

/// Extended attributes that are not overlayfs' or the host's.
fn of_callers(attributes: &Attributes) -> Vec<&crate::Xattr> {
    let is_callers = |it: &&crate::Xattr| {
        !is_overlay_xattr(&it.0)
            && (it.0.starts_with(b"user.")
                || it.0.starts_with(b"system.")
                || it.0 == b"security.capability")
    };
    attributes.xattrs.iter().filter(is_callers).collect()
}

fn content_differs(one: &Item, other: &Item) -> io::Result<bool> {
    if one.stat.st_size != other.stat.st_size {
        return Ok(true);
    }
    let (Some(one), Some(other)) = (opened(one)?, opened(other)?) else { return Ok(true) };
    let (mut first, mut second) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut at = 0;
    loop {
        let count = fill(&one, &mut first, at)?;
        if count != fill(&other, &mut second, at)? || first.get(..count) != second.get(..count) {
            return Ok(true);
        }
        if count < BUFFER {
            return Ok(false);
        }
        at += count as u64;
    }
}

/// A file, opened; `None` if it is gone or is none any more.
fn opened(item: &Item) -> io::Result<Option<OwnedFd>> {
    match item.open() {
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &OwnedFd, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut held = 0;
    while let Some(room) = buffer.get_mut(held..).filter(|it| !it.is_empty()) {
        match rustix::io::pread(file, room, at + held as u64) {
            Err(Errno::INTR) => {}
            Ok(0) => break,
            count => held += count?,
        }
    }
    Ok(held)
}
