//! What programs print, without what terminals obey.
//!
//! A log holds every byte that an agent wrote, and an agent may be hostile: shown as it is, it sets
//! the title and the clipboard of whoever reads it, hides lines and types answers. [`Cleaner`] is the
//! parser of a terminal that keeps the text alone.
//!
//! ```text
//!            ESC            [            final byte
//!   Ground -------> Escape ---> Control ------------> Ground
//!     ^ ^             |  ] P X ^ _
//!     | |             +------------> String ----+
//!     | +--- one character, BEL, ESC \, a limit-+
//!     +----- CAN and SUB, from everywhere
//! ```
//!
//! What moves the cursor becomes the space or the line break that it looked like, so that the
//! screens of full-screen programs can be read at all. What is hidden from a terminal by its own
//! rules (a string that never ends) is limited in length.

use std::mem;

/// How long a string of the terminal's own may be, in characters: titles, links, the clipboard,
/// pictures. What follows is text again.
const STRING_CHARS: u32 = 1 << 20;

/// How many spaces one step to the right can be.
const MOST_SPACES: usize = 200;

/// How far one escape code may go on, in characters, before it is none.
const CODE_CHARS: usize = 256;

/// Takes bytes of a terminal in pieces of any size, and gives their text.
///
/// The text has line feeds and tabs, and no other control character: none of C0 and C1, and none
/// that turns the direction of writing. It is UTF-8; what is not becomes U+FFFD.
#[derive(Debug, Default)]
pub struct Cleaner {
    state: State,
    /// The beginning of a character whose end has not come: at most 3 bytes.
    partial: Vec<u8>,
    /// Whether the line has something on it.
    on_line: bool,
    /// A carriage return has come, and what follows decides what it was.
    returned: bool,
    bracketed_paste: bool,
    bells: u64,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// One more character belongs to it: `ESC ( B`.
    EscapeOne,
    /// `ESC [`: the parameters so far.
    Control(String),
    /// `ESC ]` and its like: whether BEL ends it, and how long it is.
    String {
        bell: bool,
        chars: u32,
    },
    /// ESC within a string: only `\` ends it as it should.
    StringEscape,
}

