//! Files of `KEY=VALUE` lines: the keys of providers, the defaults, profiles and records.
//!
//! agentvm gives these files to a shell. Here a line is an assignment or it is nothing: `export` in
//! front is allowed, values may be quoted as in a shell and may then span lines, and **nothing is
//! expanded or run**. `$(...)`, backticks and `$NAME` are the characters that they are; lines that
//! are no assignments do nothing, and [`EnvFile::problems`] names them.
//!
//! A file that is changed keeps its comments and its other lines as they are.

use std::collections::BTreeMap;

use crate::{text, words};

/// A file as it was read, and as it is being changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvFile {
    pieces: Vec<Piece>,
}

/// Some whole lines of a file.
#[derive(Clone, PartialEq, Eq)]
struct Piece {
    /// As they stand, without the last line feed.
    raw: String,
    /// The first line, counted from 1.
    line: usize,
    holds: Holds,
}

#[derive(Clone, PartialEq, Eq)]
enum Holds {
    /// A comment or nothing.
    Nothing,
    Assignment {
        key: String,
        value: String,
    },
    /// What a shell would act on.
    Problem(&'static str),
}

/// A line that does nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// What was expected.
    pub reason: &'static str,
}

/// Why a key or a value is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// Not the name of a variable.
    #[error("invalid key '{0}': must match ^[A-Z_][A-Z0-9_]*$, such as ANTHROPIC_API_KEY")]
    Key(String),
    /// Nothing to set.
    #[error("the value of {0} is empty; `unset` removes a key")]
    Empty(String),
    /// No environment can hold it.
    #[error("the value of {0} has a NUL character")]
    Nul(String),
}

/// Lines hold keys of providers: their values are in no log.
impl std::fmt::Debug for Piece {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = match &self.holds {
            Holds::Assignment { key, .. } => key,
            Holds::Nothing => "-",
            Holds::Problem(_) => "?",
        };
        write!(formatter, "{}: {key}", self.line)
    }
}

impl EnvFile {
    /// Reads a file. Every text is one; bytes that are not UTF-8 become U+FFFD.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut pieces = Vec::new();
        let (mut rest, mut line) = (text.as_ref(), 1);
        while !rest.is_empty() {
            let (holds, length) = piece(rest);
            let (raw, after) = rest.split_at(length);
            let raw = raw.strip_suffix('\n').unwrap_or(raw).to_owned();
            let lines = raw.matches('\n').count() + 1;
            pieces.push(Piece { raw, line, holds });
            (rest, line) = (after, line + lines);
        }
        Self { pieces }
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        self.pieces.iter().flat_map(|it| [it.raw.as_str(), "\n"]).collect()
    }

    /// The value of a key; the last one where it stands twice, as in a shell.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries().filter(|(it, _)| *it == key).last().map(|(_, value)| value)
    }

    /// Every assignment, in the order of the file.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pieces.iter().filter_map(|it| match &it.holds {
            Holds::Assignment { key, value } => Some((key.as_str(), value.as_str())),
            Holds::Nothing | Holds::Problem(_) => None,
        })
    }

    /// Every key with its value, in the order of their names.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.entries().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// The lines that do nothing here.
    pub fn problems(&self) -> Vec<Problem> {
        let problem = |it: &Piece| match it.holds {
            Holds::Problem(reason) => Some(Problem { line: it.line, reason }),
            Holds::Nothing | Holds::Assignment { .. } => None,
        };
        self.pieces.iter().filter_map(problem).collect()
    }

    /// Sets a key, where it stands or at the end, with its value in single quotes.
    ///
    /// The key is the name of a variable; [`check_key`] says whether it is. A line with a quote that
    /// has no end would take the new one with it, and becomes a comment.
    pub fn set(&mut self, key: &str, value: &str) {
        for piece in self.pieces.iter_mut().filter(|it| it.holds == Holds::Problem(OPEN)) {
            piece.raw.insert_str(0, "# ");
            piece.holds = Holds::Nothing;
        }
        let raw = format!("{key}={}", words::single_quote(value));
        let holds = Holds::Assignment { key: key.to_owned(), value: value.to_owned() };
        let first = self.pieces.iter().position(|it| it.is_of(key));
        let line = self.pieces.last().map_or(1, |it| it.line + 1);
        match first.and_then(|at| self.pieces.get_mut(at)) {
            Some(piece) => (piece.raw, piece.holds) = (raw, holds),
            None => self.pieces.push(Piece { raw, line, holds }),
        }
        // The last one would win.
        let mut seen = false;
        self.pieces.retain(|it| !it.is_of(key) || !std::mem::replace(&mut seen, true));
    }

    /// Removes a key. Returns whether it was there.
    pub fn unset(&mut self, key: &str) -> bool {
        let before = self.pieces.len();
        self.pieces.retain(|it| !it.is_of(key));
        self.pieces.len() != before
    }
}

