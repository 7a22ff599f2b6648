//! Reading an archive's entries out of bytes that come in pieces of any size.
//!
//! ```text
//!            +-------------------------------------------+
//!            v                                           |
//!  ---> Head --name, times--> Meta --padding--> Skip ----+
//!        | |                                     ^       |
//!        | +--file--> Map --> Data --padding-----+       |
//!        |             (of a sparse file only)           |
//!        +--anything else--> Skip -----------------------+
//!        +--empty block--> End (the rest is not looked at)
//! ```

use tar::{EntryType, Header};

use crate::error::{UnpackError, shown};
use crate::format::{BLOCK, ERROR_KEY, NAME_BYTES, Record, checksum_holds, padding, pax_records};
use crate::sparse::{Piece, Reader, SPARSE, SaidOfSparse};

/// Bytes of one PAX header. They hold extended attributes too.
const PAX_BYTES: u64 = 1 << 20;
/// Before the name of an extended attribute.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file with content.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name of an entry before it.
    HardLink,
    /// A named pipe.
    Pipe,
    /// A device, of characters or of blocks.
    Device,
    /// What only other programs know.
    Other,
}

/// An entry's head, with what came before it for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its name, as it was written: to be cleaned before use.
    pub name: Vec<u8>,
    /// Where a link leads, as it was written.
    pub link: Vec<u8>,
    /// Bits of the mode.
    pub mode: u32,
    /// User and group.
    pub owner: (u64, u64),
    /// Seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
    /// Bytes of the file; of a sparse one with its holes.
    pub size: u64,
    /// Names and values of extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the bytes that follow belong, of a sparse file: in order, without overlaps.
    pub pieces: Option<Vec<Piece>>,
}

/// What the next bytes of an archive are.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The head of an entry.
    Entry(Entry),
    /// Content of the last entry, which is a file.
    Data(&'a [u8]),
    /// The content was complete. Comes for every file.
    EndOfFile,
}

#[derive(Debug)]
enum Step {
    Head,
    Meta {
        kind: EntryType,
        left: u64,
    },
    /// The map of a sparse file, in front of its content. The entry has no pieces yet.
    Map {
        entry: Box<Entry>,
        map: Reader,
        left: u64,
        padding: usize,
    },
    Data {
        left: u64,
        padding: usize,
    },
    Skip {
        left: u64,
    },
    End,
}

/// What headers before an entry say about it.
#[derive(Debug, Default)]
struct Said {
    /// There was such a header.
    is_something: bool,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    owner: (Option<u64>, Option<u64>),
    modified: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: SaidOfSparse,
}

/// The reader.
#[derive(Debug)]
pub struct Parser {
    step: Step,
    /// What is there of a block, or of a header's content.
    held: Vec<u8>,
    said: Said,
    takes_sparse: bool,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl Parser {
    /// A reader that refuses sparse files.
    #[must_use]
    pub fn new() -> Self {
        Self { step: Step::Head, held: Vec::new(), said: Said::default(), takes_sparse: false }
    }

    /// A reader that takes sparse files, with [`Entry::pieces`].
    #[must_use]
    pub fn with_sparse() -> Self {
        Self { takes_sparse: true, ..Self::new() }
    }

    /// Whether the last entry was read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        matches!(self.step, Step::End)
    }

    /// Whether what was read is whole so far, with or without the blocks at an archive's end.
    #[must_use]
    pub fn is_between_entries(&self) -> bool {
        let is_head = matches!(self.step, Step::Head | Step::Skip { left: 0 });
        is_head && self.held.is_empty() && !self.said.is_something
    }

