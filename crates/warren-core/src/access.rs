//! Who may: projects, the keys that prove to be one of them, and what a project may have.
//!
//! A project owns sandboxes, events and idempotency keys; no project sees another's. The local
//! socket acts in [`DEFAULT`] or in the project it names; everybody else shows a key, and a key
//! belongs to one project. Of a key nothing is kept but its hash, so the database, a backup of it
//! and this process's memory hold none that could be used.
//!
//! Projects and keys are loaded at the start and looked up in memory: no request waits for the
//! database to know who asks. Changes are written first, synced to the disk, and count when that
//! is done.

use std::{fmt, str::FromStr};

use crate::{caller::Owner, clock::Timestamp, id::KeyId};

mod admin;
mod secret;
mod table;

pub use admin::{Authenticated, Backup};
pub(crate) use secret::KeyHash;
pub use secret::{KeyRefused, Secret};
pub(crate) use table::{KeyTable, StoredKey};

/// The project that is always there.
pub const DEFAULT: &str = "default";

/// The name of a project: `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectName(String);

/// The text is not the name of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a project's name: expected [a-z0-9][a-z0-9-]{{0,62}}")]
pub struct InvalidProjectName;

impl ProjectName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Who owns what is the project's.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner::new(&self.0)
    }
}

impl FromStr for ProjectName {
    type Err = InvalidProjectName;

    fn from_str(text: &str) -> Result<Self, InvalidProjectName> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let mut bytes = text.bytes();
        let good = text.len() <= 63
            && bytes.next().is_some_and(letter)
            && bytes.all(|byte| letter(byte) || byte == b'-');
        if good { Ok(Self(text.to_owned())) } else { Err(InvalidProjectName) }
    }
}

impl fmt::Display for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a project may have at once; none for no limit but the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProjectQuota {
    /// Living sandboxes.
    pub sandboxes: Option<u32>,
    /// The sum of their memory limits in bytes.
    pub memory_bytes: Option<u64>,
}

/// A project and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its name.
    pub name: ProjectName,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it may have.
    pub quota: ProjectQuota,
    /// How many sandboxes of it live.
    pub sandboxes: u32,
    /// The sum of their memory limits in bytes.
    pub memory_bytes: u64,
    /// How many keys it has.
    pub keys: u32,
}

/// What a key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyScope {
    /// Everything that a caller of this project may do.
    Project(ProjectName),
    /// Reading the server's metrics, and nothing else.
    Metrics,
}

/// What is known of a key; the key itself is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its identity.
    pub id: KeyId,
    /// What it was called, for people; not unique.
    pub name: String,
    /// What it is for.
    pub scope: KeyScope,
    /// How it begins, to tell keys apart.
    pub prefix: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to a minute.
    pub last_used_at: Option<Timestamp>,
}

/// A key that is wanted.
#[derive(Clone, Debug)]
pub struct WantedKey {
    /// What to call it: 1 to 100 characters, none of control.
    pub name: String,
    /// What it is for.
    pub scope: KeyScope,
    /// After how long it is to be refused; at least one second.
    pub lifetime: Option<std::time::Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_names_a_project() {
        for good in ["default", "a", "0", "team-7", &"x".repeat(63)] {
            assert!(good.parse::<ProjectName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a_b", "a.b", "a b", "ä", "a/b", &"x".repeat(64)] {
            assert_eq!(bad.parse::<ProjectName>(), Err(InvalidProjectName), "{bad}");
        }
    }
}
