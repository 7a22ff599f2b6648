//! The images that are here: on the disk, and in memory as far as a create needs to know.
//!
//! ```text
//! images/blobs/sha256/<hex>   manifests, configurations, layers as they came
//! images/layers/<hex>/tree    layers unpacked, shared by all that are made from them
//! images/layers/<hex>/about.json
//! images/records/<hex>.json   an image is here: what it is made of, by its configuration's digest
//! images/names/<hex>.json     what a name means
//! images/partial/<hex>        blobs that have not come to their end
//! images/tmp/                 what is half-made or half-removed
//! ```
//!
//! Everything is made in `tmp` or `partial`, brought to the disk and moved to its place, in this
//! order: layers, blobs, record, name. So a record that is there is whole, and what no record names
//! is left over; it goes when the store is opened. Removing goes the other way round.
//!
//! | file | what |
//! |---|---|
//! | `files` | the files themselves |
//! | `state` | what is in memory, and what keeps it |
//! | `gc` | what goes, and when |

mod files;
mod gc;
mod state;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;
use warren_core::{
    clock::{Clock, SystemClock},
    images::{Digest, Held, Image, ImageError, Lease, Reference},
};

pub(super) use files::{About, Files, NameFile, Record, RecordedLayer};
use state::{Entry, State};

use super::Layer;

/// The store.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(super) files: Arc<Files>,
    state: Arc<Mutex<State>>,
    /// What is being made: one at a time of each.
    making: Arc<Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>>,
    most_bytes: Option<u64>,
}

/// What keeps something in the store while it is needed and no image of it is recorded yet.
#[derive(Debug)]
pub(super) struct Pin {
    state: Arc<Mutex<State>>,
    digest: Digest,
}

impl Lease for Pin {}

impl Drop for Pin {
    fn drop(&mut self) {
        lock(&self.state).unpin(self.digest);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A complete image, on its way into the store.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) id: Digest,
    pub(super) manifest: Vec<u8>,
    pub(super) config: Vec<u8>,
    pub(super) layers: Vec<RecordedLayer>,
    /// Its names, each with the digest by which its registry knows it.
    pub(super) names: Vec<(Reference, Digest)>,
}