    /// Takes bytes off the front of `input` until something is known; `None` when all are taken.
    ///
    /// # Errors
    ///
    /// [`UnpackError`] for what is no archive, is too long, or is refused. The reader is of no use
    /// after one.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, UnpackError> {
        loop {
            match &mut self.step {
                Step::Map { map, .. } if map.is_done() => {
                    let step = std::mem::replace(&mut self.step, Step::Head);
                    let Step::Map { entry, map, left, padding } = step else { continue };
                    let pieces = Some(map.finish(entry.size, left, &entry.name)?);
                    self.step = Step::Data { left, padding };
                    return Ok(Some(Event::Entry(Entry { pieces, ..*entry })));
                }
                Step::Data { left: 0, padding } => {
                    self.step = Step::Skip { left: *padding as u64 };
                    return Ok(Some(Event::EndOfFile));
                }
                Step::Skip { left: 0 } => self.step = Step::Head,
                Step::Meta { kind, left: 0 } => {
                    let kind = *kind;
                    self.finish_meta(kind)?;
                }
                _ if input.is_empty() => return Ok(None),
                Step::End => *input = &[],
                Step::Map { map, left, .. } => {
                    let missing = BLOCK - self.held.len();
                    let piece = take(input, missing as u64);
                    self.held.extend_from_slice(piece);
                    if self.held.len() == BLOCK {
                        map.block(&self.held, left)?;
                        self.held.clear();
                    }
                }
                Step::Head => {
                    let missing = BLOCK - self.held.len();
                    let piece = take(input, missing as u64);
                    self.held.extend_from_slice(piece);
                    if self.held.len() == BLOCK
                        && let Some(entry) = self.head()?
                    {
                        return Ok(Some(Event::Entry(entry)));
                    }
                }
                Step::Meta { left, .. } => {
                    let piece = take(input, *left);
                    self.held.extend_from_slice(piece);
                    *left -= piece.len() as u64;
                }
                Step::Data { left, .. } => {
                    let piece = take(input, *left);
                    *left -= piece.len() as u64;
                    return Ok(Some(Event::Data(piece)));
                }
                Step::Skip { left } => *left -= take(input, *left).len() as u64,
            }
        }
    }

    /// Reads the block that is held.
    fn head(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut header = Header::new_old();
        for (to, from) in header.as_mut_bytes().iter_mut().zip(&self.held) {
            *to = *from;
        }
        self.held.clear();
        if header.as_bytes().iter().all(|it| *it == 0) {
            self.step = Step::End;
            return Ok(None);
        }
        if !checksum_holds(&header) {
            return Err(UnpackError::Broken(
                "an entry's checksum is wrong, or it is no tar archive",
            ));
        }
        let size = header.entry_size();
        let size = size.map_err(|_text| UnpackError::Broken("an entry's size is no number"))?;
        let kind = header.entry_type();
        let limit = match kind {
            EntryType::GNULongName | EntryType::GNULongLink => NAME_BYTES as u64,
            EntryType::XHeader | EntryType::XGlobalHeader => PAX_BYTES,
            _ => return self.entry(&header, size),
        };
        if size > limit {
            return Err(UnpackError::TooMuch(format!("a name or a header of {size} bytes")));
        }
        self.step = Step::Meta { kind, left: size };
        Ok(None)
    }

    /// The entry of a header, and the step for what follows it. `None` for a sparse file: its map
    /// comes first.
    fn entry(&mut self, header: &Header, size: u64) -> Result<Option<Entry>, UnpackError> {
        let said = std::mem::take(&mut self.said);
        // The other one is then made up, for programs that know no sparse files.
        let name = said.sparse.name.clone().or(said.name);
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = kind_of(header, &name);
        let reader = said.sparse.reader(header, &name)?;
        if reader.is_some() && (!self.takes_sparse || kind != Kind::File) {
            return Err(UnpackError::refused(&name, SPARSE));
        }
        // Links, directories and devices have no content, whatever size some programs write.
        let stored = match kind {
            Kind::File | Kind::Other => said.size.unwrap_or(size),
            _ => 0,
        };
        if stored > i64::MAX as u64 {
            return Err(UnpackError::Broken("an entry's size is no number"));
        }
        let link = header.link_name_bytes().unwrap_or_default();
        let mode = header.mode();
        let modified = header.mtime().ok().and_then(|it| i64::try_from(it).ok());
        let fields = header.as_old();
        let user = said.owner.0.or_else(|| id(&fields.uid, header.uid()));
        let group = said.owner.1.or_else(|| id(&fields.gid, header.gid()));
        let no_owner = UnpackError::Broken("an entry's owner is no number");
        let owner = user.zip(group).ok_or(no_owner)?;
        let mut entry = Entry {
            kind,
            name,
            link: said.link.unwrap_or_else(|| link.into_owned()),
            mode: mode.map_err(|_text| UnpackError::Broken("an entry's mode is no number"))?,
            owner,
            modified: said.modified.or(modified.map(|it| (it, 0))).unwrap_or_default(),
            size: stored,
            xattrs: said.xattrs,
            pieces: None,
        };
        let padding = padding(stored);
        self.step = match (kind, reader) {
            (Kind::File, Some((map, real_size))) => {
                entry.size = real_size;
                self.step = Step::Map { entry: Box::new(entry), map, left: stored, padding };
                return Ok(None);
            }
            (Kind::File, None) => Step::Data { left: stored, padding },
            _ => Step::Skip { left: stored + padding as u64 },
        };
        Ok(Some(entry))
    }

    /// Reads the content of a header that says something about the entry behind it.
    fn finish_meta(&mut self, kind: EntryType) -> Result<(), UnpackError> {
        let mut bytes = std::mem::take(&mut self.held);
        self.said.is_something |= kind != EntryType::XGlobalHeader;
        self.step = Step::Skip { left: padding(bytes.len() as u64) as u64 };
        match kind {
            EntryType::GNULongName | EntryType::GNULongLink => {
                let end = bytes.iter().position(|it| *it == 0).unwrap_or(bytes.len());
                bytes.truncate(end);
                let to = match kind {
                    EntryType::GNULongName => &mut self.said.name,
                    _ => &mut self.said.link,
                };
                *to = Some(bytes);
                Ok(())
            }
            EntryType::XGlobalHeader => {
                match records(&bytes)?.iter().find(|it| it.0 == ERROR_KEY) {
                    Some((_, reason)) => Err(UnpackError::Reported(shown(reason))),
                    None => Ok(()), // what others say for all entries is not used here
                }
            }
            _ => {
                for (key, value) in records(&bytes)? {
                    self.said.note(key, value)?;
                }
                Ok(())
            }
        }
    }
}

