//! Unpacking.

use std::io::Write as _;
use std::os::fd::OwnedFd;

use flate2::write::MultiGzDecoder;

use crate::error::UnpackError;
use crate::format::NAME_BYTES;
use crate::parse::{Entry, Event, Kind, Parser};
use crate::tree::{Attributes, Pending, Tree, clean};

/// Compressed bytes taken at once: what they may grow to is a thousand times as much.
const GZIP_STEP: usize = 1 << 10;
/// How a gzip stream begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What an archive may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of files, unpacked.
    pub bytes: u64,
}

impl Default for Limits {
    /// A million entries, of whatever size.
    fn default() -> Self {
        Self { entries: 1_000_000, bytes: u64::MAX }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Devices, pipes and what else is not made.
    pub skipped: u64,
}

/// Unpacks an archive, plain or compressed with gzip, below a directory.
///
/// It is given the archive's bytes in pieces of any size, and does all work (which blocks) in
/// [`push`](Self::push) and [`finish`](Self::finish), with the rights of whoever calls them. Files
/// there are replaced, directories there are left as they are, links there are followed where they
/// stay below. Files get the archive's permission bits (never set-user-id or set-group-id, unless
/// [`keeping_owners`](Self::keeping_owners)) and times, and belong to the caller. Dropping it half way leaves whole files only.
///
/// # Examples
///
/// ```
/// use warren_archive::{Limits, Packer, Unpacker};
/// let (from, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// std::fs::write(from.path().join("a"), "content")?;
/// let mut packer = Packer::directory(std::fs::File::open(from.path())?.into());
/// let target = std::fs::File::open(to.path())?.into();
/// let mut unpacker = Unpacker::new(target, false, Limits::default());
/// let mut piece = Vec::new();
/// while packer.read(&mut piece, 64 << 10)? {
///     unpacker.push(&piece)?;
///     piece.clear();
/// }
/// assert_eq!(unpacker.finish()?.bytes, 7);
/// assert_eq!(std::fs::read_to_string(to.path().join("a"))?, "content");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Unpacker {
    input: Input,
    sink: Sink,
}

/// What the bytes are.
#[derive(Debug)]
enum Input {
    /// Not known before the second byte.
    Unknown(Vec<u8>),
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

#[derive(Debug)]
struct Sink {
    parser: Parser,
    tree: Tree,
    file: Option<Pending>,
    limits: Limits,
    done: Unpacked,
}

impl Unpacker {
    /// Unpacks below `directory`, which may be open as a path only. `is_new` says that it was made
    /// for this: it then gets mode and time from the archive.
    #[must_use]
    pub fn new(directory: OwnedFd, is_new: bool, limits: Limits) -> Self {
        let tree = Tree::new(directory, is_new);
        let done = Unpacked::default();
        let sink = Sink { parser: Parser::new(), tree, file: None, limits, done };
        Self { input: Input::Unknown(Vec::new()), sink }
    }

    /// Takes owners, and the bits of modes that make a program run as its owner, from the archive
    /// too. Whoever calls must be allowed to give files away.
    #[must_use]
    pub fn keeping_owners(mut self) -> Self {
        self.sink.tree.keep_owners();
        self
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// Any [`UnpackError`] but `Truncated`; what was unpacked before stays. Nothing is to be pushed
    /// after an error.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        match &mut self.input {
            Input::Plain => self.sink.push(bytes),
            Input::Gzip(decoder) => {
                for step in bytes.chunks(GZIP_STEP) {
                    decoder.write_all(step).map_err(UnpackError::Compressed)?;
                    let plain = std::mem::take(decoder.get_mut());
                    self.sink.push(&plain)?;
                }
                Ok(())
            }
            Input::Unknown(held) => {
                held.extend_from_slice(bytes);
                if held.len() < GZIP.len() {
                    return Ok(());
                }
                let held = std::mem::take(held);
                self.input = match held.starts_with(&GZIP) {
                    true => Input::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
                    false => Input::Plain,
                };
                self.push(&held)
            }
        }
    }

    /// What was done, after the last bytes.
    ///
    /// # Errors
    ///
    /// [`UnpackError::Truncated`] for an archive without its end; as [`push`](Self::push).
    pub fn finish(mut self) -> Result<Unpacked, UnpackError> {
        if let Input::Gzip(decoder) = &mut self.input {
            decoder.try_finish().map_err(UnpackError::Compressed)?;
            let plain = std::mem::take(decoder.get_mut());
            self.sink.push(&plain)?;
        }
        if !self.sink.parser.is_at_end() {
            return Err(UnpackError::Truncated);
        }
        self.sink.tree.finish()?;
        Ok(self.sink.done)
    }
}

impl Sink {
    fn push(&mut self, mut bytes: &[u8]) -> Result<(), UnpackError> {
        while let Some(event) = self.parser.next(&mut bytes)? {
            match event {
                Event::Entry(entry) => self.entry(&entry)?,
                Event::Data(piece) => {
                    if let Some(file) = &mut self.file {
                        file.write(piece)?;
                    }
                    self.done.bytes += piece.len() as u64;
                    if self.done.bytes > self.limits.bytes {
                        let most = self.limits.bytes;
                        return Err(UnpackError::TooMuch(format!("more than {most} bytes")));
                    }
                }
                Event::EndOfFile => {
                    if let Some(file) = self.file.take() {
                        file.finish()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        self.done.entries += 1;
        if self.done.entries + self.done.skipped > self.limits.entries {
            let most = self.limits.entries;
            return Err(UnpackError::TooMuch(format!("more than {most} entries")));
        }
        let path = clean(&entry.name)?;
        if path.is_empty() && entry.kind != Kind::Directory {
            return Err(UnpackError::refused(&entry.name, "it has no name"));
        }
        let Entry { mode, modified, owner, .. } = *entry;
        let attributes = Attributes { mode, modified, owner };
        match entry.kind {
            Kind::File => self.file = Some(self.tree.file(&path, attributes)?),
            Kind::Directory => self.tree.directory(&path, attributes)?,
            Kind::HardLink => self.tree.hard_link(&path, &clean(&entry.link)?)?,
            Kind::Symlink => {
                let length = entry.link.len();
                if length == 0 || length >= NAME_BYTES || entry.link.contains(&0) {
                    return Err(UnpackError::refused(&entry.name, "its target is no path"));
                }
                self.tree.symlink(&path, &entry.link, attributes)?;
            }
            Kind::Pipe | Kind::Device | Kind::Other => {
                self.done.entries -= 1;
                self.done.skipped += 1;
            }
        }
        Ok(())
    }
}
