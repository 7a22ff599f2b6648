//! `.dockerignore`: which files are no part of a build's context.

use crate::glob::Pattern;

/// The most rules that are read.
const MOST_RULES: usize = 1000;

/// The rules of a `.dockerignore`. The last that fits a path or a directory above it decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    pattern: Pattern,
    /// `!`: what fits is a part after all.
    keep: bool,
}

/// A line that is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct InvalidIgnore {
    /// Which, counted from 1.
    pub line: u32,
    /// What was expected, for people.
    pub reason: String,
}

impl Ignore {
    /// Reads the text of a `.dockerignore`.
    ///
    /// # Errors
    ///
    /// [`InvalidIgnore`] for the first line that is no pattern, and for more than 1000 rules.
    pub fn parse(text: &str) -> Result<Self, InvalidIgnore> {
        let mut rules = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line_number = u32::try_from(index + 1).unwrap_or(u32::MAX);
            let invalid = |reason: String| InvalidIgnore { line: line_number, reason };
            // Only at the very start of a line, as Docker has it.
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (keep, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if pattern.is_empty() {
                if keep {
                    return Err(invalid("`!` alone: expected a pattern after it".to_owned()));
                }
                continue;
            }
            if rules.len() == MOST_RULES {
                return Err(invalid(format!("expected at most {MOST_RULES} rules")));
            }
            let pattern =
                Pattern::new(&clean(pattern)).map_err(|error| invalid(error.to_string()))?;
            rules.push(Rule { pattern, keep });
        }
        Ok(Self { rules })
    }

    /// The same for patterns that were written one by one, such as those of `COPY --exclude`.
    ///
    /// # Errors
    ///
    /// [`InvalidIgnore`].
    pub fn from_patterns<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidIgnore> {
        Self::parse(&patterns.into_iter().flat_map(|pattern| [pattern, "\n"]).collect::<String>())
    }

    /// Whether `path` is left out: relative to the context, parts separated by single slashes,
    /// neither `.` nor `..` among them.
    #[must_use]
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for rule in &self.rules {
            if rule.keep == excluded && rule.fits(path) {
                excluded = !rule.keep;
            }
        }
        excluded
    }

    /// Whether everything beneath the directory `path` is left out too, so that nobody need look.
    #[must_use]
    pub fn excludes_all(&self, path: &str) -> bool {
        // A rule that keeps may reach anywhere; looking costs less than working out whether.
        self.excludes(path) && !self.rules.iter().any(|rule| rule.keep)
    }
}

impl Rule {
    /// Whether the path or a directory above it fits.
    fn fits(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(at, _)| path.get(..at).unwrap_or_default());
        above.chain([path]).any(|path| self.pattern.matches(path))
    }
}

/// A path without `.`, `..`, and slashes that mean nothing.
#[must_use]
pub fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_that_fits_decides() {
        let ignore = Ignore::parse(
            "# comment\n*.log\n/target\n docs/** \n!docs/keep.md\nsecret*\n!important.log\n./a//b/\n",
        )
        .unwrap();
        for (path, excluded) in [
            ("x.log", true),
            ("d/x.log", false),
            ("important.log", false),
            ("target", true),
            ("target/debug/x", true),
            ("src/target", false),
            ("docs/a/b.md", true),
            ("docs/keep.md", false),
            ("secret.txt", true),
            ("a/b", true),
            ("a/b/c", true),
            ("a", false),
        ] {
            assert_eq!(ignore.excludes(path), excluded, "{path}");
        }
        assert!(!ignore.excludes_all("target"), "something may be kept beneath it");
        assert!(Ignore::parse("target").unwrap().excludes_all("target"));
    }

    #[test]
    fn everything_but_some_can_be_left_out() {
        let ignore = Ignore::parse("*\n!src\n!Cargo.toml\nsrc/*.tmp").unwrap();
        assert!(ignore.excludes("README"));
        assert!(!ignore.excludes("src/main.rs"));
        assert!(ignore.excludes("src/x.tmp"));
        assert!(!ignore.excludes("Cargo.toml"));
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = Ignore::parse("a\n[b").unwrap_err();
        assert_eq!(error.to_string(), "line 2: `[b` is no pattern: `[` is never closed");
        assert_eq!(Ignore::parse("!").unwrap_err().line, 1);
        assert!(Ignore::parse(&"a\n".repeat(1001)).is_err());
    }
}
