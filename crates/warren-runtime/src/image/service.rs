//! The image store as core knows it.

use std::{
    fs::File,
    path::Path,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use warren_core::images::{
    Digest, ExportFormat, Held, Image, ImageError, ImageStore, ImportSource, InUse, Packed,
    Progress, Prune, Pull, Reference, Removed,
};

use super::{registry::Client, rules::Rules, settings::Settings, store::Store};

/// The images of one server, and its way to registries.
#[derive(Debug)]
pub(crate) struct ImageService {
    pub(super) store: Store,
    pub(super) rules: Rules,
    pub(super) settings: Arc<Settings>,
    /// Made when it is first needed: reading the host's certificates takes some milliseconds.
    client: OnceLock<Client>,
}

impl ImageService {
    pub(super) fn open(directory: &Path, settings: Settings) -> std::io::Result<Self> {
        Ok(Self {
            store: Store::open(directory, settings.most_bytes)?,
            rules: Rules::new(&settings),
            settings: Arc::new(settings),
            client: OnceLock::new(),
        })
    }

    pub(super) fn client(&self) -> Result<&Client, ImageError> {
        match self.client.get() {
            Some(client) => Ok(client),
            None => {
                let client = Client::new(&self.settings)?;
                Ok(self.client.get_or_init(|| client))
            }
        }
    }
}

#[async_trait]
impl ImageStore for ImageService {
    fn list(&self) -> Vec<Arc<Image>> {
        self.store.list()
    }

    fn find(&self, reference: &Reference) -> Option<Held> {
        self.store.find(reference)
    }

    fn find_id(&self, digits: &str) -> Option<Held> {
        self.store.find_id(digits)
    }

    async fn pull(&self, wanted: &Pull, progress: &Progress) -> Result<Held, ImageError> {
        self.pull_now(wanted, progress).await
    }

    async fn untag(&self, reference: &Reference, in_use: &InUse) -> Result<Removed, ImageError> {
        self.store.untag(reference, in_use).await
    }

    async fn remove(&self, id: Digest, in_use: &InUse) -> Result<Removed, ImageError> {
        self.store.remove(id, in_use).await
    }

    async fn prune(&self, which: Prune, in_use: &InUse) -> Result<Removed, ImageError> {
        self.store.prune(which, in_use).await
    }

    async fn import(
        &self,
        source: ImportSource,
        name: Option<&Reference>,
        progress: &Progress,
    ) -> Result<Vec<Held>, ImageError> {
        self.import_now(source, name, progress).await
    }

    async fn export(
        &self,
        image: &Held,
        name: Option<&Reference>,
        format: ExportFormat,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, ImageError> {
        self.export_now(image, name, format).await
    }

    async fn push(
        &self,
        image: &Held,
        target: &Reference,
        progress: &Progress,
    ) -> Result<Digest, ImageError> {
        self.push_now(image, target, progress).await
    }

    async fn push_packed(
        &self,
        archive: File,
        target: &Reference,
        progress: &Progress,
    ) -> Result<Digest, ImageError> {
        self.push_packed_now(archive, target, progress).await
    }

    async fn pull_packed(&self, wanted: &Pull, progress: &Progress) -> Result<Packed, ImageError> {
        self.pull_packed_now(wanted, progress).await
    }

    async fn tag(&self, image: &Held, name: &Reference) -> Result<(), ImageError> {
        let id = image.image.id;
        let record = self.store.record(id);
        let digest = record.ok_or_else(|| ImageError::NotFound { name: id.to_string() })?.manifest;
        self.store.name_all(id, &[(name.clone(), digest)]).await
    }

    fn bytes(&self) -> u64 {
        self.store.bytes()
    }
}