impl Piece {
    fn is_of(&self, key: &str) -> bool {
        matches!(&self.holds, Holds::Assignment { key: it, .. } if it == key)
    }
}

/// Checks what a person sets in the file of providers' keys.
///
/// # Errors
///
/// [`EnvError`] says what was expected.
pub fn check_key(key: &str, value: &str) -> Result<(), EnvError> {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let digit_first = key.as_bytes().first().is_none_or(u8::is_ascii_digit);
    if digit_first || !key.bytes().all(allowed) {
        return Err(EnvError::Key(text::shown(key)));
    }
    if value.is_empty() {
        return Err(EnvError::Empty(key.to_owned()));
    }
    if value.contains('\0') {
        return Err(EnvError::Nul(key.to_owned()));
    }
    Ok(())
}

/// A value for people: up to 12 characters show 2, longer ones show 8 and the last 4.
pub fn masked(value: &str) -> String {
    let characters: Vec<_> = text::shown(value).chars().collect();
    let part = |range: &[char]| range.iter().collect::<String>();
    match characters.as_slice() {
        all @ ([] | [_]) => format!("{}…", part(all)),
        [one, two, rest @ ..] if rest.len() <= 10 => format!("{one}{two}…"),
        all => {
            let (head, tail) = (all.get(..8), all.get(all.len() - 4..));
            format!("{}…{}", part(head.unwrap_or_default()), part(tail.unwrap_or_default()))
        }
    }
}

/// The first piece of `text`, which is not empty, and its length in bytes with its line feed.
fn piece(text: &str) -> (Holds, usize) {
    let line_length = text.find('\n').map_or(text.len(), |at| at + 1);
    let line = text.get(..line_length).unwrap_or(text);
    let start = line.len() - line.trim_start().len();
    let body = line.trim();
    if body.is_empty() || body.starts_with('#') {
        return (Holds::Nothing, line_length);
    }
    let mut key_start = start;
    if let Some(rest) = body.strip_prefix("export").filter(|it| it.starts_with([' ', '\t'])) {
        key_start = start + (body.len() - rest.trim_start().len());
    }
    let assignment = line.get(key_start..).unwrap_or_default();
    let Some((key, _)) = assignment.split_once('=').filter(|(key, _)| is_variable(key)) else {
        return (Holds::Problem("expected KEY=VALUE; nothing in this file is run"), line_length);
    };
    let value_start = key_start + key.len() + 1;
    match read_value(text.get(value_start..).unwrap_or_default()) {
        Ok((value, length)) => {
            (Holds::Assignment { key: key.to_owned(), value }, value_start + length)
        }
        Err(reason) => (Holds::Problem(reason), line_length),
    }
}

