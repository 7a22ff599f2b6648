//! Pushing: an image to a registry, in the form in which it came here.

use tokio::task::spawn_blocking;
use warren_core::images::{Digest, Held, ImageError, Progress, Reference, Step};

use super::{
    ImageService,
    arrive::lost,
    document::{Blob, Manifest},
    registry::{Access, RegistryError},
    store::{Pin, Store},
};

/// The parts of an image, kept while they are sent or packed.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) manifest: Vec<u8>,
    pub(super) media_type: String,
    /// The configuration, then the layers.
    pub(super) blobs: Vec<Blob>,
    pub(super) files: Vec<std::path::PathBuf>,
    _pins: Vec<Pin>,
}

impl Parts {
    /// Reads what an image is made of. Blocks.
    pub(super) fn of(store: &Store, id: Digest) -> Result<Self, ImageError> {
        let missing = || ImageError::NotFound { name: id.to_string() };
        let record = store.record(id).ok_or_else(missing)?;
        let (path, _pin) = store.blob(record.manifest).ok_or_else(missing)?;
        let manifest = std::fs::read(path).map_err(ImageError::host("read the manifest"))?;
        let Manifest::Image { media_type, config, layers } = Manifest::read(&manifest)? else {
            return Err(missing());
        };
        let blobs: Vec<Blob> = [config].into_iter().chain(layers).collect();
        let (mut files, mut pins) = (Vec::new(), Vec::new());
        for blob in &blobs {
            let (file, pin) = store.blob(blob.digest).ok_or_else(|| {
                ImageError::unusable(
                    format!("image {id}"),
                    format!(
                        "its layer {} came with another image, in another compressed form; remove \
                         both and pull this one",
                        blob.digest
                    ),
                )
            })?;
            files.push(file);
            pins.push(pin);
        }
        Ok(Self { manifest, media_type, blobs, files, _pins: pins })
    }
}

impl ImageService {
    pub(super) async fn push_now(
        &self,
        image: &Held,
        target: &Reference,
        progress: &Progress,
    ) -> Result<Digest, ImageError> {
        let (store, id) = (self.store.clone(), image.image.id);
        let parts = spawn_blocking(move || Parts::of(&store, id)).await.map_err(lost)??;
        let login = self.login(target).await?;
        let client = self.client()?;
        let place = client.place(target, login.as_ref(), Access::Push);
        let told = |error: RegistryError| error.about(&place, target);
        let layers = parts.blobs.iter().map(|it| (it.digest, it.size)).collect();
        progress.tell(Step::Resolved { id, layers });
        for (blob, file) in parts.blobs.iter().zip(&parts.files) {
            client.upload(&place, blob, file, progress).await.map_err(told)?;
        }
        let (version, kind) = (target.version_text(), &parts.media_type);
        client.put_manifest(&place, &version, kind, &parts.manifest).await.map_err(told)
    }
}
