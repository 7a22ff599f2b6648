//! Layers, packed as image layers.
//!
//! The same layer always gives the same bytes: names are in order, headers hold what the layer
//! holds and nothing else.
//!
//! ```text
//!  calling thread (files become entries, hashed: the diff id)
//!    -> compress thread (hashed: the digest) -> the target
//! ```

mod header;
mod sparse;

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rustix::fs::{fstat, readlinkat};
use tar::EntryType;
use warren_archive::{padding, split};

use crate::attributes::{Attributes, Xattr};
use crate::digest::{Digest, Hasher};
use crate::marks::{Marks, is_opaque};
use crate::node::Kind;
use crate::unpack::Compression;
use crate::walk::{FileError, Found, Walk, join, open_root};
use header::Head;

/// Files that are a sandbox's own: what it is called, and where it is.
pub const IDENTITY: [&str; 4] = ["etc/hostname", "etc/hosts", "etc/machine-id", "etc/resolv.conf"];

/// Bytes that are passed on at once.
const PIECE: usize = 256 << 10;
/// Pieces that wait between the threads.
const WAITING: usize = 16;
/// Where files are read that are smaller than the time to ask for their holes.
const SMALL: u64 = 64 << 10;

/// Why a layer was not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file of the layer could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file changed while it was read.
    #[error("'{0}' became shorter while it was packed")]
    Shrunk(String),
    /// A directory or file whose content overlayfs takes from another name.
    #[error("'{0}' takes its content from another name, expected a layer without redirects")]
    Redirected(String),
    /// More than is allowed.
    #[error("the layer has more than {0} bytes")]
    TooMuch(u64),
    /// The target did not take all.
    #[error("could not write the layer: {0}")]
    Write(#[source] io::Error),
    /// There was no thread to be had.
    #[error("could not start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// How a layer is packed.
#[derive(Clone, Debug)]
pub struct Options {
    /// How opaque directories are marked.
    pub marks: Marks,
    /// How the archive is compressed.
    pub compression: Compression,
    /// Paths that are left out, with all that is below them.
    pub exclude: HashSet<Vec<u8>>,
    /// The most bytes of the archive before its compression.
    pub most_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            marks: Marks::default(),
            compression: Compression::Gzip,
            exclude: HashSet::new(),
            most_bytes: 64 << 30,
        }
    }
}

impl Options {
    /// Leaves out the [`IDENTITY`] of a sandbox.
    #[must_use]
    pub fn without_identity(mut self) -> Self {
        self.exclude.extend(IDENTITY.map(|it| it.as_bytes().to_vec()));
        self
    }
}

/// What was packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Of the archive as it was written.
    pub digest: Digest,
    /// Bytes of the archive as it was written.
    pub compressed_bytes: u64,
    /// Of the archive before its compression.
    pub diff_id: Digest,
    /// Bytes of the archive before its compression.
    pub bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// What archives of layers cannot hold: sockets, devices, and names that begin with `.wh.`.
    pub skipped: u64,
}

/// Packs a layer that nobody writes to.
///
/// # Errors
///
/// [`PackError`]; what was written to `target` so far is of no use then.
///
/// # Panics
///
/// When `target` does.
pub fn pack<W: Write + Send>(
    directory: &Path,
    target: W,
    options: &Options,
) -> Result<Packed, PackError> {
    let root = open_root(directory)?;
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(WAITING);
        let compression = options.compression;
        let compressor = thread::Builder::new().name("layer-encode".to_owned());
        let compressor = compressor
            .spawn_scoped(scope, move || compress(&receiver, target, compression))
            .map_err(PackError::Thread)?;
        let mut output = Output::new(sender, options.most_bytes);
        let packed = Packer::new(&mut output, options).run(root);
        let diff_id = output.finish();
        let compressed = compressor.join().unwrap_or_else(|panic| resume_unwind(panic));
        // A target that takes no more also ends the packing.
        let (digest, compressed_bytes) = compressed.map_err(PackError::Write)?;
        let (entries, skipped) = packed?;
        let (diff_id, bytes) = diff_id;
        Ok(Packed { digest, compressed_bytes, diff_id, bytes, entries, skipped })
    })
}

