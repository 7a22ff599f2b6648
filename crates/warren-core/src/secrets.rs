//! Secrets: values that requests of sandboxes are given on their way out, and that nobody reads.
//!
//! A value is sealed as soon as it comes and opened when a sandbox is told what to send; in between
//! it is the same bytes in memory and in the database. It is bound to its owner and its name, so
//! that a row under another name, or another project's, does not open.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{caller::Owner, clock::Timestamp, error::SandboxError};

mod seal;

pub use seal::{SealKey, SecretValue};
pub(crate) use seal::{Sealed, Unsealable};

/// How many secrets a project may have.
pub(crate) const MOST: usize = 1000;
/// The longest value, in bytes.
pub const LONGEST_VALUE: usize = 64 << 10;
/// The longest name.
const LONGEST_NAME: usize = 64;

/// What may be told of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Whose it is.
    pub owner: Owner,
    /// Its name, unique among the owner's secrets.
    pub name: String,
    /// When there was one of this name first.
    pub created_at: Timestamp,
    /// When its value was set last.
    pub updated_at: Timestamp,
    /// How often its value was set.
    pub version: u64,
    /// Free text about it. It is no secret: it is stored and shown as it is.
    pub labels: BTreeMap<String, String>,
    /// Whether its value can be opened with the key that this server has.
    pub usable: bool,
}

impl Secret {
    /// Its identity: the same for as long as its owner has one of this name.
    #[must_use]
    pub fn id(&self) -> String {
        row_id(&self.owner, &self.name)
    }
}

/// A secret that is to be set.
#[derive(Debug)]
pub struct WantedSecret {
    /// Its value.
    pub value: SecretValue,
    /// Free text about it; as before where absent.
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether there may be one of its name, or must.
    pub place: Place,
}

impl WantedSecret {
    /// This value, whether or not there is one already.
    #[must_use]
    pub fn value(value: SecretValue) -> Self {
        Self { value, labels: None, place: Place::Either }
    }
}

/// What must be under the name of a secret that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Anything.
    Either,
    /// Nothing.
    Free,
    /// A secret.
    Taken,
}

/// A secret as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredSecret {
    pub(crate) about: Secret,
    pub(crate) sealed: Sealed,
}

impl StoredSecret {
    /// What a value is bound to.
    pub(crate) fn binding(owner: &Owner, name: &str) -> Vec<u8> {
        // Neither holds a zero, so that no two pairs look the same.
        [b"warren secret\0", owner.as_str().as_bytes(), b"\0", name.as_bytes()].concat()
    }

    /// The identity of its row: one for each owner and name.
    pub(crate) fn row_id(&self) -> String {
        row_id(&self.about.owner, &self.about.name)
    }
}

fn row_id(owner: &Owner, name: &str) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(StoredSecret::binding(owner, name));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Checks the name of a secret.
///
/// # Errors
///
/// [`SandboxError::Invalid`].
pub(crate) fn check_name(name: &str) -> Result<(), SandboxError> {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let other = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let fits = name.len() <= LONGEST_NAME
        && name.bytes().next().is_some_and(first)
        && name.bytes().all(other);
    if fits {
        return Ok(());
    }
    Err(SandboxError::invalid(
        "name",
        "expected a letter or `_`, then up to 63 of A-Z a-z 0-9 _ . -",
    ))
}

/// Checks the value of a secret.
///
/// # Errors
///
/// [`SandboxError::Invalid`], without the value.
pub(crate) fn check_value(value: &SecretValue) -> Result<(), SandboxError> {
    match value.expose().len() {
        1..=LONGEST_VALUE => Ok(()),
        length => Err(SandboxError::invalid(
            "value",
            format!("expected 1 to {LONGEST_VALUE} bytes, got {length}"),
        )),
    }
}

/// How many labels a secret may have, and how long a name and a text of one may be.
const MOST_LABELS: usize = 64;
const LONGEST_LABEL: (usize, usize) = (128, 1024);

/// Checks the free text about a secret.
///
/// # Errors
///
/// [`SandboxError::Invalid`].
pub(crate) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), SandboxError> {
    let (name, text) = LONGEST_LABEL;
    let fits = |it: (&String, &String)| {
        (1..=name).contains(&it.0.len()) && it.1.len() <= text && !it.0.contains(char::is_control)
    };
    if labels.len() <= MOST_LABELS && labels.iter().all(fits) {
        return Ok(());
    }
    let reason = format!(
        "at most {MOST_LABELS} are allowed, with names of 1 to {name} bytes and up to {text} bytes \
         of text"
    );
    Err(SandboxError::invalid("labels", reason))
}

