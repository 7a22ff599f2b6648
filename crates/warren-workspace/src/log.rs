//! The end of a log.
//!
//! A log is as long as its agent writes: it is read backwards from its end, piece by piece, and no
//! further than is needed.

use std::{fs::File, io, os::unix::fs::FileExt as _};

/// How much is read at once.
const PIECE_BYTES: u64 = 64 << 10;

/// How much of the end is looked at: what full-screen programs write has few lines.
const MOST_BYTES: u64 = 16 << 20;

/// The last lines of a file, and where it ended: whoever follows it goes on there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The lines, as they are.
    pub bytes: Vec<u8>,
    /// The length of the file when it was read, in bytes.
    pub end: u64,
}

/// Reads the last `count` lines; a line that has no end yet is one.
///
/// At most 16 MiB are read: fewer lines then, the first of them without its beginning.
///
/// # Errors
///
/// Those of the filesystem.
pub fn last_lines(file: &File, count: usize) -> io::Result<Tail> {
    let end = file.metadata()?.len();
    let mut start = end;
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut wanted = count;
    while wanted > 0 && start > 0 && end - start < MOST_BYTES {
        let length = start.min(PIECE_BYTES);
        start -= length;
        let mut piece = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        match file.read_exact_at(&mut piece, start) {
            // It has become shorter: what was read is all there is.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            other => other?,
        }
        // What stands behind the last line feed of the file is the first line that is counted.
        let ends_here = start + length == end;
        let searched = if ends_here { piece.len().saturating_sub(1) } else { piece.len() };
        let mut at = searched;
        while let Some(found) =
            piece.get(..at).and_then(|it| it.iter().rposition(|it| *it == b'\n'))
        {
            wanted -= 1;
            at = found;
            if wanted == 0 {
                piece.drain(..=found);
                break;
            }
        }
        pieces.push(piece);
    }
    pieces.reverse();
    Ok(Tail { bytes: pieces.concat(), end })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn check(text: &str, count: usize, expected: &str) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let tail = last_lines(&file, count).unwrap();
        let bytes = String::from_utf8(tail.bytes).unwrap();
        assert_eq!((bytes.as_str(), tail.end), (expected, text.len() as u64), "{count}");
    }

    #[test]
    fn lines_are_counted_from_the_end() {
        check("", 5, "");
        check("a\nb\nc\n", 0, "");
        check("a\nb\nc\n", 1, "c\n");
        check("a\nb\nc\n", 2, "b\nc\n");
        check("a\nb\nc\n", 3, "a\nb\nc\n");
        check("a\nb\nc\n", 9, "a\nb\nc\n");
        check("a\nb\nc", 1, "c");
        check("a\nb\nc", 2, "b\nc");
        check("\n\n\n", 2, "\n\n");
        check("one", 1, "one");
    }

    #[test]
    fn lines_reach_over_pieces() {
        let long = "x".repeat(PIECE_BYTES as usize * 2 + 7);
        check(&format!("first\n{long}\nlast\n"), 2, &format!("{long}\nlast\n"));
        let many = "line\n".repeat(100_000);
        check(&many, 50_000, &"line\n".repeat(50_000));
        // A line feed exactly where a piece ends.
        let exact = format!("a\n{}", "y".repeat(PIECE_BYTES as usize));
        check(&exact, 1, &"y".repeat(PIECE_BYTES as usize));
        check(&exact, 2, &exact);
    }

    #[test]
    fn an_endless_line_is_cut() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        let tail = last_lines(&file, 10).unwrap();
        assert_eq!((tail.bytes.len() as u64, tail.end), (MOST_BYTES, 1 << 40));
    }
}
