//! Work that could not get to its remote and whose sandbox had to go: a bundle of git, kept here.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    fs::File,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use async_trait::async_trait;
use tokio::io::AsyncWrite;

use crate::{caller::Owner, clock::Timestamp, id::SandboxId};

/// The most bytes of one bundle.
pub(crate) const MOST_BYTES: u64 = 4 << 30;
/// The most bytes of all bundles of one owner.
const MOST_TOGETHER: u64 = 16 << 30;

/// A bundle and where it comes from. The sandbox's id is its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescue {
    /// The sandbox that it was in.
    pub sandbox: SandboxId,
    /// Whose it is.
    pub owner: Owner,
    /// The repository's address.
    pub repository: String,
    /// The session, which is the branch that was worked on.
    pub session: String,
    /// Why the work could not get to the remote.
    pub reason: String,
    /// Its length.
    pub bytes: u64,
    /// Its refs and their commits. `refs/warren/uncommitted` has what was not committed.
    pub refs: Vec<(String, String)>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Where bundles are kept.
#[async_trait]
pub trait RescueFiles: Send + Sync + fmt::Debug {
    /// Begins the bundle of a sandbox, in the place of one that was not finished.
    ///
    /// # Errors
    ///
    /// Where the host has no room for it.
    async fn begin(&self, sandbox: SandboxId) -> io::Result<Box<dyn AsyncWrite + Send + Unpin>>;

    /// Makes a bundle whole that was begun and written: it survives the machine from here on.
    ///
    /// # Errors
    ///
    /// Where the host fails.
    async fn keep(&self, sandbox: SandboxId) -> io::Result<()>;

    /// Opens a bundle that was kept.
    ///
    /// # Errors
    ///
    /// Where there is none.
    async fn open(&self, sandbox: SandboxId) -> io::Result<File>;

    /// Removes what was begun and not kept, if there is any.
    ///
    /// # Errors
    ///
    /// Where the host fails.
    async fn discard(&self, sandbox: SandboxId) -> io::Result<()>;

    /// Removes a bundle, whole or not; one that is gone is no error.
    ///
    /// # Errors
    ///
    /// Where the host fails.
    async fn remove(&self, sandbox: SandboxId) -> io::Result<()>;

    /// Removes what is not of these sandboxes.
    ///
    /// # Errors
    ///
    /// Where the host fails.
    async fn retain(&self, known: HashSet<SandboxId>) -> io::Result<()>;
}

/// All bundles, by sandbox.
#[derive(Debug, Default)]
pub(crate) struct Rescues(Mutex<HashMap<SandboxId, Arc<Rescue>>>);

impl Rescues {
    pub(crate) fn put(&self, rescue: Rescue) {
        self.lock().insert(rescue.sandbox, Arc::new(rescue));
    }

    pub(crate) fn remove(&self, sandbox: SandboxId) {
        self.lock().remove(&sandbox);
    }

    pub(crate) fn find(&self, owner: &Owner, sandbox: SandboxId) -> Option<Arc<Rescue>> {
        self.lock().get(&sandbox).filter(|it| it.owner == *owner).cloned()
    }

    /// The owner's, the newest first.
    pub(crate) fn of(&self, owner: &Owner) -> Vec<Arc<Rescue>> {
        let mut found: Vec<_> =
            self.lock().values().filter(|it| it.owner == *owner).cloned().collect();
        found.sort_unstable_by_key(|it| std::cmp::Reverse((it.created_at, it.sandbox)));
        found
    }

    /// How many bytes one more bundle of this owner may have.
    pub(crate) fn room(&self, owner: &Owner) -> u64 {
        let used = self.lock().values().filter(|it| it.owner == *owner).map(|it| it.bytes).sum();
        MOST_TOGETHER.saturating_sub(used).min(MOST_BYTES)
    }

    pub(crate) fn known(&self) -> HashSet<SandboxId> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SandboxId, Arc<Rescue>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that takes so many bytes and no more: a hostile sandbox says how long its bundle is.
pub(crate) struct Limited<W> {
    inner: W,
    left: u64,
}

impl<W> Limited<W> {
    pub(crate) fn new(inner: W, most: u64) -> Self {
        Self { inner, left: most }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Limited<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.len() as u64 > self.left {
            let message = "a bundle has at most 4 GiB, and all of a project have 16 GiB";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::FileTooLarge, message)));
        }
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.left = self.left.saturating_sub(*count as u64);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn a_bundle_has_an_end() {
        let mut file = Limited::new(Vec::new(), 4);
        file.write_all(b"abcd").await.unwrap();
        let error = file.write_all(b"e").await.unwrap_err();
        assert_eq!((error.kind(), file.inner), (io::ErrorKind::FileTooLarge, b"abcd".to_vec()));
    }
}
