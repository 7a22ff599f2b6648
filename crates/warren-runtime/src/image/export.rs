//! Images as archives: OCI's layout, with Docker's own list beside it where that is wanted.

use std::{
    fs::File,
    io::{self, Write},
};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::json;
use tokio::{sync::mpsc, task::spawn_blocking};
use warren_core::images::{Digest, ExportFormat, Held, ImageError, Reference};

use super::{
    ImageService,
    arrive::lost,
    document::{NAME_OF_IMAGE, NAME_OF_REFERENCE, Platform},
    push::Parts,
};

/// Pieces that wait for whoever reads.
const WAITING: usize = 8;
/// The size of a piece.
const PIECE_BYTES: usize = 256 << 10;

impl ImageService {
    pub(super) async fn export_now(
        &self,
        image: &Held,
        name: Option<&Reference>,
        format: ExportFormat,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, ImageError> {
        let (store, id) = (self.store.clone(), image.image.id);
        let parts = spawn_blocking(move || Parts::of(&store, id)).await.map_err(lost)??;
        let name = name.or(image.image.references.first()).map(ToString::to_string);
        Ok(archive(parts, name, format, Some(image.clone())))
    }
}

/// Parts of an image as an archive, piece by piece. They are kept until it is at its end.
pub(super) fn archive(
    parts: Parts,
    name: Option<String>,
    format: ExportFormat,
    held: Option<Held>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let (sender, pieces) = mpsc::channel(WAITING);
    spawn_blocking(move || {
        let mut pipe = Pipe { sender: sender.clone(), piece: Vec::new() };
        let packed = pack(&mut pipe, &parts, name.as_deref(), format).and_then(|()| pipe.flush());
        if let Err(error) = packed {
            // A reader that has gone hears nothing.
            sender.blocking_send(Err(error)).ok();
        }
        drop(held);
    });
    stream::unfold(pieces, async |mut pieces| Some((pieces.recv().await?, pieces))).boxed()
}

/// What is written goes to whoever reads the other end.
struct Pipe {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() {
            return Ok(());
        }
        let sent = self.sender.blocking_send(Ok(piece.into()));
        sent.map_err(|_gone| io::ErrorKind::BrokenPipe.into())
    }
}

fn pack(
    pipe: &mut Pipe,
    parts: &Parts,
    name: Option<&str>,
    format: ExportFormat,
) -> io::Result<()> {
    let mut archive = tar::Builder::new(pipe);
    for directory in ["blobs", "blobs/sha256"] {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        archive.append_data(&mut header, directory, io::empty())?;
    }
    let digest = Digest::of(&parts.manifest);
    add(&mut archive, &place(digest), &parts.manifest)?;
    let mut seen = vec![digest];
    for (blob, file) in parts.blobs.iter().zip(&parts.files) {
        // The same layer twice is one file.
        if !seen.contains(&blob.digest) {
            let mut header = header(tar::EntryType::Regular, 0o644, blob.size);
            archive.append_data(&mut header, place(blob.digest), File::open(file)?)?;
            seen.push(blob.digest);
        }
    }
    let mut notes = serde_json::Map::new();
    if let Some(name) = name {
        notes.insert(NAME_OF_IMAGE.to_owned(), name.into());
        notes.insert(NAME_OF_REFERENCE.to_owned(), name.into());
    }
    let here = Platform::here();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": parts.media_type,
            "digest": digest.to_string(),
            "size": parts.manifest.len(),
            "platform": {"os": here.os, "architecture": here.architecture},
            "annotations": notes,
        }],
    });
    add(&mut archive, "index.json", index.to_string().as_bytes())?;
    add(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    if format == ExportFormat::Docker {
        let mut places = parts.blobs.iter().map(|blob| place(blob.digest));
        let list = json!([{
            "Config": places.next(),
            "RepoTags": name.into_iter().collect::<Vec<_>>(),
            "Layers": places.collect::<Vec<_>>(),
        }]);
        add(&mut archive, "manifest.json", list.to_string().as_bytes())?;
    }
    archive.into_inner().map(drop)
}

fn place(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn add(archive: &mut tar::Builder<&mut Pipe>, path: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)
}

/// The same for every export, so that equal images make equal archives.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header
}
