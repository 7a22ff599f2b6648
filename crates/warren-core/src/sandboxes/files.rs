//! Files of the caller's sandboxes. Contents stream through; nothing is kept.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{
    caller::Caller,
    error::SandboxError,
    guest::{GuestError, connection::BodyError},
    sandbox::handle::Handle,
};

pub use crate::guest::{
    files::{Download, Range},
    filesystem::{FileInfo, FileKind},
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
