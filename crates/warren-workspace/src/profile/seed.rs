//! Profiles in agentvm's form: assignments of a shell, read without one.
//!
//! ```sh
//! PROFILE_LABEL="My Agent"
//! PROFILE_CMD="my-agent --auto"
//! PROFILE_RO_PATHS="${HOME}/.local/bin:$HOME/.nvm"
//! PROFILE_RW_PATHS="$HOME/.my-agent"
//! PROFILE_ENV_VARS="MY_API_KEY:MY_BASE_URL"
//! PROFILE_POST_CREATE_SCRIPT="$SCRIPT_DIR/profiles/setup-my-profile.sh"
//! ```
//!
//! The command is parted at blanks, as it is there; quotes in it mean nothing. Variables of other
//! names do nothing. The script runs inside of the sandbox, where it was run on the host there.

use super::{Places, Profile};
use crate::env_file::EnvFile;

/// Reads a profile.
///
/// # Errors
///
/// What was expected, for people: a line that is no assignment, a path that would need a shell.
pub fn parse(bytes: &[u8], places: &Places) -> Result<Profile, String> {
    let file = EnvFile::parse(bytes);
    if let Some(problem) = file.problems().first() {
        return Err(format!("line {}: {}", problem.line, problem.reason));
    }
    let value = |key: &str| file.get(key).unwrap_or_default();
    let expanded = |key: &str| places.expand(value(key));
    // `~` is put in at the beginning of each.
    let paths = |key: &str| list(value(key)).map(|it| places.expand(it)).collect::<Result<_, _>>();
    let setup = expanded("PROFILE_POST_CREATE_SCRIPT")?;
    Profile {
        label: value("PROFILE_LABEL").to_owned(),
        command: expanded("PROFILE_CMD")?.split_whitespace().map(str::to_owned).collect(),
        read_only: paths("PROFILE_RO_PATHS")?,
        read_write: paths("PROFILE_RW_PATHS")?,
        copied: list(value("PROFILE_STATE_DIRS")).map(str::to_owned).collect(),
        env: list(value("PROFILE_ENV_VARS")).map(str::to_owned).collect(),
        startup_keys: value("PROFILE_STARTUP_KEYS").split_whitespace().map(str::to_owned).collect(),
        setup: Some(setup).filter(|it| !it.is_empty()),
        ..Profile::default()
    }
    .check()
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(':').map(str::trim).filter(|it| !it.is_empty())
}
