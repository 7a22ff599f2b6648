//! The lines that differ, as `diff -u` shows them.

use std::io;
use std::time::Duration;

use similar::TextDiff;

use super::{fill, opened};
use crate::node::Kind;
use crate::stack::Item;

/// How long two files are compared before the outcome is only right, and not short.
const PATIENCE: Duration = Duration::from_millis(300);

/// How a file's content differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// A unified diff, of two texts.
    Text(String),
    /// One of the two is no text (UTF-8 without zero bytes).
    Binary,
    /// One of the two is larger than what is compared.
    TooLarge,
}

/// The patch between two files; `None` where neither is one.
pub(super) fn of(
    path: &[u8],
    one: Option<&Item>,
    other: Option<&Item>,
    most: u64,
) -> io::Result<Option<Patch>> {
    let is_file = |it: &&Item| it.kind == Kind::File;
    let (one, other) = (one.filter(is_file), other.filter(is_file));
    if one.is_none() && other.is_none() {
        return Ok(None);
    }
    let (before, after) = (read(one, most)?, read(other, most)?);
    let (before, after) = match (before, after) {
        (Content::Text(before), Content::Text(after)) => (before, after),
        (Content::TooLarge, _) | (_, Content::TooLarge) => return Ok(Some(Patch::TooLarge)),
        _ => return Ok(Some(Patch::Binary)),
    };
    let name = String::from_utf8_lossy(path);
    // A line's end in a name would make a line of the patch.
    let name = name.replace(char::is_control, "\u{fffd}");
    let named = |side: char, item: Option<&Item>| match item {
        Some(_) => format!("{side}/{name}"),
        None => "/dev/null".to_owned(),
    };
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(&before, &after);
    let mut unified = diff.unified_diff();
    let text = unified.header(&named('a', one), &named('b', other)).to_string();
    Ok(Some(Patch::Text(text)))
}

enum Content {
    Text(String),
    Binary,
    TooLarge,
}

/// A file's content; an empty text where there is none.
fn read(item: Option<&Item>, most: u64) -> io::Result<Content> {
    let Some(item) = item else { return Ok(Content::Text(String::new())) };
    let size = u64::try_from(item.stat.st_size).unwrap_or_default();
    if size > most {
        return Ok(Content::TooLarge);
    }
    let Some(file) = opened(item)? else { return Ok(Content::Text(String::new())) };
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    let count = fill(&file, &mut bytes, 0)?;
    bytes.truncate(count);
    Ok(match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Content::Text(text),
        _ => Content::Binary,
    })
}
