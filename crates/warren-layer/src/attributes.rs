//! What a file has besides its content, read and set.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fchmod, fchown, fgetxattr, flistxattr, fsetxattr, futimens, lgetxattr, llistxattr, lsetxattr,
    utimensat,
};
use rustix::io::Errno;

/// Bytes of one attribute's value, and of the list of names: the kernel's own limit.
const XATTR_BYTES: usize = 64 << 10;
/// What overlayfs notes about an upper layer alone: worthless, or wrong, anywhere else.
const OF_UPPERS: [&[u8]; 5] = [b"origin", b"impure", b"nlink", b"upper", b"uuid"];

/// A name and a value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// What a file has besides its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) modified: (i64, u32),
    /// In the order of their names.
    pub(crate) xattrs: Vec<Xattr>,
}

impl Attributes {
    /// All but extended attributes.
    pub(crate) fn from_stat(stat: &Stat) -> Self {
        let modified = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default());
        let owner = (stat.st_uid, stat.st_gid);
        Self { mode: stat.st_mode & 0o7777, owner, modified, xattrs: Vec::new() }
    }

    /// Of an open file or directory.
    pub(crate) fn of(file: impl AsFd, stat: &Stat) -> Result<Self, Errno> {
        let list = list(|buffer| flistxattr(&file, buffer))?;
        let xattrs = collect(&list, |name, buffer| fgetxattr(&file, name, buffer))?;
        Ok(Self { xattrs, ..Self::from_stat(stat) })
    }

    /// Of what is not opened: links, pipes, devices.
    pub(crate) fn at(directory: impl AsFd, name: &[u8], stat: &Stat) -> Result<Self, Errno> {
        let path = place(directory, name);
        let list = list(|buffer| llistxattr(path.as_slice(), buffer))?;
        let xattrs = collect(&list, |name, buffer| lgetxattr(path.as_slice(), name, buffer))?;
        Ok(Self { xattrs, ..Self::from_stat(stat) })
    }

    /// Sets all on an open file; gives the number of extended attributes that cannot be set here.
    pub(crate) fn set(&self, file: impl AsFd, ignore_owners: bool) -> io::Result<u64> {
        // In this order: a change of the owner takes set-user-id bits and capabilities away.
        if !ignore_owners {
            let (user, group) = self.ids();
            fchown(&file, user, group)?;
        }
        fchmod(&file, Mode::from_raw_mode(self.mode))?;
        let skipped =
            self.set_xattrs(|name, value| fsetxattr(&file, name, value, XattrFlags::empty()))?;
        futimens(&file, &self.times())?;
        Ok(skipped)
    }

    /// As [`set`](Self::set), on what is not opened and was just made here.
    pub(crate) fn set_at(
        &self,
        directory: impl AsFd,
        name: &[u8],
        ignore_owners: bool,
    ) -> io::Result<u64> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let found = rustix::fs::statat(&directory, name, flags)?;
        if !ignore_owners {
            let (user, group) = self.ids();
            chownat(&directory, name, user, group, flags)?;
        }
        if !FileType::from_raw_mode(found.st_mode).is_symlink() {
            chmodat(&directory, name, Mode::from_raw_mode(self.mode), AtFlags::empty())?;
        }
        let mut skipped = 0;
        if !self.xattrs.is_empty() {
            let path = place(&directory, name);
            skipped = self.set_xattrs(|name, value| {
                lsetxattr(path.as_slice(), name, value, XattrFlags::empty())
            })?;
        }
        utimensat(&directory, name, &self.times(), flags)?;
        Ok(skipped)
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let xattrs = self.xattrs.iter().map(|(name, value)| name.len() + value.len() + 64);
        64 + xattrs.sum::<usize>()
    }

    fn set_xattrs(&self, set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>) -> io::Result<u64> {
        let mut skipped = 0;
        for (name, value) in &self.xattrs {
            match set(name, value) {
                Err(Errno::NOTSUP | Errno::PERM) => skipped += 1,
                result => result?,
            }
        }
        Ok(skipped)
    }

    fn times(&self) -> Timestamps {
        let (seconds, nanoseconds) = self.modified;
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
        Timestamps { last_access: time, last_modification: time }
    }

    fn ids(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.owner.0)), Some(Gid::from_raw(self.owner.1)))
    }
}

/// Whether the attribute says something about an upper layer alone.
fn is_of_upper(name: &[u8]) -> bool {
    let rest = name.strip_prefix(b"trusted.overlay.");
    let rest = rest.or_else(|| name.strip_prefix(b"user.overlay."));
    rest.is_some_and(|it| OF_UPPERS.contains(&it))
}

/// Names of extended attributes, each with a zero byte behind it.
fn list(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut names = [0; 256];
    match read(&mut names) {
        Ok(length) => return Ok(names.get(..length).unwrap_or_default().to_vec()),
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error),
    }
    let mut names = vec![0; XATTR_BYTES];
    let length = read(&mut names)?;
    names.truncate(length);
    Ok(names)
}

fn collect(
    list: &[u8],
    read: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<Xattr>, Errno> {
    let mut found = Vec::new();
    let names = list.split(|it| *it == 0).filter(|it| !it.is_empty() && !is_of_upper(it));
    for name in names {
        let mut value = vec![0; 1024];
        let mut length = read(name, &mut value);
        if length == Err(Errno::RANGE) {
            value.resize(XATTR_BYTES, 0);
            length = read(name, &mut value);
        }
        match length {
            Ok(length) => value.truncate(length),
            Err(Errno::NODATA | Errno::NOTSUP) => continue, // gone meanwhile
            Err(error) => return Err(error),
        }
        value.shrink_to_fit();
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// A path to what is in an open directory, for calls that have no form with a descriptor.
fn place(directory: impl AsFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}