fn compress<W: Write>(
    pieces: &Receiver<Vec<u8>>,
    target: W,
    compression: Compression,
) -> io::Result<(Digest, u64)> {
    let mut target = Hashing { inner: target, hasher: Hasher::default(), bytes: 0 };
    match compression {
        Compression::None => pieces.iter().try_for_each(|it| target.write_all(&it))?,
        Compression::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(&mut target, level);
            pieces.iter().try_for_each(|it| encoder.write_all(&it))?;
            encoder.finish()?;
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(&mut target, 0)?;
            encoder.include_checksum(true)?;
            pieces.iter().try_for_each(|it| encoder.write_all(&it))?;
            encoder.finish()?;
        }
    }
    target.inner.flush()?;
    Ok((target.hasher.finish(), target.bytes))
}

#[derive(Debug)]
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The archive before its compression.
#[derive(Debug)]
struct Output {
    sender: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    hasher: Hasher,
    bytes: u64,
    most: u64,
}

impl Output {
    fn new(sender: SyncSender<Vec<u8>>, most: u64) -> Self {
        let piece = Vec::with_capacity(PIECE);
        Self { sender, piece, hasher: Hasher::default(), bytes: 0, most }
    }

    /// Passes a piece on when it is large enough.
    fn flush(&mut self, least: usize) -> Result<(), PackError> {
        if self.piece.len() < least {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.hasher.update(&piece);
        self.bytes += piece.len() as u64;
        if self.bytes > self.most {
            return Err(PackError::TooMuch(self.most));
        }
        let gone = |_piece| PackError::Write(io::ErrorKind::BrokenPipe.into());
        self.sender.send(piece).map_err(gone)
    }

    fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.bytes)
    }
}

#[derive(Debug)]
struct Packer<'a> {
    output: &'a mut Output,
    options: &'a Options,
    /// Files with several names: the first.
    links: HashMap<u64, Vec<u8>>,
    entries: u64,
    skipped: u64,
}

impl<'a> Packer<'a> {
    fn new(output: &'a mut Output, options: &'a Options) -> Self {
        Self { output, options, links: HashMap::new(), entries: 0, skipped: 0 }
    }

    fn run(mut self, root: OwnedFd) -> Result<(u64, u64), PackError> {
        let stat = fstat(&root).map_err(FileError::new("look at", b""))?;
        let attributes = Attributes::of(&root, &stat);
        let attributes = attributes.map_err(FileError::new("read attributes of", b""))?;
        self.directory(&root, b"", attributes)?;
        let mut walk = Walk::new(root)?;
        while let Some(found) = walk.next()? {
            if self.options.exclude.contains(&found.path) {
                walk.skip();
            } else if found.name.starts_with(b".wh.") {
                walk.skip();
                self.skipped += 1;
            } else {
                self.entry(&found, walk.entered())?;
            }
        }
        self.output.piece.resize(self.output.piece.len() + 2 * warren_archive::BLOCK, 0);
        self.output.flush(0)?;
        Ok((self.entries, self.skipped))
    }

    fn entry(&mut self, found: &Found, opened: Option<&OwnedFd>) -> Result<(), PackError> {
        let fail = |operation| FileError::new(operation, &found.path);
        let kind = Kind::of(&found.stat);
        let attributes = match opened {
            Some(directory) => Attributes::of(directory, &found.stat),
            None => Attributes::at(&*found.directory, &found.name, &found.stat),
        };
        let attributes = attributes.map_err(fail("read attributes of"))?;
        if kind == Kind::Whiteout {
            let (parent, name) = split(&found.path);
            let whiteout = join(parent, &[b".wh.", name].concat());
            let plain = Attributes { mode: 0o600, ..Attributes::default() };
            return self.head(EntryType::Regular, &whiteout, b"", plain, 0);
        }
        if kind != Kind::Directory && found.stat.st_nlink > 1 {
            let first = self.links.entry(found.stat.st_ino).or_insert_with(|| found.path.clone());
            if *first != found.path {
                let first = first.clone();
                let plain = Attributes { xattrs: Vec::new(), ..attributes };
                return self.head(EntryType::Link, &found.path, &first, plain, 0);
            }
        }
        match (kind, opened) {
            (Kind::Directory, Some(directory)) => {
                self.directory(directory, &found.path, attributes)
            }
            (Kind::File, _) => self.file(found, attributes),
            (Kind::Symlink, _) => {
                let link = readlinkat(&*found.directory, found.name.as_slice(), Vec::new());
                let link = link.map_err(fail("read the link"))?.into_bytes();
                self.head(EntryType::Symlink, &found.path, &link, attributes, 0)
            }
            (Kind::Pipe, _) => self.head(EntryType::Fifo, &found.path, b"", attributes, 0),
            _ => {
                self.links.remove(&found.stat.st_ino);
                self.skipped += 1;
                Ok(())
            }
        }
    }

