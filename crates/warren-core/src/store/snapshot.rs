//! Snapshots as they are stored.

use std::{borrow::Cow, collections::BTreeMap, collections::BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Object, ObjectKind,
    row::{StackRow, egress, id, network, timestamp},
    sql::integer,
    templates::ProgramRow,
};
use crate::{
    snapshots::{Inherited, Snapshot, Status},
    spec::{Limits, Network, Profile},
};

/// The document of a snapshot's row.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    #[serde(default)]
    name: Option<Cow<'a, str>>,
    #[serde(default)]
    tags: Cow<'a, BTreeSet<String>>,
    #[serde(default)]
    parent: Option<Cow<'a, str>>,
    #[serde(default)]
    sandbox: Option<Cow<'a, str>>,
    stack: StackRow<'a>,
    #[serde(default)]
    env: Cow<'a, BTreeMap<String, String>>,
    user: Cow<'a, str>,
    workdir: Cow<'a, str>,
    memory_bytes: u64,
    cpu_millis: u32,
    pids: u32,
    open_files: u32,
    #[serde(default)]
    disk_bytes: Option<u64>,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    offline: bool,
    #[serde(default, skip_serializing_if = "ProgramRow::is_empty")]
    program: ProgramRow,
    /// The rules of its network, one on each line; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    egress: Option<String>,
    created_at: i64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    files: u64,
    status: StatusRow,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StatusRow {
    Making,
    Ready,
    Hidden,
    Held,
}

/// The row of a snapshot; none where it cannot be written as JSON, which its types rule out.
pub(crate) fn snapshot_object(snapshot: &Snapshot) -> Object {
    let Inherited { env, user, workdir, limits, profile, network, program } = &snapshot.inherited;
    let record = Record {
        name: snapshot.name.as_deref().map(Cow::Borrowed),
        tags: Cow::Borrowed(&snapshot.tags),
        parent: snapshot.parent.as_ref().map(|id| Cow::Borrowed(id.as_str())),
        sandbox: snapshot.sandbox.as_ref().map(|id| Cow::Borrowed(id.as_str())),
        stack: StackRow::from(&snapshot.stack),
        env: Cow::Borrowed(env),
        user: Cow::Borrowed(user),
        workdir: Cow::Borrowed(workdir),
        memory_bytes: limits.memory_bytes,
        cpu_millis: limits.cpu_millis,
        pids: limits.pids,
        open_files: limits.open_files,
        disk_bytes: limits.disk_bytes,
        strict: *profile == Profile::Strict,
        offline: *network == Network::None,
        program: ProgramRow::from(program),
        egress: egress(network),
        created_at: integer(snapshot.created_at.as_millis()),
        bytes: snapshot.bytes,
        files: snapshot.files,
        status: match snapshot.status {
            Status::Making => StatusRow::Making,
            Status::Ready => StatusRow::Ready,
            Status::Hidden => StatusRow::Hidden,
            Status::Held => StatusRow::Held,
        },
    };
    Object {
        kind: ObjectKind::Snapshot,
        id: snapshot.id.to_string(),
        owner: snapshot.owner.clone(),
        record: serde_json::to_string(&record).unwrap_or_default(),
    }
}

/// The snapshot of a row, or `None` when it does not say what it should.
pub(crate) fn object_snapshot(object: &Object) -> Option<Snapshot> {
    let record: Record<'_> = serde_json::from_str(&object.record).ok()?;
    Some(Snapshot {
        id: object.id.parse().ok()?,
        owner: object.owner.clone(),
        name: record.name.map(Cow::into_owned),
        tags: record.tags.into_owned(),
        parent: id(record.parent)?,
        sandbox: id(record.sandbox)?,
        stack: record.stack.into_stack()?,
        inherited: Inherited {
            env: record.env.into_owned(),
            user: record.user.into_owned(),
            workdir: record.workdir.into_owned(),
            limits: Limits {
                memory_bytes: record.memory_bytes,
                cpu_millis: record.cpu_millis,
                pids: record.pids,
                open_files: record.open_files,
                disk_bytes: record.disk_bytes,
            },
            profile: if record.strict { Profile::Strict } else { Profile::Default },
            program: record.program.into_program(),
            network: network(record.offline, record.egress)?,
        },
        created_at: timestamp(record.created_at),
        bytes: record.bytes,
        files: record.files,
        status: match record.status {
            StatusRow::Making => Status::Making,
            StatusRow::Ready => Status::Ready,
            StatusRow::Hidden => Status::Hidden,
            StatusRow::Held => Status::Held,
        },
    })
}
