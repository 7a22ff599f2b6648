//! Reading an archive's entries out of bytes that come in pieces of any size.
//!
//! ```text
//!            +-------------------------------------------+
//!            v                                           |
//!  ---> Head --name, times--> Meta --padding--> Skip ----+
//!        | |                                     ^       |
//!        | +--file--> Data --padding-------------+       |
//!        +--anything else--> Skip -----------------------+
//!        +--empty block--> End (the rest is not looked at)
//! ```

use tar::{EntryType, Header};

use crate::error::{UnpackError, shown};
use crate::format::{BLOCK, ERROR_KEY, NAME_BYTES, Record, checksum_holds, padding, pax_records};

/// Bytes of one PAX header. They hold extended attributes too, which are not used here.
const PAX_BYTES: u64 = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    /// A device, a pipe, or what only other programs know.
    Other,
}

/// An entry's head, with what came before it for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    /// Seconds since 1970, and nanoseconds.
    pub(crate) modified: (i64, u32),
    pub(crate) size: u64,
}

/// What the next bytes of an archive are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    Entry(Entry),
    /// Content of the last entry, which is a file.
    Data(&'a [u8]),
    /// The content was complete. Comes for every file.
    EndOfFile,
}

#[derive(Debug)]
enum Step {
    Head,
    Meta { kind: EntryType, left: u64 },
    Data { left: u64, padding: usize },
    Skip { left: u64 },
    End,
}

/// What headers before an entry say about it.
#[derive(Debug, Default)]
struct Said {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<(i64, u32)>,
    is_sparse: bool,
}

/// The reader.
#[derive(Debug)]
pub(crate) struct Parser {
    step: Step,
    /// What is there of a block, or of a header's content.
    held: Vec<u8>,
    said: Said,
}

impl Parser {
    pub(crate) fn new() -> Self {
        Self { step: Step::Head, held: Vec::new(), said: Said::default() }
    }

    /// Whether the last entry was read.
    pub(crate) fn is_at_end(&self) -> bool {
        matches!(self.step, Step::End)
    }

    /// Takes bytes off the front of `input` until something is known; `None` when all are taken.
    pub(crate) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Event<'a>>, UnpackError> {
        loop {
            match self.step {
                Step::Data { left: 0, padding } => {
                    self.step = Step::Skip { left: padding as u64 };
                    return Ok(Some(Event::EndOfFile));
                }
                Step::Skip { left: 0 } => self.step = Step::Head,
                Step::Meta { kind, left: 0 } => self.finish_meta(kind)?,
                _ if input.is_empty() => return Ok(None),
                Step::End => *input = &[],
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
                Step::Meta { kind, left } => {
                    let piece = take(input, left);
                    self.held.extend_from_slice(piece);
                    self.step = Step::Meta { kind, left: left - piece.len() as u64 };
                }
                Step::Data { left, padding } => {
                    let piece = take(input, left);
                    self.step = Step::Data { left: left - piece.len() as u64, padding };
                    return Ok(Some(Event::Data(piece)));
                }
                Step::Skip { left } => {
                    let piece = take(input, left);
                    self.step = Step::Skip { left: left - piece.len() as u64 };
                }
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
            _ => return self.entry(&header, size).map(Some),
        };
        if size > limit {
            return Err(UnpackError::TooMuch(format!("a name or a header of {size} bytes")));
        }
        self.step = Step::Meta { kind, left: size };
        Ok(None)
    }

    /// The entry of a header, and the step for what follows it.
    fn entry(&mut self, header: &Header, size: u64) -> Result<Entry, UnpackError> {
        let said = std::mem::take(&mut self.said);
        let name = said.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match header.entry_type() {
            // Before there were directories, their names ended so.
            EntryType::Regular if name.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::HardLink,
            EntryType::GNUSparse => return Err(UnpackError::refused(&name, SPARSE)),
            _ => Kind::Other,
        };
        if said.is_sparse {
            return Err(UnpackError::refused(&name, SPARSE));
        }
        // Links, directories and devices have no content, whatever size some programs write.
        let size = match header.entry_type() {
            EntryType::Link | EntryType::Symlink | EntryType::Char | EntryType::Block => 0,
            EntryType::Directory | EntryType::Fifo => 0,
            _ => said.size.unwrap_or(size),
        };
        if size > i64::MAX as u64 {
            return Err(UnpackError::Broken("an entry's size is no number"));
        }
        let whole = size + padding(size) as u64;
        self.step = match kind {
            Kind::File => Step::Data { left: size, padding: padding(size) },
            _ => Step::Skip { left: whole },
        };
        let link = header.link_name_bytes().unwrap_or_default();
        let mode = header.mode();
        let modified = header.mtime().ok().and_then(|it| i64::try_from(it).ok());
        Ok(Entry {
            kind,
            name,
            link: said.link.unwrap_or_else(|| link.into_owned()),
            mode: mode.map_err(|_text| UnpackError::Broken("an entry's mode is no number"))?,
            modified: said.modified.or(modified.map(|it| (it, 0))).unwrap_or_default(),
            size,
        })
    }

    /// Reads the content of a header that says something about the entry behind it.
    fn finish_meta(&mut self, kind: EntryType) -> Result<(), UnpackError> {
        let mut bytes = std::mem::take(&mut self.held);
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

const SPARSE: &str = "it is sparse, expected an archive made without that";

fn records(bytes: &[u8]) -> Result<Vec<Record<'_>>, UnpackError> {
    pax_records(bytes).ok_or(UnpackError::Broken("a PAX header is damaged"))
}

impl Said {
    fn note(&mut self, key: &[u8], value: &[u8]) -> Result<(), UnpackError> {
        match key {
            b"path" => self.name = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|it| it.parse().ok());
                self.size =
                    Some(size.ok_or(UnpackError::Broken("a PAX header's size is no number"))?);
            }
            b"mtime" => self.modified = time(value),
            key if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
            _ => {}
        }
        Ok(())
    }
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