    /// A directory, and that it hides what is below.
    fn directory(
        &mut self,
        directory: &OwnedFd,
        path: &[u8],
        attributes: Attributes,
    ) -> Result<(), PackError> {
        let fail = FileError::new("read attributes of", path);
        let is_opaque = is_opaque(directory, self.options.marks).map_err(fail)?;
        let name = if path.is_empty() { b"./".to_vec() } else { join(path, b"") };
        self.head(EntryType::Directory, &name, b"", attributes, 0)?;
        if is_opaque {
            let plain = Attributes { mode: 0o600, ..Attributes::default() };
            self.head(EntryType::Regular, &join(path, b".wh..wh..opq"), b"", plain, 0)?;
        }
        Ok(())
    }

    fn file(&mut self, found: &Found, attributes: Attributes) -> Result<(), PackError> {
        let fail = |operation| FileError::new(operation, &found.path);
        let file = found.open().map_err(fail("open"))?;
        let stat = fstat(&file).map_err(fail("look at"))?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let stored = u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
        if stored + SMALL < size
            && let Some(map) = sparse::map(&file, size).map_err(fail("find the holes of"))?
        {
            return self.sparse_file(found, &file, attributes, &map, size);
        }
        self.head(EntryType::Regular, &found.path, b"", attributes, size)?;
        self.content(&file, &found.path, 0, size)?;
        self.pad(size)
    }

    fn sparse_file(
        &mut self,
        found: &Found,
        file: &OwnedFd,
        attributes: Attributes,
        map: &[warren_archive::Piece],
        size: u64,
    ) -> Result<(), PackError> {
        let text = sparse::text(map);
        let stored = text.len() as u64 + map.iter().map(|it| it.length).sum::<u64>();
        self.described(Head {
            kind: EntryType::Regular,
            path: &found.path,
            link: b"",
            attributes: &attributes,
            size: stored,
            real_size: Some(size),
        })?;
        self.output.piece.extend_from_slice(&text);
        for piece in map {
            self.content(file, &found.path, piece.offset, piece.length)?;
        }
        self.pad(stored)
    }

    fn content(
        &mut self,
        file: &OwnedFd,
        path: &[u8],
        start: u64,
        length: u64,
    ) -> Result<(), PackError> {
        let mut done = 0;
        while done < length {
            let piece = &mut self.output.piece;
            let held = piece.len();
            let want = usize::try_from(length - done).unwrap_or(PIECE).min(PIECE);
            piece.resize(held + want, 0);
            let room = piece.get_mut(held..).unwrap_or_default();
            let count = rustix::io::pread(file, room, start + done);
            piece.truncate(held + *count.as_ref().unwrap_or(&0));
            match count {
                Err(rustix::io::Errno::INTR) => {}
                Ok(0) => return Err(PackError::Shrunk(warren_archive::shown(path))),
                count => done += count.map_err(FileError::new("read", path))? as u64,
            }
            self.output.flush(PIECE)?;
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> Result<(), PackError> {
        let piece = &mut self.output.piece;
        piece.resize(piece.len() + padding(size), 0);
        self.output.flush(PIECE)
    }

    fn head(
        &mut self,
        kind: EntryType,
        path: &[u8],
        link: &[u8],
        attributes: Attributes,
        size: u64,
    ) -> Result<(), PackError> {
        self.described(Head { kind, path, link, attributes: &attributes, size, real_size: None })
    }

    fn described(&mut self, head: Head<'_>) -> Result<(), PackError> {
        let redirects = |it: &Xattr| {
            let prefix = self.options.marks.prefix().as_bytes();
            let rest = it.0.strip_prefix(prefix);
            rest.is_some_and(|it| [&b"redirect"[..], b"metacopy"].contains(&it))
        };
        if head.attributes.xattrs.iter().any(redirects) {
            return Err(PackError::Redirected(warren_archive::shown(head.path)));
        }
        self.entries += 1;
        head.write(&mut self.output.piece);
        self.output.flush(PIECE)
    }
}
