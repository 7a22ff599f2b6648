//! Volumes.

use warren_api::volume as api;
use warren_core::{spec::VolumeMount, volumes::Volume};

use super::timestamp;

pub(crate) fn volume(volume: &Volume, used: Option<u64>, sandboxes: usize) -> api::Volume {
    api::Volume {
        id: volume.id.to_string(),
        name: volume.name.clone(),
        size_bytes: volume.size_bytes,
        used_bytes: used,
        read_only: volume.read_only,
        source: volume.source.map(|id| id.to_string()),
        sandboxes: sandboxes as u64,
        created_at: timestamp(volume.created_at),
    }
}

pub(super) fn mount(mount: &VolumeMount) -> api::VolumeMount {
    api::VolumeMount {
        volume: mount.volume.to_string(),
        target: mount.target.clone(),
        read_only: mount.read_only,
    }
}