/// Whether a text is the name of a variable.
pub(crate) fn is_variable(key: &str) -> bool {
    let mut bytes = key.bytes();
    bytes.next().is_some_and(|it| it.is_ascii_alphabetic() || it == b'_')
        && bytes.all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

/// The value that `text` begins with, and how long it is with what ends its line.
///
/// Quoted parts may follow each other. A value without any quotes at its beginning is all of its
/// line, without a comment: agentvm writes values with blanks that way.
fn read_value(text: &str) -> Result<(String, usize), &'static str> {
    let quoted = text.starts_with(['\'', '"']) || text.starts_with("$'");
    if !quoted {
        let length = text.find('\n').map_or(text.len(), |at| at + 1);
        let line = text.get(..length).unwrap_or(text);
        return Ok((unquoted(line), length));
    }
    let mut value = String::new();
    let mut rest = text;
    loop {
        let (part, after) = match rest.chars().next() {
            Some('\'') => single(rest)?,
            Some('"') => double(rest)?,
            Some('\\') if rest.starts_with("\\'") => ("'".to_owned(), rest.get(2..)),
            Some('$') if rest.starts_with("$'") => return Err(ANSI),
            _ => break,
        };
        value.push_str(&part);
        rest = after.unwrap_or_default();
    }
    let line = rest.split('\n').next().unwrap_or_default();
    let tail = line.trim();
    if !(tail.is_empty() || tail.starts_with('#') && line.starts_with([' ', '\t'])) {
        return Err("expected nothing but a comment after a quoted value");
    }
    let line_feed = usize::from(rest.len() > line.len());
    Ok((value, text.len() - rest.len() + line.len() + line_feed))
}

const ANSI: &str = "expected '...' or \"...\"; $'...' is not read here";
const OPEN: &str = "expected the end of a quoted value";

/// A line without quotes: `\x` is `x`, and ` #` begins a comment.
fn unquoted(line: &str) -> String {
    let line = line.trim();
    let end = line.match_indices('#').find(|(at, _)| {
        line.get(..*at).is_none_or(|before| before.ends_with([' ', '\t']) || before.is_empty())
    });
    let line = line.get(..end.map_or(line.len(), |(at, _)| at)).unwrap_or(line).trim_end();
    let mut value = String::with_capacity(line.len());
    let mut escaped = false;
    for character in line.chars() {
        escaped = character == '\\' && !escaped;
        if !escaped {
            value.push(character);
        }
    }
    value
}

/// `'...'` at the beginning of `text`, and what follows it.
fn single(text: &str) -> Result<(String, Option<&str>), &'static str> {
    let inner = text.get(1..).unwrap_or_default();
    let end = inner.find('\'').ok_or(OPEN)?;
    Ok((inner.get(..end).unwrap_or_default().to_owned(), inner.get(end + 1..)))
}

