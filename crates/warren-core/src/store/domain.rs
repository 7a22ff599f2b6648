//! Names of somebody's own as they are stored.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Object, ObjectKind, row::timestamp, sql::integer};
use crate::domains::Domain;

/// The document of a name's row.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    name: Cow<'a, str>,
    sandbox: Cow<'a, str>,
    port: u16,
    #[serde(default)]
    public: bool,
    proof: Cow<'a, str>,
    #[serde(default)]
    verified: bool,
    created_at: i64,
}

/// The id of a name's row: several owners may claim one name.
pub(crate) fn domain_key(domain: &Domain) -> String {
    format!("{} {}", domain.name, domain.owner.as_str())
}

/// The row of a name.
pub(crate) fn domain_object(domain: &Domain) -> Object {
    let record = Record {
        name: Cow::Borrowed(&domain.name),
        sandbox: Cow::Borrowed(domain.sandbox.as_str()),
        port: domain.port,
        public: domain.public,
        proof: Cow::Borrowed(domain.proof.as_str()),
        verified: domain.verified,
        created_at: integer(domain.created_at.as_millis()),
    };
    Object {
        kind: ObjectKind::Domain,
        id: domain_key(domain),
        owner: domain.owner.clone(),
        // Plain fields alone: there is nothing that JSON could not say.
        record: serde_json::to_string(&record).unwrap_or_default(),
    }
}

/// The name of a row; none where it cannot be understood.
pub(crate) fn object_domain(object: &Object) -> Option<Domain> {
    let record: Record<'_> = serde_json::from_str(&object.record).ok()?;
    Some(Domain {
        name: record.name.into_owned(),
        owner: object.owner.clone(),
        sandbox: record.sandbox.parse().ok()?,
        port: record.port,
        public: record.public,
        proof: record.proof.parse().ok()?,
        verified: record.verified,
        created_at: timestamp(record.created_at),
    })
}
