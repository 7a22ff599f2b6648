//! Blobs: read from a registry into a file, and when that stops half-way, from there on.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use reqwest::{Response, StatusCode, header};
use tokio::{sync::mpsc, task::spawn_blocking};
use warren_core::images::{Digest, ImageError, Progress, Step};
use warren_layer::digest::Hasher;

use super::{Client, Place, RegistryError, refusal};
use crate::image::document::Blob;

/// How often a blob is asked for before its registry is given up.
const ATTEMPTS: u32 = 5;
/// The pause before the second attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Pieces that wait to be written.
const WAITING: usize = 32;
/// After so many bytes it is told how far a transfer has come.
const TOLD_EVERY: u64 = 256 << 10;

impl Client {
    /// Has a blob in the file at `path`, whole and as its digest says. What the file holds already
    /// is not asked for again; on an error it keeps what has come.
    pub(in crate::image) async fn download(
        &self,
        place: &Place,
        blob: &Blob,
        path: &Path,
        progress: &Progress,
    ) -> Result<(), RegistryError> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let error = match self.attempt(place, blob, path, progress).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if attempt == ATTEMPTS || !error.is_passing() {
                return Err(error);
            }
            tracing::debug!(%place, digest = %blob.digest, %error, "asking again");
            progress.tell(Step::Note(format!("asking {place} again: {error}")));
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        unreachable!("the last attempt returns")
    }

    async fn attempt(
        &self,
        place: &Place,
        blob: &Blob,
        path: &Path,
        progress: &Progress,
    ) -> Result<(), RegistryError> {
        let (path, most) = (path.to_owned(), blob.size);
        let mut sink = on_thread(move || Sink::open(&path, most)).await?;
        if sink.length < blob.size || blob.size == 0 {
            let response = self.blob(place, blob.digest, sink.length).await?;
            if !goes_on_at(&response, sink.length) {
                sink = on_thread(move || sink.restart()).await?;
            }
            sink = pour(response, sink, blob, progress).await?;
        }
        let (digest, path_of) = (blob.digest, sink);
        on_thread(move || path_of.finish(digest)).await
    }

    /// Asks for a blob from byte `from` on.
    async fn blob(
        &self,
        place: &Place,
        digest: Digest,
        from: u64,
    ) -> Result<Response, RegistryError> {
        let url = place.url(&format!("blobs/{digest}"));
        let make = || match from {
            0 => self.http.get(&url),
            from => self.http.get(&url).header(header::RANGE, format!("bytes={from}-")),
        };
        let response = self.send(place, make).await?;
        match response.status() {
            status if status.is_success() => Ok(response),
            // It has no more than what is here, so what is here is something else.
            StatusCode::RANGE_NOT_SATISFIABLE => self.ask(place, || self.http.get(&url)).await,
            _ => Err(refusal(response).await),
        }
    }
}

/// Whether an answer begins where the file ends.
fn goes_on_at(response: &Response, length: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|it| it.to_str().ok());
    let start =
        range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    match response.status() {
        StatusCode::PARTIAL_CONTENT => start == Some(length),
        _ => length == 0,
    }
}

/// Reads an answer to its end, on a thread of its own that writes and hashes.
async fn pour(
    mut response: Response,
    sink: Sink,
    blob: &Blob,
    progress: &Progress,
) -> Result<Sink, RegistryError> {
    let (sender, pieces) = mpsc::channel::<Bytes>(WAITING);
    let mut length = sink.length;
    let writer = spawn_blocking(move || sink.drink(pieces));
    let mut told = 0;
    let read = loop {
        match response.chunk().await {
            Ok(Some(piece)) => {
                length += piece.len() as u64;
                if length > blob.size {
                    break Err(RegistryError::Odd(format!(
                        "more than the {} bytes of {}",
                        blob.size, blob.digest
                    )));
                }
                if sender.send(piece).await.is_err() {
                    // The writer says why it has gone.
                    break Ok(());
                }
                if length - told >= TOLD_EVERY || length == blob.size {
                    told = length;
                    let (layer, of) = (blob.digest, blob.size);
                    progress.tell(Step::Transferred { layer, bytes: length, of });
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(RegistryError::from(error)),
        }
    };
    drop(sender);
    let written = writer.await.map_err(|error| gone(&error.to_string()))?;
    let sink = written.map_err(ImageError::host("write a layer"))?;
    read?;
    if sink.length < blob.size {
        return Err(RegistryError::Short(format!(
            "{} ended after {} of {} bytes",
            blob.digest, sink.length, blob.size
        )));
    }
    Ok(sink)
}

fn gone(reason: &str) -> ImageError {
    ImageError::host("write a layer")(io::Error::other(reason.to_owned()))
}

async fn on_thread<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    spawn_blocking(act).await.map_err(|error| gone(&error.to_string()))?
}

/// A file that a blob comes into, and the digest of what it holds.
struct Sink {
    file: File,
    hasher: Hasher,
    length: u64,
}

impl Sink {
    /// Opens the file, with what it holds already; with more than it may hold, nothing of it counts.
    fn open(path: &Path, most: u64) -> Result<Self, RegistryError> {
        let open = || -> io::Result<Self> {
            let mut options = File::options();
            let mut file =
                options.read(true).write(true).create(true).truncate(false).open(path)?;
            let mut hasher = Hasher::default();
            let mut piece = vec![0; 256 << 10];
            let mut length = 0;
            if file.metadata()?.len() > most {
                file.set_len(0)?;
            }
            loop {
                match file.read(&mut piece)? {
                    0 => return Ok(Self { file, hasher, length }),
                    count => {
                        hasher.update(piece.get(..count).unwrap_or_default());
                        length += count as u64;
                    }
                }
            }
        };
        Ok(open().map_err(ImageError::host("open a half-transferred layer"))?)
    }

    fn restart(mut self) -> Result<Self, RegistryError> {
        let empty = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        empty.map_err(ImageError::host("write a layer"))?;
        Ok(Self { hasher: Hasher::default(), length: 0, ..self })
    }

    fn drink(mut self, mut pieces: mpsc::Receiver<Bytes>) -> io::Result<Self> {
        while let Some(piece) = pieces.blocking_recv() {
            self.file.write_all(&piece)?;
            self.hasher.update(&piece);
            self.length += piece.len() as u64;
        }
        Ok(self)
    }

    /// Checks what has come; what is something else is forgotten.
    fn finish(self, wanted: Digest) -> Result<(), RegistryError> {
        let found = Digest::from_bytes(*self.hasher.finish().as_bytes());
        if found == wanted {
            let synced = self.file.sync_data();
            return Ok(synced.map_err(ImageError::host("write a layer"))?);
        }
        self.file.set_len(0).map_err(ImageError::host("write a layer"))?;
        Err(RegistryError::Odd(format!("{found} where {wanted} was asked for")))
    }
}
