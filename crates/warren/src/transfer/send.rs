//! To a sandbox.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::mpsc,
};
use warren_api::{client::Client, files::FileKind};
use warren_archive::Packer;

use super::{Copied, Remote, last_part};
use crate::{
    error::{CliError, Kind},
    session::read_on_thread,
};

/// Bytes of an archive made at once.
const PIECE_BYTES: usize = 256 << 10;

/// What is sent. Opened before anything is made for it.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its last part; none for what is in a directory.
    name: Option<String>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Tree(File),
    /// With its permission bits.
    File(File, u32),
    /// What may keep one waiting, such as a named pipe.
    Pipe(mpsc::Receiver<Bytes>),
    /// Standard input: a file, or an archive where a directory is its target.
    Input(mpsc::Receiver<Bytes>),
}

impl Source {
    /// Opens a file or a directory; a link is followed.
    ///
    /// # Errors
    ///
    /// When it is not there or cannot be read.
    pub(crate) fn open(path: &Path) -> Result<Self, CliError> {
        let file = File::open(path).map_err(unreadable(path))?;
        let metadata = file.metadata().map_err(unreadable(path))?;
        let name = path.to_str().and_then(last_part).map(str::to_owned);
        let content = if metadata.is_dir() {
            Content::Tree(file)
        } else if metadata.is_file() {
            Content::File(file, metadata.permissions().mode() & 0o777)
        } else {
            Content::Pipe(read_on_thread(file))
        };
        Ok(Self { name, content })
    }

    /// Standard input.
    pub(crate) fn input(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self { name: None, content: Content::Input(pieces) }
    }

    /// The same for what is in the directory, where it is one.
    pub(crate) fn without_name(self) -> Self {
        match self.content {
            Content::Tree(_) => Self { name: None, ..self },
            _ => self,
        }
    }
}

/// Copies to a place in a sandbox: into it where it is a directory, else as it.
///
/// # Errors
///
/// When it cannot be read here, or the sandbox refuses.
pub(crate) async fn send(
    client: &Client,
    source: Source,
    to: &Remote,
    user: Option<&str>,
) -> Result<Copied, CliError> {
    let kind = to.kind(client, user).await?;
    let into = kind == Some(FileKind::Directory) || (kind.is_none() && to.path.ends_with('/'));
    let Source { name, content } = source;
    let to = match (&name, &content) {
        // A directory becomes the place that is not there yet.
        (Some(_), Content::Tree(_)) if kind.is_none() => to.clone(),
        (Some(name), _) if into => to.child(name),
        _ => to.clone(),
    };
    let Remote { sandbox, path } = &to;
    match content {
        Content::Tree(directory) => {
            let packer = Reading::new(Packer::directory(directory.into()));
            let done = client.write_archive(sandbox, path, user, packer).await?;
            Ok(Copied { entries: done.entries, bytes: done.bytes, skipped: done.skipped })
        }
        Content::Input(pieces) if into => {
            let done = client.write_archive(sandbox, path, user, Reading::new(pieces)).await?;
            Ok(Copied { entries: done.entries, bytes: done.bytes, skipped: done.skipped })
        }
        Content::Input(pieces) | Content::Pipe(pieces) => {
            let written =
                client.write_file(sandbox, path, user, None, Reading::new(pieces)).await?;
            Ok(Copied { entries: 1, bytes: written.size, skipped: 0 })
        }
        Content::File(file, mode) => {
            let mode = format!("{mode:o}");
            let reading = Reading::new(file);
            let written = client.write_file(sandbox, path, user, Some(&mode), reading).await?;
            Ok(Copied { entries: 1, bytes: written.size, skipped: 0 })
        }
    }
}

/// A file, or a pipe, as the body of a request; and its permission bits.
///
/// # Errors
///
/// When it is not there or cannot be read.
pub(crate) fn open_file(path: &Path) -> Result<(Box<dyn AsyncRead + Send + Unpin>, u32), CliError> {
    match Source::open(path)?.content {
        Content::File(file, mode) => Ok((Box::new(Reading::new(file)), mode)),
        Content::Pipe(pieces) | Content::Input(pieces) => {
            Ok((Box::new(Reading::new(pieces)), 0o644))
        }
        Content::Tree(_) => {
            Err(CliError::usage(format!("{} is a directory, expected a file", path.display())))
        }
    }
}

/// Pieces as the body of a request.
pub(crate) fn reader(pieces: mpsc::Receiver<Bytes>) -> impl AsyncRead + Send + Unpin + 'static {
    Reading::new(pieces)
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> CliError {
    let path = PathBuf::from(path);
    move |error| CliError::new(Kind::Local, format!("could not read {}: {error}", path.display()))
}

/// What gives its content in pieces.
trait Pieces {
    /// Appends the next bytes; none at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>, to: &mut Vec<u8>) -> Poll<io::Result<()>>;
}

impl Pieces for Packer {
    fn poll_piece(&mut self, _: &mut Context<'_>, to: &mut Vec<u8>) -> Poll<io::Result<()>> {
        Poll::Ready(self.read(to, PIECE_BYTES).map(drop).map_err(io::Error::other))
    }
}

impl Pieces for File {
    fn poll_piece(&mut self, _: &mut Context<'_>, to: &mut Vec<u8>) -> Poll<io::Result<()>> {
        let read = (&*self).take(PIECE_BYTES as u64).read_to_end(to);
        Poll::Ready(read.map(drop))
    }
}

impl Pieces for mpsc::Receiver<Bytes> {
    fn poll_piece(&mut self, cx: &mut Context<'_>, to: &mut Vec<u8>) -> Poll<io::Result<()>> {
        self.poll_recv(cx).map(|piece| {
            to.extend_from_slice(&piece.unwrap_or_default());
            Ok(())
        })
    }
}

/// Pieces as a reader. Files are read on this thread: it has nothing else to do.
#[derive(Debug)]
struct Reading<P> {
    pieces: P,
    held: Vec<u8>,
    taken: usize,
}

impl<P> Reading<P> {
    fn new(pieces: P) -> Self {
        Self { pieces, held: Vec::new(), taken: 0 }
    }
}

impl<P: Pieces + Unpin> AsyncRead for Reading<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { pieces, held, taken } = &mut *self;
        if *taken == held.len() {
            held.clear();
            *taken = 0;
            std::task::ready!(pieces.poll_piece(cx, held))?;
        }
        let rest = held.get(*taken..).unwrap_or_default();
        let (piece, _) = rest.split_at(rest.len().min(buffer.remaining()));
        buffer.put_slice(piece);
        *taken += piece.len();
        Poll::Ready(Ok(()))
    }
}
