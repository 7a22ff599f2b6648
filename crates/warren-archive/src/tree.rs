//! Making files below one directory, and nowhere else.
//!
//! Every path is looked up from the directory's own descriptor by the kernel, which refuses to
//! leave it (`RESOLVE_BENEATH`), whatever links lie on the way. Files, links and their times are
//! made under a name of our own and renamed: what was there is replaced and never written into, and
//! an archive that breaks off leaves no half file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, chownat, linkat, mkdirat,
    openat2, renameat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::UnpackError;
use crate::format::NAME_BYTES;

/// Look-ups that lost a race against a rename are tried this often.
const TRIES: usize = 32;
/// Bytes that the names of new directories may take together: they are kept to the end.
const DIRECTORY_BYTES: usize = 64 << 20;
/// Mode of directories that the archive does not have as entries.
const DIRECTORY_MODE: u32 = 0o755;

/// What an archive says about a file or a directory. A new directory gets it when nothing is made
/// in it any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    /// Seconds since 1970, and nanoseconds.
    pub(crate) modified: (i64, u32),
    /// User and group.
    pub(crate) owner: (u64, u64),
}

/// The directory below which things are made.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    /// Whether owners and set-id bits are the archive's too.
    keeps_owners: bool,
    made: BTreeMap<Vec<u8>, Option<Attributes>>,
    made_bytes: usize,
}

/// A file that is being written, under a name of ours.
#[derive(Debug)]
pub(crate) struct Pending {
    place: Place,
    temporary: Temporary,
    file: File,
    attributes: Attributes,
    keeps_owners: bool,
}

/// A directory and a name in it.
#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    name: Vec<u8>,
    /// The whole name, for messages.
    path: Vec<u8>,
}

impl Tree {
    /// `root_is_new`: the archive's own entry for the directory gives it its mode and time.
    pub(crate) fn new(root: OwnedFd, root_is_new: bool) -> Self {
        let made = if root_is_new { BTreeMap::from([(Vec::new(), None)]) } else { BTreeMap::new() };
        Self { root, keeps_owners: false, made, made_bytes: 0 }
    }

    /// Takes owners and set-id bits from the archive.
    pub(crate) fn keep_owners(&mut self) {
        self.keeps_owners = true;
    }

    /// Makes a directory, unless it is there.
    pub(crate) fn directory(
        &mut self,
        path: &[u8],
        attributes: Attributes,
    ) -> Result<(), UnpackError> {
        drop(self.ensure(path)?);
        if let Some(made) = self.made.get_mut(path) {
            *made = Some(attributes);
        }
        Ok(())
    }

    /// Begins a file.
    pub(crate) fn file(
        &mut self,
        path: &[u8],
        attributes: Attributes,
    ) -> Result<Pending, UnpackError> {
        let place = self.place(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (temporary, fd) = Temporary::make(&place, |directory, name| {
            rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))
        })
        .map_err(UnpackError::io("write", path))?;
        Ok(Pending {
            place,
            temporary,
            file: fd.into(),
            attributes,
            keeps_owners: self.keeps_owners,
        })
    }

    /// Makes a symbolic link. Where it leads does not matter: nothing here follows it.
    pub(crate) fn symlink(
        &mut self,
        path: &[u8],
        target: &[u8],
        attributes: Attributes,
    ) -> Result<(), UnpackError> {
        let place = self.place(path)?;
        let fail = || UnpackError::io("make the link", path);
        let make = |directory: &OwnedFd, name: &str| symlinkat(target, directory, name);
        let (temporary, ()) = Temporary::make(&place, make).map_err(fail())?;
        if self.keeps_owners {
            let (user, group) = owner(&attributes).map_err(fail())?;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            chownat(&place.directory, &*temporary.name, user, group, flags).map_err(fail())?;
        }
        let times = times(attributes.modified);
        utimensat(&place.directory, &*temporary.name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(fail())?;
        temporary.become_it(&place)
    }

    /// Gives what is at `target` a second name.
    pub(crate) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), UnpackError> {
        let (parent, name) = split(target);
        let parent = self.open(parent).map_err(|it| lookup_failed(it, path))?;
        let place = self.place(path)?;
        let make = |directory: &OwnedFd, new: &str| {
            linkat(&parent, name, directory, new, AtFlags::empty()) // a final link is not followed
        };
        let made = Temporary::make(&place, make);
        let (temporary, ()) = made.map_err(UnpackError::io("make the hard link", path))?;
        temporary.become_it(&place)
    }

    /// Gives new directories their modes and times, the deepest first.
    pub(crate) fn finish(self) -> Result<(), UnpackError> {
        let Self { root, keeps_owners, made, .. } = self;
        for (path, attributes) in made.into_iter().rev() {
            let Some(attributes) = attributes else { continue };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = BENEATH | ResolveFlags::NO_SYMLINKS;
            let opened = open_beneath(&root, &path, flags, resolve);
            let opened = opened.map_err(|it| lookup_failed(it, &path))?;
            give(&opened, &attributes, keeps_owners, 0o1777)
                .map_err(UnpackError::io("set the mode of", &path))?;
        }
        Ok(())
    }

    fn place(&mut self, path: &[u8]) -> Result<Place, UnpackError> {
        let (parent, name) = split(path);
        let directory = self.ensure(parent)?;
        Ok(Place { directory, name: name.to_vec(), path: path.to_vec() })
    }

    /// Opens a directory, and makes it and what is missing above it.
    fn ensure(&mut self, path: &[u8]) -> Result<OwnedFd, UnpackError> {
        match self.open(path) {
            Err(Errno::NOENT) => {}
            opened => return opened.map_err(|it| lookup_failed(it, path)),
        }
        let ends = path.iter().enumerate().filter(|it| *it.1 == b'/').map(|it| it.0);
        for end in ends.chain([path.len()]) {
            let path = path.get(..end).unwrap_or(path);
            let (parent, name) = split(path);
            let parent = self.open(parent).map_err(|it| lookup_failed(it, path))?;
            match mkdirat(&parent, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
                Ok(()) => self.note(path)?,
                Err(Errno::EXIST) => {} // whether it is a directory shows at the next level
                Err(error) => return Err(UnpackError::io("make the directory", path)(error)),
            }
        }
        self.open(path).map_err(|it| lookup_failed(it, path))
    }

    fn note(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        self.made_bytes += path.len() + 64; // and what the map takes
        if self.made_bytes > DIRECTORY_BYTES {
            return Err(UnpackError::TooMuch(
                "too many directories with too long names".to_owned(),
            ));
        }
        self.made.insert(path.to_vec(), None);
        Ok(())
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open_beneath(&self.root, path, flags, BENEATH)
    }
}

