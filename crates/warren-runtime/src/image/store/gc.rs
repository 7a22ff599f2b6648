//! What goes, and when: by reference, never by guess.
//!
//! What is in use is asked while the state is locked. A create holds the image that it has found
//! until its sandbox is known, so at any moment an image that is needed is held, or in use.

use std::{collections::HashSet, path::PathBuf};

use tokio::task::spawn_blocking;
use warren_core::images::{Digest, ImageError, InUse, Prune, Reference, Removed};

use super::{Store, state::State};

impl Store {
    pub(in crate::image) async fn untag(
        &self,
        reference: &Reference,
        in_use: &InUse,
    ) -> Result<Removed, ImageError> {
        let reference = reference.clone();
        self.change(in_use, move |store, state, in_use, removed| {
            let name = state.names.get(&reference);
            let missing = || ImageError::NotFound { name: reference.to_string() };
            let id = name.ok_or_else(missing)?.image;
            store.unname(state, &reference, removed)?;
            let named = state.names.values().any(|it| it.image == id);
            if !named && !in_use.contains(&id) && !state.is_pinned(id) {
                store.drop_image(state, id, removed)?;
            }
            Ok(())
        })
        .await
    }

    pub(in crate::image) async fn remove(
        &self,
        id: Digest,
        in_use: &InUse,
    ) -> Result<Removed, ImageError> {
        self.change(in_use, move |store, state, in_use, removed| {
            if !state.images.contains_key(&id) {
                return Err(ImageError::NotFound { name: id.to_string() });
            }
            if in_use.contains(&id) || state.is_pinned(id) {
                return Err(ImageError::InUse { name: id.to_string() });
            }
            store.drop_image(state, id, removed)
        })
        .await
    }

    pub(in crate::image) async fn prune(
        &self,
        which: Prune,
        in_use: &InUse,
    ) -> Result<Removed, ImageError> {
        self.change(in_use, move |store, state, in_use, removed| {
            let named: HashSet<Digest> = state.names.values().map(|it| it.image).collect();
            let goes = |state: &State, id: &Digest| {
                !in_use.contains(id)
                    && !state.is_pinned(*id)
                    && (which != Prune::Unnamed || !named.contains(id))
            };
            let mut going: Vec<((u64, u64), Digest)> = state
                .images
                .iter()
                .filter(|(id, _)| goes(state, id))
                .map(|(id, entry)| (entry.used(), *id))
                .collect();
            going.sort_unstable();
            for (_, id) in going {
                if which == Prune::OverLimit && !store.is_over_limit(state) {
                    break;
                }
                store.drop_image(state, id, removed)?;
            }
            if which != Prune::OverLimit {
                store.files.drop_partial(|digest| state.is_pinned(digest));
            }
            Ok(())
        })
        .await
    }

    /// Whether what would be left after a sweep is still too much.
    fn is_over_limit(&self, state: &State) -> bool {
        let Some(most) = self.most_bytes else { return false };
        let (layers, blobs) = live(state);
        let layers: u64 =
            layers.iter().filter_map(|key| state.layers.get(key)).map(|it| it.bytes).sum();
        let blobs: u64 = blobs.iter().filter_map(|digest| state.blobs.get(digest)).sum();
        layers + blobs > most
    }

    /// Changes the state and removes what nothing refers to any more, on a thread that may block.
    async fn change(
        &self,
        in_use: &InUse,
        act: impl FnOnce(&Self, &mut State, &HashSet<Digest>, &mut Removed) -> Result<(), ImageError>
        + Send
        + 'static,
    ) -> Result<Removed, ImageError> {
        let (store, in_use) = (self.clone(), in_use.clone());
        let changed = spawn_blocking(move || {
            let mut removed = Removed::default();
            let mut state = store.lock();
            let acted = act(&store, &mut state, &in_use(), &mut removed);
            let (left, bytes) = store.sweep(&mut state);
            drop(state);
            store.files.discard(&left);
            removed.bytes = bytes;
            acted.map(|()| removed)
        });
        let failed = |error| ImageError::host("remove images")(std::io::Error::other(error));
        changed.await.map_err(failed)?
    }

    fn unname(
        &self,
        state: &mut State,
        reference: &Reference,
        removed: &mut Removed,
    ) -> Result<(), ImageError> {
        let gone = self.files.remove_name(reference);
        gone.map_err(ImageError::host("remove an image's name"))?;
        if let Some(name) = state.names.remove(reference) {
            state.renew_names(name.image);
            removed.references.push(name.reference);
        }
        Ok(())
    }

    fn drop_image(
        &self,
        state: &mut State,
        id: Digest,
        removed: &mut Removed,
    ) -> Result<(), ImageError> {
        let names: Vec<Reference> = state
            .names
            .values()
            .filter(|name| name.image == id)
            .map(|name| name.reference.clone())
            .collect();
        for name in &names {
            self.unname(state, name, removed)?;
        }
        self.files.remove_record(id).map_err(ImageError::host("remove an image"))?;
        state.images.remove(&id);
        removed.images.push(id);
        Ok(())
    }

    /// Takes layers and blobs out that no image needs and nobody has pinned. Gives what is still to
    /// be removed, and how many bytes come free.
    pub(super) fn sweep(&self, state: &mut State) -> (Vec<PathBuf>, u64) {
        let (layers, blobs) = live(state);
        let (mut left, mut bytes) = (Vec::new(), 0);
        let dead: Vec<Digest> =
            state.layers.keys().filter(|key| !layers.contains(key)).copied().collect();
        for key in dead {
            match self.files.take_layer(key) {
                Ok(path) => left.push(path),
                Err(error) => {
                    tracing::warn!(%key, %error, "a layer is not removed");
                    continue;
                }
            }
            bytes += state.layers.remove(&key).map_or(0, |about| about.bytes);
        }
        let dead: Vec<Digest> =
            state.blobs.keys().filter(|digest| !blobs.contains(digest)).copied().collect();
        for digest in dead {
            match self.files.remove_blob(digest) {
                Ok(()) => bytes += state.blobs.remove(&digest).unwrap_or_default(),
                Err(error) => tracing::warn!(%digest, %error, "a blob is not removed"),
            }
        }
        (left, bytes)
    }
}

/// The layers and the blobs that an image needs, or somebody has pinned.
fn live(state: &State) -> (HashSet<Digest>, HashSet<Digest>) {
    let records = || state.images.values().map(|entry| &entry.record);
    let mut layers: HashSet<Digest> =
        records().flat_map(|record| record.layers.iter().map(|it| it.key)).collect();
    let mut blobs: HashSet<Digest> = records()
        .flat_map(|record| {
            let own = [record.id, record.manifest];
            record.layers.iter().map(|it| it.blob.digest).chain(own)
        })
        .collect();
    layers.extend(state.layers.keys().filter(|key| state.is_pinned(**key)));
    blobs.extend(state.blobs.keys().filter(|digest| state.is_pinned(**digest)));
    (layers, blobs)
}
