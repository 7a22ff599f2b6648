//! Small texts on the way to the agent and back.

/// The value of `authorization` that names a user inside: basic, with an empty password.
pub(super) fn basic(user: &str) -> String {
    format!("Basic {}", base64(format!("{user}:").as_bytes()))
}

/// Standard base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            let letter = ALPHABET.get(index as usize).copied().unwrap_or(b'=');
            text.push(if place > group.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

/// A value of a query, with everything escaped that is not plain.
pub(super) fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// A guest's sentence, cut to so many bytes and without control characters.
pub(super) fn bounded(message: &str, bytes: usize) -> String {
    let end = message.floor_char_boundary(bytes.min(message.len()));
    let kept = message.get(..end).unwrap_or_default();
    kept.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_written_as_basic_credentials() {
        assert_eq!(basic("user"), "Basic dXNlcjo=");
        assert_eq!(basic("root"), "Basic cm9vdDo=");
        assert_eq!(basic("ab"), "Basic YWI6");
        assert_eq!(basic(""), "Basic Og==");
    }

    #[test]
    fn a_path_survives_a_query() {
        assert_eq!(escaped("/a b/ü&?"), "/a%20b/%C3%BC%26%3F");
    }

    #[test]
    fn a_guests_sentence_is_cut_between_characters() {
        assert_eq!(bounded("aé", 2), "a");
        assert_eq!(bounded("a\nb\u{1b}c", 9), "a b c");
    }
}
