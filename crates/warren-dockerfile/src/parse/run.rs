//! `RUN`.

use super::command;
use crate::{
    ParseError,
    lines::{Heredoc, LogicalLine},
    recipe::{CommandLine, Mount, Run, SecretMount},
    words::{self, Flag},
};

pub(super) fn run(line: &LogicalLine, escape: char) -> Result<Run, ParseError> {
    let (flags, rest) = words::flags(&line.rest, escape);
    let mut mounts = Vec::new();
    let mut offline = false;
    for flag in flags {
        match flag.name.as_str() {
            "mount" => {
                let value = flag.required(line.number, "type=secret,id=token")?;
                mounts.push(mount(line.number, value)?);
            }
            "network" => offline = network(line.number, &flag)?,
            "security" if flag.value.as_deref() == Some("sandbox") => {}
            "security" => {
                let reason = "`--security` can only be `sandbox`: every step runs in one";
                return Err(ParseError::at(line.number, reason));
            }
            _ => return Err(flag.unknown(line.number, "RUN", "`--mount` or `--network`")),
        }
    }
    Ok(Run { command: with_heredocs(line, rest, escape)?, mounts, offline, user: None })
}

fn network(line: u32, flag: &Flag) -> Result<bool, ParseError> {
    match flag.value.as_deref() {
        Some("default") => Ok(false),
        Some("none") => Ok(true),
        _ => Err(ParseError::at(line, "`--network` can only be `default` or `none`")),
    }
}

/// The command, with what the here-documents behind it hold.
fn with_heredocs(line: &LogicalLine, text: &str, escape: char) -> Result<CommandLine, ParseError> {
    let Some(first) = line.heredocs.first() else { return command(line, text) };
    let alone = Heredoc::announced(text, escape).is_some();
    if alone && line.heredocs.len() == 1 {
        let script = first.text();
        return Ok(match script.starts_with("#!") {
            true => CommandLine::Script(script),
            false => CommandLine::Shell(script),
        });
    }
    // The shell knows here-documents itself, and where each belongs.
    let mut script = text.to_owned();
    for heredoc in &line.heredocs {
        script.push('\n');
        script.push_str(&heredoc.content);
        script.push_str(&heredoc.name);
    }
    script.push('\n');
    Ok(CommandLine::Shell(script))
}

fn mount(line: u32, value: &str) -> Result<Mount, ParseError> {
    let mut kind = "bind";
    let mut options = Vec::new();
    for option in value.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "type" => kind = value,
            _ => options.push((name, value)),
        }
    }
    let refused =
        |reason: &str| Err(ParseError::at(line, format!("`--mount=type={kind}`{reason}")));
    match kind {
        "secret" => secret(line, &options).map(Mount::Secret),
        "tmpfs" => tmpfs(line, &options),
        "cache" => refused(
            " is not there: what a step downloads is kept by the cache of its layer; remove the \
             flag, and what is not to be kept in the same step",
        ),
        "bind" => refused(" is not there: COPY the files first, in a stage of its own perhaps"),
        "ssh" => refused(" is not there: give the key as `type=secret`"),
        _ => refused(": expected `secret` or `tmpfs`"),
    }
}

fn secret(line: u32, options: &[(&str, &str)]) -> Result<SecretMount, ParseError> {
    let error = |reason: String| ParseError::at(line, format!("`--mount=type=secret`: {reason}"));
    let mut id = None;
    let mut mount =
        SecretMount { id: String::new(), target: None, env: None, required: false, mode: 0o400 };
    for &(name, value) in options {
        match name {
            "id" => id = Some(value),
            "target" | "dst" | "destination" => mount.target = Some(value.to_owned()),
            "env" => mount.env = Some(value.to_owned()),
            "required" => mount.required = matches!(value, "" | "true" | "1"),
            "mode" => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o777);
                mount.mode = mode.ok_or_else(|| error(format!("mode `{value}` is not octal")))?;
            }
            // Whoever the step runs as gets the file.
            "uid" | "gid" => {}
            _ => {
                let known = "expected `id`, `target`, `env`, `required` or `mode`";
                return Err(error(format!("`{name}` is unknown: {known}")));
            }
        }
    }
    let named = id.or_else(|| mount.target.as_deref().and_then(|path| path.rsplit('/').next()));
    let named = named.filter(|id| is_secret_id(id)).map(str::to_owned);
    mount.id = named
        .ok_or_else(|| error("expected `id=` with letters, digits, `-`, `_` and `.`".to_owned()))?;
    Ok(mount)
}

/// Whether a text can name a secret: it becomes the name of a file.
pub fn is_secret_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 128
        && !matches!(id, "." | "..")
        && id.chars().all(|one| one.is_ascii_alphanumeric() || "-_.".contains(one))
}

fn tmpfs(line: u32, options: &[(&str, &str)]) -> Result<Mount, ParseError> {
    let error = |reason: String| ParseError::at(line, format!("`--mount=type=tmpfs`: {reason}"));
    let (mut target, mut size_bytes) = (None, None);
    for &(name, value) in options {
        match name {
            "target" | "dst" | "destination" => target = Some(value.to_owned()),
            "size" => {
                let size = bytes(value)
                    .ok_or_else(|| error(format!("size `{value}`: expected such as `64m`")))?;
                size_bytes = Some(size);
            }
            _ => return Err(error(format!("`{name}` is unknown: expected `target` or `size`"))),
        }
    }
    let target = target.filter(|target| target.starts_with('/'));
    let target = target.ok_or_else(|| error("expected `target=` with an absolute path".into()))?;
    Ok(Mount::Tmpfs { target, size_bytes })
}

/// `1024`, `64k`, `64m`, `1g`, with a `b` behind it or none.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, shift) = match lower.chars().last()? {
        'k' => (lower.trim_end_matches('k'), 10),
        'm' => (lower.trim_end_matches('m'), 20),
        'g' => (lower.trim_end_matches('g'), 30),
        _ => (lower, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}
