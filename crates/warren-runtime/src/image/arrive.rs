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
use warren_layer::{
    Marks,
    unpack::{Limits, UnpackError},
};

use super::{
    document::{Blob, Configuration},
    store::{About, Arrived, Pin, RecordedLayer, Store},
};

/// How many layers are fetched at the same time.
const PARALLEL: usize = 4;
/// The most that one image may unpack to unless the operator says otherwise, in bytes.
const MOST_BYTES: u64 = 32 << 30;

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

/// What unpacking is bound by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// What one image may take, in bytes.
    pub(super) most_bytes: u64,
    pub(super) marks: Marks,
    /// There are no ids to give files away to.
    pub(super) ignore_owners: bool,
}

impl Rules {
    pub(super) fn new(most_image_bytes: Option<u64>) -> Self {
        let nested = crate::rootless::nested_ids();
        Self {
            most_bytes: most_image_bytes.unwrap_or(MOST_BYTES),
            marks: if nested.is_some() { Marks::User } else { Marks::Trusted },
            ignore_owners: nested == Some(1),
        }
    }
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
        let what = format!("an image whose layers have {bytes} bytes");
        return Err(ImageError::TooLarge { what, most: rules.most_bytes });
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
            let mut left = self.rules.most_bytes;
            for (wanted, receiver) in wanted.iter().zip(receivers) {
                let Ok(blob) = receiver.await else { break };
                let layer = self.unpacked(wanted, blob, &ready, left).await?;
                left = left.saturating_sub(layer.1.bytes);
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
        let known = store.blob(digest).map(|(_, pin)| pin);
        if store.layer(wanted.diff_id, wanted.chain).is_some() {
            // Without its blob the layer can be used, and is passed on in the form it came in.
            self.progress.tell(Step::Present(digest));
            return Ok(known);
        }
        if known.is_some() {
            return Ok(known);
        }
        let pin = store.pin(digest);
        let partial = store.files.partial(digest);
        self.source.fetch(&wanted.blob, &partial).await?;
        let adopted = {
            let store = store.clone();
            spawn_blocking(move || store.adopt_blob(&partial, digest))
        };
        let adopted = adopted.await.map_err(lost)??;
        drop(pin);
        Ok(Some(adopted))
    }

    /// The unpacked layer: the one that is here, or one that is made now of at most `left` bytes.
    async fn unpacked(
        &self,
        wanted: &Wanted,
        blob: Option<Pin>,
        below: &[Ready],
        left: u64,
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
    left: u64,
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
        let options = warren_layer::unpack::Options {
            marks: self.rules.marks,
            limits: Limits { bytes: self.left, ..Limits::default() },
            ignore_owners: self.rules.ignore_owners,
            below: self.below,
        };
        let unpacked = warren_layer::unpack(source, &tree, &options).map_err(unpack_error)?;
        let found = Digest::from_bytes(*unpacked.diff_id.as_bytes());
        if found != self.diff_id {
            let reason = format!("it is {found} where the configuration says {}", self.diff_id);
            return Err(ImageError::unusable("a layer of the image", reason));
        }
        let about = About {
            diff_id: found,
            bytes: unpacked.bytes,
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

fn unpack_error(error: UnpackError) -> ImageError {
    match error {
        error if error.is_full() => ImageError::DiskFull,
        UnpackError::TooMuch { what, most } => {
            ImageError::TooLarge { what: format!("a layer with more {what}"), most }
        }
        UnpackError::Thread(error) | UnpackError::Directory(error) => {
            ImageError::host("unpack a layer")(error)
        }
        error => {
            ImageError::unusable("a layer of the image", super::registry::plain(&error.to_string()))
        }
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
    match std::fs::remove_dir_all(path) {
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
