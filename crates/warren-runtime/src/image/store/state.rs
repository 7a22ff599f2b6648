//! What is in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use warren_core::{
    clock::Timestamp,
    images::{Digest, Image, ImageError, ImageLayer, Reference},
};

use super::{About, Files, NameFile, Record, stack};
use crate::image::document::Configuration;

/// Every image, layer and blob that is here.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) images: HashMap<Digest, Entry>,
    pub(super) names: BTreeMap<Reference, NameFile>,
    pub(super) layers: HashMap<Digest, About>,
    /// Each with its size in bytes.
    pub(super) blobs: HashMap<Digest, u64>,
    /// How many need what has this digest: an image, a layer or a blob.
    pins: HashMap<Digest, usize>,
    /// How often an image was used.
    uses: u64,
}

/// An image.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) image: Arc<Image>,
    pub(super) record: Record,
    pub(super) plan: Arc<crate::image::Image>,
    /// Which use of an image was the last one of this; before all uses it is when it came.
    used: u64,
}

impl Entry {
    pub(super) fn new(
        files: &Files,
        layers: &HashMap<Digest, About>,
        record: Record,
        config: &[u8],
    ) -> Result<Self, ImageError> {
        let configuration = Configuration::read(config)?;
        let known = |layer: &super::RecordedLayer| Some((layer.key, *layers.get(&layer.key)?));
        let known: Option<Vec<_>> = record.layers.iter().map(known).collect();
        let known = known.ok_or_else(|| ImageError::unusable("the image", "a layer is missing"))?;
        let image = Image {
            id: record.id,
            references: Vec::new(),
            layers: known
                .iter()
                .map(|(_, about)| ImageLayer { diff_id: about.diff_id, bytes: about.bytes })
                .collect(),
            config: configuration.config,
            created: configuration.created,
            platform: configuration.platform.to_string(),
            pulled_at: Timestamp::from_millis(record.pulled_at),
        };
        Ok(Self { image: Arc::new(image), plan: Arc::new(stack(files, &known)), record, used: 0 })
    }

    /// Larger for one that was used later; of those not used since the server has started, for one
    /// that came later.
    pub(super) fn used(&self) -> (u64, u64) {
        (self.used, self.record.pulled_at)
    }
}

impl State {
    /// An image that is used now.
    pub(super) fn using(&mut self, id: Digest) -> Option<&Entry> {
        self.uses += 1;
        let entry = self.images.get_mut(&id)?;
        entry.used = self.uses;
        Some(entry)
    }

    pub(super) fn pin(&mut self, digest: Digest) {
        *self.pins.entry(digest).or_default() += 1;
    }

    pub(super) fn unpin(&mut self, digest: Digest) {
        if let Some(count) = self.pins.get_mut(&digest) {
            *count -= 1;
            if *count == 0 {
                self.pins.remove(&digest);
            }
        }
    }

    pub(super) fn is_pinned(&self, digest: Digest) -> bool {
        self.pins.contains_key(&digest)
    }

    /// What a name means; one with a digest also by what its registry or its manifest is called.
    pub(super) fn named(&self, reference: &Reference) -> Option<Digest> {
        if let Some(name) = self.names.get(reference) {
            return Some(name.image);
        }
        let digest = reference.digest()?;
        let same = |name: &&NameFile| {
            (name.reference.registry(), name.reference.repository())
                == (reference.registry(), reference.repository())
                && (name.digest == digest
                    || self.images.get(&name.image).is_some_and(|it| it.record.manifest == digest))
        };
        self.names.values().find(same).map(|name| name.image)
    }

    /// Has an image say the names that it has.
    pub(super) fn renew_names(&mut self, id: Digest) {
        let names = self.names.values().filter(|name| name.image == id);
        let references = names.map(|name| name.reference.clone()).collect();
        if let Some(entry) = self.images.get_mut(&id) {
            Arc::make_mut(&mut entry.image).references = references;
        }
    }

    /// What everything takes on the disk, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let layers: u64 = self.layers.values().map(|about| about.bytes).sum();
        layers + self.blobs.values().sum::<u64>()
    }
}
