//! How an image comes into the store, wherever it comes from: its layers are fetched in parallel,
//! unpacked in their order, and the image is known when all are there.

use std::{
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use tokio::{sync::oneshot, task::spawn_blocking};
use warren_core::images::{Digest, Held, ImageError, Progress, Reference, Step};

use super::{
    document::{Blob, Configuration},
    rules::{Left, Rules},
    store::{About, Arrived, Pin, RecordedLayer, Store},
};

/// How many layers are fetched at the same time.
const PARALLEL: usize = 4;

/// Where the layers of an image come from.
#[async_trait]
pub(super) trait Source: Send + Sync {
    /// Has a blob in the file at `path`: whole, as its digest says, and on the disk.
    async fn fetch(&self, blob: &Blob, path: &Path) -> Result<(), ImageError>;
}

/// An image that is to come.
pub(super) struct Coming {
    pub(super) manifest: Vec<u8>,
    pub(super) config: Vec<u8>,
    pub(super) layers: Vec<Blob>,
    pub(super) names: Vec<(Reference, Digest)>,
}

/// A layer on its way.
struct Wanted {
    blob: Blob,
    diff_id: Digest,
    /// Of this layer on those below it.
    chain: Digest,
}

/// A layer that is here.
type Ready = (Digest, About, Pin);

/// Takes an image into the store.
pub(super) async fn arrive(
    store: &Store,
    rules: Rules,
    coming: Coming,
    source: &dyn Source,
    progress: &Progress,
) -> Result<Held, ImageError> {
    let Coming { manifest, config, layers, names } = coming;
    let id = Digest::of(&config);
    let wanted = match_up(&config, layers, rules)?;
    let told = wanted.iter().map(|it| (it.blob.digest, it.blob.size)).collect();
    progress.tell(Step::Resolved { id, layers: told });
    let ready = Arrival { store, rules, source, progress }.gather(&wanted).await?;
    let recorded = wanted
        .iter()
        .zip(&ready)
        .map(|(wanted, (key, _, _))| RecordedLayer { key: *key, blob: wanted.blob.clone() });
    let arrived = Arrived { id, manifest, config, layers: recorded.collect(), names };
    let store = store.clone();
    let committed = spawn_blocking(move || {
        let held = store.commit(&arrived);
        // From here on the record keeps them.
        drop(ready);
        held
    });
    committed.await.map_err(lost)?
}

/// The manifest's layers with the configuration's ids of them.
fn match_up(config: &[u8], layers: Vec<Blob>, rules: Rules) -> Result<Vec<Wanted>, ImageError> {
    let configuration = Configuration::read(config)?;
    let count = configuration.diff_ids.len();
    if count != layers.len() {
        let reason = format!("it has {} layers and {count} ids of layers", layers.len());
        return Err(ImageError::unusable("the image's manifest", reason));
    }
    let bytes = layers.iter().fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
    if bytes > rules.most_bytes {
        return Err(rules.too_many_bytes(format!("an image whose layers have {bytes} bytes")));
    }
    let mut below: Option<Digest> = None;
    let wanted = layers.into_iter().zip(configuration.diff_ids).map(|(blob, diff_id)| {
        let chain = match below {
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
            None => diff_id,
        };
        below = Some(chain);
        Wanted { blob, diff_id, chain }
    });
    Ok(wanted.collect())
}

/// Has a blob in the store, where it stays as long as the pin. Who calls this sees to it that
/// nobody else does for the same blob.
async fn obtain(store: &Store, source: &dyn Source, blob: &Blob) -> Result<Pin, ImageError> {
    let digest = blob.digest;
    if let Some((_, pin)) = store.blob(digest) {
        return Ok(pin);
    }
    let pin = store.pin(digest);
    let partial = store.files.partial(digest);
    source.fetch(blob, &partial).await?;
    let adopted = {
        let store = store.clone();
        spawn_blocking(move || store.adopt_blob(&partial, digest))
    };
    let adopted = adopted.await.map_err(lost)?;
    drop(pin);
    adopted
}

/// Has blobs in the store, several at a time. Gives what keeps them there.
pub(super) async fn obtain_all(
    store: &Store,
    source: &dyn Source,
    blobs: &[Blob],
) -> Result<Vec<Pin>, ImageError> {
    let mut fetching: Vec<BoxFuture<'_, Result<Pin, ImageError>>> = Vec::new();
    for blob in blobs {
        fetching.push(Box::pin(async move {
            let _one = store.making(blob.digest).await;
            obtain(store, source, blob).await
        }));
    }
    stream::iter(fetching).buffer_unordered(PARALLEL).try_collect().await
}

/// What all layers of an image on its way have in common.
struct Arrival<'a> {
    store: &'a Store,
    rules: Rules,
    source: &'a dyn Source,
    progress: &'a Progress,
}