/// The id in a field; root's in one that was left empty.
fn id(field: &[u8], value: std::io::Result<u64>) -> Option<u64> {
    let is_empty = || field.iter().all(|it| [0, b' '].contains(it));
    value.ok().or_else(|| is_empty().then_some(0))
}

/// What the entry of a header is.
fn kind_of(header: &Header, name: &[u8]) -> Kind {
    match header.entry_type() {
        // Before there were directories, their names ended so.
        EntryType::Regular if name.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        EntryType::Fifo => Kind::Pipe,
        EntryType::Char | EntryType::Block => Kind::Device,
        _ => Kind::Other,
    }
}

fn records(bytes: &[u8]) -> Result<Vec<Record<'_>>, UnpackError> {
    pax_records(bytes).ok_or(UnpackError::Broken("a PAX header is damaged"))
}

impl Said {
    fn note(&mut self, key: &[u8], value: &[u8]) -> Result<(), UnpackError> {
        match key {
            b"path" => self.name = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => {
                let size =
                    number(value).ok_or(UnpackError::Broken("a PAX header's size is no number"))?;
                self.size = Some(size);
            }
            b"uid" => self.owner.0 = number(value),
            b"gid" => self.owner.1 = number(value),
            b"mtime" => self.modified = time(value),
            _ => match (key.strip_prefix(b"GNU.sparse."), key.strip_prefix(XATTR)) {
                (Some(key), _) => self.sparse.note(key, value)?,
                (None, Some(name)) => self.xattrs.push((name.to_vec(), value.to_vec())),
                (None, None) => {}
            },
        }
        Ok(())
    }
}

/// A decimal number without a sign.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|it| !it.starts_with('+'))?.parse().ok()
}

/// Seconds and nanoseconds of a decimal number.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = part.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    match (text.starts_with('-'), nanoseconds) {
        (false, _) | (true, 0) => Some((seconds, nanoseconds)),
        (true, _) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds)),
    }
}

/// Takes at most `most` bytes off the front.
fn take<'a>(input: &mut &'a [u8], most: u64) -> &'a [u8] {
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
    let (piece, rest) = input.split_at(length);
    *input = rest;
    piece
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"12"), Some((12, 0)));
        assert_eq!(time(b"12.1234567891"), Some((12, 123_456_789)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-0.5"), Some((-1, 500_000_000)));
        for bad in [&b"x"[..], b"1.x", b"", b"99999999999999999999", b"\xff"] {
            assert_eq!(time(bad), None, "{bad:?}");
        }
    }
}
