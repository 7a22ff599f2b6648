//! Lines with their length in front.
//!
//! | bytes | what |
//! |---|---|
//! | `0..4` | the length of the whole in hexadecimal digits, these four included, or 0 to 3 |
//! | `4..n` | the line, 1 to 65516 bytes, mostly with a line feed at its end |
//!
//! The lengths 0, 1 and 2 are marks without a line; 3 is never sent.

/// The longest packet.
const LONGEST: usize = 65_520;

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// A line, without the line feed at its end.
    Line(&'a [u8]),
    /// The end of a list.
    Flush,
    /// Another mark.
    Mark,
}

/// Takes the first packet off: the packet and how many bytes it had; `None` for the beginning of one.
pub(super) fn take(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, PacketError> {
    let Some((digits, rest)) = bytes.split_first_chunk::<4>() else {
        // Wrong digits are wrong before the fourth has come.
        return if bytes.iter().all(u8::is_ascii_hexdigit) {
            Ok(None)
        } else {
            Err(PacketError::Length)
        };
    };
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(PacketError::Length);
    }
    let text = std::str::from_utf8(digits).map_err(|_not| PacketError::Length)?;
    let length = usize::from_str_radix(text, 16).map_err(|_not| PacketError::Length)?;
    match length {
        0 => Ok(Some((Packet::Flush, 4))),
        1 | 2 => Ok(Some((Packet::Mark, 4))),
        5..=LONGEST => {
            let Some(line) = rest.get(..length - 4) else { return Ok(None) };
            Ok(Some((Packet::Line(line.strip_suffix(b"\n").unwrap_or(line)), length)))
        }
        _ => Err(PacketError::Length),
    }
}

/// Bytes that are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The length is none.
    #[error("a packet begins with its length, 5 to 65520 as four hexadecimal digits, or is a mark")]
    Length,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_taken_off_one_by_one() {
        let bytes = b"0006a\n0005b00000001";
        assert_eq!(take(bytes), Ok(Some((Packet::Line(b"a"), 6))));
        assert_eq!(take(&bytes[6..]), Ok(Some((Packet::Line(b"b"), 5))));
        assert_eq!(take(&bytes[11..]), Ok(Some((Packet::Flush, 4))));
        assert_eq!(take(&bytes[15..]), Ok(Some((Packet::Mark, 4))));
        for part in [&b""[..], b"0", b"0006", b"0006a"] {
            assert_eq!(take(part), Ok(None));
        }
    }

    #[test]
    fn a_length_that_is_none_is_refused() {
        for wrong in [&b"0003"[..], b"0004", b"fff1", b"+005a", b"0x5a", b" 5", b"zzzz"] {
            assert_eq!(take(wrong), Err(PacketError::Length), "{wrong:?}");
        }
    }
}