impl Cleaner {
    /// Takes the next bytes and adds their text to `out`.
    ///
    /// A character, or a code, may begin in one piece and end in another.
    pub fn feed(&mut self, bytes: &[u8], out: &mut String) {
        let mut all = mem::take(&mut self.partial);
        all.extend_from_slice(bytes);
        let mut rest = all.as_slice();
        loop {
            let (valid, after) = match std::str::from_utf8(rest) {
                Ok(text) => (text, None),
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    let valid = std::str::from_utf8(valid).unwrap_or_default();
                    (valid, Some((after, error.error_len())))
                }
            };
            valid.chars().for_each(|character| self.step(character, out));
            match after {
                None => return,
                Some((after, None)) => {
                    self.partial = after.to_vec();
                    return;
                }
                Some((after, Some(wrong))) => {
                    self.step(char::REPLACEMENT_CHARACTER, out);
                    rest = after.get(wrong..).unwrap_or_default();
                }
            }
        }
    }

    /// Whether the program has asked that what is pasted be marked as such.
    pub fn bracketed_paste(&self) -> bool {
        self.bracketed_paste
    }

    /// How often the program rang.
    pub fn bells(&self) -> u64 {
        self.bells
    }

    fn step(&mut self, character: char, out: &mut String) {
        match (character, &mut self.state) {
            // CAN and SUB stop every code.
            ('\x18' | '\x1a', state) => *state = State::Ground,
            ('\x1b', State::String { .. }) => self.state = State::StringEscape,
            ('\x1b', state) => *state = State::Escape,
            (_, State::Ground) => self.ground(character, out),
            (_, State::Escape) => self.escape(character, out),
            (_, State::EscapeOne) => self.state = State::Ground,
            (_, State::Control(_)) => self.control(character, out),
            (_, State::String { bell, chars }) => {
                *chars += 1;
                let ends = match character {
                    '\x07' | '\n' => *bell,
                    '\u{9c}' => true,
                    _ => *chars >= STRING_CHARS,
                };
                if ends {
                    self.state = State::Ground;
                    if character == '\n' {
                        self.ground('\n', out);
                    }
                }
            }
            ('\\', State::StringEscape) => self.state = State::Ground,
            // The string was broken off by another code.
            (_, State::StringEscape) => self.escape(character, out),
        }
    }

    /// A character outside of every code.
    fn ground(&mut self, character: char, out: &mut String) {
        match character {
            '\r' => self.returned = true,
            '\n' | '\x0b' | '\x0c' | '\u{85}' => {
                self.returned = false;
                out.push('\n');
                self.on_line = false;
            }
            '\u{9b}' => self.state = State::Control(String::new()),
            '\u{90}' | '\u{98}' | '\u{9e}' | '\u{9f}' => self.string(false),
            '\u{9d}' => self.string(true),
            '\t' => self.put('\t', out),
            '\x07' => self.bells = self.bells.saturating_add(1),
            _ if is_shown(character) => self.put(character, out),
            _ => {}
        }
    }

    /// The character after ESC.
    fn escape(&mut self, character: char, out: &mut String) {
        self.state = State::Ground;
        match character {
            '[' => self.state = State::Control(String::new()),
            ']' => self.string(true),
            'P' | 'X' | '^' | '_' => self.string(false),
            ' '..='/' => self.state = State::EscapeOne,
            // A full reset.
            'c' => self.bracketed_paste = false,
            // Next line, index, reverse index.
            'E' | 'D' | 'M' => self.line_break(out),
            '\n' | '\r' | '\t' => self.ground(character, out),
            _ => {}
        }
    }

    /// A character of a control sequence.
    fn control(&mut self, character: char, out: &mut String) {
        let State::Control(parameters) = &mut self.state else { return };
        match character {
            ' '..='?' if parameters.len() < CODE_CHARS => parameters.push(character),
            '@'..='~' => {
                let parameters = mem::take(parameters);
                self.state = State::Ground;
                self.moved(character, &parameters, out);
            }
            // A terminal acts on these in the middle of a code.
            '\n' | '\r' | '\t' => {
                let parameters = mem::take(parameters);
                self.ground(character, out);
                self.state = State::Control(parameters);
            }
            '\0'..='\x1f' | '\x7f' => {}
            _ => {
                self.state = State::Ground;
                self.ground(character, out);
            }
        }
    }

    /// A whole control sequence.
    fn moved(&mut self, last: char, parameters: &str, out: &mut String) {
        match last {
            'C' | 'a' => {
                let count = parameters.parse().unwrap_or(1).clamp(1, MOST_SPACES);
                (0..count).for_each(|_| self.put(' ', out));
            }
            'A' | 'B' | 'E' | 'F' | 'H' | 'd' | 'f' => self.line_break(out),
            'h' | 'l' => {
                let mut modes = parameters.strip_prefix('?').unwrap_or_default().split(';');
                if modes.any(|it| it == "2004") {
                    self.bracketed_paste = last == 'h';
                }
            }
            _ => {}
        }
    }

    fn string(&mut self, bell: bool) {
        self.state = State::String { bell, chars: 0 };
    }

    fn put(&mut self, character: char, out: &mut String) {
        if mem::take(&mut self.returned) {
            self.line_break(out);
        }
        out.push(character);
        self.on_line = true;
    }

    /// Another line, unless this one is still empty.
    fn line_break(&mut self, out: &mut String) {
        self.returned = false;
        if mem::take(&mut self.on_line) {
            out.push('\n');
        }
    }
}

/// The text of all of `bytes`.
pub fn clean(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut cleaner = Cleaner::default();
    cleaner.feed(bytes, &mut out);
    if !cleaner.partial.is_empty() {
        out.push(char::REPLACEMENT_CHARACTER);
    }
    out
}

