//! `$NAME` and its relatives.

use std::{iter::Peekable, str::Chars};

/// How deep defaults may nest: `${a:-${b:-…}}`.
const MOST_NESTED: u32 = 16;
/// The longest text that may come out.
const MOST_BYTES: usize = 64 << 10;

/// Why variables could not be filled in; a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote or brace has no end.
    #[error("{0} is never closed")]
    Unclosed(&'static str),
    /// What is in the braces is nothing that is known.
    #[error(
        "`${{{0}`: expected `${{NAME}}`, `${{NAME:-default}}`, `${{NAME:+other}}` or \
         `${{NAME:?message}}`"
    )]
    Unknown(String),
    /// `${NAME:?message}` of a variable that is not set.
    #[error("`{name}` is not set: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What its user says about it.
        message: String,
    },
    /// Too deep, or too long.
    #[error("variables nest deeper than {MOST_NESTED} levels")]
    Nested,
    /// Too long.
    #[error("with its variables filled in it is longer than {MOST_BYTES} bytes")]
    Long,
}

/// Fills the variables of one word in and takes its quotes away. What is not set is empty.
///
/// # Errors
///
/// [`ExpandError`].
pub fn expand(
    text: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ExpandError> {
    let mut expander = Expander { characters: text.chars().peekable(), escape, lookup, depth: 0 };
    expander.word(None)
}

struct Expander<'a> {
    characters: Peekable<Chars<'a>>,
    escape: char,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    depth: u32,
}

impl Expander<'_> {
    /// Reads up to `end`, which is taken as well, or to the end of the text.
    fn word(&mut self, end: Option<char>) -> Result<String, ExpandError> {
        let mut out = String::new();
        while let Some(character) = self.characters.next() {
            if Some(character) == end {
                return Ok(out);
            }
            match character {
                '\'' => self.single_quoted(&mut out)?,
                '"' => self.double_quoted(&mut out)?,
                '$' => self.variable(&mut out)?,
                _ if character == self.escape => out.extend(self.characters.next()),
                _ => out.push(character),
            }
            check_length(&out)?;
        }
        if end.is_some() { Err(ExpandError::Unclosed("`${`")) } else { Ok(out) }
    }

    fn single_quoted(&mut self, out: &mut String) -> Result<(), ExpandError> {
        for character in self.characters.by_ref() {
            if character == '\'' {
                return Ok(());
            }
            out.push(character);
        }
        Err(ExpandError::Unclosed("a single quote"))
    }

    fn double_quoted(&mut self, out: &mut String) -> Result<(), ExpandError> {
        while let Some(character) = self.characters.next() {
            match character {
                '"' => return Ok(()),
                '$' => self.variable(out)?,
                _ if character == self.escape => match self.characters.next() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        out.push(next);
                    }
                    next => {
                        out.push(character);
                        out.extend(next);
                    }
                },
                _ => out.push(character),
            }
            check_length(out)?;
        }
        Err(ExpandError::Unclosed("a double quote"))
    }

    /// What follows a `$`.
    fn variable(&mut self, out: &mut String) -> Result<(), ExpandError> {
        if self.characters.next_if_eq(&'{').is_some() {
            let value = self.braced()?;
            out.push_str(&value);
            return check_length(out);
        }
        let name = self.name();
        if name.is_empty() {
            out.push('$');
        } else {
            out.push_str(&(self.lookup)(&name).unwrap_or_default());
        }
        check_length(out)
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(character) = self.characters.next_if(|&next| is_of_name(next)) {
            // A digit at the start is a name of its own, as in a shell.
            let alone = name.is_empty() && character.is_ascii_digit();
            name.push(character);
            if alone {
                break;
            }
        }
        name
    }

    /// What follows a `${`.
    fn braced(&mut self) -> Result<String, ExpandError> {
        self.depth += 1;
        if self.depth > MOST_NESTED {
            return Err(ExpandError::Nested);
        }
        let name = self.name();
        if name.is_empty() {
            let rest = self.characters.clone().take(20).collect();
            return Err(ExpandError::Unknown(rest));
        }
        let set = (self.lookup)(&name);
        let value = match self.characters.next() {
            None => return Err(ExpandError::Unclosed("`${`")),
            Some('}') => set.unwrap_or_default(),
            Some(':') => {
                let operator = self.characters.next();
                self.substitute(&name, set.filter(|value| !value.is_empty()), (":", operator))?
            }
            operator => self.substitute(&name, set, ("", operator))?,
        };
        self.depth -= 1;
        Ok(value)
    }

    fn substitute(
        &mut self,
        name: &str,
        set: Option<String>,
        (colon, operator): (&str, Option<char>),
    ) -> Result<String, ExpandError> {
        let Some(operator @ ('-' | '+' | '?')) = operator else {
            let operator = operator.map(String::from).unwrap_or_default();
            return Err(ExpandError::Unknown(format!("{name}{colon}{operator}")));
        };
        let word = self.word(Some('}'))?;
        match (operator, set) {
            ('-', set) => Ok(set.unwrap_or(word)),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(set)) => Ok(set),
            (_, None) => Err(ExpandError::Required { name: name.to_owned(), message: word }),
        }
    }
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn check_length(out: &str) -> Result<(), ExpandError> {
    if out.len() > MOST_BYTES { Err(ExpandError::Long) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, ExpandError> {
        expand(text, '\\', &|name| match name {
            "A" => Some("a b".to_owned()),
            "EMPTY" => Some(String::new()),
            "LONG" => Some("x".repeat(40 << 10)),
            _ => None,
        })
    }

    #[test]
    fn variables_are_filled_in() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$A", "a b"),
            ("${A}c", "a bc"),
            ("$A_", ""),
            ("x$NONE.y", "x.y"),
            ("\"$A\"", "a b"),
            ("'$A'", "$A"),
            (r"\$A", "$A"),
            (r#""\$A \n""#, r"$A \n"),
            ("$", "$"),
            ("$1A", "A"),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NONE-d}", "d"),
            ("${A:+yes}", "yes"),
            ("${EMPTY:+yes}", ""),
            ("${EMPTY+yes}", "yes"),
            ("${NONE:-${A:+${NONE:-deep}}}", "deep"),
            ("${NONE:-\"}\"}", "}"),
            ("${A:?no}", "a b"),
        ] {
            assert_eq!(filled(text), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_said() {
        assert_eq!(filled("'a"), Err(ExpandError::Unclosed("a single quote")));
        assert_eq!(filled("\"a"), Err(ExpandError::Unclosed("a double quote")));
        assert_eq!(filled("${A"), Err(ExpandError::Unclosed("`${`")));
        assert_eq!(filled("${A:-b"), Err(ExpandError::Unclosed("`${`")));
        assert_eq!(filled("${}"), Err(ExpandError::Unknown("}".to_owned())));
        assert_eq!(filled("${A#b}"), Err(ExpandError::Unknown("A#".to_owned())));
        assert_eq!(filled("$LONG$LONG"), Err(ExpandError::Long));
        assert_eq!(filled(&"${N:-".repeat(20)), Err(ExpandError::Nested));
        let required = filled("${NONE:?say who}").unwrap_err();
        assert_eq!(required.to_string(), "`NONE` is not set: say who");
    }
}
