//! Image layers, unpacked.
//!
//! ```text
//!  source -> decode thread -+-> hash thread       (the diff id)
//!    (hashed as it is read) +-> calling thread    (entries become files)
//! ```
//!
//! A layer comes from a registry that nobody vouches for: its digest says that it is what was asked
//! for, not that it is well-meant. What it can never do: make anything outside of the directory it is
//! unpacked to (`..` is refused, links are followed beneath the directory alone, by the kernel), make
//! devices or sockets, set marks of overlayfs other than those that its whiteouts stand for, take
//! memory, entries or bytes without bound.

mod error;
mod input;
mod marks;
mod parents;
mod tree;

use std::io::Read;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use warren_archive::{Entry, Event, Kind, Parser, clean};

pub use error::UnpackError;
pub use input::Compression;

use crate::digest::{Digest, Hasher};
use crate::marks::Marks;
use tree::{Pending, Tree};

/// Pieces that wait between two threads: of 256 KiB each.
const WAITING: usize = 16;

/// What a layer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the archive without its compression.
    pub bytes: u64,
    /// Bytes of one file, holes included.
    pub file_bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of an entry's name.
    pub path_bytes: usize,
    /// Directories above each other.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 64 << 30,
            file_bytes: 32 << 30,
            entries: 4_000_000,
            path_bytes: 4095,
            depth: 256,
        }
    }
}

/// How a layer is unpacked.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How opaque directories are marked.
    pub marks: Marks,
    /// What is refused.
    pub limits: Limits,
    /// Leaves the owners of files alone: for a user without ids to give away.
    pub ignore_owners: bool,
    /// Layers below this one, the topmost first. A directory that the archive has no entry for gets
    /// its mode and owner from there; without, root's and `rwxr-xr-x`.
    pub below: Vec<PathBuf>,
}

/// What was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// How the archive was compressed.
    pub compression: Compression,
    /// Of the archive as it came: what a manifest names.
    pub digest: Digest,
    /// Bytes of the archive as it came.
    pub compressed_bytes: u64,
    /// Of the archive without its compression: what an image's configuration names.
    pub diff_id: Digest,
    /// Bytes of the archive without its compression.
    pub bytes: u64,
    /// The directory's content.
    pub counts: Counts,
}

/// What was made, and what not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries of the archive.
    pub entries: u64,
    /// Names that are removed from the layers below, and directories that hide theirs.
    pub whiteouts: u64,
    /// Devices, and entries that only other programs know: not made.
    pub skipped: u64,
    /// Extended attributes that were not set: the host's own (SELinux labels), or of a kind that the
    /// file system does not have.
    pub skipped_xattrs: u64,
    /// Directories that have no entry of their own.
    pub implicit_directories: u64,
    /// The layer hides everything below it. Overlayfs does not look at the mark of a root: whoever
    /// stacks layers has to leave those below out.
    pub hides_all_below: bool,
}

/// Unpacks an image layer (a tar archive: plain, gzip or zstd) into an empty directory that was made
/// for it, which becomes a layer for overlayfs.
///
/// Nothing is synced; after an error the directory holds what was unpacked before it.
///
/// # Errors
///
/// [`UnpackError`], which says whose fault it is: the source's, the archive's, or this host's.
///
/// # Panics
///
/// When `source` does.
pub fn unpack<R: Read + Send>(
    source: R,
    directory: &Path,
    options: &Options,
) -> Result<Unpacked, UnpackError> {
    let tree = Tree::open(directory, options)?;
    let most = options.limits.bytes;
    thread::scope(|scope| {
        let (to_writer, written_from) = sync_channel::<Arc<Vec<u8>>>(WAITING);
        let (to_hasher, hashed_from) = sync_channel::<Arc<Vec<u8>>>(WAITING);
        let decoder = thread::Builder::new().name("layer-decode".to_owned());
        let decoder = decoder
            .spawn_scoped(scope, move || {
                input::pump(source, most, |piece| {
                    let piece = Arc::new(piece);
                    to_hasher.send(Arc::clone(&piece)).is_ok() && to_writer.send(piece).is_ok()
                })
            })
            .map_err(UnpackError::Thread)?;
        let hasher = thread::Builder::new().name("layer-hash".to_owned());
        let hasher = hasher
            .spawn_scoped(scope, move || {
                let mut hasher = Hasher::default();
                hashed_from.iter().for_each(|piece| hasher.update(&piece));
                hasher.finish()
            })
            .map_err(UnpackError::Thread)?;
        // Ends with the decoder, or ends the decoder by letting go of its channel.
        let written = write(written_from, tree, options.limits);
        let read = decoder.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        let diff_id = hasher.join().unwrap_or_else(|panic| resume_unwind(panic));
        let counts = written?;
        let Some(read) = read else { return Err(warren_archive::UnpackError::Truncated.into()) };
        Ok(Unpacked {
            compression: read.compression,
            digest: read.digest,
            compressed_bytes: read.compressed_bytes,
            diff_id,
            bytes: read.bytes,
            counts,
        })
    })
}