impl Pending {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        io::Write::write_all(&mut self.file, bytes)
            .map_err(UnpackError::io("write", &self.place.path))
    }

    /// The file takes its place.
    pub(crate) fn finish(self) -> Result<(), UnpackError> {
        let Self { place, temporary, file, attributes, keeps_owners } = self;
        give(&file, &attributes, keeps_owners, 0o777)
            .map_err(UnpackError::io("set the mode of", &place.path))?;
        temporary.become_it(&place)
    }
}

/// Something under a name of ours; removed unless it takes its place.
#[derive(Debug)]
struct Temporary {
    directory: OwnedFd,
    name: String,
}

impl Temporary {
    fn make<T>(
        place: &Place,
        make: impl Fn(&OwnedFd, &str) -> Result<T, Errno>,
    ) -> Result<(Self, T), Errno> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let directory = place.directory.try_clone().map_err(|_full| Errno::MFILE)?;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!(".warren-{:x}-{number:x}", std::process::id());
            match make(&directory, &name) {
                Ok(made) => return Ok((Self { directory, name }, made)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn become_it(self, place: &Place) -> Result<(), UnpackError> {
        renameat(&self.directory, &*self.name, &place.directory, &*place.name)
            .map_err(UnpackError::io("write", &place.path))
        // Dropped here: of two names of one file the kernel keeps both, and ours must go.
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Mostly it has another name by now.
        let _renamed = unlinkat(&self.directory, &*self.name, AtFlags::empty());
    }
}

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// Opens a path below `root`; an empty one is the root itself.
pub(crate) fn open_beneath(
    root: impl AsFd,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
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
        Errno::XDEV => UnpackError::refused(path, "a link on its way leads out of the directory"),
        Errno::LOOP => UnpackError::refused(path, "a link on its way leads nowhere"),
        error => UnpackError::io("open the directory of", path)(error),
    }
}

/// Sets owner, mode and time. `bits` are those of the mode that any archive may set.
fn give(
    file: impl AsFd,
    attributes: &Attributes,
    keeps_owners: bool,
    bits: u32,
) -> Result<(), Errno> {
    let mut mode = attributes.mode & bits;
    if keeps_owners {
        // Before the mode: a change of the owner takes set-id bits away.
        let (user, group) = owner(attributes)?;
        rustix::fs::fchown(&file, user, group)?;
        mode = attributes.mode & 0o7777;
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    rustix::fs::futimens(&file, &times(attributes.modified))
}

/// User and group as the kernel takes them; the largest number means "as it is" there.
fn owner(attributes: &Attributes) -> Result<(Option<Uid>, Option<Gid>), Errno> {
    let (user, group) = attributes.owner;
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(Errno::INVAL);
    Ok((Some(Uid::from_raw(id(user)?)), Some(Gid::from_raw(id(group)?))))
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let modified = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: modified, last_modification: modified }
}

/// A clean path's directory and last part.
#[must_use]
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|it| *it == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

/// A name of an archive without `.` and doubled slashes; empty for the directory itself.
///
/// # Errors
///
/// [`UnpackError::Refused`] for an absolute name, one with `..` or a zero byte, and one of more than
/// [`NAME_BYTES`].
pub fn clean(name: &[u8]) -> Result<Vec<u8>, UnpackError> {
    if name.starts_with(b"/") {
        return Err(UnpackError::refused(name, "its name is absolute"));
    }
    if name.contains(&0) || name.len() >= NAME_BYTES {
        return Err(UnpackError::refused(name, "its name is too long or has a zero byte"));
    }
    let mut clean: Vec<u8> = Vec::with_capacity(name.len());
    for part in name.split(|it| *it == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(UnpackError::refused(name, "its name has `..` in it")),
            part => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(part);
            }
        }
    }
    Ok(clean)
}
