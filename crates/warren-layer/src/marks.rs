//! Whiteouts and opaque directories, as overlayfs keeps them.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, XattrFlags, fgetxattr, fsetxattr, makedev, mknodat,
    openat,
};
use rustix::io::Errno;

/// Under which names overlayfs keeps its marks.
///
/// # Source
///
/// Linux, Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories" and
/// "User xattr".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Marks {
    /// `trusted.overlay.*`: for whoever is root of the host.
    #[default]
    Trusted,
    /// `user.overlay.*`, with the mount option `userxattr`: inside a user namespace.
    User,
}

impl Marks {
    /// The attribute of a directory that hides what is below.
    #[must_use]
    pub fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }

    /// What all of overlayfs' attributes begin with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.",
            Self::User => "user.overlay.",
        }
    }
}

/// Whether overlayfs gives the attribute a meaning, in one of its two modes.
#[must_use]
pub fn is_overlay_xattr(name: &[u8]) -> bool {
    [Marks::Trusted, Marks::User].iter().any(|it| name.starts_with(it.prefix().as_bytes()))
}

/// Makes an open directory hide what is below it.
///
/// # Errors
///
/// The kernel's; `EPERM` for [`Marks::Trusted`] without being root of the host.
pub fn make_opaque(directory: impl AsFd, marks: Marks) -> io::Result<()> {
    Ok(fsetxattr(directory, marks.opaque(), b"y", XattrFlags::empty())?)
}

/// Whether an open directory hides what is below it.
///
/// # Errors
///
/// The kernel's.
pub fn is_opaque(directory: impl AsFd, marks: Marks) -> io::Result<bool> {
    let mut value = [0; 1];
    match fgetxattr(directory, marks.opaque(), &mut value[..]) {
        Ok(length) => Ok(length == 1 && value == *b"y"),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes a whiteout called `name` in an open directory.
///
/// # Errors
///
/// The kernel's.
pub fn make_whiteout(directory: impl AsFd, name: &[u8]) -> io::Result<()> {
    let mode = Mode::empty();
    Ok(mknodat(directory, name, FileType::CharacterDevice, mode, makedev(0, 0))?)
}

/// Whether it is a whiteout.
#[must_use]
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// What something in a directory is; `None` when it is not there. Links are not followed.
pub(crate) fn look(directory: impl AsFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a directory by its name in another, for reading; a link is not followed.
pub(crate) fn open_directory(
    directory: impl AsFd,
    name: &[u8],
) -> Result<rustix::fd::OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}
