//! Files inside a sandbox.

use std::{io, ops::RangeInclusive};

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderValue, Method, header};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{
    Call, Client, ClientError, Query,
    lines::Lines,
    link::{Body, Reply},
    sandboxes::path,
};
use crate::{
    NDJSON,
    files::{
        ArchiveUnpacked, ChmodFile, FileInfo, FileList, FileMatches, FileWritten, MoveFile,
        WatchEvent,
    },
};

/// The size of the pieces in which a file is sent.
const PIECE_BYTES: usize = 256 << 10;

impl Client {
    /// Reads a file, or the bytes of it in `range`.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn read_file(
        &self,
        sandbox: &str,
        file: &str,
        user: Option<&str>,
        range: Option<RangeInclusive<u64>>,
    ) -> Result<FileStream, ClientError> {
        let mut call = Call::get(target(sandbox, "files", file, user, Query::default()));
        call.accept = "*/*";
        call.within(range)?;
        Ok(FileStream(self.send(&call).await?))
    }

    /// Writes a file from a stream of bytes, making its directories; `mode` is octal text.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`]. It is never repeated by itself: the stream is used up.
    pub async fn write_file(
        &self,
        sandbox: &str,
        file: &str,
        user: Option<&str>,
        mode: Option<&str>,
        contents: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<FileWritten, ClientError> {
        let query = Query::default().with("mode", mode);
        let target = target(sandbox, "files", file, user, query);
        self.upload(target, "application/octet-stream", contents).await
    }

    /// Sends a body as it is read.
    pub(super) async fn upload<T: DeserializeOwned>(
        &self,
        target: String,
        content_type: &'static str,
        contents: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<T, ClientError> {
        let mut call = Call::new(Method::PUT, target);
        call.headers.push((header::CONTENT_TYPE, HeaderValue::from_static(content_type)));
        let mut link = self.link().await?;
        let body = Body::Stream(Box::pin(pieces(contents)));
        let reply =
            link.send(call.request(&self.headers, body)).await.map_err(|error| error.error)?;
        let reply = self.accept(reply.over(link)).await?;
        let body = self.read(reply).await?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Decode { source })
    }

    /// Opens a tar archive of what is at a path: of a directory, what is below it.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn read_archive(
        &self,
        sandbox: &str,
        file: &str,
        user: Option<&str>,
    ) -> Result<FileStream, ClientError> {
        let mut call = Call::get(target(sandbox, "files/archive", file, user, Query::default()));
        call.accept = "*/*";
        Ok(FileStream(self.send(&call).await?))
    }

    /// Unpacks a tar archive below a directory, making it.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`]. It is never repeated by itself: the stream is used up.
    pub async fn write_archive(
        &self,
        sandbox: &str,
        directory: &str,
        user: Option<&str>,
        contents: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<ArchiveUnpacked, ClientError> {
        let target = target(sandbox, "files/archive", directory, user, Query::default());
        self.upload(target, "application/x-tar", contents).await
    }

    /// Paths below a directory that match a pattern such as `**/*.rs`.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn glob_files(
        &self,
        sandbox: &str,
        directory: &str,
        user: Option<&str>,
        pattern: &str,
    ) -> Result<FileMatches, ClientError> {
        let query = Query::default().with("pattern", Some(pattern));
        self.json(Call::get(target(sandbox, "files/glob", directory, user, query))).await
    }

    /// Sets permission bits.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn chmod_file(
        &self,
        sandbox: &str,
        request: &ChmodFile,
    ) -> Result<FileInfo, ClientError> {
        let target = format!("{}/files/chmod", path(sandbox));
        self.json(Call::post(target).with_json(request)?).await
    }

    /// Watches a directory, and all below it where `recursive`.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn watch_files(
        &self,
        sandbox: &str,
        directory: &str,
        user: Option<&str>,
        recursive: bool,
    ) -> Result<WatchStream, ClientError> {
        let query = Query::default().with("recursive", Some(recursive.to_string()));
        let target = target(sandbox, "files/watch", directory, user, query);
        Ok(WatchStream(Lines::new(self.send(&Call::get(target).accepting(NDJSON)).await?)))
    }

    /// What is known about a file.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn stat_file(
        &self,
        sandbox: &str,
        file: &str,
        user: Option<&str>,
    ) -> Result<FileInfo, ClientError> {
        self.json(Call::get(target(sandbox, "files/stat", file, user, Query::default()))).await
    }

    /// The contents of a directory, `depth` levels of it (1 for its own entries).
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn list_files(
        &self,
        sandbox: &str,
        directory: &str,
        user: Option<&str>,
        depth: u32,
    ) -> Result<FileList, ClientError> {
        let query = Query::default().with("depth", Some(depth.to_string()));
        self.json(Call::get(target(sandbox, "files/list", directory, user, query))).await
    }

    /// Makes a directory and those above it.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn make_directory(
        &self,
        sandbox: &str,
        directory: &str,
        user: Option<&str>,
    ) -> Result<FileInfo, ClientError> {
        let query = Query::default();
        self.json(Call::post(target(sandbox, "files/mkdir", directory, user, query))).await
    }

    /// Moves a file or a directory.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn move_file(
        &self,
        sandbox: &str,
        request: &MoveFile,
    ) -> Result<FileInfo, ClientError> {
        let target = format!("{}/files/move", path(sandbox));
        self.json(Call::post(target).with_json(request)?).await
    }

    /// Removes a file, or a directory with all below it.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn remove_file(
        &self,
        sandbox: &str,
        file: &str,
        user: Option<&str>,
    ) -> Result<(), ClientError> {
        let target = target(sandbox, "files", file, user, Query::default());
        self.empty(Call::new(Method::DELETE, target)).await
    }
}

fn target(sandbox: &str, route: &str, file: &str, user: Option<&str>, query: Query) -> String {
    let query = query.with("path", Some(file)).with("user", user);
    format!("{}/{route}{}", path(sandbox), query.0)
}

/// Cuts a reader into pieces.
fn pieces(
    reader: impl AsyncRead + Send + Unpin + 'static,
) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold((reader, BytesMut::new()), |(mut reader, mut buffer)| async move {
        buffer.reserve(PIECE_BYTES);
        match reader.read_buf(&mut buffer).await {
            Ok(0) => None,
            Ok(_read) => Some((Ok(buffer.split().freeze()), (reader, buffer))),
            Err(error) => Some((Err(error), (reader, buffer))),
        }
    })
}

/// The contents of a file on their way.
#[derive(Debug)]
pub struct FileStream(pub(super) Reply);

impl FileStream {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`ClientError::Transport`] when the connection breaks before the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.0.chunk().await
    }
}

/// What happens in a watched directory.
#[derive(Debug)]
pub struct WatchStream(Lines);

impl WatchStream {
    /// The next event; `None` when the server has ended the stream.
    ///
    /// # Errors
    ///
    /// [`ClientError::Transport`] when the connection breaks, [`ClientError::Decode`] when the
    /// server says something else.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ClientError> {
        match self.0.next().await? {
            Some(line) => serde_json::from_slice(line)
                .map(Some)
                .map_err(|source| ClientError::Decode { source }),
            None => Ok(None),
        }
    }
}
