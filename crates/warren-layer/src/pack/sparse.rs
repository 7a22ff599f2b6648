//! Files with holes.

use std::os::fd::OwnedFd;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use warren_archive::{BLOCK, Piece};

/// The most pieces of a file; with more, its holes are packed as zeros.
const MOST_PIECES: usize = 10_000;

/// Where a file has data; `None` when it is in too many pieces.
pub(super) fn map(file: &OwnedFd, size: u64) -> Result<Option<Vec<Piece>>, Errno> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let offset = match seek(file, SeekFrom::Data(at)) {
            Ok(offset) if offset < size => offset,
            Ok(_) | Err(Errno::NXIO) => break, // a hole to the end
            Err(error) => return Err(error),
        };
        at = seek(file, SeekFrom::Hole(offset))?.min(size);
        pieces.push(Piece { offset, length: at - offset });
        if pieces.len() > MOST_PIECES {
            return Ok(None);
        }
    }
    // Some programs take the size of the file from the last piece.
    if pieces.last().is_none_or(|it| it.offset + it.length < size) {
        pieces.push(Piece { offset: size, length: 0 });
    }
    Ok(Some(pieces))
}

/// The map as it is in front of the content: a number per line, filled up to whole blocks.
pub(super) fn text(pieces: &[Piece]) -> Vec<u8> {
    let mut text = format!("{}\n", pieces.len());
    for piece in pieces {
        text.push_str(&format!("{}\n{}\n", piece.offset, piece.length));
    }
    let mut text = text.into_bytes();
    text.resize(text.len().next_multiple_of(BLOCK), 0);
    text
}
