//! Text and keys as a terminal types them.
//!
//! A prompt may come from a stranger: from an issue, a file, a web page. Typed as it is, an escape
//! code in it would be a key, and the end of a paste would let the rest be commands. So text has line
//! feeds and tabs and no other control characters; who wants keys names them.

/// Says to a program that asked for it that what follows is pasted.
const PASTE_BEGINS: &[u8] = b"\x1b[200~";
const PASTE_ENDS: &[u8] = b"\x1b[201~";

/// What the Enter key sends.
const ENTER: u8 = b'\r';

/// How a text is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typing {
    /// As one paste, for a program that has asked for that
    /// ([`Cleaner::bracketed_paste`](crate::text::Cleaner::bracketed_paste)): its lines are not
    /// taken one by one.
    Pasted,
    /// As keys, one after the other.
    Keys,
}

/// The bytes of a text of any length, without line feeds at its end.
pub fn typed(text: &str, typing: Typing) -> Vec<u8> {
    let text = text.trim_end_matches(['\n', '\r']);
    // What terminals send for a line break in a paste; as keys it would be Enter.
    let line_feed = if typing == Typing::Pasted { '\r' } else { '\n' };
    let text = text.replace("\r\n", "\n");
    let kept = text.chars().filter(|it| !it.is_control() || matches!(it, '\n' | '\t'));
    let text: String = kept.map(|it| if it == '\n' { line_feed } else { it }).collect();
    match typing {
        Typing::Pasted => [PASTE_BEGINS, text.as_bytes(), PASTE_ENDS].concat(),
        Typing::Keys => text.into_bytes(),
    }
}

/// The bytes of the Enter key.
pub fn enter() -> Vec<u8> {
    vec![ENTER]
}

/// The bytes of a key by the name that tmux has for it: `Enter`, `Escape`, `Up`, `F5`, `C-c`, `M-x`,
/// or one character. None where there is no such key.
///
/// # Examples
///
/// ```
/// use warren_workspace::prompt::key;
///
/// assert_eq!(key("C-c").as_deref(), Some(&b"\x03"[..]));
/// assert_eq!(key("M-Enter").as_deref(), Some(&b"\x1b\r"[..]));
/// assert_eq!(key("Hyper-x"), None);
/// ```
pub fn key(name: &str) -> Option<Vec<u8>> {
    if let Some(rest) = name.strip_prefix("M-") {
        let mut bytes = key(rest).filter(|it| it.first() != Some(&0x1b))?;
        bytes.insert(0, 0x1b);
        return Some(bytes);
    }
    if let Some(rest) = name.strip_prefix("C-").or_else(|| name.strip_prefix('^')) {
        return control(rest).map(|it| vec![it]);
    }
    let bytes: &[u8] = match name {
        "Enter" => b"\r",
        "Escape" => b"\x1b",
        "Tab" => b"\t",
        "BTab" => b"\x1b[Z",
        "Space" => b" ",
        "BSpace" => b"\x7f",
        "Up" => b"\x1b[A",
        "Down" => b"\x1b[B",
        "Right" => b"\x1b[C",
        "Left" => b"\x1b[D",
        "Home" => b"\x1b[H",
        "End" => b"\x1b[F",
        "IC" | "Insert" => b"\x1b[2~",
        "DC" | "Delete" => b"\x1b[3~",
        "PPage" | "PageUp" | "PgUp" => b"\x1b[5~",
        "NPage" | "PageDown" | "PgDn" => b"\x1b[6~",
        "F1" => b"\x1bOP",
        "F2" => b"\x1bOQ",
        "F3" => b"\x1bOR",
        "F4" => b"\x1bOS",
        "F5" => b"\x1b[15~",
        "F6" => b"\x1b[17~",
        "F7" => b"\x1b[18~",
        "F8" => b"\x1b[19~",
        "F9" => b"\x1b[20~",
        "F10" => b"\x1b[21~",
        "F11" => b"\x1b[23~",
        "F12" => b"\x1b[24~",
        _ => {
            let mut characters = name.chars();
            let one = characters.next().filter(|it| !it.is_control())?;
            return characters.next().is_none().then(|| one.to_string().into_bytes());
        }
    };
    Some(bytes.to_vec())
}

/// The control character of one key.
fn control(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => Some(letter.to_ascii_uppercase() - b'@'),
        [b'@'] => Some(0),
        [other @ b'['..=b'_'] => Some(other - b'@'),
        _ if name == "Space" => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, typing: Typing, expected: &str) {
        assert_eq!(String::from_utf8(typed(text, typing)).unwrap(), expected);
    }

    #[test]
    fn text_is_typed_as_it_is() {
        check("write `a` & \"b\" $(c)\n\n", Typing::Keys, "write `a` & \"b\" $(c)");
        check("zwölf 🦊\tx", Typing::Keys, "zwölf 🦊\tx");
        check("a\nb\r\nc\n", Typing::Keys, "a\nb\nc");
        check("a\nb\r\nc\n", Typing::Pasted, "\x1b[200~a\rb\rc\x1b[201~");
        check("", Typing::Pasted, "\x1b[200~\x1b[201~");
    }

    #[test]
    fn a_text_cannot_leave_its_paste() {
        let text = "fine\x1b[201~\rrm -rf /\r\x03\u{9b}201~";
        check(text, Typing::Pasted, "\x1b[200~fine[201~rm -rf /201~\x1b[201~");
        check(text, Typing::Keys, "fine[201~rm -rf /201~");
    }

    #[test]
    fn a_long_text_is_whole() {
        let text = "0123456789".repeat(100_000);
        let typed = typed(&text, Typing::Pasted);
        assert_eq!(typed.len(), text.len() + PASTE_BEGINS.len() + PASTE_ENDS.len());
    }

    #[test]
    fn keys_have_names() {
        let check = |name: &str, expected: Option<&[u8]>| {
            assert_eq!(key(name).as_deref(), expected, "{name}");
        };
        check("Enter", Some(&enter()));
        check("C-c", Some(b"\x03"));
        check("C-C", Some(b"\x03"));
        check("^[", Some(b"\x1b"));
        check("C-Space", Some(b"\0"));
        check("M-x", Some(b"\x1bx"));
        check("y", Some(b"y"));
        check("é", Some("é".as_bytes()));
        check("F12", Some(b"\x1b[24~"));
        for none in ["", "enter", "C-", "C-é", "C-Enter", "M-", "M-Up", "F13", "yes", "\x1b", "\n"]
        {
            check(none, None);
        }
    }

    proptest! {
        #[test]
        fn a_paste_ends_once(text in "[\x1b\u{9b}\\[201~a\r\n]{0,40}") {
            let typed = typed(&text, Typing::Pasted);
            prop_assert_eq!(typed.iter().filter(|it| **it == 0x1b).count(), 2);
            prop_assert!(typed.ends_with(PASTE_ENDS));
        }
    }
}
