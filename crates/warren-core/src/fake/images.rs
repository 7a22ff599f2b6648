//! Images in memory: every registry has every image, and all are empty.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{
    clock::Timestamp,
    images::{
        Digest, ExportFormat, Held, Image, ImageConfig, ImageError, ImageStore, ImportSource,
        InUse, Lease, Packed, Progress, Prune, Pull, Reference, Removed, Step,
    },
};

/// The images of a [`super::FakeRuntime`].
#[derive(Debug, Default)]
pub struct FakeImages {
    images: Mutex<BTreeMap<Reference, Arc<Image>>>,
    pulls: Mutex<Vec<Pull>>,
}

#[derive(Debug)]
struct Forever;

impl Lease for Forever {}

impl FakeImages {
    /// What was asked of registries.
    #[must_use]
    pub fn pulls(&self) -> Vec<Pull> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Reference, Arc<Image>>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, reference: &Reference) -> Held {
        let text = reference.to_string();
        let config = ImageConfig {
            env: BTreeMap::from([("IMAGE".to_owned(), text.clone())]),
            user: Some("app".to_owned()),
            workdir: Some("/app".to_owned()),
            entrypoint: vec!["echo".to_owned()],
            cmd: vec![text.clone()],
            ..ImageConfig::default()
        };
        let image = Arc::new(Image {
            id: Digest::of(text.as_bytes()),
            references: vec![reference.clone()],
            layers: Vec::new(),
            config,
            created: None,
            platform: "linux/amd64".to_owned(),
            pulled_at: Timestamp::from_millis(1),
        });
        self.lock().insert(reference.clone(), Arc::clone(&image));
        Held::new(image, Arc::new(Forever))
    }
}

fn gone(name: impl ToString) -> ImageError {
    ImageError::NotFound { name: name.to_string() }
}

#[async_trait]
impl ImageStore for FakeImages {
    fn list(&self) -> Vec<Arc<Image>> {
        self.lock().values().cloned().collect()
    }

    fn find(&self, reference: &Reference) -> Option<Held> {
        Some(Held::new(Arc::clone(self.lock().get(reference)?), Arc::new(Forever)))
    }

    fn find_id(&self, digits: &str) -> Option<Held> {
        let images = self.lock();
        let found = images.values().find(|image| image.id.hex().starts_with(digits))?;
        Some(Held::new(Arc::clone(found), Arc::new(Forever)))
    }

    async fn pull(&self, wanted: &Pull, progress: &Progress) -> Result<Held, ImageError> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner).push(wanted.clone());
        if wanted.reference.repository().contains("absent") {
            return Err(ImageError::NotInRegistry {
                registry: wanted.reference.registry().to_owned(),
                name: wanted.reference.to_string(),
                reason: "manifest unknown".to_owned(),
            });
        }
        let held = self.add(&wanted.reference);
        progress.tell(Step::Resolved { id: held.image.id, layers: Vec::new() });
        Ok(held)
    }

    async fn untag(&self, reference: &Reference, in_use: &InUse) -> Result<Removed, ImageError> {
        let image = self.lock().remove(reference).ok_or_else(|| gone(reference))?;
        let images = if in_use().contains(&image.id) { Vec::new() } else { vec![image.id] };
        Ok(Removed { references: vec![reference.clone()], images, bytes: 0 })
    }

    async fn remove(&self, id: Digest, in_use: &InUse) -> Result<Removed, ImageError> {
        if in_use().contains(&id) {
            return Err(ImageError::InUse { name: id.to_string() });
        }
        self.lock().retain(|_, image| image.id != id);
        Ok(Removed { images: vec![id], ..Removed::default() })
    }

    async fn prune(&self, which: Prune, in_use: &InUse) -> Result<Removed, ImageError> {
        let mut removed = Removed::default();
        let in_use = in_use();
        self.lock().retain(|reference, image| {
            let goes = which == Prune::Unused && !in_use.contains(&image.id);
            if goes {
                removed.references.push(reference.clone());
                removed.images.push(image.id);
            }
            !goes
        });
        Ok(removed)
    }

    async fn import(
        &self,
        _source: ImportSource,
        name: Option<&Reference>,
        _progress: &Progress,
    ) -> Result<Vec<Held>, ImageError> {
        Ok(name.map(|name| self.add(name)).into_iter().collect())
    }

    async fn export(
        &self,
        image: &Held,
        _name: Option<&Reference>,
        _format: ExportFormat,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, ImageError> {
        let piece = Ok(Bytes::from(image.image.id.to_string()));
        Ok(Box::pin(futures::stream::iter([piece])))
    }

    async fn push(
        &self,
        image: &Held,
        _target: &Reference,
        _progress: &Progress,
    ) -> Result<Digest, ImageError> {
        Ok(image.image.id)
    }

    async fn push_packed(
        &self,
        mut archive: File,
        _target: &Reference,
        _progress: &Progress,
    ) -> Result<Digest, ImageError> {
        let mut bytes = Vec::new();
        archive.read_to_end(&mut bytes).map_err(ImageError::host("read the snapshot"))?;
        Ok(Digest::of(&bytes))
    }

    async fn pull_packed(&self, wanted: &Pull, progress: &Progress) -> Result<Packed, ImageError> {
        let base = self.pull(wanted, progress).await?;
        let piece = Ok(Bytes::from(base.image.id.to_string()));
        Ok(Packed { archive: Box::pin(futures::stream::iter([piece])), base: Some(base) })
    }

    async fn tag(&self, _image: &Held, name: &Reference) -> Result<(), ImageError> {
        self.add(name);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        0
    }
}
