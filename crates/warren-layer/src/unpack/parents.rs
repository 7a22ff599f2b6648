//! What the layers below know of a directory.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};

use super::UnpackError;
use crate::attributes::Attributes;

/// The layers below, the topmost first.
#[derive(Debug)]
pub(super) struct Parents(Vec<OwnedFd>);

impl Parents {
    pub(super) fn open(paths: &[PathBuf]) -> Result<Self, UnpackError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &PathBuf| {
            open(path, flags, Mode::empty()).map_err(|it| UnpackError::Directory(it.into()))
        };
        Ok(Self(paths.iter().map(open).collect::<Result<_, _>>()?))
    }

    /// Mode, owner and time of a directory below; `None` where it is in none, or is none.
    pub(super) fn attributes(&self, path: &[u8]) -> Option<Attributes> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let path = if path.is_empty() { b"." } else { path };
        let open = |layer: &OwnedFd| openat2(layer, path, flags, Mode::empty(), resolve).ok();
        let stat = fstat(self.0.iter().find_map(open)?).ok()?;
        let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
        is_directory.then(|| Attributes::from_stat(&stat))
    }
}