impl Store {
    /// Opens the store below `directory`. What an earlier server left half-made is removed.
    pub(super) fn open(directory: &Path, most_bytes: Option<u64>) -> io::Result<Self> {
        let files = Arc::new(Files::open(directory)?);
        let mut state = State::default();
        files.load(&mut state)?;
        let store =
            Self { files, state: Arc::new(Mutex::new(state)), making: Arc::default(), most_bytes };
        let (left, _) = store.sweep(&mut store.lock());
        // What is large goes while nobody waits.
        let files = Arc::clone(&store.files);
        std::thread::Builder::new().name("images".to_owned()).spawn(move || {
            files.discard(&left);
            files.empty_tmp();
        })?;
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Keeps whatever has this digest until the pin is dropped.
    pub(super) fn pin(&self, digest: Digest) -> Pin {
        self.lock().pin(digest);
        Pin { state: Arc::clone(&self.state), digest }
    }

    fn pin_locked(&self, state: &mut State, digest: Digest) -> Pin {
        state.pin(digest);
        Pin { state: Arc::clone(&self.state), digest }
    }

    /// Waits until nobody else makes what has this digest.
    pub(super) async fn making(&self, digest: Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            making.retain(|_, lock| lock.strong_count() > 0);
            match making.get(&digest).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::default();
                    making.insert(digest, Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }

    /// The mounts of an image, by its identity.
    pub(crate) fn plan(&self, id: &str) -> Option<Arc<super::Image>> {
        let id = id.parse().ok()?;
        Some(Arc::clone(&self.lock().using(id)?.plan))
    }

    pub(super) fn list(&self) -> Vec<Arc<Image>> {
        self.lock().images.values().map(|entry| Arc::clone(&entry.image)).collect()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    pub(super) fn find(&self, reference: &Reference) -> Option<Held> {
        let mut state = self.lock();
        let id = state.named(reference)?;
        self.hold(&mut state, id)
    }

    pub(super) fn find_id(&self, digits: &str) -> Option<Held> {
        let mut state = self.lock();
        let id = match Digest::from_hex(digits) {
            Some(id) => id,
            None => {
                let mut like = state.images.keys().filter(|id| id.hex().starts_with(digits));
                let (Some(only), None) = (like.next(), like.next()) else { return None };
                *only
            }
        };
        self.hold(&mut state, id)
    }

    fn hold(&self, state: &mut State, id: Digest) -> Option<Held> {
        let image = Arc::clone(&state.using(id)?.image);
        Some(Held::new(image, Arc::new(self.pin_locked(state, id))))
    }

    /// What an image is made of.
    pub(super) fn record(&self, id: Digest) -> Option<Record> {
        self.lock().images.get(&id).map(|entry| entry.record.clone())
    }

    /// The unpacked layer of this diff id on those below it (`chain`), if it is here; pinned.
    pub(super) fn layer(&self, diff_id: Digest, chain: Digest) -> Option<(Digest, About, Pin)> {
        let mut state = self.lock();
        let (key, about) = [diff_id, chain]
            .into_iter()
            .find_map(|key| Some((key, *state.layers.get(&key)?)))
            .filter(|(_, about)| about.diff_id == diff_id)?;
        let pin = self.pin_locked(&mut state, key);
        Some((key, about, pin))
    }

    /// Where a blob is, if it is here; pinned.
    pub(super) fn blob(&self, digest: Digest) -> Option<(PathBuf, Pin)> {
        let mut state = self.lock();
        state.blobs.contains_key(&digest).then(|| {
            let pin = self.pin_locked(&mut state, digest);
            (self.files.blob(digest), pin)
        })
    }

    /// Moves a blob that has been checked and is on the disk to its place.
    pub(super) fn adopt_blob(&self, from: &Path, digest: Digest) -> Result<Pin, ImageError> {
        let mut state = self.lock();
        let place = |from: &Path| {
            let bytes = from.metadata()?.len();
            self.files.adopt(from, &self.files.blob(digest))?;
            Ok(bytes)
        };
        let bytes = place(from).map_err(ImageError::host("keep a layer"))?;
        state.blobs.insert(digest, bytes);
        Ok(self.pin_locked(&mut state, digest))
    }

    /// Moves an unpacked layer that is on the disk to its place.
    pub(super) fn adopt_layer(
        &self,
        from: &Path,
        key: Digest,
        about: About,
    ) -> Result<Pin, ImageError> {
        let mut state = self.lock();
        let adopted = self.files.adopt(from, &self.files.layer(key));
        adopted.map_err(ImageError::host("keep a layer"))?;
        state.layers.insert(key, about);
        Ok(self.pin_locked(&mut state, key))
    }

    /// Makes an image known whose layers are all here. Blocks for the disk.
    pub(super) fn commit(&self, arrived: &Arrived) -> Result<Held, ImageError> {
        let record = Record {
            id: arrived.id,
            manifest: Digest::of(&arrived.manifest),
            pulled_at: SystemClock.now().as_millis(),
            layers: arrived.layers.clone(),
        };
        let failed = ImageError::host("record the image");
        let mut blobs = Vec::new();
        for bytes in [&arrived.manifest, &arrived.config] {
            let digest = Digest::of(bytes);
            blobs.push(self.pin(digest));
            let written = self.files.write(&self.files.blob(digest), bytes);
            if let Err(error) = written {
                return Err(failed(error));
            }
            self.lock().blobs.insert(digest, bytes.len() as u64);
        }
        let mut state = self.lock();
        let entry = Entry::new(&self.files, &state.layers, record, &arrived.config)?;
        self.files.write_record(&entry.record).map_err(failed)?;
        state.images.insert(arrived.id, entry);
        for (reference, digest) in &arrived.names {
            self.name_locked(&mut state, reference, arrived.id, *digest)?;
        }
        state.renew_names(arrived.id);
        self.hold(&mut state, arrived.id)
            .ok_or_else(|| ImageError::NotFound { name: arrived.id.to_string() })
    }

    fn name_locked(
        &self,
        state: &mut State,
        reference: &Reference,
        id: Digest,
        digest: Digest,
    ) -> Result<(), ImageError> {
        let file = NameFile { reference: reference.clone(), image: id, digest };
        self.files.write_name(&file).map_err(ImageError::host("record the image's name"))?;
        let before = state.names.insert(reference.clone(), file);
        for id in before.map(|it| it.image).into_iter().chain([id]) {
            state.renew_names(id);
        }
        Ok(())
    }

    /// Has names mean an image that is here. Waits for the disk.
    pub(super) async fn name_all(
        &self,
        id: Digest,
        names: &[(Reference, Digest)],
    ) -> Result<(), ImageError> {
        let (store, names) = (self.clone(), names.to_vec());
        let named = tokio::task::spawn_blocking(move || {
            let mut state = store.lock();
            names
                .iter()
                .try_for_each(|(name, digest)| store.name_locked(&mut state, name, id, *digest))
        });
        named.await.map_err(super::arrive::lost)?
    }

    /// Removes what is half-transferred and nobody waits for.
    pub(super) fn make_room(&self) {
        let state = self.lock();
        self.files.drop_partial(|digest| state.is_pinned(digest));
    }
}

/// The layers of an image as they are mounted, the topmost first.
fn stack(files: &Files, layers: &[(Digest, About)]) -> super::Image {
    let mut stacked: Vec<(Digest, About)> = Vec::with_capacity(layers.len());
    for (key, about) in layers.iter().rev() {
        // The same layer twice is what its upper one makes it, and overlayfs wants none twice.
        if !stacked.iter().any(|(known, _)| known == key) {
            stacked.push((*key, *about));
        }
        // Overlayfs does not look at the mark of a root.
        if about.hides_all_below {
            break;
        }
    }
    let trees: Vec<PathBuf> = stacked.iter().map(|(key, _)| files.tree(*key)).collect();
    let missing = super::MOUNT_POINTS.iter().filter(|name| {
        let found = trees.iter().find_map(|tree| tree.join(name).symlink_metadata().ok());
        !found.is_some_and(|it| it.is_dir())
    });
    super::Image {
        missing: missing.map(PathBuf::from).collect(),
        layers: trees.into_iter().map(Layer::Own).collect(),
        trees: Vec::new(),
    }
}
