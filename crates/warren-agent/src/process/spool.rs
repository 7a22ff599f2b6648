//! The newest output of one process, for readers that come later.

use std::collections::VecDeque;

use hyper::body::Bytes;

/// Bytes kept per process.
pub(crate) const LIMIT_BYTES: usize = 1 << 20;
/// A piece that is still growing is closed at this size.
const PIECE_BYTES: usize = 16 << 10;

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
    Terminal,
}

/// Some output, with its position in all that the process wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) source: Source,
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
}

/// At most [`LIMIT_BYTES`] of output, the oldest dropped first.
///
/// A program that writes single bytes must not cost a whole record for each, so neighbours from one
/// source are collected in a growing piece.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    closed: VecDeque<Chunk>,
    open: Option<Open>,
    held_bytes: usize,
}

#[derive(Debug)]
struct Open {
    source: Source,
    offset: u64,
    bytes: Vec<u8>,
}

impl Spool {
    /// Adds output; chunks come in order of their offsets, without gaps.
    pub(crate) fn push(&mut self, chunk: &Chunk) {
        self.held_bytes += chunk.bytes.len();
        if chunk.bytes.len() >= PIECE_BYTES {
            self.close();
            self.closed.push_back(chunk.clone());
        } else {
            self.grow(chunk);
        }
        self.trim();
    }

    fn grow(&mut self, chunk: &Chunk) {
        let fits = |open: &Open| {
            open.source == chunk.source && open.bytes.len() + chunk.bytes.len() <= PIECE_BYTES
        };
        if !self.open.as_ref().is_some_and(fits) {
            self.close();
        }
        let (source, offset) = (chunk.source, chunk.offset);
        let open = self.open.get_or_insert_with(|| Open { source, offset, bytes: Vec::new() });
        open.bytes.extend_from_slice(&chunk.bytes);
    }

    fn close(&mut self) {
        if let Some(Open { source, offset, mut bytes }) = self.open.take() {
            bytes.shrink_to_fit();
            self.closed.push_back(Chunk { source, offset, bytes: bytes.into() });
        }
    }

    fn trim(&mut self) {
        while self.held_bytes > LIMIT_BYTES {
            let Some(oldest) = self.closed.pop_front() else { return };
            self.held_bytes -= oldest.bytes.len();
        }
    }

    /// Everything held from byte `offset` on; the first chunk's own offset tells where it starts.
    pub(crate) fn since(&self, offset: u64) -> VecDeque<Chunk> {
        let open = self.open.as_ref().map(|it| Chunk {
            source: it.source,
            offset: it.offset,
            bytes: Bytes::copy_from_slice(&it.bytes),
        });
        self.closed.iter().cloned().chain(open).filter_map(|it| cut(it, offset)).collect()
    }

    /// Bytes held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

/// The part of `chunk` from `offset` on.
fn cut(mut chunk: Chunk, offset: u64) -> Option<Chunk> {
    let skip = usize::try_from(offset.saturating_sub(chunk.offset)).unwrap_or(usize::MAX);
    if skip >= chunk.bytes.len() {
        return None;
    }
    chunk.bytes = chunk.bytes.split_off(skip);
    chunk.offset += skip as u64;
    Some(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(spool: &mut Spool, pieces: &[(Source, usize)]) -> u64 {
        let mut offset = 0;
        for &(source, length) in pieces {
            let bytes = (offset..offset + length as u64).map(|it| it as u8).collect();
            spool.push(&Chunk { source, offset, bytes });
            offset += length as u64;
        }
        offset
    }

    #[track_caller]
    fn check(spool: &Spool, from: u64, first: u64, end: u64) {
        let chunks = spool.since(from);
        let mut next = first;
        for chunk in &chunks {
            assert_eq!(chunk.offset, next);
            for (position, byte) in (next..).zip(&chunk.bytes) {
                assert_eq!(*byte, position as u8);
            }
            next += chunk.bytes.len() as u64;
        }
        assert_eq!(next, end);
    }

    #[test]
    fn output_is_replayed_from_any_byte() {
        let mut spool = Spool::default();
        let pieces = [
            (Source::Stdout, 3),
            (Source::Stdout, 4),
            (Source::Stderr, 5),
            (Source::Stdout, 20_000),
            (Source::Stdout, 1),
        ];
        let end = fill(&mut spool, &pieces);
        assert_eq!(spool.since(0).len(), 4, "the first two are one piece");
        for from in [0, 1, 3, 6, 7, 11, 12, 500, end - 1] {
            check(&spool, from, from, end);
        }
        assert!(spool.since(end).is_empty() && spool.since(u64::MAX).is_empty());
    }

    #[test]
    fn the_oldest_goes_first_and_the_rest_says_where_it_starts() {
        let mut spool = Spool::default();
        let end = fill(&mut spool, &[(Source::Terminal, 32 << 10); 100]);
        assert_eq!(spool.held_bytes(), LIMIT_BYTES);
        check(&spool, 0, end - LIMIT_BYTES as u64, end);
    }

    #[test]
    fn single_bytes_cost_no_more_than_themselves() {
        let mut spool = Spool::default();
        let end = fill(&mut spool, &vec![(Source::Stdout, 1); 3 * LIMIT_BYTES / 2]);
        assert!(spool.closed.len() <= LIMIT_BYTES / PIECE_BYTES + 1);
        assert!(spool.held_bytes() <= LIMIT_BYTES);
        check(&spool, end - 1000, end - 1000, end);
    }
}
