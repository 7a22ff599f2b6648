//! Paths of the host in profiles, and what of it is never shown to an agent.

use std::path::{Component, Path};

use crate::text;

/// What the few names in paths stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The person's HOME, absolute: `$HOME`, `${HOME}` and `~`.
    pub home: String,
    /// Where agentvm's profiles keep `profiles/`: `$SCRIPT_DIR`. It is the home of agents.
    pub script_dir: String,
}

impl Places {
    /// Puts the two names in, and nothing else.
    ///
    /// # Errors
    ///
    /// Every other `$` and every backtick: a shell would look further, and there is none.
    pub(super) fn expand(&self, text: &str) -> Result<String, String> {
        let names = [
            ("${HOME}", &self.home),
            ("$HOME", &self.home),
            ("${SCRIPT_DIR}", &self.script_dir),
            ("$SCRIPT_DIR", &self.script_dir),
        ];
        let mut out = String::new();
        let mut rest = text;
        if let Some(below) =
            rest.strip_prefix('~').filter(|it| it.is_empty() || it.starts_with('/'))
        {
            out.push_str(&self.home);
            rest = below;
        }
        while let Some(character) = rest.chars().next() {
            let name =
                names.iter().find_map(|(name, value)| Some((rest.strip_prefix(*name)?, *value)));
            // `$HOMES` is another variable.
            let name = name.filter(|(after, _)| rest.starts_with("${") || !begins_with_word(after));
            match (name, character) {
                (Some((after, value)), _) => {
                    out.push_str(value);
                    rest = after;
                }
                (None, '$' | '`') => {
                    let text = text::shown(text);
                    return Err(format!("`{text}`: only $HOME and $SCRIPT_DIR are put in"));
                }
                (None, _) => {
                    out.push(character);
                    rest = rest.get(character.len_utf8()..).unwrap_or_default();
                }
            }
        }
        Ok(out)
    }
}

fn begins_with_word(text: &str) -> bool {
    text.starts_with(|it: char| it.is_ascii_alphanumeric() || it == '_')
}

/// An absolute path without `.`, `..` and characters that do not print.
pub(super) fn check(path: &str) -> Result<(), String> {
    let shown = text::shown(path);
    if !path.starts_with('/') {
        return Err(format!("`{shown}` is no absolute path"));
    }
    let plain = |it| matches!(it, Component::RootDir | Component::Normal(_));
    if shown != path || !Path::new(path).components().all(plain) || path.contains("/./") {
        return Err(format!("`{shown}`: expected a path without `..`"));
    }
    Ok(())
}

/// A path below a HOME.
pub(super) fn check_relative(path: &str) -> Result<(), String> {
    let shown = text::shown(path);
    let plain = |it| matches!(it, Component::Normal(_));
    let empty = Path::new(path).components().next().is_none();
    if shown != path || empty || !Path::new(path).components().all(plain) {
        return Err(format!("`{shown}`: expected a path below HOME, such as `.config/tool`"));
    }
    Ok(())
}

/// Whether a path of the host may be shown to an agent: not what has the home of agents in it or is
/// in it, for there are other agents' workspaces, keys and records, and not all of the host.
///
/// All are absolute, and links in them have been followed.
///
/// # Errors
///
/// Which it is, for people.
pub fn check_mount(path: &Path, agents: &Path, person: &Path) -> Result<(), String> {
    let shown = text::shown(&path.display().to_string());
    if path.starts_with(agents) || agents.starts_with(path) {
        return Err(format!("`{shown}`: it has other agents and their keys in it"));
    }
    if person.starts_with(path) {
        return Err(format!("`{shown}`: all of HOME is too much; name what is needed of it"));
    }
    Ok(())
}
