//! From text to logical lines: directives, comments, joined lines and here-documents.

use std::{iter::Enumerate, str::Lines};

use crate::{ParseError, words};

/// The largest text that is read.
const MOST_BYTES: usize = 1 << 20;

/// A text in logical lines.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) escape: char,
    pub(crate) lines: Vec<LogicalLine>,
}

/// One instruction, its lines joined.
#[derive(Debug)]
pub(crate) struct LogicalLine {
    /// Where it begins, counted from 1.
    pub(crate) number: u32,
    /// The instruction's first word as it was written.
    pub(crate) keyword: String,
    /// What follows it, without space around.
    pub(crate) rest: String,
    /// What follows the instruction's own lines.
    pub(crate) heredocs: Vec<Heredoc>,
}

/// `<<NAME` and the lines up to `NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heredoc {
    pub(crate) name: String,
    /// Every line ends with a newline.
    pub(crate) content: String,
    /// Whether the name was written without quotes.
    pub(crate) expand: bool,
    /// Whether tabs at the start of lines are taken away: `<<-`.
    pub(crate) strip_tabs: bool,
}

impl Heredoc {
    /// What a file made of it holds.
    pub(crate) fn text(&self) -> String {
        if !self.strip_tabs {
            return self.content.clone();
        }
        self.content.lines().flat_map(|line| [line.trim_start_matches('\t'), "\n"]).collect()
    }

    /// Reads `<<NAME`, `<<-NAME`, `<<"NAME"`, with a digit before it or none.
    pub(crate) fn announced(word: &str, escape: char) -> Option<Self> {
        let rest = word.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let rest = rest.strip_prefix("<<")?;
        let (strip_tabs, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let name = words::unquote(rest, escape);
        if name.is_empty() || rest.contains('<') {
            return None;
        }
        let expand = !rest.contains(['"', '\'']);
        Some(Self { name, content: String::new(), expand, strip_tabs })
    }
}

/// Splits a text into its logical lines.
pub(crate) fn split(text: &str) -> Result<Source, ParseError> {
    if text.len() > MOST_BYTES {
        return Err(ParseError::at(1, format!("expected at most {MOST_BYTES} bytes of text")));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let escape = escape_directive(text)?;
    let mut physical = text.lines().enumerate();
    let mut lines = Vec::new();
    while let Some((index, line)) = physical.next() {
        if is_empty(line) {
            continue;
        }
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let joined = join(line, &mut physical, escape);
        let joined = joined.trim();
        let (keyword, rest) = joined.split_once(char::is_whitespace).unwrap_or((joined, ""));
        let mut line = LogicalLine {
            number,
            keyword: keyword.to_owned(),
            rest: rest.trim().to_owned(),
            heredocs: Vec::new(),
        };
        if ["RUN", "COPY", "ADD"].iter().any(|taker| keyword.eq_ignore_ascii_case(taker)) {
            line.heredocs = heredocs(&line, &mut physical, escape)?;
        }
        lines.push(line);
    }
    Ok(Source { escape, lines })
}

/// Blank, or a comment.
fn is_empty(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// `first` and the lines it goes on in; comments and blank lines between them are no part of it.
fn join(first: &str, physical: &mut Enumerate<Lines<'_>>, escape: char) -> String {
    let (piece, mut more) = continued(first.trim_start(), escape);
    let mut joined = piece.to_owned();
    while more {
        let Some((_, line)) = physical.next() else { break };
        if is_empty(line) {
            continue;
        }
        let (piece, again) = continued(line, escape);
        joined.push_str(piece);
        more = again;
    }
    joined
}

/// A line without the sign that it goes on in the next, and whether it had one.
fn continued(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

fn heredocs(
    line: &LogicalLine,
    physical: &mut Enumerate<Lines<'_>>,
    escape: char,
) -> Result<Vec<Heredoc>, ParseError> {
    let words = words::raw_words(&line.rest, escape);
    let announced = words.iter().filter_map(|word| Heredoc::announced(word, escape));
    let mut found = Vec::new();
    for mut heredoc in announced {
        loop {
            let Some((_, text)) = physical.next() else {
                let name = &heredoc.name;
                return Err(ParseError::at(
                    line.number,
                    format!("the here-document `<<{name}` never ends: expected a line `{name}`"),
                ));
            };
            let end = if heredoc.strip_tabs { text.trim_start_matches('\t') } else { text };
            if end == heredoc.name {
                break;
            }
            heredoc.content.push_str(text);
            heredoc.content.push('\n');
        }
        found.push(heredoc);
    }
    Ok(found)
}

/// What `# escape=` says in the comments at the very top; a backslash where nothing does.
fn escape_directive(text: &str) -> Result<char, ParseError> {
    let mut escape = None;
    for (index, line) in text.lines().enumerate() {
        let Some((name, value)) = directive(line) else { break };
        if name != "escape" {
            continue;
        }
        let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
        if escape.is_some() {
            return Err(ParseError::at(line, "only one `# escape=` was expected"));
        }
        escape = Some(match value {
            "\\" => '\\',
            "`" => '`',
            other => {
                let reason = format!("`# escape={other}`: expected a backslash or a backtick");
                return Err(ParseError::at(line, reason));
            }
        });
    }
    Ok(escape.unwrap_or('\\'))
}

/// `# name=value` with a name that means something; any other comment ends the directives.
fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.trim().strip_prefix('#')?.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    ["escape", "syntax", "check"].contains(&name.as_str()).then_some((name, value.trim()))
}