/// One line of `text` for a table or a message: what does not print becomes U+FFFD.
pub fn shown(text: &str) -> String {
    text.chars().map(|it| if is_shown(it) { it } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// Whether a character prints and does nothing else.
fn is_shown(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            // Line and paragraph separators, and what turns the direction of writing.
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(clean(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        // The same in single bytes.
        let mut out = String::new();
        let mut cleaner = Cleaner::default();
        bytes.iter().for_each(|byte| cleaner.feed(&[*byte], &mut out));
        assert_eq!(out, expected.trim_end_matches('\u{fffd}'), "in single bytes");
    }

    #[test]
    fn text_stays_as_it_is() {
        check("a\tb\nzwölf 🦊\n".as_bytes(), "a\tb\nzwölf 🦊\n");
        check(b"\n\n\n", "\n\n\n");
    }

    #[test]
    fn colours_titles_links_and_modes_go() {
        check(b"\x1b[1;31mred\x1b[0m \x1b[38:2::1:2:3mx", "red x");
        check(b"\x1b]0;title\x07a\x1b]0;title\x1b\\b", "ab");
        check(b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link");
        check(b"\x1b[>4;1m\x1b[?25l\x1b=\x1b>\x1b(B\x1b)0x\x0e\x0f", "x");
        check(b"\x1bPq#0;2;0\x1b\\a\x1b_Gf=1;AAAA\x1b\\b\x1b^pm\x1b\\c\x1bXsos\x1b\\d", "abcd");
        check(b"\x1b]52;c;cm0gLXJmIH4=\x07ok", "ok");
        check(b"bell\x07 back\x08space nul\0 del\x7f", "bell backspace nul del");
    }

    #[test]
    fn codes_of_eight_bits_are_codes_too() {
        check("\u{9b}2Ja\u{9d}0;t\u{9c}b\u{90}q\u{9c}c\u{85}d".as_bytes(), "abc\nd");
        // Alone such a byte is no UTF-8, and no code of a terminal that reads UTF-8.
        let text = clean(b"a\x9b2J");
        assert_eq!(text, "a\u{fffd}2J");
    }

    #[test]
    fn a_code_inside_a_code_hides_no_text() {
        check(b"\x1b[31\x1b[32mx", "x");
        check(b"\x1b]0;t\x1b[1mx", "x");
        check(b"\x1b[3\x181mx", "1mx");
        check(b"\x1b]0;never ended\nnext line", "\nnext line");
        check("\x1b[3é".as_bytes(), "é");
        check(b"\x1b[1\n;2mx", "\nx");
        let endless = [b"\x1bP".as_slice(), &vec![b'x'; STRING_CHARS as usize], b"seen"].concat();
        assert_eq!(clean(&endless), "seen");
        let long = [b"\x1b[".as_slice(), &[b'1'; CODE_CHARS + 1], b"mx"].concat();
        assert_eq!(clean(&long), "1mx");
    }

    #[test]
    fn lines_written_over_are_lines() {
        check(b"one\r\ntwo\r\n", "one\ntwo\n");
        check(b"10%\r20%\r30%\r\n", "10%\n20%\n30%\n");
        check(b"\rprompt\r\r\n", "prompt\n");
        check(b"a\r\x1b[0m\nb", "a\nb");
    }

    #[test]
    fn screens_can_be_read() {
        check(b"\x1b[H\x1b[2Jhello\x1b[3Cworld\x1b[2;1Hnext", "hello   world\nnext");
        check(b"a\x1b[99999999999999999999999Cb", "a b");
        assert_eq!(clean(b"a\x1b[5000Cb").len(), MOST_SPACES + 2);
    }

    #[test]
    fn pasting_and_bells_are_noticed() {
        let (mut cleaner, mut out) = (Cleaner::default(), String::new());
        let mut feed = |bytes: &[u8]| {
            cleaner.feed(bytes, &mut out);
            (cleaner.bracketed_paste(), cleaner.bells())
        };
        assert_eq!(feed(b"\x1b[2004h\x1b]0;t\x07"), (false, 0));
        assert_eq!(feed(b"\x1b[?25;2004h\x07"), (true, 1));
        assert_eq!(feed(b"\x1b[?2004l\x07"), (false, 2));
        assert_eq!(feed(b"\x1b[?2004h\x1bc"), (false, 2));
    }

    #[test]
    fn broken_characters_are_marked() {
        assert_eq!(clean(b"a\xffb\xc3"), "a\u{fffd}b\u{fffd}");
        assert_eq!(clean(b"\xf0\x9f\xa6"), "\u{fffd}");
    }

    #[test]
    fn nothing_turns_the_direction_of_writing() {
        check("a\u{202e}b\u{2066}c\u{200f}d\u{2028}e".as_bytes(), "abcde");
        assert_eq!(shown("a\u{202e}\x1bb\n"), "a\u{fffd}\u{fffd}b\u{fffd}");
    }

    proptest! {
        #[test]
        fn no_bytes_become_control_characters(bytes in proptest::collection::vec(
            prop_oneof![Just(0x1b), Just(b'['), Just(b']'), Just(0x9b), Just(0xc2), any::<u8>()],
            0..200,
        ), at in 0_usize..200) {
            let whole = clean(&bytes);
            prop_assert!(whole.chars().all(|it| it == '\n' || it == '\t' || is_shown(it)));
            // Where it is cut makes no difference.
            let (one, other) = bytes.split_at(at.min(bytes.len()));
            let (mut cleaner, mut out) = (Cleaner::default(), String::new());
            cleaner.feed(one, &mut out);
            cleaner.feed(other, &mut out);
            if !cleaner.partial.is_empty() {
                out.push(char::REPLACEMENT_CHARACTER);
            }
            prop_assert_eq!(out, whole);
        }
    }
}
