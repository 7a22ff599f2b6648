//! Volumes as they are stored.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Object, ObjectKind, row::timestamp, sql::integer};
use crate::volumes::{Status, Volume};

/// The document of a volume's row.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    name: Cow<'a, str>,
    #[serde(default)]
    size_bytes: Option<u64>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    source: Option<Cow<'a, str>>,
    created_at: i64,
    status: StatusRow,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StatusRow {
    Making,
    Ready,
    Removing,
}

/// The row of a volume.
pub(crate) fn volume_object(volume: &Volume) -> Object {
    let record = Record {
        name: Cow::Borrowed(&volume.name),
        size_bytes: volume.size_bytes,
        read_only: volume.read_only,
        source: volume.source.as_ref().map(|id| Cow::Borrowed(id.as_str())),
        created_at: integer(volume.created_at.as_millis()),
        status: match volume.status {
            Status::Making => StatusRow::Making,
            Status::Ready => StatusRow::Ready,
            Status::Removing => StatusRow::Removing,
        },
    };
    Object {
        kind: ObjectKind::Volume,
        id: volume.id.to_string(),
        owner: volume.owner.clone(),
        // Plain fields alone: there is nothing that JSON could not say.
        record: serde_json::to_string(&record).unwrap_or_default(),
    }
}

/// The volume of a row; none where it cannot be understood.
pub(crate) fn object_volume(object: &Object) -> Option<Volume> {
    let record: Record<'_> = serde_json::from_str(&object.record).ok()?;
    Some(Volume {
        id: object.id.parse().ok()?,
        owner: object.owner.clone(),
        name: record.name.into_owned(),
        size_bytes: record.size_bytes,
        read_only: record.read_only,
        source: record.source.and_then(|id| id.parse().ok()),
        created_at: timestamp(record.created_at),
        status: match record.status {
            StatusRow::Making => Status::Making,
            StatusRow::Ready => Status::Ready,
            StatusRow::Removing => Status::Removing,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{caller::Owner, clock::Timestamp, id::VolumeId};

    #[test]
    fn a_volume_reads_back_as_it_was_written() {
        for (status, size_bytes) in
            [(Status::Making, None), (Status::Ready, Some(1 << 40)), (Status::Removing, Some(0))]
        {
            let volume = Volume {
                id: VolumeId::mint(),
                owner: Owner::new("a"),
                name: "data".to_owned(),
                size_bytes,
                read_only: size_bytes.is_none(),
                source: Some(VolumeId::mint()),
                created_at: Timestamp::default(),
                status,
            };
            assert_eq!(object_volume(&volume_object(&volume)), Some(volume));
        }
    }
}
