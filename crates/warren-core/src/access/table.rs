//! Every key by its hash. Looked up at each request, changed by the administration alone.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{ApiKey, KeyRefused, KeyScope, secret::KeyHash};
use crate::{clock::Timestamp, id::KeyId};

/// How exactly it is known when a key was used last.
const USED: Duration = Duration::from_secs(60);

/// A key as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredKey {
    pub(crate) key: ApiKey,
    pub(crate) hash: KeyHash,
}

/// The keys there are. Its lock is held for a look-up, never across an await.
#[derive(Debug, Default)]
pub(crate) struct KeyTable(RwLock<HashMap<KeyHash, Arc<Entry>>>);

#[derive(Debug)]
struct Entry {
    key: ApiKey,
    /// Milliseconds; 0 for never.
    last_used_at: AtomicU64,
}

/// What a key opens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) id: KeyId,
    pub(crate) scope: KeyScope,
    /// Whether this use is to be written down.
    pub(crate) note_use: bool,
}

impl KeyTable {
    /// What the key of this hash opens at this moment.
    ///
    /// The table is searched by the hash: what the search takes tells nothing about a key, for
    /// nobody can choose a key by the hash it is to have.
    pub(crate) fn open(&self, hash: KeyHash, now: Timestamp) -> Result<Opened, KeyRefused> {
        let entry = self.read().get(&hash).cloned().ok_or(KeyRefused::Unknown)?;
        if entry.key.expires_at.is_some_and(|end| end <= now) {
            return Err(KeyRefused::Expired);
        }
        let last = entry.last_used_at.load(Ordering::Relaxed);
        let due = last == 0 || now.since(Timestamp::from_millis(last)) >= USED;
        // Of two requests at once, one notes it.
        let note_use = due
            && entry
                .last_used_at
                .compare_exchange(last, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        Ok(Opened { id: entry.key.id, scope: entry.key.scope.clone(), note_use })
    }

    pub(crate) fn insert(&self, StoredKey { key, hash }: StoredKey) {
        let last = key.last_used_at.map_or(0, Timestamp::as_millis);
        let entry = Entry { key, last_used_at: AtomicU64::new(last) };
        self.write().insert(hash, Arc::new(entry));
    }

    /// Calls a key something else.
    pub(crate) fn rename(&self, id: KeyId, name: &str) {
        let mut keys = self.write();
        let Some(entry) = keys.values_mut().find(|entry| entry.key.id == id) else { return };
        let key = ApiKey { name: name.to_owned(), ..entry.key.clone() };
        let last = entry.last_used_at.load(Ordering::Relaxed);
        *entry = Arc::new(Entry { key, last_used_at: AtomicU64::new(last) });
    }

    /// Whether it was there.
    pub(crate) fn remove(&self, id: KeyId) -> bool {
        let mut keys = self.write();
        let before = keys.len();
        keys.retain(|_, entry| entry.key.id != id);
        keys.len() < before
    }

    pub(crate) fn get(&self, id: KeyId) -> Option<ApiKey> {
        self.read().values().find(|entry| entry.key.id == id).map(|entry| entry.shown())
    }

    /// Every key, oldest first.
    pub(crate) fn all(&self) -> Vec<ApiKey> {
        let mut all: Vec<_> = self.read().values().map(|entry| entry.shown()).collect();
        all.sort_unstable_by_key(|key| (key.created_at, key.id));
        all
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<KeyHash, Arc<Entry>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<KeyHash, Arc<Entry>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn shown(&self) -> ApiKey {
        let last = self.last_used_at.load(Ordering::Relaxed);
        let last_used_at = (last > 0).then(|| Timestamp::from_millis(last));
        ApiKey { last_used_at, ..self.key.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Secret;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn table(expires_at: Option<Timestamp>) -> (KeyTable, KeyHash, KeyId) {
        let secret = Secret::mint();
        let key = ApiKey {
            id: KeyId::mint(),
            name: "k".into(),
            scope: KeyScope::Metrics,
            prefix: secret.prefix(),
            created_at: at(1),
            expires_at,
            last_used_at: None,
        };
        let (table, id) = (KeyTable::default(), key.id);
        table.insert(StoredKey { key, hash: secret.hash() });
        (table, secret.hash(), id)
    }

    #[test]
    fn a_key_opens_until_it_expires() {
        let (table, hash, id) = table(Some(at(100)));
        assert_eq!(table.open(hash, at(99)).unwrap().id, id);
        assert_eq!(table.open(hash, at(100)), Err(KeyRefused::Expired));
        assert_eq!(table.open(Secret::mint().hash(), at(1)), Err(KeyRefused::Unknown));
    }

    #[test]
    fn a_revoked_key_is_unknown() {
        let (table, hash, id) = table(None);
        assert!(table.remove(id));
        assert!(!table.remove(id));
        assert_eq!(table.open(hash, at(2)), Err(KeyRefused::Unknown));
        assert_eq!(table.get(id), None);
    }

    #[test]
    fn a_use_is_noted_once_a_minute() {
        let (table, hash, id) = table(None);
        let noted = [10, 11, 69, 70, 71].map(|now| table.open(hash, at(now)).unwrap().note_use);
        assert_eq!(noted, [true, false, false, true, false]);
        assert_eq!(table.get(id).unwrap().last_used_at, Some(at(70)));
    }
}
