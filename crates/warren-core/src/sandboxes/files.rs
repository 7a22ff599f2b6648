//! Files of the caller's sandboxes. Contents stream through; nothing is kept.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{
    caller::Caller,
    error::SandboxError,
    guest::{GuestError, connection::BodyError, watch::WatchStream},
    sandbox::handle::Handle,
};

pub use crate::guest::{
    files::{Download, Range},
    filesystem::{FileInfo, FileKind},
    trees::{Matches, Unpacked},
    watch::{ChangeKind, FileChange},
};

use super::Sandboxes;

/// What is to be written to a file.
pub struct Upload {
    /// The bytes, as they come.
    pub contents: BoxStream<'static, Result<Bytes, BodyError>>,
    /// How many there will be, where that is known.
    pub length: Option<u64>,
    /// The permission bits it gets; those of the user's umask where absent.
    pub mode: Option<u32>,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("length", &self.length).finish_non_exhaustive()
    }
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its absolute path inside.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Whose file, and as whom inside: `user`, or the sandbox's default user.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The sandbox's id or name.
    pub sandbox: &'a str,
    /// The user inside.
    pub user: Option<&'a str>,
    /// The path; a relative one starts at the user's home.
    pub path: &'a str,
}

impl Sandboxes {
    /// Opens a file for reading. The contents come from the guest as they are read.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] when there is no such file, or the user may not read it.
    pub async fn read_file(
        &self,
        caller: &Caller,
        at: At<'_>,
        range: Option<Range>,
    ) -> Result<Download, SandboxError> {
        let handle = self.ready(caller, &at)?;
        let opened = handle.guest().read_file(at.user, at.path, range).await;
        explained(&handle, opened).await
    }

    /// Writes a file, and the directories above it that are missing.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] when the user may not, or the disk is full.
    pub async fn write_file(
        &self,
        caller: &Caller,
        at: At<'_>,
        upload: Upload,
    ) -> Result<Written, SandboxError> {
        let handle = self.ready(caller, &at)?;
        explained(&handle, handle.guest().write_file(at.user, at.path, upload).await).await
    }

    /// What is known about a path.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] when there is nothing.
    pub async fn stat_file(&self, caller: &Caller, at: At<'_>) -> Result<FileInfo, SandboxError> {
        let handle = self.ready(caller, &at)?;
        explained(&handle, handle.guest().stat(at.user, at.path).await).await
    }

