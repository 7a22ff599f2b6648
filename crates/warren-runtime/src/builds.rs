//! Trees of files that builds of templates copy from: uploaded archives, unpacked.
//!
//! ```text
//! <data>/builds/<id>/      a tree, whole
//! <data>/builds/new-<n>/   one that is being taken in; removed at the next start
//! <data>/builds/empty/     an image with nothing in it but an empty `/usr`
//! ```
//!
//! Archives are strangers': they are unpacked by the rules of `warren-archive`, links are kept and
//! never followed, and everything is found by walking from the top, not by following names.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::{sync::mpsc, task::spawn_blocking};
use warren_archive::{Limits, UnpackError, Unpacker};
use warren_core::{
    spec::Image,
    templates::files::{BuildFiles, Contents, FilesError, InlineFile, Pick, Picked, Place, Taken},
};

mod pack;
mod pick;

/// How many pieces of an upload wait to be unpacked.
const WAITING: usize = 4;
/// The most files that one tree may have.
const MOST_ENTRIES: u64 = 500_000;

/// The trees of one data directory.
#[derive(Debug)]
pub(crate) struct BuildTrees {
    root: PathBuf,
    next: AtomicU64,
}

impl BuildTrees {
    /// Opens the trees below a data directory, and removes what an earlier server left half-made.
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        let root = data.join("builds");
        crate::storage::make_place(&root)?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&root)?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // What was copied out of another stage is of no use to another build.
            if (name.starts_with("new-") || name.ends_with("-copy"))
                && let Err(error) = warren_sys::tree::remove(&entry.path())
            {
                tracing::warn!(%error, "what is left of an upload is not removed");
            }
        }
        // What has neither of the two usual directories is taken for no root filesystem.
        fs::create_dir_all(root.join("empty/usr"))?;
        Ok(Self { root, next: AtomicU64::new(0) })
    }

    fn path(&self, id: &str) -> Result<PathBuf, FilesError> {
        let good = !id.is_empty()
            && id.len() <= 200
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !id.starts_with("new-")
            && id != "empty";
        match good {
            true => Ok(self.root.join(id)),
            false => Err(FilesError::NotFound { id: id.to_owned() }),
        }
    }

    fn existing(&self, id: &str) -> Result<PathBuf, FilesError> {
        let path = self.path(id)?;
        if path.is_dir() { Ok(path) } else { Err(FilesError::NotFound { id: id.to_owned() }) }
    }
}

/// A tree that is being taken in; removed unless it is whole.
struct Fresh(Option<PathBuf>);

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = warren_sys::tree::remove(&path)
        {
            tracing::warn!(%error, "a broken upload is not removed");
        }
    }
}

