//! Which refs a push would change.

use super::packet::{self, Packet, PacketError};

/// Bytes of a push before its objects. A push to a session has two lines.
const MOST_BYTES: usize = 256 * 1024;
/// Refs of one push.
const MOST_UPDATES: usize = 1000;

/// One ref that a push would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The ref's full name. It is text: other names are refused.
    pub name: String,
    /// The commit it is at, as far as the client knows; `None` where it is none.
    pub old: Option<String>,
    /// The commit it is to be at; `None` where it is to be removed.
    pub new: Option<String>,
}

/// What stands before the objects of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The refs, in their order. None in a request that only tries whether it is let in.
    pub updates: Vec<Update>,
    /// How many bytes of the body were read for this. What follows are options and objects.
    pub head_bytes: usize,
}

/// Reads the head of a push piece by piece: what comes as the body of `git-receive-pack`.
#[derive(Debug, Default)]
pub struct PushReader {
    buffer: Vec<u8>,
    read: usize,
    updates: Vec<Update>,
}

impl PushReader {
    /// Takes the next piece. `Some` once the list of refs has ended; ask no more then.
    ///
    /// # Errors
    ///
    /// [`PushError`] for what is no such list, or for more of it than anybody needs. The push must not
    /// be sent on.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Push>, PushError> {
        self.buffer.extend_from_slice(bytes);
        // What is behind the limit is not looked at, so that it does not matter how the bytes come.
        let most = self.buffer.len().min(MOST_BYTES);
        loop {
            let rest = self.buffer.get(self.read..most).unwrap_or_default();
            let Some((packet, length)) = packet::take(rest)? else {
                return if self.buffer.len() > MOST_BYTES {
                    Err(PushError::TooMuch)
                } else {
                    Ok(None)
                };
            };
            match packet {
                Packet::Flush => {
                    let (updates, head_bytes) =
                        (std::mem::take(&mut self.updates), self.read + length);
                    return Ok(Some(Push { updates, head_bytes }));
                }
                Packet::Mark => return Err(PushError::Line),
                Packet::Line(line) => self.updates.extend(command(line)?),
            }
            self.read += length;
            if self.updates.len() > MOST_UPDATES {
                return Err(PushError::TooMuch);
            }
        }
    }

    /// Everything that was fed, for sending on.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.buffer
    }
}

/// Reads one line; `None` for one that changes no ref.
///
/// What the client can do stands behind a NUL, and servers look for it behind the first one of any
/// line, so a name ends there.
fn command(line: &[u8]) -> Result<Option<Update>, PushError> {
    let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_not| PushError::Line)?;
    if let Some(id) = line.strip_prefix("shallow ") {
        return object(id).map(|_| None);
    }
    let mut fields = line.splitn(3, ' ');
    let (Some(old), Some(new), Some(name)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(PushError::Line);
    };
    let odd = |c: char| c.is_control() || c == ' ';
    if old.len() != new.len() || !name.starts_with("refs/") || name.contains(odd) {
        return Err(PushError::Line);
    }
    Ok(Some(Update { name: name.to_owned(), old: object(old)?, new: object(new)? }))
}

/// An object's name; `None` for all zeros.
fn object(text: &str) -> Result<Option<String>, PushError> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if !matches!(text.len(), 40 | 64) || !text.bytes().all(digit) {
        return Err(PushError::Line);
    }
    Ok(text.bytes().any(|byte| byte != b'0').then(|| text.to_owned()))
}

/// The head of a push that nobody understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// A packet is none.
    #[error("read the head of a push")]
    Packet(#[from] PacketError),
    /// A line is none of a push, or of a signed one.
    #[error("a line of a push is an old commit, a new one and the full name of a ref")]
    Line,
    /// There is too much before the objects.
    #[error("a push changes at most 1000 refs, with names of 256 KiB together")]
    TooMuch,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZEROS: &str = "0000000000000000000000000000000000000000";
    const ONES: &str = "1111111111111111111111111111111111111111";

    fn line(text: &str) -> Vec<u8> {
        format!("{:04x}{text}", text.len() + 4).into_bytes()
    }

    fn read(lines: &[String]) -> Result<Option<Push>, PushError> {
        let mut bytes: Vec<u8> = lines.iter().flat_map(|text| line(text)).collect();
        bytes.extend_from_slice(b"0000PACK....");
        PushReader::default().feed(&bytes)
    }

    #[test]
    fn the_refs_of_a_push_are_read_before_its_objects_have_come() {
        let first = format!("{ZEROS} {ONES} refs/heads/a\0 report-status object-format=sha1\n");
        let second = format!("{ONES} {ZEROS} refs/tags/b");
        let push = read(&[format!("shallow {ONES}"), first, second]).unwrap().unwrap();
        let ones = Some(ONES.to_owned());
        assert_eq!(push.updates.len(), 2);
        let made = Update { name: "refs/heads/a".to_owned(), old: None, new: ones.clone() };
        assert_eq!(push.updates[0], made);
        assert_eq!(
            push.updates[1],
            Update { name: "refs/tags/b".to_owned(), old: ones, new: None }
        );
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_come() {
        let mut bytes = line(&format!("{ZEROS} {ONES} refs/heads/a\0caps"));
        bytes.extend_from_slice(b"0000PACK");
        let mut reader = PushReader::default();
        let mut found = bytes.iter().map(|byte| reader.feed(&[*byte]).unwrap());
        let push = found.find_map(|push| push).unwrap();
        assert_eq!(push.head_bytes, bytes.len() - 4);
        assert_eq!(reader.into_bytes(), bytes[..bytes.len() - 4]);
    }

    #[test]
    fn what_two_could_read_in_two_ways_is_refused() {
        let name = |name: &str| format!("{ZEROS} {ONES} {name}");
        for wrong in [
            String::new(),
            "push-cert\0caps".to_owned(),
            name("HEAD"),
            name("refs/heads/a refs/heads/b"),
            name("refs/heads/a\nrefs/heads/b"),
            name(" refs/heads/a"),
            format!("{ZEROS} {} refs/heads/a", "1".repeat(64)),
            format!("{ZEROS} {} refs/heads/a", "A".repeat(40)),
            format!("{ZEROS}  {ONES} refs/heads/a"),
            "shallow x".to_owned(),
        ] {
            assert!(read(std::slice::from_ref(&wrong)).is_err(), "{wrong:?}");
        }
        assert_eq!(PushReader::default().feed(b"0001"), Err(PushError::Line));
    }

    #[test]
    fn what_follows_a_nul_names_no_ref() {
        let push = read(&[format!("{ZEROS} {ONES} refs/heads/a\0 refs/heads/b")]).unwrap().unwrap();
        assert_eq!(push.updates[0].name, "refs/heads/a");
    }

    #[test]
    fn a_head_without_an_end_is_cut_off() {
        let mut reader = PushReader::default();
        let piece = line(&format!("{ZEROS} {ONES} refs/heads/{}", "a".repeat(10_000)));
        let error = (0..100).find_map(|_| reader.feed(&piece).err());
        assert_eq!(error, Some(PushError::TooMuch));
    }
}
