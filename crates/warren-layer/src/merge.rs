//! Several layers as one.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, linkat, makedev, mkdirat, mknodat, openat,
    openat2, readlinkat, symlinkat,
};
use rustix::io::Errno;
use warren_archive::split;

use crate::copy::content;
use crate::marks::{Marks, make_opaque, make_whiteout, open_directory};
use crate::node::Kind;
use crate::stack::{Directory, Item};
use crate::walk::{DEPTH, FileError, join, open_root};

/// How layers are merged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How opaque directories are marked.
    pub marks: Marks,
    /// There are other layers below these: what hides names of theirs is kept.
    pub is_partial: bool,
    /// Files become hard links to those of the layers, which nobody may ever write to again.
    pub link: bool,
}

/// How much was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// What was made, directories and whiteouts included.
    pub made: u64,
    /// Files that are hard links to a layer's.
    pub linked: u64,
    /// Files that share their blocks with a layer's.
    pub cloned: u64,
    /// Bytes that were copied.
    pub copied_bytes: u64,
}

/// Makes one layer of several, the topmost first, in `target`, a directory that it makes.
///
/// # Errors
///
/// [`FileError`]; what was made so far stays.
pub fn merge<P: AsRef<Path>>(
    layers: &[P],
    target: &Path,
    options: Options,
) -> Result<Amount, FileError> {
    let root = Directory::root(layers, options.marks)?;
    let made = rustix::fs::mkdir(target, Mode::from_raw_mode(0o700));
    made.map_err(FileError::new("make", target.as_os_str().as_encoded_bytes()))?;
    let to = open_root(target)?;
    let mut merge = Merge {
        root: to.try_clone().map_err(FileError::new("open", b""))?,
        options,
        names: HashMap::new(),
        can_clone: true,
        amount: Amount::default(),
    };
    merge.run(Level::new(Vec::new(), root, to, options)?)?;
    Ok(merge.amount)
}

#[derive(Debug)]
struct Level {
    path: Vec<u8>,
    from: Directory,
    to: OwnedFd,
    items: std::collections::btree_map::IntoValues<Vec<u8>, Item>,
}

impl Level {
    fn new(
        path: Vec<u8>,
        from: Directory,
        to: OwnedFd,
        options: Options,
    ) -> Result<Self, FileError> {
        let items = from.list(&path, options.is_partial)?.into_values();
        Ok(Self { path, from, to, items })
    }
}

#[derive(Debug)]
struct Merge {
    root: OwnedFd,
    options: Options,
    /// Files with several names: where the first is.
    names: HashMap<(u64, u64), Vec<u8>>,
    can_clone: bool,
    amount: Amount,
}

impl Merge {
    fn run(&mut self, root: Level) -> Result<(), FileError> {
        let mut levels = vec![root];
        while let Some(level) = levels.last_mut() {
            let Some(item) = level.items.next() else {
                if let Some(level) = levels.pop() {
                    self.leave(&level)?;
                }
                continue;
            };
            let path = join(&level.path, &item.name);
            self.amount.made += 1;
            match item.directory {
                Some(directory) => {
                    let fail = |operation| FileError::new(operation, &path);
                    let mode = Mode::from_raw_mode(0o700);
                    mkdirat(&level.to, item.name.as_slice(), mode).map_err(fail("make"))?;
                    let to = open_directory(&level.to, &item.name).map_err(fail("open"))?;
                    if levels.len() >= DEPTH {
                        let fail = fail("merge directories as deep as");
                        return Err(fail(Errno::NAMETOOLONG));
                    }
                    levels.push(Level::new(path, directory, to, self.options)?);
                }
                None => self.item(&level.to, &path, &item)?,
            }
        }
        Ok(())
    }