/// All secrets. Its lock is held for a look-up, never across an await.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    all: HashMap<(Owner, String), Arc<StoredSecret>>,
    /// Those that are being written: nobody else writes them meanwhile.
    writing: HashSet<(Owner, String)>,
}

/// The right to write one secret, until it is dropped.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    secrets: &'a Secrets,
    key: (Owner, String),
    /// What is there now.
    pub(crate) before: Option<Arc<StoredSecret>>,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.secrets.lock().writing.remove(&self.key);
    }
}

impl Writing<'_> {
    /// What is there from now on.
    pub(crate) fn settle(self, after: Option<StoredSecret>) {
        let mut table = self.secrets.lock();
        match after {
            Some(after) => drop(table.all.insert(self.key.clone(), Arc::new(after))),
            None => drop(table.all.remove(&self.key)),
        }
    }
}

impl Secrets {
    /// Remembers what was stored.
    pub(crate) fn restore(&self, secrets: impl IntoIterator<Item = StoredSecret>) {
        let mut table = self.lock();
        for secret in secrets {
            let key = (secret.about.owner.clone(), secret.about.name.clone());
            table.all.insert(key, Arc::new(secret));
        }
    }

    /// The owner's secrets, by name.
    pub(crate) fn of(&self, owner: &Owner) -> Vec<Secret> {
        let table = self.lock();
        let own = table.all.values().filter(|it| it.about.owner == *owner);
        let mut found: Vec<_> = own.map(|it| it.about.clone()).collect();
        found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// One of the owner's secrets.
    pub(crate) fn find(&self, owner: &Owner, name: &str) -> Option<Arc<StoredSecret>> {
        self.lock().all.get(&(owner.clone(), name.to_owned())).cloned()
    }

    /// How many secrets an owner has.
    pub(crate) fn count(&self, owner: &Owner) -> usize {
        self.lock().all.values().filter(|it| it.about.owner == *owner).count()
    }

    /// Takes the right to write a secret, which may not be there yet; its owner has at most
    /// [`MOST`].
    pub(crate) fn write(&self, owner: &Owner, name: &str) -> Result<Writing<'_>, SandboxError> {
        let key = (owner.clone(), name.to_owned());
        let mut table = self.lock();
        let before = table.all.get(&key).cloned();
        let others = table.all.keys().chain(&table.writing).filter(|it| it.0 == *owner).count();
        if before.is_none() && others >= MOST {
            let limit = MOST as u64;
            return Err(SandboxError::Limit { whose: "project's", what: "secrets", limit });
        }
        if !table.writing.insert(key.clone()) {
            let reason = "is being changed".to_owned();
            return Err(SandboxError::InUse { what: "secret", name: key.1, reason });
        }
        Ok(Writing { secrets: self, key, before })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(owner: &str, name: &str) -> StoredSecret {
        let (owner, name) = (Owner::new(owner), name.to_owned());
        let at = Timestamp::default();
        let about = Secret {
            owner,
            name,
            created_at: at,
            updated_at: at,
            version: 1,
            labels: BTreeMap::new(),
            usable: true,
        };
        StoredSecret { about, sealed: Sealed::default() }
    }

    #[test]
    fn names_are_checked() {
        for good in ["A", "_x", "GITHUB_TOKEN", "a.b-c9"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "9a", "-a", "a b", "a/b", "é", &"a".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_owner_and_name_has_a_row_of_its_own() {
        let rows = [stored("a", "bc"), stored("ab", "c"), stored("a", "c")];
        let ids: HashSet<_> = rows.iter().map(StoredSecret::row_id).collect();
        assert_eq!(ids.len(), 3);
    }

    #[test]
    fn a_secret_is_written_by_one_at_a_time_and_seen_by_its_owner() {
        let (secrets, owner) = (Secrets::default(), Owner::new("a"));
        let writing = secrets.write(&owner, "K").unwrap();
        assert!(matches!(secrets.write(&owner, "K"), Err(SandboxError::InUse { .. })));
        writing.settle(Some(stored("a", "K")));
        assert_eq!(secrets.of(&owner).len(), 1);
        assert!(secrets.of(&Owner::new("b")).is_empty());
        assert!(secrets.find(&Owner::new("b"), "K").is_none());
        let writing = secrets.write(&owner, "K").unwrap();
        assert!(writing.before.is_some());
        writing.settle(None);
        assert_eq!(secrets.count(&owner), 0);
    }
}
