//! Secrets as they are stored: their values are sealed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Object, ObjectKind, row::timestamp, sql::integer};
use crate::secrets::{SealKey, Sealed, Secret, StoredSecret};

/// The document of a secret's row.
#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    created_at: i64,
    updated_at: i64,
    version: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    sealed: Sealed,
}

/// The row of a secret.
pub(crate) fn secret_object(secret: &StoredSecret) -> Object {
    let about = &secret.about;
    let record = Record {
        name: about.name.clone(),
        created_at: integer(about.created_at.as_millis()),
        updated_at: integer(about.updated_at.as_millis()),
        version: about.version,
        labels: about.labels.clone(),
        sealed: secret.sealed.clone(),
    };
    Object {
        kind: ObjectKind::Secret,
        id: secret.row_id(),
        owner: about.owner.clone(),
        // Plain fields alone: there is nothing that JSON could not say.
        record: serde_json::to_string(&record).unwrap_or_default(),
    }
}

/// The secret of a row, and whether it opens with this key; none where it cannot be understood.
pub(crate) fn object_secret(object: &Object, key: Option<&SealKey>) -> Option<StoredSecret> {
    let record: Record = serde_json::from_str(&object.record).ok()?;
    let binding = StoredSecret::binding(&object.owner, &record.name);
    let usable = key.is_some_and(|key| key.open(&record.sealed, &binding).is_ok());
    let about = Secret {
        owner: object.owner.clone(),
        name: record.name,
        created_at: timestamp(record.created_at),
        updated_at: timestamp(record.updated_at),
        version: record.version,
        labels: record.labels,
        usable,
    };
    Some(StoredSecret { about, sealed: record.sealed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{caller::Owner, clock::Timestamp};

    #[test]
    fn a_secret_reads_back_for_its_owner_and_its_key_alone() {
        let (key, owner) = (SealKey::generate(), Owner::new("a"));
        let sealed = key.seal(b"hunter2", &StoredSecret::binding(&owner, "K")).unwrap();
        let at = Timestamp::default();
        let (name, version) = ("K".to_owned(), 3);
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let (created_at, updated_at) = (at, at);
        let about = Secret { owner, name, created_at, updated_at, version, labels, usable: true };
        let secret = StoredSecret { about, sealed };
        let object = secret_object(&secret);
        assert!(!object.record.contains("hunter2"));
        assert_eq!(object_secret(&object, Some(&key)), Some(secret));
        let usable = |object: &Object, key: Option<&SealKey>| {
            object_secret(object, key).unwrap().about.usable
        };
        assert!(!usable(&object, None));
        assert!(!usable(&object, Some(&SealKey::generate())));
        let moved = Object { owner: Owner::new("b"), ..object };
        assert!(!usable(&moved, Some(&key)));
    }
}