    /// What is in a directory, down to `depth` levels (at least 1).
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] when it is none.
    pub async fn list_files(
        &self,
        caller: &Caller,
        at: At<'_>,
        depth: u32,
    ) -> Result<Vec<FileInfo>, SandboxError> {
        let handle = self.ready(caller, &at)?;
        explained(&handle, handle.guest().list_directory(at.user, at.path, depth).await).await
    }

    /// Makes a directory and those above it that are missing.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] when something is there already.
    pub async fn make_directory(
        &self,
        caller: &Caller,
        at: At<'_>,
    ) -> Result<FileInfo, SandboxError> {
        let handle = self.ready(caller, &at)?;
        explained(&handle, handle.guest().make_directory(at.user, at.path).await).await
    }

    /// Moves what is at a path to another; a file there is replaced.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] when there is nothing to move.
    pub async fn move_file(
        &self,
        caller: &Caller,
        at: At<'_>,
        to: &str,
    ) -> Result<FileInfo, SandboxError> {
        let handle = self.ready(caller, &at)?;
        check_path("to", to)?;
        explained(&handle, handle.guest().rename(at.user, at.path, to).await).await
    }

    /// Removes what is at a path, with everything below it. Nothing there is no error.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] when the user may not.
    pub async fn remove_file(&self, caller: &Caller, at: At<'_>) -> Result<(), SandboxError> {
        let handle = self.ready(caller, &at)?;
        explained(&handle, handle.guest().remove(at.user, at.path).await).await
    }

    /// Paths below a directory that match a pattern such as `**/*.rs`, at most 10,000 of them.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] when it is no directory, or the pattern cannot be read.
    pub async fn glob_files(
        &self,
        caller: &Caller,
        at: At<'_>,
        pattern: &str,
    ) -> Result<Matches, SandboxError> {
        let handle = self.ready(caller, &at)?;
        explained(&handle, handle.guest().glob(at.user, at.path, pattern).await).await
    }

    /// Sets the permission bits of what is at a path; a link is followed.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] when it is somebody else's, or not there.
    pub async fn chmod_file(
        &self,
        caller: &Caller,
        at: At<'_>,
        mode: u32,
    ) -> Result<FileInfo, SandboxError> {
        let handle = self.ready(caller, &at)?;
        explained(&handle, handle.guest().chmod(at.user, at.path, mode).await).await?;
        explained(&handle, handle.guest().stat(at.user, at.path).await).await
    }

    /// Watches a directory, and all below it where `recursive`: what happens after this returns.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] when it is no directory, or too many are watched.
    pub async fn watch_files(
        &self,
        caller: &Caller,
        at: At<'_>,
        recursive: bool,
    ) -> Result<FileWatch, SandboxError> {
        let handle = self.ready(caller, &at)?;
        let opened = handle.guest().watch(at.user, at.path, recursive).await;
        let stream = explained(&handle, opened).await?;
        Ok(FileWatch { handle, stream })
    }

    /// Opens a tar archive of what is at a path: of a directory, what is below it. It comes from
    /// the guest as it is read.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] when there is nothing, or the user may not read it.
    pub async fn read_archive(
        &self,
        caller: &Caller,
        at: At<'_>,
    ) -> Result<Download, SandboxError> {
        let handle = self.ready(caller, &at)?;
        explained(&handle, handle.guest().read_archive(at.user, at.path).await).await
    }

    /// Unpacks a tar archive, plain or compressed with gzip, below a directory, which is made where
    /// it is missing.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Guest`] for an archive that is broken or leads out of the directory, or when
    /// the user may not, or the disk is full.
    pub async fn write_archive(
        &self,
        caller: &Caller,
        at: At<'_>,
        contents: BoxStream<'static, Result<Bytes, BodyError>>,
    ) -> Result<Unpacked, SandboxError> {
        let handle = self.ready(caller, &at)?;
        let done = handle.guest().write_archive(at.user, at.path, contents).await;
        explained(&handle, done).await
    }

    fn ready(&self, caller: &Caller, at: &At<'_>) -> Result<Arc<Handle>, SandboxError> {
        let handle = self.find(caller, at.sandbox)?;
        check_path("path", at.path)?;
        if let Some(user) = at.user {
            crate::plan::check_user("user", user)?;
        }
        handle.require_running()?;
        Ok(handle)
    }
}

/// The changes in a directory, as they happen.
#[derive(Debug)]
pub struct FileWatch {
    handle: Arc<Handle>,
    stream: WatchStream,
}

impl FileWatch {
    /// The directory's absolute path.
    pub fn root(&self) -> &str {
        self.stream.root()
    }

    /// The next change. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`SandboxError`] when the sandbox or its agent has ended: there is no other end.
    pub async fn next(&mut self) -> Result<FileChange, SandboxError> {
        match self.stream.next().await {
            Ok(Some(change)) => Ok(change),
            Ok(None) => Err(self.handle.explain_silence()),
            Err(error) => Err(self.handle.explain_break(error).await),
        }
    }
}

async fn explained<T>(handle: &Handle, result: Result<T, GuestError>) -> Result<T, SandboxError> {
    match result {
        Ok(done) => Ok(done),
        Err(error) => Err(handle.explain_break(error).await),
    }
}

fn check_path(field: &'static str, path: &str) -> Result<(), SandboxError> {
    if path.is_empty() || path.len() > 4096 || path.contains('\0') {
        return Err(SandboxError::invalid(field, "expected a path of 1 to 4096 bytes without NUL"));
    }
    Ok(())
}
