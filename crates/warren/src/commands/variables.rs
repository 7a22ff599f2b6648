//! The flags that set variables of commands.

use std::{collections::BTreeMap, fs, path::PathBuf};

use crate::{
    config::Environment,
    error::{CliError, Kind},
};

/// What variables are set.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct VariableArgs {
    /// Set a variable; without a value, to what it is here; may be repeated
    #[arg(long, short, value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Set the variables in this file, a `KEY=VALUE` or `KEY` on each line; may be repeated
    ///
    /// Everything behind the first `=` is the value, quotes and all; a `KEY` alone has the value
    /// that it has here. Empty lines and those that begin with `#` are passed over. `--env` is
    /// stronger.
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
}

impl VariableArgs {
    /// The variables, those of the flags over those of the files.
    pub(crate) fn read(
        &self,
        environment: &Environment,
    ) -> Result<BTreeMap<String, String>, CliError> {
        let mut all = BTreeMap::new();
        for file in &self.env_file {
            let bytes = fs::read(file).map_err(|error| {
                let text = format!("could not read the file {}: {error}", file.display());
                CliError::new(Kind::Usage, text)
            })?;
            for (number, line) in (1..).zip(lines(&bytes)) {
                let place = || format!("{}, line {number}", file.display());
                let line =
                    line.map_err(|error| CliError::usage(format!("{}: {error}", place())))?;
                let pair = pair(line, environment).map_err(|problem| {
                    CliError::usage(format!("{}: {problem}: expected KEY=VALUE or KEY", place()))
                })?;
                all.extend(pair);
            }
        }
        for text in &self.env {
            let pair = pair(text, environment).map_err(|problem| {
                CliError::usage(format!("`--env {text}`: {problem}: expected KEY=VALUE or KEY"))
            })?;
            all.extend(pair);
        }
        Ok(all)
    }
}

/// The lines that say something, in a file of variables; some editors mark the file's beginning.
fn lines(bytes: &[u8]) -> impl Iterator<Item = Result<&str, std::str::Utf8Error>> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    bytes.split(|byte| *byte == b'\n').map(|line| {
        let line = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line))?.trim_start();
        Ok(if line.starts_with('#') { "" } else { line })
    })
}

/// The variable that a text sets; none where it is empty, or has no value here either.
fn pair(text: &str, environment: &Environment) -> Result<Option<(String, String)>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (text.trim_end(), environment.exactly(text.trim_end())),
    };
    if key.is_empty() {
        return Err("there is no name before the `=`");
    }
    if key.contains(char::is_whitespace) {
        return Err("there is a space in the name");
    }
    if text.contains('\0') {
        return Err("there is a NUL byte in it");
    }
    Ok(value.map(|value| (key.to_owned(), value.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[&str], file: &[u8]) -> Result<Vec<(String, String)>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("env");
        fs::write(&path, file).unwrap();
        let args = VariableArgs {
            env: set.iter().map(ToString::to_string).collect(),
            env_file: vec![path],
        };
        let environment = Environment::of(&[("LANG", "C"), ("EMPTY", "")]);
        args.read(&environment)
            .map(|all| all.into_iter().collect())
            .map_err(|error| error.source.to_string())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
    }

    #[test]
    fn a_variable_without_a_value_is_taken_from_here() {
        let expected = pairs(&[("A", "b=c"), ("EMPTY", ""), ("LANG", "C")]);
        assert_eq!(read(&["A=b=c", "LANG", "ABSENT", "EMPTY"], b""), expected);
    }

    #[test]
    fn a_file_is_read_as_docker_reads_it() {
        let text =
            b"\xef\xbb\xbf# a comment\n\n  A=1 \r\nB=\"x y\" # z\nLANG\nABSENT\n   # b\nC=\n";
        let expected = pairs(&[("A", "1 "), ("B", "\"x y\" # z"), ("C", ""), ("LANG", "C")]);
        assert_eq!(read(&[], text), expected);
    }

    #[test]
    fn a_flag_is_stronger_than_a_file() {
        assert_eq!(read(&["A=2"], b"A=1"), pairs(&[("A", "2")]));
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        for (line, problem) in [
            (&b"A=1\n=x"[..], "line 2: there is no name"),
            (b"export A=1", "line 1: there is a space"),
            (b"A=\xff", "line 1: invalid utf-8"),
        ] {
            let error = read(&[], line).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        let error = read(&["=x"], b"").unwrap_err();
        assert!(
            error.starts_with("`--env =x`: ") && error.contains("expected KEY=VALUE"),
            "{error}"
        );
    }
}