fn write(
    pieces: Receiver<Arc<Vec<u8>>>,
    tree: Tree,
    limits: Limits,
) -> Result<Counts, UnpackError> {
    let mut sink = Sink { tree, limits, file: None };
    let mut parser = Parser::with_sparse();
    for piece in pieces {
        let mut bytes = piece.as_slice();
        while let Some(event) = parser.next(&mut bytes)? {
            sink.take(event)?;
        }
    }
    // Some programs leave the two empty blocks at the end out.
    let ends = parser.is_at_end() || (parser.is_between_entries() && sink.tree.counts.entries > 0);
    if !ends {
        return Err(warren_archive::UnpackError::Truncated.into());
    }
    sink.tree.finish()
}

#[derive(Debug)]
struct Sink {
    tree: Tree,
    limits: Limits,
    file: Option<Pending>,
}

impl Sink {
    fn take(&mut self, event: Event<'_>) -> Result<(), UnpackError> {
        match event {
            Event::Entry(entry) => self.entry(entry),
            Event::Data(bytes) => match &mut self.file {
                Some(file) => file.write(bytes),
                None => Ok(()), // content of a whiteout
            },
            Event::EndOfFile => match self.file.take() {
                Some(file) => self.tree.finish_file(file),
                None => Ok(()),
            },
        }
    }

    fn entry(&mut self, entry: Entry) -> Result<(), UnpackError> {
        let counts = &mut self.tree.counts;
        counts.entries += 1;
        if counts.entries > self.limits.entries {
            return Err(UnpackError::too_much("entries", self.limits.entries));
        }
        let path = self.path(&entry.name)?;
        let at_root = path.is_empty();
        if at_root && entry.kind != Kind::Directory {
            return Err(UnpackError::refused(&entry.name, "it has no name"));
        }
        if self.tree.whiteout(&path)? {
            return Ok(());
        }
        match entry.kind {
            Kind::File => {
                if entry.size > self.limits.file_bytes {
                    return Err(UnpackError::too_much("bytes in a file", self.limits.file_bytes));
                }
                self.file = Some(self.tree.file(path, entry)?);
            }
            Kind::Directory => self.tree.directory(&path, entry)?,
            Kind::HardLink => {
                let target = self.path(&entry.link)?;
                self.tree.hard_link(&path, &target)?;
            }
            Kind::Symlink => {
                let link = &entry.link;
                if link.is_empty() || link.len() > self.limits.path_bytes || link.contains(&0) {
                    return Err(UnpackError::refused(&entry.name, "its target is no path"));
                }
                self.tree.symlink(&path, entry)?;
            }
            Kind::Pipe => self.tree.pipe(&path, entry)?,
            Kind::Device | Kind::Other => self.tree.counts.skipped += 1,
        }
        Ok(())
    }

    /// The path below the layer's root. Absolute names are meant to be there too.
    fn path(&self, name: &[u8]) -> Result<Vec<u8>, UnpackError> {
        let start = name.iter().position(|it| *it != b'/').unwrap_or(name.len());
        let path = clean(name.get(start..).unwrap_or_default())?;
        if path.len() > self.limits.path_bytes {
            return Err(UnpackError::too_much("bytes in a name", self.limits.path_bytes as u64));
        }
        if path.iter().filter(|it| **it == b'/').count() >= self.limits.depth {
            let most = self.limits.depth as u64;
            return Err(UnpackError::too_much("directories above each other", most));
        }
        Ok(path)
    }
}
