//! Copies of disks: shared by the filesystem where it can, else file by file.

use std::{
    io,
    path::{Path, PathBuf},
};

use warren_core::runtime::Haste;
use warren_layer::{
    Moment,
    copy::{Copied, Previous, catch_up, copy, copy_frozen},
    manifest::{Manifest, Sources},
};
use warren_sys::btrfs;

use super::{Pool, make_open};

/// A saved disk that a new copy is likely to have much in common with.
#[derive(Debug)]
pub(crate) struct Earlier {
    pub(crate) manifest: Manifest,
    /// Its layer.
    pub(crate) upper: PathBuf,
}

impl Earlier {
    fn previous(&self) -> Previous<'_> {
        Previous { manifest: &self.manifest, directory: &self.upper }
    }
}

/// A copy under way, of a disk that may be written to until [`Copying::finish`].
#[derive(Debug)]
pub(crate) struct Copying {
    from: PathBuf,
    to: PathBuf,
    by: By,
}

#[derive(Debug)]
enum By {
    Sharing {
        written_back: Moment,
    },
    Files(Copied),
    /// All of it while nobody writes.
    AtOnce(Option<Earlier>),
}

/// What is known about the files of a copy: where they come from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// The filesystem made it: it has the original's inodes.
    Shared(Moment),
    /// File by file.
    Copied(Copied),
}

impl Origin {
    /// What this is for a manifest.
    pub(crate) fn sources(&self) -> Sources<'_> {
        match self {
            Self::Shared(written_back) => Sources::Own(*written_back),
            Self::Copied(copied) => Sources::Copied(copied),
        }
    }
}

impl Pool {
    /// Does what can be done of a copy of the disk at `from` while it is written to. There must be
    /// nothing at `to`.
    pub(crate) fn begin_copy(
        &self,
        from: &Path,
        to: &Path,
        earlier: Option<Earlier>,
        haste: Haste,
    ) -> io::Result<Copying> {
        let by = if self.btrfs {
            // What is written back now need not be while nobody writes.
            if haste == Haste::Guest {
                rustix::fs::syncfs(std::fs::File::open(from)?)?;
                By::Sharing { written_back: Moment::now() }
            } else {
                By::Sharing { written_back: Moment::default() }
            }
        } else {
            make_open(to)?;
            match haste {
                // Writing back and going over everything twice is what takes the time.
                Haste::Caller => By::AtOnce(earlier),
                Haste::Guest => {
                    let earlier = earlier.as_ref().map(Earlier::previous);
                    let (source, target) = (from.join("upper"), to.join("upper"));
                    let mut copied = copy(&source, &target, earlier).map_err(io::Error::other)?;
                    // What changed during the first pass is little.
                    catch_up(&mut copied, &source, &target, false).map_err(io::Error::other)?;
                    By::Files(copied)
                }
            }
        };
        Ok(Copying { from: from.to_owned(), to: to.to_owned(), by })
    }
}

impl Copying {
    /// Makes the copy exact, while nothing writes to the disk.
    pub(crate) fn finish(self) -> io::Result<Origin> {
        match self.by {
            By::Sharing { written_back } => {
                btrfs::snapshot_subvolume(&self.from, &self.to)?;
                Ok(Origin::Shared(written_back))
            }
            By::AtOnce(earlier) => {
                let (source, target) = (self.from.join("upper"), self.to.join("upper"));
                let earlier = earlier.as_ref().map(Earlier::previous);
                let copied = copy_frozen(&source, &target, earlier).map_err(io::Error::other)?;
                Ok(Origin::Copied(copied))
            }
            By::Files(mut copied) => {
                let (source, target) = (self.from.join("upper"), self.to.join("upper"));
                catch_up(&mut copied, &source, &target, true).map_err(io::Error::other)?;
                Ok(Origin::Copied(copied))
            }
        }
    }
}
