//! Pushing: an image to a registry, in the form in which it came here.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures::{Stream, stream};
use tokio::task::spawn_blocking;
use warren_core::images::{Digest, Held, ImageError, Progress, Reference, Step};

use super::{
    ImageService,
    arrive::lost,
    document::{Blob, Manifest},
    registry::{Access, RegistryError},
    store::{Pin, Store},
};

/// How much of a file is read at once, in bytes.
const PIECE_BYTES: u64 = 256 << 10;

/// The parts of an image, kept while they are sent or packed.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) manifest: Vec<u8>,
    pub(super) media_type: String,
    /// The configuration, then the layers.
    pub(super) blobs: Vec<Blob>,
    pub(super) files: Vec<PathBuf>,
    pub(super) pins: Vec<Pin>,
}

impl Parts {
    /// Reads what an image is made of. Blocks.
    pub(super) fn of(store: &Store, id: Digest) -> Result<Self, ImageError> {
        let missing = || ImageError::NotFound { name: id.to_string() };
        let record = store.record(id).ok_or_else(missing)?;
        let (path, _pin) = store.blob(record.manifest).ok_or_else(missing)?;
        let manifest = std::fs::read(path).map_err(ImageError::host("read the manifest"))?;
        let Manifest::Image { media_type, config, layers } = Manifest::read(&manifest)? else {
            return Err(missing());
        };
        let blobs: Vec<Blob> = [config].into_iter().chain(layers).collect();
        let (mut files, mut pins) = (Vec::new(), Vec::new());
        for blob in &blobs {
            let (file, pin) = store.blob(blob.digest).ok_or_else(|| {
                ImageError::unusable(
                    format!("image {id}"),
                    format!(
                        "its layer {} came with another image, in another compressed form; remove \
                         both and pull this one",
                        blob.digest
                    ),
                )
            })?;
            files.push(file);
            pins.push(pin);
        }
        Ok(Self { manifest, media_type, blobs, files, pins })
    }
}

/// An image as it is sent.
pub(super) struct Leaving {
    /// By which the image is known here.
    pub(super) id: Digest,
    pub(super) manifest: Vec<u8>,
    pub(super) media_type: String,
    /// The configuration, then the layers, each with where its bytes are.
    pub(super) blobs: Vec<(Blob, Section)>,
}

/// Bytes in a file.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) place: Place,
    /// Where they begin.
    pub(super) at: u64,
    pub(super) size: u64,
}

/// Which file.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// One with a name, which is opened when it is read.
    Named(PathBuf),
    /// One that is open.
    Open(Arc<File>),
}

impl Section {
    /// The bytes, piece by piece.
    fn pieces(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold(self, async |section| {
            if section.size == 0 {
                return Ok(None);
            }
            let read = spawn_blocking(move || section.piece()).await;
            read.map_err(io::Error::other)?.map(Some)
        })
    }

    /// The first of them, and the rest.
    fn piece(self) -> io::Result<(Bytes, Self)> {
        let file = match self.place {
            Place::Named(path) => Arc::new(File::open(path)?),
            Place::Open(file) => file,
        };
        let size = self.size.min(PIECE_BYTES);
        let mut piece = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        file.read_exact_at(&mut piece, self.at)?;
        let rest = Self { place: Place::Open(file), at: self.at + size, size: self.size - size };
        Ok((piece.into(), rest))
    }
}

impl ImageService {
    pub(super) async fn push_now(
        &self,
        image: &Held,
        target: &Reference,
        progress: &Progress,
    ) -> Result<Digest, ImageError> {
        let (store, id) = (self.store.clone(), image.image.id);
        let parts = spawn_blocking(move || Parts::of(&store, id)).await.map_err(lost)??;
        let Parts { manifest, media_type, blobs, files, pins } = parts;
        let section = |(blob, path): (Blob, PathBuf)| {
            let section = Section { place: Place::Named(path), at: 0, size: blob.size };
            (blob, section)
        };
        let blobs = blobs.into_iter().zip(files).map(section).collect();
        let sent = self.send(target, Leaving { id, manifest, media_type, blobs }, progress).await;
        drop(pins);
        sent
    }

    /// Sends an image: what its manifest names, and then that.
    pub(super) async fn send(
        &self,
        target: &Reference,
        leaving: Leaving,
        progress: &Progress,
    ) -> Result<Digest, ImageError> {
        let login = self.login(target).await?;
        let client = self.client()?;
        let place = client.place(target, login.as_ref(), Access::Push);
        let told = |error: RegistryError| error.about(&place, target);
        let layers = leaving.blobs.iter().map(|(it, _)| (it.digest, it.size)).collect();
        progress.tell(Step::Resolved { id: leaving.id, layers });
        for (blob, section) in leaving.blobs {
            client.upload(&place, &blob, section.pieces(), progress).await.map_err(told)?;
        }
        let (version, kind) = (target.version_text(), &leaving.media_type);
        client.put_manifest(&place, &version, kind, &leaving.manifest).await.map_err(told)
    }
}
