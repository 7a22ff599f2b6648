//! Snapshots on their way to somewhere else, and from there.

use std::{collections::BTreeMap, fs::File, sync::Arc};

use super::{
    Sandboxes, WantedSnapshot,
    snapshots::{check_name, check_tags, put, undo},
};
use crate::{
    caller::Caller,
    error::SandboxError,
    id::SnapshotId,
    runtime::{Arriving, Imported, Packing, RuntimeError},
    sandbox::Program,
    snapshots::{Inherited, Snapshot, Status},
    spec::{Image, Network, OciImage, Profile},
};

/// A snapshot in one file, which has no name: what is not read of it goes when this is dropped.
#[derive(Debug)]
pub struct Exported {
    /// An OCI image in one file.
    pub file: File,
    /// How long it is, in bytes.
    pub length: u64,
    /// Which snapshot it is.
    pub snapshot: Arc<Snapshot>,
}

impl Sandboxes {
    /// Packs a snapshot as an OCI image in one file: its own layers, those of the snapshots below
    /// it, and those of its image, unless that is the host's own.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`], [`SandboxError::Unsupported`]; [`SandboxError::Exhausted`] where
    /// there is no room for the file.
    pub async fn export_snapshot(
        &self,
        caller: &Caller,
        id_or_name: &str,
    ) -> Result<Exported, SandboxError> {
        let (snapshot, hold) = self.shared.snapshots.hold_named(caller.owner(), id_or_name)?;
        let Inherited { env, user, workdir, .. } = snapshot.inherited.clone();
        let name = snapshot.name.clone().unwrap_or_else(|| snapshot.id.to_string());
        let packing = Packing { stack: snapshot.stack.clone(), name, env, user, workdir };
        let runtime = Arc::clone(&self.shared.runtime);
        self.to_the_end(async move {
            let _hold = hold;
            let file = runtime.pack_snapshot(&packing).await;
            let file = file.map_err(SandboxError::runtime("pack the snapshot"))?;
            let length = file.metadata().map(|it| it.len());
            let length = length.map_err(RuntimeError::host("look at the file"));
            let length = length.map_err(SandboxError::runtime("pack the snapshot"))?;
            Ok(Exported { file, length, snapshot })
        })
        .await
    }

    /// Makes a snapshot of what [`Self::export_snapshot`] packed, here or elsewhere. What lies
    /// below its own files must be here: the host's image always is.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Invalid`] for anything but such a file; [`SandboxError::Taken`],
    /// [`SandboxError::Unsupported`]. Nothing of the snapshot is left then.
    pub async fn import_snapshot(
        &self,
        caller: &Caller,
        wanted: WantedSnapshot,
        archive: Arriving,
    ) -> Result<Arc<Snapshot>, SandboxError> {
        check_name(wanted.name.as_deref())?;
        check_tags(&wanted.tags)?;
        self.require_snapshots()?;
        let defaults = &self.shared.config.defaults;
        let id = SnapshotId::mint();
        let making = Snapshot {
            id,
            owner: caller.owner().clone(),
            name: wanted.name,
            tags: wanted.tags,
            parent: None,
            sandbox: None,
            stack: Image::Host.under(id),
            inherited: Inherited {
                env: BTreeMap::new(),
                user: defaults.user.clone(),
                workdir: "/".to_owned(),
                limits: defaults.limits.clone(),
                profile: Profile::default(),
                network: Network::default(),
                program: Program::default(),
            },
            created_at: self.shared.clock.now(),
            bytes: 0,
            files: 0,
            status: Status::Making,
        };
        let (this, caller) = (self.clone(), caller.clone());
        self.to_the_end(async move {
            let shared = &this.shared;
            let making = shared.snapshots.add(making)?;
            let arrived = async {
                put(shared, &[&making], false).await?;
                let imported = shared.runtime.unpack_snapshot(&id, archive).await;
                let imported = imported.map_err(refused)?;
                let ready = this.imported(&caller, &making, imported)?;
                let sealed = shared.runtime.seal(&id, None).await;
                let sealed = sealed.map_err(SandboxError::runtime("write the snapshot"))?;
                let ready = Snapshot { bytes: sealed.bytes, files: sealed.files, ..ready };
                put(shared, &[&ready], true).await?;
                shared.snapshots.change(id, |it| *it = ready)
            };
            let arrived = arrived.await;
            if arrived.is_err() {
                undo(shared, id).await;
            }
            arrived
        })
        .await
    }

    /// The snapshot that was imported.
    fn imported(
        &self,
        caller: &Caller,
        making: &Snapshot,
        imported: Imported,
    ) -> Result<Snapshot, SandboxError> {
        let mut ready = making.clone();
        ready.status = Status::Ready;
        ready.stack = self.imported_base(caller, &imported)?.under(making.id);
        ready.inherited.env = imported.env;
        if !imported.user.is_empty() {
            ready.inherited.user = imported.user;
        }
        if !imported.workdir.is_empty() {
            ready.inherited.workdir = imported.workdir;
        }
        Ok(ready)
    }

    /// What lies below files that were imported.
    fn imported_base(&self, _caller: &Caller, imported: &Imported) -> Result<Image, SandboxError> {
        if imported.base_name == "host" {
            return Ok(Image::Host);
        }
        let known = self.images().ok().zip(imported.base_digest.as_deref());
        match known.and_then(|(images, id)| images.get(id).ok()) {
            Some(found) => {
                let id = found.image.id.to_string();
                let known = found.image.references.first();
                let reference = known.map_or_else(|| id.clone(), ToString::to_string);
                let id = Some(id);
                Ok(Image::Oci(OciImage { reference, id }))
            }
            None => {
                let reference = match imported.base_name.as_str() {
                    "" => "a directory or an archive",
                    reference => reference,
                };
                let digest = imported.base_digest.as_deref().unwrap_or("of unknown digest");
                let reason = format!(
                    "its image {reference} ({digest}) is not here; pull that first, or import \
                     the file as an image, which has all layers"
                );
                Err(SandboxError::invalid("archive", reason))
            }
        }
    }
}

/// What is wrong with the file is the caller's to know.
fn refused(error: RuntimeError) -> SandboxError {
    match error {
        RuntimeError::Image { reason } => SandboxError::invalid("archive", reason),
        error => SandboxError::runtime("unpack the snapshot")(error),
    }
}
