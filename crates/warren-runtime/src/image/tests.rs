//! The store against a real registry.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use warren_core::images::{
    Digest, Held, ImageError, ImageStore, InUse, Progress, Prune, Pull, Reference, Step,
};
use warren_test_registry::{Blob, Image, Layer, Proxy, Registry, RegistryError, Tree};

use super::{ImageService, settings::Settings};

mod gc;
mod passing;
mod plain;
mod pulling;

/// A registry and a store.
struct World {
    registry: Registry,
    data: tempfile::TempDir,
    images: ImageService,
}

impl World {
    /// None where this machine lacks what the test needs.
    fn open() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: only root may set overlayfs' marks");
            return None;
        }
        match Registry::start() {
            Ok(registry) => {
                let data = tempfile::tempdir().unwrap();
                let images = ImageService::open(data.path(), Settings::default()).unwrap();
                Some(Self { registry, data, images })
            }
            Err(RegistryError::NotInstalled) => {
                println!("SKIPPED: docker-registry is not installed");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// What the next server has after this one was killed.
    fn again(&mut self, settings: Settings) {
        self.images = ImageService::open(self.data.path(), settings).unwrap();
    }

    fn name(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.registry.address()).parse().unwrap()
    }

    async fn pull(&self, rest: &str) -> Result<Held, ImageError> {
        pull(&self.images, &self.name(rest)).await
    }

    /// The directories of an image's layers, the lowest first.
    fn trees(&self, held: &Held) -> Vec<PathBuf> {
        let record = self.images.store.record(held.image.id).unwrap();
        record.layers.iter().map(|it| self.images.store.files.tree(it.key)).collect()
    }

    /// How many files a directory of the store has.
    fn count(&self, directory: &str) -> usize {
        fs::read_dir(self.data.path().join(directory)).unwrap().count()
    }
}

async fn pull(images: &ImageService, name: &Reference) -> Result<Held, ImageError> {
    let wanted = Pull { reference: name.clone(), with_credentials: false };
    images.pull(&wanted, &Progress::default()).await
}

fn layer(file: &str, content: &[u8]) -> Layer {
    Layer::gzip(&Tree::default().file(file, content).into_tar())
}

fn image(layers: &[Layer], config: Value) -> Image {
    Image::new(layers.to_vec(), &config)
}

fn none() -> InUse {
    Arc::new(HashSet::new)
}

fn only(id: Digest) -> InUse {
    Arc::new(move || HashSet::from([id]))
}

fn read(tree: &Path, file: &str) -> String {
    fs::read_to_string(tree.join(file)).unwrap()
}
