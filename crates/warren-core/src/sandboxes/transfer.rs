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
    images::{self, Digest, Held, Packed, Progress},
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

    /// Sends a snapshot to a registry, as [`Self::export_snapshot`] packs it, under the name
    /// `target`. Gives the digest by which the registry knows it.
    ///
    /// # Errors
    ///
    /// As [`Self::export_snapshot`]; [`SandboxError::Denied`], [`SandboxError::Image`].
    pub async fn push_snapshot(
        &self,
        caller: &Caller,
        id_or_name: &str,
        target: &str,
        progress: &Progress,
    ) -> Result<(Arc<Snapshot>, Digest), SandboxError> {
        caller.require_host("push snapshots")?;
        let target = images::parse("target", target)?;
        let images = self.images()?;
        let Exported { file, snapshot, .. } = self.export_snapshot(caller, id_or_name).await?;
        Ok((snapshot, images.push_packed(file, &target, progress).await?))
    }

    /// Makes a snapshot of what [`Self::push_snapshot`] has sent, here or elsewhere. The image that
    /// it lies on is taken along where it is not here.
    ///
    /// # Errors
    ///
    /// As [`Self::import_snapshot`]; [`SandboxError::Image`].
    pub async fn pull_snapshot(
        &self,
        caller: &Caller,
        reference: &str,
        wanted: WantedSnapshot,
        progress: &Progress,
    ) -> Result<Arc<Snapshot>, SandboxError> {
        self.check_import(&wanted)?;
        let images = self.images()?;
        let packed = images.pull_packed(caller, reference, progress).await;
        let made = match packed {
            Ok(Packed { archive, base }) => {
                self.import(caller, wanted, (archive, base), "reference").await
            }
            Err(error) => Err(error),
        };
        // What was fetched for it has been unpacked, or never will be.
        images.keep_within_limit();
        made
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
        self.check_import(&wanted)?;
        self.import(caller, wanted, (archive, None), "archive").await
    }

    fn check_import(&self, wanted: &WantedSnapshot) -> Result<(), SandboxError> {
        check_name(wanted.name.as_deref())?;
        check_tags(&wanted.tags)?;
        self.require_snapshots()
    }

    /// Makes a snapshot of an archive, on `base` where that came along; `field` is what the caller
    /// has named it by.
    async fn import(
        &self,
        caller: &Caller,
        wanted: WantedSnapshot,
        (archive, base): (Arriving, Option<Held>),
        field: &'static str,
    ) -> Result<Arc<Snapshot>, SandboxError> {
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
        let this = self.clone();
        self.to_the_end(async move {
            let shared = &this.shared;
            let making = shared.snapshots.add(making)?;
            let arrived = async {
                put(shared, &[&making], false).await?;
                let imported = shared.runtime.unpack_snapshot(&id, archive).await;
                let imported = imported.map_err(|error| refused(error, field))?;
                let ready = this.imported(&making, imported, base.as_ref())?;
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
        making: &Snapshot,
        imported: Imported,
        base: Option<&Held>,
    ) -> Result<Snapshot, SandboxError> {
        let mut ready = making.clone();
        ready.status = Status::Ready;
        let base = match base {
            Some(held) => pinned(&held.image),
            None => self.imported_base(&imported)?,
        };
        ready.stack = base.under(making.id);
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
    fn imported_base(&self, imported: &Imported) -> Result<Image, SandboxError> {
        if imported.base_name == "host" {
            return Ok(Image::Host);
        }
        let known = self.images().ok().zip(imported.base_digest.as_deref());
        match known.and_then(|(images, id)| images.get(id).ok()) {
            Some(found) => Ok(pinned(&found.image)),
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

/// An image that is here, as what lies below a snapshot.
fn pinned(image: &images::Image) -> Image {
    let id = image.id.to_string();
    let reference = image.references.first().map_or_else(|| id.clone(), ToString::to_string);
    Image::Oci(OciImage { reference, id: Some(id) })
}

/// What is wrong with the file is the caller's to know.
fn refused(error: RuntimeError, field: &'static str) -> SandboxError {
    match error {
        RuntimeError::Image { reason } => SandboxError::invalid(field, reason),
        error => SandboxError::runtime("unpack the snapshot")(error),
    }
}
