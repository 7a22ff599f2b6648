//! Patterns of paths as Docker has them: `*`, `?`, `[a-z]` within one part, `**` across parts.

/// A pattern, ready to be compared with many paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Character(char),
    /// `?`: any character but a slash.
    One,
    /// `*`: any number of characters but slashes.
    Many,
    /// `**` before something: nothing, or anything that ends with a slash. [`Token::Inside`]
    /// follows it.
    Directories,
    /// In the middle of what [`Token::Directories`] stands for.
    Inside,
    /// `**` at the end: anything.
    Everything,
    /// `[a-c]`, `[^a-c]`.
    Class {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
}

/// The text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is no pattern: {reason}")]
pub struct InvalidPattern {
    /// What was read.
    pub pattern: String,
    /// What was expected.
    pub reason: &'static str,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// [`InvalidPattern`] for a bracket that is never closed or empty, and for an escape of nothing.
    pub fn new(pattern: &str) -> Result<Self, InvalidPattern> {
        let invalid = |reason| InvalidPattern { pattern: pattern.to_owned(), reason };
        let mut tokens = Vec::new();
        let mut characters = pattern.chars().peekable();
        while let Some(character) = characters.next() {
            let token = match character {
                '*' if characters.next_if_eq(&'*').is_some() => {
                    characters.next_if_eq(&'/');
                    if characters.peek().is_none() {
                        Token::Everything
                    } else {
                        tokens.push(Token::Directories);
                        Token::Inside
                    }
                }
                '*' => Token::Many,
                '?' => Token::One,
                '[' => class(&mut characters).map_err(invalid)?,
                '\\' => {
                    let escaped = characters.next();
                    Token::Character(escaped.ok_or(invalid("nothing follows the backslash"))?)
                }
                other => Token::Character(other),
            };
            tokens.push(token);
        }
        Ok(Self { tokens })
    }

    /// Whether a text has any character that makes it more than a path.
    #[must_use]
    pub fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '[', '\\'])
    }

    /// Whether the whole of `path` fits. Takes time in proportion to both lengths, whatever they
    /// hold.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        // `at[i]`: the first `i` tokens fit what was read so far.
        let mut at = vec![false; self.tokens.len() + 1];
        if let Some(start) = at.first_mut() {
            *start = true;
        }
        self.skip_empty(&mut at);
        for character in path.chars() {
            at = self.step(&at, character);
            self.skip_empty(&mut at);
        }
        at.last().copied().unwrap_or(false)
    }

    /// Where the tokens stand after one more character.
    fn step(&self, at: &[bool], character: char) -> Vec<bool> {
        let slash = character == '/';
        let mut next = vec![false; at.len()];
        for (index, token) in self.tokens.iter().enumerate() {
            if !at.get(index).copied().unwrap_or(false) {
                continue;
            }
            // Which of the places from here on are reached.
            let reached = match token {
                Token::Character(expected) => [false, *expected == character, false],
                Token::One => [false, !slash, false],
                Token::Many => [!slash, false, false],
                Token::Directories => [false, true, slash],
                Token::Inside => [true, slash, false],
                Token::Everything => [true, false, false],
                Token::Class { ranges, negated } => {
                    let inside = ranges.iter().any(|(from, to)| (from..=to).contains(&&character));
                    [false, !slash && inside != *negated, false]
                }
            };
            for (place, reached) in next.iter_mut().skip(index).zip(reached) {
                *place |= reached;
            }
        }
        next
    }

    /// Passes tokens that may stand for nothing.
    fn skip_empty(&self, at: &mut [bool]) {
        for (index, token) in self.tokens.iter().enumerate() {
            let over = match token {
                Token::Many | Token::Everything => 1,
                Token::Directories => 2,
                _ => continue,
            };
            if at.get(index).copied().unwrap_or(false)
                && let Some(place) = at.get_mut(index + over)
            {
                *place = true;
            }
        }
    }
}

fn class(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, &'static str> {
    let negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let from = match characters.next().ok_or("`[` is never closed")? {
            ']' if ranges.is_empty() => return Err("`[]` is empty"),
            ']' => return Ok(Token::Class { ranges, negated }),
            '\\' => characters.next().ok_or("`[` is never closed")?,
            other => other,
        };
        let to = match characters.next_if_eq(&'-') {
            None => from,
            Some(_) => match characters.next().ok_or("`[` is never closed")? {
                ']' => return Err("a range in `[]` has no end"),
                '\\' => characters.next().ok_or("`[` is never closed")?,
                other => other,
            },
        };
        ranges.push((from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_what_docker_says_they_fit() {
        for (pattern, path, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*.go", "x.go", true),
            ("*.go", "d/x.go", false),
            ("*", "", true),
            ("a*b*c", "aXbYbc", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("**/*.go", "x.go", true),
            ("**/*.go", "a/b/x.go", true),
            ("**", "a/b", true),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("**bar", "foobar", false),
            ("**bar", "foo/bar", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/xb", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "/x", false),
            (r"[\]]x", "]x", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(path), fits, "{pattern} on {path}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        for bad in ["[", "[]", "[a", "[a-", "[a-]", "a\\", r"[\"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let pattern = Pattern::new(&"*a".repeat(100)).unwrap();
        assert!(!pattern.matches(&"a".repeat(2000).replace("aa", "ab")[..99]));
        assert!(pattern.matches(&"a".repeat(2000)));
    }
}
