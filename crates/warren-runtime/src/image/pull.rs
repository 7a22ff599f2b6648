//! Pulling: an image from its registry, or from a mirror of it.

use std::path::Path;

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::task::spawn_blocking;
use warren_core::images::{Digest, Held, ImageError, Progress, Pull, Reference, Step};

use super::{
    ImageService,
    arrive::{Coming, Source, arrive, lost},
    document::{Blob, MOST_CONFIG, Manifest, select},
    registry::{Client, Place, RegistryError, credentials},
};

/// The pause before a manifest is asked for a second time.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(250);

impl ImageService {
    pub(super) async fn pull_now(
        &self,
        wanted: &Pull,
        progress: &Progress,
    ) -> Result<Held, ImageError> {
        let reference = &wanted.reference;
        let pull = |place| Box::pin(self.pull_from(place, reference, progress)) as BoxFuture<'_, _>;
        self.at_any(wanted, pull).await
    }

    /// Asks mirrors and the registry in turn, until one has it.
    pub(super) async fn at_any<'a, T>(
        &'a self,
        wanted: &Pull,
        ask: impl Fn(Place) -> BoxFuture<'a, Result<T, ImageError>>,
    ) -> Result<T, ImageError> {
        let reference = &wanted.reference;
        let login = match wanted.with_credentials {
            true => self.login(reference).await?,
            false => None,
        };
        let places = self.client()?.places(reference, login.as_ref());
        let mut last = ImageError::NotFound { name: reference.to_string() };
        for place in places {
            let shown = place.registry.clone();
            match ask(place).await {
                Ok(found) => return Ok(found),
                // The disk is full for the next place too.
                Err(error @ (ImageError::DiskFull | ImageError::Host { .. })) => {
                    self.store.make_room();
                    return Err(error);
                }
                Err(error) => {
                    tracing::debug!(place = shown, %error, "not pulled from there");
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// What Docker knows of users and passwords for a registry.
    pub(super) async fn login(
        &self,
        reference: &Reference,
    ) -> Result<Option<credentials::Login>, ImageError> {
        let (settings, registry) = (self.settings.clone(), reference.registry().to_owned());
        let look_up = spawn_blocking(move || credentials::look_up(&settings, &registry));
        look_up.await.map_err(lost)?
    }

    async fn pull_from(
        &self,
        place: Place,
        reference: &Reference,
        progress: &Progress,
    ) -> Result<Held, ImageError> {
        let place = &place;
        let told = |error: RegistryError| error.about(place, reference);
        let (top, image) = self.manifests(place, reference).await?;
        let Manifest::Image { config, layers, .. } = Manifest::read(&image)? else {
            return Err(ImageError::unusable("the image's manifest", "an index in an index"));
        };
        let names = vec![(reference.clone(), top)];
        if let Some(held) = self.store.find_id(&config.digest.hex()) {
            self.store.name_all(held.image.id, &names).await?;
            progress.tell(Step::Resolved { id: held.image.id, layers: Vec::new() });
            // With the names it has now.
            return Ok(self.store.find_id(&config.digest.hex()).unwrap_or(held));
        }
        let config = self.client()?.small_blob(place, config.digest, MOST_CONFIG).await;
        let coming = Coming { manifest: image, config: config.map_err(told)?, layers, names };
        let source = Remote { client: self.client()?, place, reference, progress };
        arrive(&self.store, self.rules, coming, &source, progress).await
    }

    /// The digest that the registry knows the reference by, and the manifest for this machine.
    pub(super) async fn manifests(
        &self,
        place: &Place,
        reference: &Reference,
    ) -> Result<(Digest, Vec<u8>), ImageError> {
        let first = self.document(place, reference, reference.digest()).await?;
        let top = Digest::of(&first);
        match Manifest::read(&first)? {
            Manifest::Image { .. } => Ok((top, first)),
            Manifest::Index(listed) => {
                let digest = select(&listed)?.digest;
                Ok((top, self.document(place, reference, Some(digest)).await?))
            }
        }
    }

    /// A manifest or index: of this digest, or else of the reference's tag.
    async fn document(
        &self,
        place: &Place,
        reference: &Reference,
        digest: Option<Digest>,
    ) -> Result<Vec<u8>, ImageError> {
        let version = digest.map_or_else(|| reference.version_text(), |it| it.to_string());
        let bytes = patiently(self.client()?, place, &version).await;
        let bytes = bytes.map_err(|error| error.about(place, reference))?;
        match digest.filter(|digest| *digest != Digest::of(&bytes)) {
            None => Ok(bytes),
            Some(digest) => Err(ImageError::unusable(
                format!("what {place} sent"),
                format!("a manifest that is not {digest}"),
            )),
        }
    }
}

/// Layers in a registry.
pub(super) struct Remote<'a> {
    pub(super) client: &'a Client,
    pub(super) place: &'a Place,
    pub(super) reference: &'a Reference,
    pub(super) progress: &'a Progress,
}

#[async_trait]
impl Source for Remote<'_> {
    async fn fetch(&self, blob: &Blob, path: &Path) -> Result<(), ImageError> {
        let fetched = self.client.download(self.place, blob, path, self.progress).await;
        fetched.map_err(|error| error.about(self.place, self.reference))
    }
}

/// Asks once more where the first answer did not come: a registry may just be starting.
async fn patiently(
    client: &Client,
    place: &Place,
    version: &str,
) -> Result<Vec<u8>, RegistryError> {
    match client.manifest(place, version).await {
        Err(error) if error.is_passing() => {
            tracing::debug!(%place, %error, "asking again");
            tokio::time::sleep(PAUSE).await;
            client.manifest(place, version).await
        }
        other => other,
    }
}