#[async_trait]
impl BuildFiles for BuildTrees {
    async fn take(
        &self,
        id: &str,
        mut archive: Contents,
        most_bytes: u64,
    ) -> Result<Taken, FilesError> {
        let path = self.path(id)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let fresh = self.root.join(format!("new-{number}"));
        let (pieces, queue) = mpsc::channel::<Bytes>(WAITING);
        let work = spawn_blocking(move || unpack(&fresh, queue, most_bytes));
        let mut broken = None;
        while let Some(piece) = archive.next().await {
            match piece {
                Ok(piece) => {
                    // It has ended with an error, which it tells below.
                    if pieces.send(piece).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        drop(pieces);
        let unpacked =
            work.await.map_err(|error| host("take files in")(io::Error::other(error)))?;
        if let Some(error) = broken {
            return Err(FilesError::Broken(error));
        }
        let (mut fresh, taken) = unpacked?;
        let done = spawn_blocking(move || {
            let Some(made) = fresh.0.take() else { return Ok(()) };
            let replaced = path.with_file_name(format!("new-{number}-replaced"));
            match fs::rename(&path, &replaced) {
                Ok(()) => drop(Fresh(Some(replaced))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            fs::rename(made, path)
        });
        let done = done.await.map_err(|error| host("keep files")(io::Error::other(error)))?;
        done.map_err(host("keep files"))?;
        Ok(taken)
    }

    async fn has(&self, id: &str) -> bool {
        let Ok(path) = self.existing(id) else { return false };
        touch(&path);
        true
    }

    async fn inspect(&self, id: &str, pick: &Pick) -> Result<Picked, FilesError> {
        let (tree, pick) = (self.existing(id)?, pick.clone());
        touch(&tree);
        blocking("read files", move || pick::inspect(&tree, &pick)).await
    }

    async fn names(&self, id: &str, pick: &Pick) -> Result<Vec<String>, FilesError> {
        let (tree, pick) = (self.existing(id)?, pick.clone());
        blocking("read files", move || {
            let selection = pick::select(&tree, &pick)?;
            Ok(selection.files.into_keys().collect())
        })
        .await
    }

    async fn pack(&self, id: &str, pick: &Pick, place: &Place) -> Result<Contents, FilesError> {
        let (tree, pick, place) = (self.existing(id)?, pick.clone(), place.clone());
        let selection = {
            let tree = tree.clone();
            blocking("read files", move || pick::select(&tree, &pick)).await?
        };
        Ok(pack::archive(move |archive| pack::selection(archive, &tree, selection, &place)))
    }

    async fn read(&self, id: &str, path: &str) -> Result<Contents, FilesError> {
        let (tree, wanted) = (self.existing(id)?, path.to_owned());
        let file = blocking("read files", move || {
            // Named by an inspection before: found again in the same way.
            let pick = Pick { sources: vec![wanted.clone()], ..Pick::default() };
            let selection = pick::select(&tree, &pick)?;
            let found = selection.files.into_values().next();
            let found = found.ok_or(FilesError::NoSource { source_path: wanted })?;
            fs::File::open(tree.join(found.path)).map_err(host("read files"))
        })
        .await?;
        Ok(pack::bytes(file))
    }

    async fn inline(&self, files: Vec<InlineFile>) -> Result<Contents, FilesError> {
        Ok(pack::archive(move |archive| pack::inline(archive, files)))
    }

    async fn remove(&self, id: &str) -> Result<(), FilesError> {
        let path = self.path(id)?;
        blocking("remove files", move || match warren_sys::tree::remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(host("remove files")(error))
            }
            _ => Ok(()),
        })
        .await
    }

    async fn prune(&self, older_than: Duration) -> Result<(), FilesError> {
        let root = self.root.clone();
        blocking("remove old files", move || prune(&root, older_than).map_err(host("remove files")))
            .await
    }

    fn empty(&self) -> Image {
        Image::Directory(self.root.join("empty"))
    }
}

/// Unpacks what comes into a new directory.
fn unpack(
    directory: &Path,
    mut queue: mpsc::Receiver<Bytes>,
    most_bytes: u64,
) -> Result<(Fresh, Taken), FilesError> {
    fs::create_dir(directory).map_err(host("make a directory for files"))?;
    let fresh = Fresh(Some(directory.to_owned()));
    let opened = fs::File::open(directory).map_err(host("open a directory for files"))?;
    let limits = Limits { entries: MOST_ENTRIES, bytes: most_bytes };
    let mut unpacker = Unpacker::new(opened.into(), false, limits);
    while let Some(piece) = queue.blocking_recv() {
        unpacker.push(&piece).map_err(refused)?;
    }
    let done = unpacker.finish().map_err(refused)?;
    make_readable(directory).map_err(host("read what was unpacked"))?;
    Ok((fresh, Taken { entries: done.entries, bytes: done.bytes }))
}

/// Has the server read and remove everything, whatever modes the archive gave.
fn make_readable(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            continue;
        }
        let mode = entry.metadata()?.permissions().mode();
        let needed = if kind.is_dir() { 0o700 } else { 0o400 };
        if mode & needed != needed {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode | needed))?;
        }
        if kind.is_dir() {
            make_readable(&entry.path())?;
        }
    }
    Ok(())
}

fn prune(root: &Path, older_than: Duration) -> io::Result<()> {
    for entry in fs::read_dir(root)?.flatten() {
        let name = entry.file_name();
        if name == "empty" || name.to_string_lossy().starts_with("new-") {
            continue;
        }
        let changed = entry.metadata()?.modified()?;
        #[expect(clippy::disallowed_methods, reason = "compared with times of the file system")]
        let age = SystemTime::now().duration_since(changed).unwrap_or_default();
        if age > older_than {
            warren_sys::tree::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Notes that a tree was used.
fn touch(path: &Path) {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    let none = rustix::fs::AtFlags::empty();
    if let Err(error) = rustix::fs::utimensat(rustix::fs::CWD, path, &times, none) {
        tracing::debug!(%error, "a use of files is not noted");
    }
}

async fn blocking<T: Send + 'static>(
    operation: &'static str,
    act: impl FnOnce() -> Result<T, FilesError> + Send + 'static,
) -> Result<T, FilesError> {
    spawn_blocking(act).await.map_err(|error| host(operation)(io::Error::other(error)))?
}

fn host(operation: &'static str) -> impl FnOnce(io::Error) -> FilesError {
    move |source| FilesError::Host { operation, source }
}

fn refused(error: UnpackError) -> FilesError {
    match error {
        UnpackError::Io { source, .. }
            if matches!(source.raw_os_error(), Some(28 | 122 | 5 | 13)) =>
        {
            FilesError::Host { operation: "write uploaded files", source }
        }
        other => FilesError::Refused { reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests;
