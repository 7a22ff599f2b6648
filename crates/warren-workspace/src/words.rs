//! Command lines as text, and back, without a shell.

use std::iter::Peekable;
use std::str::Chars;

/// Why a text is no list of words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// A quote has no end.
    #[error("a quote `{0}` is not closed")]
    Open(char),
    /// A shell would act on this, and nothing here is a shell.
    #[error("`{0}` is not quoted: this is a list of words, and no shell reads it")]
    Active(char),
    /// `$'...'` with an escape that has no meaning here.
    #[error("`\\{0}` in `$'...'` is not understood")]
    Escape(char),
}

/// Writes words so that a POSIX shell with `$'...'`, such as bash, reads them back, one space apart.
///
/// The form is that of bash's `printf %q`, which agentvm keeps command lines in.
pub fn join<S: AsRef<str>>(words: &[S]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| quote(word.as_ref())).collect();
    quoted.join(" ")
}

/// Writes one word: as it is where no character means anything to a shell, else quoted.
pub fn quote(word: &str) -> String {
    if word.is_empty() {
        return "''".to_owned();
    }
    if word.chars().any(char::is_control) {
        return ansi_quote(word);
    }
    let mut out = String::with_capacity(word.len());
    for (index, character) in word.chars().enumerate() {
        let plain = character.is_ascii_alphanumeric()
            || !character.is_ascii()
            || "_@%+:./=-".contains(character)
            || (character == '#' || character == '~') && index > 0;
        if !plain {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// `$'...'`: the only form that holds control characters on one line.
fn ansi_quote(word: &str) -> String {
    let mut out = String::from("$'");
    for character in word.chars() {
        match character {
            '\'' => out.push_str("\\'"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            _ if character.is_ascii_control() => {
                out.push_str(&format!("\\{:03o}", u32::from(character)));
            }
            _ => out.push(character),
        }
    }
    out.push('\'');
    out
}

/// Writes `text` in single quotes, as one word that no shell looks into.
pub fn single_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Reads words: parted by blanks, with `\x`, `'...'`, `"..."` and `$'...'` as in a shell.
///
/// Nothing is expanded and nothing is run: what a shell would act on (`$x`, backticks, `;`, `|`,
/// `&`, `<`, `>`, parentheses, line breaks) is an error unless it is quoted.
///
/// # Errors
///
/// [`WordsError`], which names the character.
///
/// # Examples
///
/// ```
/// use warren_workspace::words::{join, split};
///
/// let words = ["sh", "-c", "echo 'a b'; true"];
/// assert_eq!(join(&words), r"sh -c echo\ \'a\ b\'\;\ true");
/// assert_eq!(split(&join(&words)).unwrap(), words);
/// assert!(split("echo $(rm -rf /)").is_err());
/// ```
pub fn split(text: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            ' ' | '\t' => words.extend(word.take()),
            '\\' => match rest.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err(WordsError::Open('\\')),
            },
            '\'' => single(&mut rest, word.get_or_insert_default())?,
            '"' => double(&mut rest, word.get_or_insert_default())?,
            '$' if rest.peek() == Some(&'\'') => {
                rest.next();
                ansi(&mut rest, word.get_or_insert_default())?;
            }
            '$' | '`' | ';' | '|' | '&' | '<' | '>' | '(' | ')' | '\n' | '\r' => {
                return Err(WordsError::Active(character));
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single(rest: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), WordsError> {
    for character in rest {
        match character {
            '\'' => return Ok(()),
            _ => word.push(character),
        }
    }
    Err(WordsError::Open('\''))
}

fn double(rest: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), WordsError> {
    while let Some(character) = rest.next() {
        match character {
            '"' => return Ok(()),
            '$' | '`' => return Err(WordsError::Active(character)),
            '\\' => match rest.next() {
                Some(next @ ('"' | '\\' | '$' | '`')) => word.push(next),
                Some('\n') => {}
                Some(next) => word.extend(['\\', next]),
                None => break,
            },
            _ => word.push(character),
        }
    }
    Err(WordsError::Open('"'))
}

fn ansi(rest: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), WordsError> {
    while let Some(character) = rest.next() {
        match character {
            '\'' => return Ok(()),
            '\\' => match rest.next() {
                Some(next @ ('\'' | '\\' | '"')) => word.push(next),
                Some('n') => word.push('\n'),
                Some('t') => word.push('\t'),
                Some('r') => word.push('\r'),
                Some('a') => word.push('\x07'),
                Some('b') => word.push('\x08'),
                Some('f') => word.push('\x0c'),
                Some('v') => word.push('\x0b'),
                Some('E' | 'e') => word.push('\x1b'),
                Some(first @ '0'..='7') => word.push(octal(first, rest)?),
                Some(other) => return Err(WordsError::Escape(other)),
                None => break,
            },
            _ => word.push(character),
        }
    }
    Err(WordsError::Open('\''))
}

/// Up to three octal digits: an ASCII character. bash writes no other that way in a UTF-8 locale.
fn octal(first: char, rest: &mut Peekable<Chars<'_>>) -> Result<char, WordsError> {
    let mut value = first.to_digit(8).unwrap_or_default();
    for _ in 0..2 {
        let Some(digit) = rest.peek().and_then(|it| it.to_digit(8)) else { break };
        rest.next();
        value = value * 8 + digit;
    }
    match char::from_u32(value) {
        Some(character) if character.is_ascii() && value != 0 => Ok(character),
        _ => Err(WordsError::Escape(first)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_written_as_bash_writes_them() {
        let check = |word: &str, expected: &str| assert_eq!(quote(word), expected);
        check("", "''");
        check("claude", "claude");
        check("--model=gpt-5/x:y", "--model=gpt-5/x:y");
        check("a b", r"a\ b");
        check("$(touch x); `y` | z", r"\$\(touch\ x\)\;\ \`y\`\ \|\ z");
        check("it's \"q\"", r#"it\'s\ \"q\""#);
        check("a\nb\x1b'\\", r"$'a\nb\033\'\\'");
        check("~#a~#", r"\~#a~#");
        check("zwölf", "zwölf");
    }

    #[test]
    fn words_are_read_as_data() {
        let check = |text: &str, expected: &[&str]| assert_eq!(split(text).unwrap(), expected);
        check("", &[]);
        check("  a \t b ", &["a", "b"]);
        check(r#"a\ b 'c d' "e \"f\" \x" g'h'"i""#, &["a b", "c d", r#"e "f" \x"#, "ghi"]);
        check(r"'' $'a\nb\033[0m\'\\' x''", &["", "a\nb\x1b[0m'\\", "x"]);
        check("a*?[x]{b,c}!", &["a*?[x]{b,c}!"]);
    }

    #[test]
    fn what_a_shell_would_run_is_refused() {
        for text in [
            "a; b",
            "$(x)",
            "a `b`",
            "a | b",
            "a & b",
            "a > b",
            "a < b",
            "(a)",
            "$HOME",
            "a\nb",
            "\"$(x)\"",
            "\"`x`\"",
            "\"$HOME\"",
        ] {
            assert!(matches!(split(text), Err(WordsError::Active(_))), "{text}");
        }
        for text in ["'a", "\"a", "$'a", "a\\", "\"a\\", "$'a\\"] {
            assert!(matches!(split(text), Err(WordsError::Open(_))), "{text}");
        }
        for text in [r"$'\x41'", r"$'\0'", r"$'\377'", r"$'\u0041'"] {
            assert!(matches!(split(text), Err(WordsError::Escape(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_joined_is_read_back(words in proptest::collection::vec("[^\0]{0,12}", 0..5)) {
            prop_assert_eq!(split(&join(&words)).unwrap(), words);
        }

        #[test]
        fn one_word_in_single_quotes_is_itself(word in "[^\0]*") {
            prop_assert_eq!(split(&single_quote(&word)).unwrap(), [word]);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            drop(split(&text));
        }
    }
}
