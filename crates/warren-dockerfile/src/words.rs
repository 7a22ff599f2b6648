//! A line's words: quotes keep together, the escape character takes meaning away.

use crate::ParseError;

/// The words of `text`, quotes and escapes left in.
pub(crate) fn raw_words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = raw_word(rest, escape);
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

/// The first word of `text`, which begins with one, and what follows it.
pub(crate) fn raw_word(text: &str, escape: char) -> (&str, &str) {
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if character == escape && quote != Some('\'') {
            escaped = true;
        } else if quote == Some(character) {
            quote = None;
        } else if quote.is_none() && matches!(character, '"' | '\'') {
            quote = Some(character);
        } else if quote.is_none() && character.is_whitespace() {
            return text.split_at(at);
        }
    }
    (text, "")
}

/// A word without its quotes and escapes.
pub(crate) fn unquote(word: &str, escape: char) -> String {
    let mut out = String::with_capacity(word.len());
    let mut quote = None;
    let mut characters = word.chars();
    while let Some(character) = characters.next() {
        if character == escape && quote != Some('\'') {
            out.extend(characters.next());
        } else if quote == Some(character) {
            quote = None;
        } else if quote.is_none() && matches!(character, '"' | '\'') {
            quote = Some(character);
        } else {
            out.push(character);
        }
    }
    out
}

/// `--name` or `--name=value` at the start of an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flag {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

impl Flag {
    /// The value, which must be there.
    pub(crate) fn required(&self, line: u32, example: &str) -> Result<&str, ParseError> {
        match self.value.as_deref() {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(ParseError::at(
                line,
                format!("`--{}` needs a value: expected `--{}={example}`", self.name, self.name),
            )),
        }
    }

    /// The value of a switch: on where there is none.
    pub(crate) fn switch(&self, line: u32) -> Result<bool, ParseError> {
        match self.value.as_deref() {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(ParseError::at(
                line,
                format!("`--{}={other}`: expected `true` or `false`", self.name),
            )),
        }
    }

    /// That this instruction has no such flag.
    pub(crate) fn unknown(&self, line: u32, keyword: &str, known: &str) -> ParseError {
        ParseError::at(line, format!("{keyword} has no flag `--{}`: expected {known}", self.name))
    }
}

/// The flags at the start of `text`, and what follows them.
pub(crate) fn flags(text: &str, escape: char) -> (Vec<Flag>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let (word, after) = raw_word(rest, escape);
        rest = after.trim_start();
        if word == "--" {
            break;
        }
        let word = unquote(word.trim_start_matches('-'), escape);
        flags.push(match word.split_once('=') {
            Some((name, value)) => Flag { name: name.to_owned(), value: Some(value.to_owned()) },
            None => Flag { name: word, value: None },
        });
    }
    (flags, rest)
}

/// `["a", "b"]`; none where it is anything else.
pub(crate) fn json_words(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_keep_words_together() {
        let words = raw_words(r#"a="b c" d=e\ f 'g h' i"#, '\\');
        assert_eq!(words, [r#"a="b c""#, r"d=e\ f", "'g h'", "i"]);
        assert_eq!(unquote(r#"a="b c"\ 'd\e'"#, '\\'), r"a=b c d\e");
    }

    #[test]
    fn flags_end_at_the_first_other_word() {
        let (found, rest) = flags("--a --b='c d' -- --e", '\\');
        assert_eq!(rest, "--e");
        assert_eq!(
            found,
            [
                Flag { name: "a".into(), value: None },
                Flag { name: "b".into(), value: Some("c d".into()) }
            ]
        );
    }
}
