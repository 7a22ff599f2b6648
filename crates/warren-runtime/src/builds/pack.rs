//! Files as streams of bytes.

use std::{
    fs,
    io::{self, Read as _, Write},
    path::Path,
    time::SystemTime,
};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use tar::{Builder, EntryType, Header};
use tokio::{sync::mpsc, task::spawn_blocking};
use warren_core::templates::files::{BodyError, Contents, InlineFile, Place};

use super::pick::{Found, Kind, Selection};

/// The size of a piece.
const PIECE: usize = 256 << 10;

/// A stream of what `write` writes, on a thread of its own. Dropping the stream ends the thread.
pub(super) fn archive(
    write: impl FnOnce(&mut Builder<Pieces>) -> io::Result<()> + Send + 'static,
) -> Contents {
    let (sender, receiver) = mpsc::channel(2);
    spawn_blocking(move || {
        let failed = sender.clone();
        let pieces = Pieces { sender, held: BytesMut::new() };
        let mut builder = Builder::new(pieces);
        let written = write(&mut builder).and_then(|()| builder.into_inner());
        if let Err(error) = written.and_then(|mut pieces| pieces.flush()) {
            // Whoever reads may have gone.
            failed.blocking_send(Err(error.into())).ok();
        }
    });
    contents(receiver)
}

/// A stream of a file's bytes.
pub(super) fn bytes(mut file: fs::File) -> Contents {
    let (sender, receiver) = mpsc::channel(2);
    spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE];
            let sent = match file.read(&mut piece) {
                Ok(0) => return,
                Ok(read) => {
                    piece.truncate(read);
                    sender.blocking_send(Ok(piece.into()))
                }
                Err(error) => sender.blocking_send(Err(error.into())),
            };
            if sent.is_err() {
                return;
            }
        }
    });
    contents(receiver)
}

fn contents(receiver: mpsc::Receiver<Result<Bytes, BodyError>>) -> Contents {
    let next = |mut receiver: mpsc::Receiver<_>| async {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    };
    stream::unfold(receiver, next).boxed()
}

/// A writer whose bytes arrive in a stream.
pub(super) struct Pieces {
    sender: mpsc::Sender<Result<Bytes, BodyError>>,
    held: BytesMut,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = self.held.split().freeze();
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.sender.blocking_send(Ok(piece)).map_err(gone)
    }
}

/// Writes selected files.
pub(super) fn selection(
    archive: &mut Builder<Pieces>,
    tree: &Path,
    selection: Selection,
    place: &Place,
) -> io::Result<()> {
    let single = selection.single.is_some();
    for (name, found) in selection.files {
        let name = match &place.name {
            Some(given) if single => given.clone(),
            _ => name,
        };
        entry(archive, tree, &name, &found, place.mode)?;
    }
    Ok(())
}

fn entry(
    archive: &mut Builder<Pieces>,
    tree: &Path,
    name: &str,
    found: &Found,
    mode: Option<u32>,
) -> io::Result<()> {
    let path = tree.join(&found.path);
    let meta = fs::symlink_metadata(&path)?;
    let mut header = Header::new_gnu();
    // Whose a file was before it was sent is nobody's matter here.
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(mode.unwrap_or(found.mode));
    let modified = meta.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    header.set_mtime(modified.as_secs());
    header.set_size(0);
    match found.kind {
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            archive.append_data(&mut header, name, io::empty())
        }
        Kind::Link => {
            header.set_entry_type(EntryType::Symlink);
            archive.append_link(&mut header, name, fs::read_link(path)?)
        }
        Kind::File => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(meta.len());
            archive.append_data(&mut header, name, fs::File::open(path)?.take(meta.len()))
        }
    }
}

/// Writes files that are in memory.
pub(super) fn inline(archive: &mut Builder<Pieces>, files: Vec<InlineFile>) -> io::Result<()> {
    for file in files {
        let mut header = Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(file.mode);
        header.set_size(file.content.len() as u64);
        header.set_entry_type(EntryType::Regular);
        archive.append_data(&mut header, &file.name, &*file.content)?;
    }
    Ok(())
}
