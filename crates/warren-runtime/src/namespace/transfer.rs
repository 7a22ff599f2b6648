//! Snapshots on their way to somewhere else, and from there.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use futures::StreamExt as _;
use tokio::sync::mpsc;
use warren_core::{
    id::SnapshotId,
    runtime::{Arriving, Imported, Packing, RuntimeError},
    spec::Image,
};
use warren_layer::{merge, unpack};

use super::{blocking, host::Host, space};
use crate::{
    image::Layer,
    rootless,
    transfer::{Departing, TransferError, arrive, depart},
};

/// The most that is taken in one file.
const MOST_BYTES: u64 = 64 << 30;
/// Pieces that wait to be written.
const WAITING: usize = 16;
/// After so many bytes it is looked whether there is still room.
const LOOK_AFTER: u64 = 64 << 20;

impl Host {
    /// Packs a snapshot with what is below it.
    pub(super) fn pack_snapshot(&self, packing: &Packing) -> Result<File, RuntimeError> {
        self.space.admit(space::FOR_SNAPSHOT)?;
        let image = self.resolve(&Image::Snapshot(packing.stack.clone()))?;
        let own = packing.stack.layers.len();
        let mut layers: Vec<_> = image
            .layers
            .iter()
            .map(|layer| match layer {
                Layer::Own(path) | Layer::Foreign(path) => path.clone(),
            })
            .collect();
        let (base_name, base_digest) = match &*packing.stack.base {
            Image::Host => {
                // It is this host's, and everywhere another one.
                layers.truncate(own);
                ("host".to_owned(), None)
            }
            Image::Oci(image) => (image.reference.clone(), image.id.clone()),
            Image::Directory(_) | Image::Archive(_) | Image::Snapshot(_) => (String::new(), None),
        };
        layers.reverse();
        let departing = Departing {
            layers,
            own,
            base_name,
            base_digest,
            name: packing.name.clone(),
            env: packing.env.clone(),
            user: packing.user.clone(),
            workdir: packing.workdir.clone(),
            marks: rootless::marks(),
        };
        depart(&departing, self.snapshots.directory()).map_err(|error| failed(error, "pack"))
    }

    /// Makes the files of a snapshot of what another server has packed.
    fn unpack_snapshot(
        &self,
        snapshot: &SnapshotId,
        archive: &File,
    ) -> Result<Imported, RuntimeError> {
        let begun = self.snapshots.begin(snapshot);
        let place = begun.map_err(RuntimeError::host("begin a snapshot"))?;
        let unpacked = self.unpack_into(&place, archive).and_then(|imported| {
            let finished = self.snapshots.finish(snapshot, None);
            finished.map_err(RuntimeError::host("finish the snapshot"))?;
            Ok(imported)
        });
        if unpacked.is_err() {
            match self.journal.discard(&place) {
                Ok(place) => self.remove_later(place),
                // The next start tries again.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "a half snapshot could not be removed");
                }
            }
        }
        unpacked
    }

    fn unpack_into(&self, place: &Path, archive: &File) -> Result<Imported, RuntimeError> {
        let host = || RuntimeError::host("unpack the snapshot");
        let (disk, layers) = (place.join("disk"), place.join("layers"));
        self.pool.create_saved(&disk).map_err(host())?;
        let upper = disk.join("upper");
        fs::remove_dir(&upper).map_err(host())?;
        // On the disk's own filesystem: files become links, and trees are renamed.
        let layers = disk.join(layers.file_name().unwrap_or_default());
        fs::create_dir(&layers).map_err(host())?;
        let options = unpack::Options {
            marks: rootless::marks(),
            ignore_owners: self.nested == Some(1),
            ..unpack::Options::default()
        };
        let arrived = arrive(archive, &layers, &options);
        let (arrived, own) = arrived.map_err(|error| failed(error, "unpack"))?;
        if own == 1 {
            fs::rename(layers.join("0"), &upper).map_err(host())?;
        } else {
            let tops: Vec<_> = (0..own).rev().map(|it| layers.join(it.to_string())).collect();
            let options = merge::Options { marks: rootless::marks(), is_partial: true, link: true };
            merge::merge(&tops, &upper, options)
                .map_err(RuntimeError::host("merge the layers of the snapshot"))?;
        }
        warren_sys::tree::remove(&layers).map_err(host())?;
        Ok(Imported {
            base_name: arrived.base_name,
            base_digest: arrived.base_digest,
            env: arrived.env,
            user: arrived.user,
            workdir: arrived.workdir,
        })
    }
}

/// Takes what arrives, and makes the files of a snapshot of it.
pub(super) async fn take(
    host: std::sync::Arc<Host>,
    snapshot: SnapshotId,
    mut archive: Arriving,
) -> Result<Imported, RuntimeError> {
    host.space.admit(space::FOR_SNAPSHOT)?;
    let (sender, pieces) = mpsc::channel(WAITING);
    let keeper = std::sync::Arc::clone(&host);
    let written = tokio::task::spawn_blocking(move || keep(&keeper, pieces));
    while let Some(piece) = archive.next().await {
        let failed = piece.is_err();
        // Who does not take it says why below.
        if sender.send(piece).await.is_err() || failed {
            break;
        }
    }
    drop(sender);
    let file = written.await.map_err(RuntimeError::host("write the archive"))??;
    blocking(move || host.unpack_snapshot(&snapshot, &file)).await
}

/// Writes what arrives to a file without a name.
fn keep(
    host: &Host,
    mut pieces: mpsc::Receiver<io::Result<bytes::Bytes>>,
) -> Result<File, RuntimeError> {
    let failed = || RuntimeError::host("write the archive");
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let flags = flags | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(host.snapshots.directory(), flags, mode).map_err(failed())?;
    let mut file = File::from(file);
    let (mut bytes, mut next_look) = (0_u64, LOOK_AFTER);
    while let Some(piece) = pieces.blocking_recv() {
        let piece = piece.map_err(|error| RuntimeError::Image {
            reason: format!("it did not come to its end: {error}"),
        })?;
        bytes += piece.len() as u64;
        if bytes > MOST_BYTES {
            let reason = format!("it has more than {MOST_BYTES} bytes");
            return Err(RuntimeError::Image { reason });
        }
        if bytes > next_look {
            host.space.admit(space::FOR_SNAPSHOT)?;
            next_look = bytes + LOOK_AFTER;
        }
        file.write_all(&piece).map_err(RuntimeError::host("write the archive"))?;
    }
    Ok(file)
}

fn failed(error: TransferError, what: &'static str) -> RuntimeError {
    match error {
        TransferError::Unusable(reason) => RuntimeError::Image { reason },
        error => RuntimeError::host(if what == "pack" {
            "pack the snapshot"
        } else {
            "unpack the snapshot"
        })(error),
    }
}