/// `"..."` at the beginning of `text`, and what follows it.
fn double(text: &str) -> Result<(String, Option<&str>), &'static str> {
    let inner = text.get(1..).unwrap_or_default();
    let mut value = String::new();
    let mut characters = inner.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, inner.get(at + 1..))),
            '\\' => match characters.next() {
                Some((_, next @ ('"' | '\\' | '$' | '`'))) => value.push(next),
                Some((_, '\n')) => {}
                Some((_, next)) => value.extend(['\\', next]),
                None => break,
            },
            _ => value.push(character),
        }
    }
    Err(OPEN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let file = EnvFile::parse(text.as_bytes());
        assert_eq!(file.entries().collect::<Vec<_>>(), expected, "{text}");
        let ended = text.ends_with('\n') || text.is_empty();
        assert_eq!(file.to_text(), format!("{text}{}", if ended { "" } else { "\n" }));
    }

    #[test]
    fn assignments_are_read_in_every_form() {
        check("", &[]);
        check(
            "# keys\n\nA=1\n  export B=2\nexport\tC='x y'\n",
            &[("A", "1"), ("B", "2"), ("C", "x y")],
        );
        check(
            "A=\"say \\\"hi\\\" \\$5 \\n\" # comment\nB='it'\\''s'",
            &[("A", "say \"hi\" $5 \\n"), ("B", "it's")],
        );
        check(
            "A=plain # comment\nB=a#b\nC=#all\nD=",
            &[("A", "plain"), ("B", "a#b"), ("C", ""), ("D", "")],
        );
        check("A='one\ntwo'\nB=\"x\ny\"\n", &[("A", "one\ntwo"), ("B", "x\ny")]);
        check("A=a\\ b\\\\\n", &[("A", "a b\\")]);
        check("A='x'\"y\"'z'\n", &[("A", "xyz")]);
        check("A=1\nA=2\n", &[("A", "1"), ("A", "2")]);
        assert_eq!(EnvFile::parse(b"A=1\nA=2\n").get("A"), Some("2"));
    }

    #[test]
    fn values_with_blanks_and_no_quotes_are_values() {
        // agentvm writes them so; its shell then runs `b` at every command.
        check("K=a b\n", &[("K", "a b")]);
    }

    #[test]
    fn what_a_shell_would_run_is_text_or_nothing() {
        check(
            "A=$(touch /tmp/x)\nB=`id`\nC=\"$(id)\"\nD='$HOME'\nE=${HOME}/x;id\n",
            &[
                ("A", "$(touch /tmp/x)"),
                ("B", "`id`"),
                ("C", "$(id)"),
                ("D", "$HOME"),
                ("E", "${HOME}/x;id"),
            ],
        );
        let text = "rm -rf /\nsource /tmp/x\n. x\nif true; then\nA=1\nfi\neval \"B=1\"\nexport\nC[0]=1\n2=3\n=4\n";
        check(text, &[("A", "1")]);
        let lines: Vec<_> =
            EnvFile::parse(text.as_bytes()).problems().iter().map(|it| it.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn a_quote_without_an_end_costs_its_line_alone() {
        let file = EnvFile::parse(b"A='open\nB=2\nC=\"open\nD=4\nE='x' y\nF=$'x'\n");
        let expected = [("B", "2"), ("D", "4")];
        assert_eq!(file.entries().collect::<Vec<_>>(), expected);
        assert_eq!(file.problems().len(), 4);
    }

    #[test]
    fn a_change_keeps_the_rest_of_the_file() {
        let mut file = EnvFile::parse(b"# mine\nA=1\nrun me\nB='2'\nA=3\n");
        file.set("A", "it's $(x)");
        file.set("C", "multi\nline");
        let text = "# mine\nA='it'\\''s $(x)'\nrun me\nB='2'\nC='multi\nline'\n";
        assert_eq!(file.to_text(), text);
        let again = EnvFile::parse(text.as_bytes());
        assert_eq!(again.get("A"), Some("it's $(x)"));
        assert_eq!(again.get("C"), Some("multi\nline"));
        assert!(file.unset("B") && !file.unset("B"));
        assert_eq!(file.get("B"), None);
    }

    #[test]
    fn keys_of_providers_are_upper_case() {
        for good in ["A", "_", "A_1", "ANTHROPIC_API_KEY"] {
            check_key(good, "x").unwrap();
        }
        for bad in ["", "a", "1A", "A-B", "A B", "A=B", "Ä", "A\n"] {
            assert!(matches!(check_key(bad, "x"), Err(EnvError::Key(_))), "{bad}");
        }
        assert_eq!(check_key("A", ""), Err(EnvError::Empty("A".into())));
        assert_eq!(check_key("A", "\0"), Err(EnvError::Nul("A".into())));
    }

    #[test]
    fn values_are_masked() {
        let check = |value, expected: &str| assert_eq!(masked(value), expected);
        check("", "…");
        check("a", "a…");
        check("ab", "ab…");
        check("123456789012", "12…");
        check("sk-ant-0123456789abcd", "sk-ant-0…abcd");
        check("\x1b]0;title-and-more", "\u{fffd}]0;titl…more");
    }

    #[test]
    fn values_are_in_no_debug_text() {
        let file = EnvFile::parse(b"KEY=secret\nmy secret\n");
        assert!(!format!("{file:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_file(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let file = EnvFile::parse(&bytes);
            let text = file.to_text();
            prop_assert_eq!(EnvFile::parse(text.as_bytes()).to_text(), text);
        }

        #[test]
        fn what_is_set_is_read_back(before in "[AB='\"\\\\ #\n$]{0,30}", value in "[^\0]{0,20}") {
            let mut file = EnvFile::parse(before.as_bytes());
            file.set("KEY", &value);
            let again = EnvFile::parse(file.to_text().as_bytes());
            prop_assert_eq!(again.get("KEY"), Some(value.as_str()));
        }
    }
}
