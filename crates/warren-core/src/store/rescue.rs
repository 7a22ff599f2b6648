//! Bundles of work as they are stored; the files are elsewhere.

use serde::{Deserialize, Serialize};

use super::{Object, ObjectKind, row::timestamp, sql::integer};
use crate::git::Rescue;

/// The document of a bundle's row.
#[derive(Serialize, Deserialize)]
struct Record {
    repository: String,
    session: String,
    reason: String,
    bytes: u64,
    refs: Vec<(String, String)>,
    created_at: i64,
}

/// The row of a bundle.
pub(crate) fn rescue_object(rescue: &Rescue) -> Object {
    let record = Record {
        repository: rescue.repository.clone(),
        session: rescue.session.clone(),
        reason: rescue.reason.clone(),
        bytes: rescue.bytes,
        refs: rescue.refs.clone(),
        created_at: integer(rescue.created_at.as_millis()),
    };
    Object {
        kind: ObjectKind::Rescue,
        id: rescue.sandbox.to_string(),
        owner: rescue.owner.clone(),
        // Plain fields alone: there is nothing that JSON could not say.
        record: serde_json::to_string(&record).unwrap_or_default(),
    }
}

/// The bundle of a row; none where it cannot be understood.
pub(crate) fn object_rescue(object: &Object) -> Option<Rescue> {
    let record: Record = serde_json::from_str(&object.record).ok()?;
    let Record { repository, session, reason, bytes, refs, created_at } = record;
    Some(Rescue {
        sandbox: object.id.parse().ok()?,
        owner: object.owner.clone(),
        repository,
        session,
        reason,
        bytes,
        refs,
        created_at: timestamp(created_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{caller::Owner, clock::Timestamp, id::SandboxId};

    #[test]
    fn a_bundle_reads_back() {
        let rescue = Rescue {
            sandbox: SandboxId::mint(),
            owner: Owner::new("a"),
            repository: "https://git.example/a".to_owned(),
            session: "work".to_owned(),
            reason: "the remote is down".to_owned(),
            bytes: 7,
            refs: vec![("refs/heads/work".to_owned(), "1".repeat(40))],
            created_at: Timestamp::from_millis(5),
        };
        assert_eq!(object_rescue(&rescue_object(&rescue)), Some(rescue));
    }
}