impl Arrival<'_> {
    /// Fetches what is not here and unpacks it, the lowest layer first.
    async fn gather(&self, wanted: &[Wanted]) -> Result<Vec<Ready>, ImageError> {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            wanted.iter().map(|_| oneshot::channel::<Option<Pin>>()).unzip();
        // One future for each: of different lifetimes, they could not be sent between threads.
        let mut layers: Vec<BoxFuture<'_, Result<(), ImageError>>> = Vec::new();
        for (wanted, sender) in wanted.iter().zip(senders) {
            layers.push(Box::pin(async move {
                let fetched = self.obtain(wanted).await?;
                // Nobody waits for it where another layer has failed.
                drop(sender.send(fetched));
                Ok(())
            }));
        }
        let fetching = stream::iter(layers).buffer_unordered(PARALLEL).try_collect::<()>();
        let unpacking = async {
            let mut ready: Vec<Ready> = Vec::with_capacity(wanted.len());
            let mut left = self.rules.all();
            for (wanted, receiver) in wanted.iter().zip(receivers) {
                let Ok(blob) = receiver.await else { break };
                let layer = self.unpacked(wanted, blob, &ready, left).await?;
                left.bytes = left.bytes.saturating_sub(layer.1.bytes);
                left.entries = left.entries.saturating_sub(layer.1.entries);
                ready.push(layer);
            }
            Ok(ready)
        };
        let ((), ready) = futures::try_join!(fetching, unpacking)?;
        Ok(ready)
    }

    /// Has a layer's blob in the store, unless the layer itself is there.
    async fn obtain(&self, wanted: &Wanted) -> Result<Option<Pin>, ImageError> {
        let (store, digest) = (self.store, wanted.blob.digest);
        let _one = store.making(digest).await;
        if store.layer(wanted.diff_id, wanted.chain).is_some() {
            // Without its blob the layer can be used, and is passed on in the form it came in.
            self.progress.tell(Step::Present(digest));
            return Ok(store.blob(digest).map(|(_, pin)| pin));
        }
        obtain(store, self.source, &wanted.blob).await.map(Some)
    }

    /// The unpacked layer: the one that is here, or one that is made now of at most what is `left`.
    async fn unpacked(
        &self,
        wanted: &Wanted,
        blob: Option<Pin>,
        below: &[Ready],
        left: Left,
    ) -> Result<Ready, ImageError> {
        let (store, digest) = (self.store, wanted.blob.digest);
        let _one = store.making(wanted.diff_id).await;
        if let Some(ready) = store.layer(wanted.diff_id, wanted.chain) {
            self.progress.tell(Step::Done(digest));
            return Ok(ready);
        }
        self.progress.tell(Step::Unpacking(digest));
        let missing = || ImageError::NotFound { name: digest.to_string() };
        let (path, _blob) = store.blob(digest).ok_or_else(missing)?;
        drop(blob);
        let stopped = StopOnDrop::default();
        let work = Unpacking {
            store: store.clone(),
            rules: self.rules,
            blob: path,
            diff_id: wanted.diff_id,
            chain: wanted.chain,
            below: below.iter().rev().map(|(key, _, _)| store.files.tree(*key)).collect(),
            left,
            stopped: Arc::clone(&stopped.0),
        };
        let done = spawn_blocking(move || work.run()).await.map_err(lost)?;
        let (ready, skipped) = done?;
        if skipped > 0 {
            let text = format!("{skipped} devices of layer {digest} were left out");
            self.progress.tell(Step::Note(text));
        }
        self.progress.tell(Step::Done(digest));
        Ok(ready)
    }
}

/// Unpacks a layer on a thread that may block.
struct Unpacking {
    store: Store,
    rules: Rules,
    blob: PathBuf,
    diff_id: Digest,
    chain: Digest,
    /// The layers below, the topmost first.
    below: Vec<PathBuf>,
    left: Left,
    stopped: Arc<AtomicBool>,
}

impl Unpacking {
    fn run(self) -> Result<(Ready, u64), ImageError> {
        let half = Half(self.store.files.tmp());
        let failed = ImageError::host("unpack a layer");
        let tree = half.0.join("tree");
        std::fs::create_dir_all(&tree).map_err(failed)?;
        let file = std::fs::File::open(&self.blob).map_err(failed)?;
        let source =
            Stoppable { file: BufReader::with_capacity(1 << 20, file), stopped: self.stopped };
        let bottom = self.below.is_empty();
        let options = self.rules.options(self.left, self.below);
        let unpacked = warren_layer::unpack(source, &tree, &options);
        let unpacked = unpacked.map_err(|error| self.rules.unpack_error(error))?;
        let found = Digest::from_bytes(*unpacked.diff_id.as_bytes());
        if found != self.diff_id {
            let reason = format!("it is {found} where the configuration says {}", self.diff_id);
            return Err(ImageError::unusable("a layer of the image", reason));
        }
        let about = About {
            diff_id: found,
            bytes: unpacked.bytes,
            entries: unpacked.counts.entries,
            hides_all_below: unpacked.counts.hides_all_below,
        };
        self.store.files.write_about(&half.0, &about).map_err(failed)?;
        let directory = std::fs::File::open(&half.0).map_err(failed)?;
        rustix::fs::syncfs(&directory).map_err(|error| failed(error.into()))?;
        // Directories that it has no entries for took what is below for an example: such a layer
        // is the same only on the same layers.
        let alone = bottom || unpacked.counts.implicit_directories == 0;
        let key = if alone { self.diff_id } else { self.chain };
        let pin = self.store.adopt_layer(&half.0, key, about)?;
        Ok(((key, about, pin), unpacked.counts.skipped))
    }
}

/// A directory that is removed unless it was moved to its place.
struct Half(PathBuf);

impl Drop for Half {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    match warren_sys::tree::remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "not removed");
        }
        _ => {}
    }
}

/// Tells a thread to stop when nobody waits for it any more.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Stoppable<R> {
    file: R,
    stopped: Arc<AtomicBool>,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(io::Error::other("nobody waits for it any more")),
            false => self.file.read(buffer),
        }
    }
}

pub(super) fn lost(error: tokio::task::JoinError) -> ImageError {
    ImageError::host("finish a blocking step")(io::Error::other(error))
}
