//! The bytes of a layer: hashed as they come, and decompressed.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;

use super::UnpackError;
use crate::digest::{Digest, Hasher};

/// Bytes that are passed on at once.
const PIECE: usize = 256 << 10;
/// The largest window of zstd that is decoded, as a power of two: it is memory.
const WINDOW: u32 = 27;
/// The longest magic number that is looked for.
const MAGIC_BYTES: usize = 6;

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Pumped {
    pub(super) compression: Compression,
    pub(super) digest: Digest,
    pub(super) compressed_bytes: u64,
    pub(super) bytes: u64,
}

/// Reads all of `source` and gives its decompressed bytes to `send`, until that answers false:
/// `None` then.
pub(super) fn pump<R: Read>(
    source: R,
    most: u64,
    mut send: impl FnMut(Vec<u8>) -> bool,
) -> Result<Option<Pumped>, UnpackError> {
    let mut source = Source::new(source);
    let compression = recognise(source.peek()?)?;
    let bytes = match compression {
        Compression::None => pass(&mut source, most, &mut send),
        Compression::Gzip => pass(&mut MultiGzDecoder::new(&mut source), most, &mut send),
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(&mut source);
            let decoder = decoder.and_then(|mut it| it.window_log_max(WINDOW).map(|()| it));
            decoder.map_err(Fault::Read).and_then(|mut it| pass(&mut it, most, &mut send))
        }
    };
    match bytes {
        Ok(bytes) => Ok(Some(Pumped {
            compression,
            digest: source.hasher.finish(),
            compressed_bytes: source.bytes,
            bytes,
        })),
        Err(Fault::Stopped) => Ok(None),
        Err(Fault::TooMuch) => Err(UnpackError::too_much("bytes", most)),
        Err(Fault::Read(error)) => Err(match source.failure {
            Some(failure) => UnpackError::Read(failure),
            None => UnpackError::Compressed(error),
        }),
    }
}

enum Fault {
    Read(io::Error),
    TooMuch,
    Stopped,
}

fn pass(
    reader: &mut impl Read,
    most: u64,
    send: &mut impl FnMut(Vec<u8>) -> bool,
) -> Result<u64, Fault> {
    let mut total = 0_u64;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        reader.by_ref().take(PIECE as u64).read_to_end(&mut piece).map_err(Fault::Read)?;
        if piece.is_empty() {
            return Ok(total);
        }
        total += piece.len() as u64;
        if total > most {
            return Err(Fault::TooMuch);
        }
        if !send(piece) {
            return Err(Fault::Stopped);
        }
    }
}

fn recognise(start: &[u8]) -> Result<Compression, UnpackError> {
    let others: [(&[u8], &str); 4] = [
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"PK\x03\x04", "zip"),
    ];
    if let Some((_, name)) = others.iter().find(|it| start.starts_with(it.0)) {
        return Err(UnpackError::Compression(name));
    }
    let is_skippable = || matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    Ok(match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ if is_skippable() => Compression::Zstd,
        _ => Compression::None,
    })
}

/// A buffered reader that counts and hashes.
#[derive(Debug)]
struct Source<R> {
    inner: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    hasher: Hasher,
    bytes: u64,
    /// Why the inner one could not be read: decoders wrap what they get.
    failure: Option<io::Error>,
}

impl<R: Read> Source<R> {
    fn new(inner: R) -> Self {
        let hasher = Hasher::default();
        Self { inner, buffer: vec![0; PIECE], start: 0, end: 0, hasher, bytes: 0, failure: None }
    }

    /// The first bytes, fewer only where there are no more.
    fn peek(&mut self) -> Result<&[u8], UnpackError> {
        while self.end < MAGIC_BYTES && self.fill_more().map_err(UnpackError::Read)? > 0 {}
        Ok(self.buffer.get(..self.end).unwrap_or_default())
    }

    /// Appends to the buffer.
    fn fill_more(&mut self) -> io::Result<usize> {
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let count = loop {
            match self.inner.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.hasher.update(room.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        self.end += count;
        Ok(count)
    }
}

impl<R: Read> BufRead for Source<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if let Err(error) = self.fill_more() {
                let kind = error.kind();
                self.failure = Some(error);
                return Err(kind.into());
            }
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.end);
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let held = self.fill_buf()?;
        let count = held.len().min(buffer.len());
        buffer.iter_mut().zip(held).for_each(|(to, from)| *to = *from);
        self.consume(count);
        Ok(count)
    }
}
