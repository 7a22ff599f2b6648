//! `--mount SRC[:DST][:ro]`

use std::path::Path;

use warren_api::sandbox::Mount;

use crate::error::CliError;

/// Where a directory goes that is not said where.
const WORKSPACE: &str = "/workspace";

/// Reads one flag. The server has another working directory: a path is sent absolute. A named
/// server has other files altogether.
pub(super) fn mount(text: &str, local: bool) -> Result<Mount, CliError> {
    let wrong = |why: &str| {
        CliError::usage(format!("`--mount {text}`: {why}")).hint(
            "expected SRC, SRC:DST or SRC:DST:ro, with DST absolute; without it, it is /workspace",
        )
    };
    let (rest, read_only) = match text.strip_suffix(":ro") {
        Some(rest) => (rest, true),
        None => (text.strip_suffix(":rw").unwrap_or(text), false),
    };
    let (source, target) = rest.split_once(':').unwrap_or((rest, WORKSPACE));
    if source.is_empty() {
        return Err(wrong("no directory is named"));
    }
    if !target.starts_with('/') || target.contains(':') {
        return Err(wrong("the place inside is no absolute path"));
    }
    let source = Path::new(source);
    if !local {
        if !source.is_absolute() {
            return Err(wrong("the directory is no absolute path of the server's machine"));
        }
        return Ok(Mount {
            source: source.display().to_string(),
            target: target.into(),
            read_only,
        });
    }
    // Looked up here, where the person sees what it leads to.
    let source = source.canonicalize().map_err(|error| {
        CliError::local("find a directory to mount")(error)
            .hint(format!("`--mount {text}` names {}", source.display()))
    })?;
    if !source.is_dir() {
        return Err(wrong("only directories can be mounted; `--copy` takes files too"));
    }
    let Some(source) = source.to_str() else { return Err(wrong("the path is not UTF-8")) };
    Ok(Mount { source: source.to_owned(), target: target.to_owned(), read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_with_its_defaults() {
        let check = |text, expected: (&str, &str, bool)| {
            let mount = mount(text, false).unwrap();
            assert_eq!((mount.source.as_str(), mount.target.as_str(), mount.read_only), expected);
        };
        check("/a", ("/a", "/workspace", false));
        check("/a:ro", ("/a", "/workspace", true));
        check("/a:/b", ("/a", "/b", false));
        check("/a:/b:ro", ("/a", "/b", true));
        check("/a:/b:rw", ("/a", "/b", false));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, local, expected) in [
            ("", true, "no directory"),
            (":/b", true, "no directory"),
            ("/a:b", false, "no absolute path"),
            ("/a:/b:/c", false, "no absolute path"),
            ("a", false, "of the server's machine"),
            ("/nowhere/at/all", true, "find a directory"),
            ("/etc/passwd", true, "only directories"),
        ] {
            let error = mount(text, local).unwrap_err();
            assert!(error.source.to_string().contains(expected), "{text}: {}", error.source);
        }
    }

    #[test]
    fn a_relative_directory_is_sent_absolute() {
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(mount(".:/w", true).unwrap().source, here.to_str().unwrap());
    }
}
