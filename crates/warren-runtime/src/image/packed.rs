//! Snapshots in registries: sent as the images that they are packed as, and fetched again.
//!
//! What is sent has all layers, so that everything that runs containers can run it, and so that a
//! server without the image below a snapshot finds that there too.

use std::{fs::File, sync::Arc};

use tokio::task::spawn_blocking;
use warren_core::images::{
    Digest, ExportFormat, Held, ImageError, Packed, Progress, Pull, Reference, Step,
};

use super::{
    ImageService,
    arrive::{Coming, arrive, lost, obtain_all},
    document::{Blob, MOST_CONFIG, Manifest, OCI_CONFIG, manifest_of},
    export,
    pull::Remote,
    push::{self, Leaving, Parts, Section},
    registry::{self, Place},
};
use crate::transfer::{self, About, TransferError};

impl ImageService {
    pub(super) async fn push_packed_now(
        &self,
        archive: File,
        target: &Reference,
        progress: &Progress,
    ) -> Result<Digest, ImageError> {
        let leaving = spawn_blocking(move || leaving(archive)).await.map_err(lost)??;
        self.send(target, leaving, progress).await
    }

    pub(super) async fn pull_packed_now(
        &self,
        wanted: &Pull,
        progress: &Progress,
    ) -> Result<Packed, ImageError> {
        let reference = &wanted.reference;
        self.at_any(wanted, |place| Box::pin(self.packed_from(place, reference, progress))).await
    }

    async fn packed_from(
        &self,
        place: Place,
        reference: &Reference,
        progress: &Progress,
    ) -> Result<Packed, ImageError> {
        let (_, document) = self.manifests(&place, reference).await?;
        let Manifest::Image { media_type, config, layers } = Manifest::read(&document)? else {
            return Err(ImageError::unusable("the image's manifest", "an index in an index"));
        };
        let bytes = layers.iter().fold(config.size, |sum, blob| sum.saturating_add(blob.size));
        if bytes > self.rules.most_bytes {
            let what = format!("a snapshot whose layers have {bytes} bytes");
            return Err(self.rules.too_many_bytes(what));
        }
        if config.size > MOST_CONFIG as u64 {
            let what = format!("a configuration of {} bytes", config.size);
            return Err(ImageError::TooLarge { what, most: MOST_CONFIG as u64 });
        }
        let source = Remote { client: self.client()?, place: &place, reference, progress };
        let mut pins = obtain_all(&self.store, &source, std::slice::from_ref(&config)).await?;
        let read = std::fs::read(self.store.files.blob(config.digest));
        let read = read.map_err(ImageError::host("read the snapshot's configuration"))?;
        let told = |error: TransferError| {
            let reason = registry::plain(&error.to_string());
            ImageError::unusable(format!("what {place} sent"), reason)
        };
        let about = transfer::about(&document, &read).map_err(told)?;
        let base = self.base(&about, &layers, &source, progress).await?;
        let own = layers.get(about.below..).unwrap_or_default();
        let sizes = own.iter().map(|blob| (blob.digest, blob.size)).collect();
        progress.tell(Step::Resolved { id: config.digest, layers: sizes });
        pins.extend(obtain_all(&self.store, &source, own).await?);
        if let Some(top) = own.last() {
            own.iter().for_each(|blob| progress.tell(Step::Done(blob.digest)));
            progress.tell(Step::Unpacking(top.digest));
        }
        let blobs: Vec<Blob> = std::iter::once(&config).chain(own).cloned().collect();
        let files = blobs.iter().map(|blob| self.store.files.blob(blob.digest)).collect();
        let parts = Parts { manifest: document, media_type, blobs, files, pins };
        let archive = export::archive(parts, None, ExportFormat::Oci, base.clone());
        Ok(Packed { archive, base })
    }

    /// The image that a snapshot lies on: the one that is here, or else what was sent along of it.
    async fn base(
        &self,
        about: &About,
        layers: &[Blob],
        source: &Remote<'_>,
        progress: &Progress,
    ) -> Result<Option<Held>, ImageError> {
        if about.base_name == "host" {
            return Ok(None);
        }
        let known = about.base_digest.as_ref().and_then(|it| it.parse::<Digest>().ok());
        if let Some(held) = known.and_then(|id| self.store.find_id(&id.hex())) {
            return Ok(Some(held));
        }
        let layers = layers.get(..about.below).unwrap_or_default().to_vec();
        if layers.is_empty() {
            let reason = "it lies on an image of which there is no layer";
            return Err(ImageError::unusable("the snapshot", reason));
        }
        let config = about.base_config.clone();
        let blob = Blob {
            digest: Digest::of(&config),
            size: config.len() as u64,
            media_type: OCI_CONFIG.to_owned(),
        };
        let manifest = manifest_of(&blob, &layers);
        // Without a name: it is kept for as long as the snapshot is.
        let coming = Coming { manifest, config, layers, names: Vec::new() };
        arrive(&self.store, self.rules, coming, source, progress).await.map(Some)
    }
}

/// A packed snapshot as it is sent. Blocks.
fn leaving(archive: File) -> Result<Leaving, ImageError> {
    let odd = |error: TransferError| match error {
        TransferError::Unusable(reason) => ImageError::unusable("the packed snapshot", reason),
        error => ImageError::host("read the packed snapshot")(std::io::Error::other(error)),
    };
    let contents = transfer::contents(&archive).map_err(odd)?;
    let Manifest::Image { media_type, config, layers } = Manifest::read(&contents.manifest)? else {
        return Err(ImageError::unusable("the packed snapshot", "it is an index"));
    };
    let archive = Arc::new(archive);
    let id = config.digest;
    let mut blobs = Vec::with_capacity(layers.len() + 1);
    for blob in std::iter::once(config).chain(layers) {
        // Equal layers are one.
        if blobs.iter().any(|(it, _): &(Blob, Section)| it.digest == blob.digest) {
            continue;
        }
        let at = contents.place_of(&blob.digest.hex());
        let missing = || ImageError::unusable("the packed snapshot", "a layer is missing");
        let (at, size) = at.ok_or_else(missing)?;
        let place = push::Place::Open(Arc::clone(&archive));
        blobs.push((blob, Section { place, at, size }));
    }
    Ok(Leaving { id, manifest: contents.manifest, media_type, blobs })
}
