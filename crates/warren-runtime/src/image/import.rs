//! Importing: images from archives, from directories, and from other programs of this machine.

mod shelf;
mod sources;

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use warren_core::images::{Digest, Held, ImageError, ImportSource, Progress, Reference};

use super::{
    ImageService,
    arrive::{Coming, Source, arrive, lost},
    document::{
        Blob, MOST_CONFIG, MOST_LAYERS, MOST_MANIFEST, Manifest, OCI_CONFIG, OCI_LAYER,
        manifest_of, select,
    },
};
use shelf::Shelf;

/// The most images that one archive may hold.
const MOST_IMAGES: usize = 256;

/// An image as `docker save` lists it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// An image that was found.
struct Found {
    manifest: Vec<u8>,
    config: Blob,
    layers: Vec<Blob>,
    names: Vec<Reference>,
}

impl ImageService {
    pub(super) async fn import_now(
        &self,
        source: ImportSource,
        name: Option<&Reference>,
        progress: &Progress,
    ) -> Result<Vec<Held>, ImageError> {
        let shelf = Arc::new(self.open_source(source).await?);
        let found = {
            let shelf = Arc::clone(&shelf);
            spawn_blocking(move || find(&shelf)).await.map_err(lost)??
        };
        if found.is_empty() {
            return Err(unusable("there is no image in it for this machine"));
        }
        let mut held = Vec::new();
        for found in found {
            let config = shelf.small(&found.config, MOST_CONFIG)?;
            let digest = Digest::of(&found.manifest);
            let names = match (found.names.is_empty(), name) {
                (true, Some(name)) => vec![name.clone()],
                _ => found.names,
            };
            let coming = Coming {
                manifest: found.manifest,
                config,
                layers: found.layers,
                names: names.into_iter().map(|name| (name, digest)).collect(),
            };
            held.push(arrive(&self.store, self.rules, coming, &*shelf, progress).await?);
        }
        Ok(held)
    }
}

#[async_trait]
impl Source for Shelf {
    async fn fetch(&self, blob: &Blob, path: &std::path::Path) -> Result<(), ImageError> {
        let (shelf, blob, path) = (self.clone(), blob.clone(), path.to_owned());
        spawn_blocking(move || shelf.take(&blob, &path)).await.map_err(lost)?
    }
}

/// The images of an archive or a directory.
fn find(shelf: &Shelf) -> Result<Vec<Found>, ImageError> {
    if let Some(index) = shelf.file("index.json", MOST_MANIFEST)? {
        return find_listed(shelf, &index);
    }
    let list = shelf.file("manifest.json", MOST_MANIFEST)?;
    let list = list.ok_or_else(|| {
        unusable(
            "it has neither index.json nor manifest.json, expected OCI's layout or an archive \
                  of `docker save`",
        )
    })?;
    let saved: Vec<Saved> =
        serde_json::from_slice(&list).map_err(|error| unusable(&error.to_string()))?;
    saved.iter().take(MOST_IMAGES).map(|saved| find_saved(shelf, saved)).collect()
}

/// In OCI's layout.
fn find_listed(shelf: &Shelf, index: &[u8]) -> Result<Vec<Found>, ImageError> {
    let Manifest::Index(listed) = Manifest::read(index)? else {
        return Err(unusable("its index names no images"));
    };
    let mut found = Vec::new();
    for listed in listed.iter().take(MOST_IMAGES) {
        let mut manifest = shelf.small(&listed.blob, MOST_MANIFEST)?;
        if let Manifest::Index(inner) = Manifest::read(&manifest)? {
            let Ok(blob) = select(&inner) else { continue };
            manifest = shelf.small(blob, MOST_MANIFEST)?;
        } else if select(std::slice::from_ref(listed)).is_err() {
            // For another machine, or no image at all.
            continue;
        }
        let Manifest::Image { config, layers, .. } = Manifest::read(&manifest)? else {
            return Err(unusable("an index in an index in an index"));
        };
        let name = listed.name.as_deref().and_then(|name| name.parse().ok());
        found.push(Found { manifest, config, layers, names: name.into_iter().collect() });
    }
    Ok(found)
}

/// As `docker save` writes it: a list of layers that are plain archives, mostly.
fn find_saved(shelf: &Shelf, saved: &Saved) -> Result<Found, ImageError> {
    if saved.layers.len() > MOST_LAYERS {
        let what = format!("an image of {} layers", saved.layers.len());
        return Err(ImageError::TooLarge { what, most: MOST_LAYERS as u64 });
    }
    let config = shelf.blob_at(&saved.config, OCI_CONFIG)?;
    let layer = |path: &String| shelf.blob_at(path, OCI_LAYER);
    let layers: Vec<Blob> = saved.layers.iter().map(layer).collect::<Result<_, _>>()?;
    let manifest = manifest_of(&config, &layers);
    let names = saved.repo_tags.iter().flatten().filter_map(|name| name.parse().ok()).collect();
    Ok(Found { manifest, config, layers, names })
}

fn unusable(reason: &str) -> ImageError {
    ImageError::unusable("what is to be imported", super::registry::plain(reason))
}
