//! `COPY` and `ADD`.

use crate::{
    ParseError,
    ignore::Ignore,
    lines::{Heredoc, LogicalLine},
    recipe::{Copy, CopyFrom, CopySource, Stage},
    words::{self, Flag},
};

const KNOWN: &str = "`--from`, `--chown`, `--chmod`, `--exclude` or `--link`";

pub(super) fn copy(
    line: &LogicalLine,
    add: bool,
    earlier: &[Stage],
    escape: char,
) -> Result<Copy, ParseError> {
    let keyword = if add { "ADD" } else { "COPY" };
    let (flags, rest) = words::flags(&line.rest, escape);
    let mut copy = Copy {
        from: CopyFrom::Context,
        sources: Vec::new(),
        destination: String::new(),
        chown: None,
        chmod: None,
        unpack: add,
        exclude: Vec::new(),
    };
    for flag in flags {
        match flag.name.as_str() {
            "from" if !add => copy.from = from(line.number, &flag, earlier)?,
            "chown" => copy.chown = Some(flag.required(line.number, "user:group")?.to_owned()),
            "chmod" => copy.chmod = Some(flag.required(line.number, "755")?.to_owned()),
            "exclude" => copy.exclude.push(flag.required(line.number, "*.log")?.to_owned()),
            // Layers are files here: nothing depends on what is beneath either way.
            "link" => drop(flag.switch(line.number)?),
            "unpack" if add => copy.unpack = flag.switch(line.number)?,
            "checksum" | "keep-git-dir" if add => return Err(no_urls(line.number)),
            "parents" => {
                let reason = "`--parents` is not there: copy each directory to where it belongs";
                return Err(ParseError::at(line.number, reason));
            }
            _ => return Err(flag.unknown(line.number, keyword, KNOWN)),
        }
    }
    Ignore::from_patterns(copy.exclude.iter().map(String::as_str))
        .map_err(|error| ParseError::at(line.number, format!("`--exclude`: {}", error.reason)))?;
    let mut words = words::json_words(rest)
        .unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
    let destination = words.pop().filter(|word| !word.is_empty());
    let Some(destination) = destination.filter(|_| !words.is_empty()) else {
        let reason = format!("{keyword} needs a source and a destination: `{keyword} src /dst`");
        return Err(ParseError::at(line.number, reason));
    };
    copy.destination = destination;
    copy.sources = sources(line, words, add, escape)?;
    if copy.sources.len() > 1 && !copy.destination.ends_with('/') && !has_variable(&copy) {
        let reason = format!(
            "several sources go into a directory: expected a destination that ends with `/`, as \
             in `{}/`",
            copy.destination
        );
        return Err(ParseError::at(line.number, reason));
    }
    Ok(copy)
}

/// A destination with variables is looked at when they are filled in; `.` is a directory.
fn has_variable(copy: &Copy) -> bool {
    copy.destination.contains('$') || matches!(copy.destination.as_str(), "." | "..")
}

fn sources(
    line: &LogicalLine,
    words: Vec<String>,
    add: bool,
    escape: char,
) -> Result<Vec<CopySource>, ParseError> {
    let mut heredocs = line.heredocs.iter();
    let mut sources = Vec::with_capacity(words.len());
    for word in words {
        let announced = Heredoc::announced(&word, escape).and_then(|_| heredocs.next());
        if let Some(heredoc) = announced {
            sources.push(inline(line.number, heredoc)?);
            continue;
        }
        if word.is_empty() {
            return Err(ParseError::at(line.number, "a source is empty: expected a path"));
        }
        if is_url(&word) {
            return Err(match add {
                true => no_urls(line.number),
                false => {
                    let reason = format!("COPY takes files of the context, not `{word}`");
                    ParseError::at(line.number, reason)
                }
            });
        }
        sources.push(CopySource::Path(word));
    }
    Ok(sources)
}

fn inline(line: u32, heredoc: &Heredoc) -> Result<CopySource, ParseError> {
    let name = heredoc.name.clone();
    if name.contains('/') || matches!(name.as_str(), "." | "..") {
        let reason = format!("the here-document `{name}` names a file: expected no path");
        return Err(ParseError::at(line, reason));
    }
    Ok(CopySource::Inline { name, content: heredoc.text(), expand: heredoc.expand })
}

fn is_url(word: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|start| word.starts_with(start))
}

fn no_urls(line: u32) -> ParseError {
    let reason = "ADD takes local files: fetch what is elsewhere with RUN, such as `RUN curl -fsSL \
                  -o file URL`, where the sandbox's network rules hold";
    ParseError::at(line, reason)
}

fn from(line: u32, flag: &Flag, earlier: &[Stage]) -> Result<CopyFrom, ParseError> {
    let name = flag.required(line, "stage")?;
    let by_name = earlier
        .iter()
        .rposition(|stage| stage.name.as_deref().is_some_and(|it| it.eq_ignore_ascii_case(name)));
    if let Some(index) = by_name {
        return Ok(CopyFrom::Stage(index));
    }
    match name.parse::<usize>() {
        Ok(index) if index < earlier.len() => Ok(CopyFrom::Stage(index)),
        Ok(index) => {
            let reason = match earlier.len() {
                0 => format!("`--from={index}`: no stage is before this one"),
                count => format!("`--from={index}`: expected 0 to {}", count - 1),
            };
            Err(ParseError::at(line, reason))
        }
        Err(_) => Ok(CopyFrom::Image(name.to_owned())),
    }
}
