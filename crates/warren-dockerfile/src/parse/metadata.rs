//! Instructions that say something about the template and run nothing.

use std::time::Duration;

use super::command;
use crate::{
    ParseError,
    lines::LogicalLine,
    recipe::{Argument, Healthcheck},
    words,
};

/// `name=value name2="value 2"`, or `name and all the rest`.
pub(super) fn pairs(
    line: &LogicalLine,
    keyword: &str,
    escape: char,
) -> Result<Vec<(String, String)>, ParseError> {
    let expected = |found: &str| {
        let reason = format!("`{found}`: expected `{keyword} name=value`");
        ParseError::at(line.number, reason)
    };
    let words = words::raw_words(&line.rest, escape);
    let Some(first) = words.first() else { return Err(expected("")) };
    if !first.contains('=') {
        // The old form: one name, and the rest of the line as it is.
        let (name, value) =
            line.rest.split_once(char::is_whitespace).ok_or_else(|| expected(first))?;
        return Ok(vec![(name.to_owned(), value.trim_start().to_owned())]);
    }
    let mut pairs = Vec::with_capacity(words.len());
    for word in &words {
        let (name, value) = word.split_once('=').ok_or_else(|| expected(word))?;
        if words::unquote(name, escape).is_empty() {
            return Err(expected(word));
        }
        pairs.push((name.to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

pub(super) fn arguments(line: &LogicalLine, escape: char) -> Result<Vec<Argument>, ParseError> {
    let words = words::raw_words(&line.rest, escape);
    if words.is_empty() {
        return Err(ParseError::at(line.number, "ARG needs a name: expected `ARG name=default`"));
    }
    let argument = |word: &String| {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (word.as_str(), None),
        };
        let valid = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|one| one.is_ascii_alphanumeric() || one == '_');
        if !valid {
            let reason = format!("`{name}` is no name: expected letters, digits and `_`");
            return Err(ParseError::at(line.number, reason));
        }
        Ok(Argument { line: line.number, name: name.to_owned(), default })
    };
    words.iter().map(argument).collect()
}

pub(super) fn ports(line: &LogicalLine) -> Result<Vec<String>, ParseError> {
    let ports: Vec<String> = line.rest.split_whitespace().map(str::to_owned).collect();
    if ports.is_empty() {
        return Err(ParseError::at(line.number, "EXPOSE needs a port: expected `EXPOSE 8080`"));
    }
    Ok(ports)
}

/// Reads what `EXPOSE` has, variables filled in: `80`, `80/tcp`, `8000-8010/udp`.
///
/// # Errors
///
/// A sentence for people.
pub fn port_range(text: &str) -> Result<std::ops::RangeInclusive<u16>, String> {
    let expected = || format!("`{text}` is no port: expected such as `80`, `80/tcp`, `8000-8010`");
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !["tcp", "udp", "sctp"].contains(&protocol.to_ascii_lowercase().as_str()) {
        return Err(expected());
    }
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) =
        number(first).zip(number(last)).filter(|(a, b)| a <= b).ok_or_else(expected)?;
    Ok(first..=last)
}

pub(super) fn shell(line: &LogicalLine) -> Result<Vec<String>, ParseError> {
    words::json_words(&line.rest).filter(|words| !words.is_empty()).ok_or_else(|| {
        let reason = "SHELL needs a list of words: expected `SHELL [\"/bin/bash\", \"-c\"]`";
        ParseError::at(line.number, reason)
    })
}

pub(super) fn healthcheck(
    line: &LogicalLine,
    escape: char,
) -> Result<Option<Healthcheck>, ParseError> {
    let (flags, rest) = words::flags(&line.rest, escape);
    let (kind, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if kind.eq_ignore_ascii_case("none") && text.trim().is_empty() && flags.is_empty() {
        return Ok(None);
    }
    if !kind.eq_ignore_ascii_case("cmd") {
        let reason = "expected `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`";
        return Err(ParseError::at(line.number, reason));
    }
    let mut check = Healthcheck {
        command: command(line, text.trim())?,
        interval: None,
        timeout: None,
        start_period: None,
        retries: None,
    };
    for flag in flags {
        let span = || {
            let value = flag.required(line.number, "30s")?;
            duration(value).ok_or_else(|| {
                let reason = format!("`--{}={value}`: expected such as `1m30s`", flag.name);
                ParseError::at(line.number, reason)
            })
        };
        match flag.name.as_str() {
            "interval" => check.interval = Some(span()?),
            "timeout" => check.timeout = Some(span()?),
            "start-period" => check.start_period = Some(span()?),
            "start-interval" => drop(span()?),
            "retries" => {
                let value = flag.required(line.number, "3")?;
                check.retries = Some(value.parse().map_err(|_not_a_number| {
                    let reason = format!("`--retries={value}`: expected a number");
                    ParseError::at(line.number, reason)
                })?);
            }
            _ => {
                let known = "`--interval`, `--timeout`, `--start-period` or `--retries`";
                return Err(flag.unknown(line.number, "HEALTHCHECK", known));
            }
        }
    }
    Ok(Some(check))
}

/// `1h2m3.5s`, `500ms`: a day at most.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|one: char| !one.is_ascii_digit() && one != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|one: char| one.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "µs" => 0.000_001,
            "ns" => 0.000_000_001,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = after;
    }
    (!text.is_empty() && total <= Duration::from_secs(24 * 3600)).then_some(total)
}
