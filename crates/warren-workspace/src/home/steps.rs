//! The steps below a home: each is one name in an open directory, and none follows a link.

use std::{
    ffi::OsStr,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags},
    io::Errno,
};

use super::{DIRECTORY, FILE, Home, HomeError};

impl Home {
    /// Moves what is there, over nothing.
    pub(super) fn move_new(&self, from: &Path, to: &Path) -> Result<(), HomeError> {
        let ((above, from), (_, name)) = (self.parent(from)?, self.parent(to)?);
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&above, from, &above, name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("make", to)(error.into())),
        }
    }

    pub(super) fn failed<'a>(
        &'a self,
        step: &'static str,
        relative: &'a Path,
    ) -> impl FnOnce(io::Error) -> HomeError + 'a {
        move |source| HomeError::Io { step, path: self.path.join(relative), source }
    }

    /// The directory that `relative` is in, and its name there.
    pub(super) fn parent<'a>(&self, relative: &'a Path) -> Result<(OwnedFd, &'a OsStr), HomeError> {
        let above = relative.parent().filter(|it| !it.as_os_str().is_empty());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = self.open_at(above.unwrap_or(Path::new(".")), flags, DIRECTORY)?;
        Ok((directory, relative.file_name().unwrap_or_default()))
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), HomeError> {
        let ((above, from), (_, name)) = (self.parent(from)?, self.parent(to)?);
        let renamed = rustix::fs::renameat(&above, from, &above, name);
        renamed.map_err(|it| self.failed("replace", to)(it.into()))
    }

    pub(super) fn unlink(&self, relative: &Path) -> Result<(), HomeError> {
        let (above, name) = self.parent(relative)?;
        match rustix::fs::unlinkat(&above, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("remove", relative)(error.into())),
        }
    }

    pub(super) fn make_directory(&self, relative: &Path) -> Result<(), HomeError> {
        let (above, name) = self.parent(relative)?;
        match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(self.failed("make", relative)(error.into())),
        }
        let made = self.open_at(relative, OFlags::RDONLY | OFlags::DIRECTORY, DIRECTORY)?;
        // Another tool made it for everybody to read. Who may not change that may not need to.
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o700)).unwrap_or_default();
        Ok(())
    }

    /// Opens what is at `relative`, and follows no link on the way. Never waits for a pipe.
    pub(super) fn open_at(
        &self,
        relative: &Path,
        flags: OFlags,
        expected: &'static str,
    ) -> Result<OwnedFd, HomeError> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let creates = flags.contains(OFlags::CREATE);
        let mode = if creates { Mode::from_raw_mode(0o600) } else { Mode::empty() };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let kind = || HomeError::Kind { path: self.path.join(relative), expected };
        let opened = loop {
            match rustix::fs::openat2(&self.directory, relative, flags, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                // What is there is a link, or of another kind; a pipe nobody reads is ENXIO.
                Err(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO) => {
                    return Err(kind());
                }
                Err(error) => return Err(self.failed("open", relative)(error.into())),
                Ok(opened) => break opened,
            }
        };
        let stat = rustix::fs::fstat(opened.as_fd());
        let stat = stat.map_err(|it| self.failed("look at", relative)(it.into()))?;
        let wanted = if expected == FILE { FileType::RegularFile } else { FileType::Directory };
        if FileType::from_raw_mode(stat.st_mode) == wanted { Ok(opened) } else { Err(kind()) }
    }
}