    /// Nothing more is made in a directory.
    fn leave(&mut self, level: &Level) -> Result<(), FileError> {
        let fail = |operation| FileError::new(operation, &level.path);
        if self.options.is_partial && level.from.is_cut().map_err(fail("look at"))? {
            let marked = make_opaque(&level.to, self.options.marks);
            marked.map_err(FileError::new("hide what is below", &level.path))?;
        }
        let attributes = level.from.attributes().map_err(fail("read attributes of"))?;
        let set = attributes.set(&level.to, false);
        set.map_err(FileError::new("set attributes of", &level.path))?;
        Ok(())
    }

    fn item(&mut self, to: &OwnedFd, path: &[u8], item: &Item) -> Result<(), FileError> {
        let fail = |operation| FileError::new(operation, path);
        let name = item.name.as_slice();
        if item.kind == Kind::Whiteout {
            let made = make_whiteout(to, name);
            return made.map_err(FileError::new("make the whiteout", path));
        }
        if self.options.link {
            let linked = linkat(&**item.parent(), name, to, name, AtFlags::empty());
            if linked.is_ok() {
                self.amount.linked += 1;
                return Ok(());
            }
        }
        if self.second_name(to, path, item)? {
            return Ok(());
        }
        if item.kind == Kind::File {
            return self.file(to, path, item);
        }
        let special = |kind, device| mknodat(to, name, kind, Mode::empty(), device);
        let made = match item.kind {
            Kind::Symlink => {
                let target = readlinkat(&**item.parent(), name, Vec::new());
                symlinkat(target.map_err(fail("read the link"))?, to, name)
            }
            Kind::Pipe => special(FileType::Fifo, 0),
            Kind::Socket => special(FileType::Socket, 0),
            Kind::Device { is_block: true, major, minor } => {
                special(FileType::BlockDevice, makedev(major, minor))
            }
            Kind::Device { is_block: false, major, minor } => {
                special(FileType::CharacterDevice, makedev(major, minor))
            }
            Kind::File | Kind::Directory | Kind::Whiteout => return Ok(()),
        };
        made.map_err(fail("make"))?;
        let attributes = item.attributes().map_err(fail("read attributes of"))?;
        let set = attributes.set_at(to.as_fd(), name, false);
        set.map_err(FileError::new("set attributes of", path))?;
        Ok(())
    }

    fn file(&mut self, to: &OwnedFd, path: &[u8], item: &Item) -> Result<(), FileError> {
        let fail = |operation| FileError::new(operation, path);
        let from = item.open().map_err(fail("open"))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        let to = openat(to, item.name.as_slice(), flags | OFlags::CLOEXEC, mode);
        let to = to.map_err(fail("make"))?;
        if item.stat.st_size > 0 {
            if self.can_clone {
                let cloned = content::clone(&from, &to);
                self.can_clone = cloned.map_err(FileError::new("copy", path))?;
            }
            if self.can_clone {
                self.amount.cloned += 1;
            } else {
                let copied = content::copy(&from, &to, &item.stat);
                self.amount.copied_bytes += copied.map_err(FileError::new("copy", path))?;
            }
        }
        let attributes = item.attributes().map_err(fail("read attributes of"))?;
        let set = attributes.set(&to, false);
        set.map_err(FileError::new("set attributes of", path))?;
        Ok(())
    }

    /// Whether it is another name of a file that was made.
    fn second_name(&mut self, to: &OwnedFd, path: &[u8], item: &Item) -> Result<bool, FileError> {
        if item.stat.st_nlink < 2 {
            return Ok(false);
        }
        if let Some(first) = self.names.get(&item.id()) {
            let (directory, name) = split(first);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let directory = if directory.is_empty() { b"." } else { directory };
            let linked = openat2(&self.root, directory, flags, Mode::empty(), resolve)
                .and_then(|it| linkat(&it, name, to, item.name.as_slice(), AtFlags::empty()));
            match linked {
                Ok(()) => return Ok(true),
                Err(Errno::MLINK | Errno::NAMETOOLONG) => {}
                Err(error) => return Err(FileError::new("link", path)(error)),
            }
        }
        self.names.insert(item.id(), path.to_vec());
        Ok(false)
    }
}
