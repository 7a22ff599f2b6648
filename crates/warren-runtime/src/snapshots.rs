//! The files of snapshots, as they lie in the storage.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use warren_core::{id::SnapshotId, runtime::Sealed};
use warren_layer::manifest::{Manifest, Sources};

use crate::storage::copy::{Earlier, Origin};

/// What is written down about a snapshot's files.
const MANIFEST: &str = "manifest";

/// The directory of all snapshots' files.
#[derive(Debug)]
pub(crate) struct Snapshots {
    directory: PathBuf,
    /// Where the files of those come from that are not sealed yet.
    origins: Mutex<HashMap<SnapshotId, Origin>>,
}

impl Snapshots {
    /// Opens the snapshots in a storage directory.
    pub(crate) fn open(storage: &Path) -> io::Result<Self> {
        let directory = storage.join("snapshots");
        crate::storage::make_place(&directory)?;
        Ok(Self { directory, origins: Mutex::default() })
    }

    /// Where all are, and what is on its way.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a snapshot is.
    pub(crate) fn place(&self, id: &SnapshotId) -> PathBuf {
        self.directory.join(id.as_str())
    }

    /// The layer that a snapshot's files are.
    pub(crate) fn layer(&self, id: &SnapshotId) -> PathBuf {
        self.place(id).join("disk/upper")
    }

    /// Where a snapshot is while it is made.
    pub(crate) fn half(&self, id: &SnapshotId) -> PathBuf {
        self.directory.join(format!(".{id}"))
    }

    /// Makes an empty place for a new snapshot.
    pub(crate) fn begin(&self, id: &SnapshotId) -> io::Result<PathBuf> {
        let half = self.half(id);
        fs::create_dir(&half)?;
        Ok(half)
    }

    /// Makes a snapshot be there, whole.
    pub(crate) fn finish(&self, id: &SnapshotId, origin: Option<Origin>) -> io::Result<()> {
        fs::rename(self.half(id), self.place(id))?;
        if let Some(origin) = origin {
            self.origins().insert(*id, origin);
        }
        Ok(())
    }

    /// Puts what was made in the place of a snapshot that is there, and that in its place.
    pub(crate) fn exchange(&self, id: &SnapshotId) -> io::Result<()> {
        let (here, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
        rustix::fs::renameat_with(here, self.half(id), here, self.place(id), flags)?;
        // It is no copy of anything any more.
        self.forget(id);
        Ok(())
    }

    /// Forgets what is only known of snapshots that are not sealed yet.
    pub(crate) fn forget(&self, id: &SnapshotId) {
        self.origins().remove(id);
    }

    /// Writes down what a snapshot's files are, and has all of it on the disk.
    pub(crate) fn seal(
        &self,
        id: &SnapshotId,
        previous: Option<&SnapshotId>,
    ) -> io::Result<Sealed> {
        let origin = self.origins().remove(id);
        let sources = origin.as_ref().map_or(Sources::None, Origin::sources);
        let previous = previous.and_then(|id| self.manifest(id));
        let manifest = Manifest::build(&self.layer(id), sources, previous.as_ref());
        let manifest = manifest.map_err(io::Error::other)?;
        let place = self.place(id);
        manifest.write(&place.join(MANIFEST)).map_err(io::Error::other)?;
        // The files, and the names of what was made here.
        rustix::fs::syncfs(File::open(&place)?)?;
        let files = u64::try_from(manifest.entries.len()).unwrap_or(u64::MAX);
        // The layer itself is no file of it.
        Ok(Sealed { bytes: manifest.bytes(), files: files.saturating_sub(1) })
    }

    /// What was written down about a snapshot; none where it is not sealed.
    pub(crate) fn manifest(&self, id: &SnapshotId) -> Option<Manifest> {
        let path = self.place(id).join(MANIFEST);
        if !path.exists() {
            return None;
        }
        let read = Manifest::read(&path);
        read.inspect_err(|error| {
            let error = error as &dyn std::error::Error;
            tracing::warn!(error, snapshot.id = %id, "its manifest is of no use");
        })
        .ok()
    }

    /// A snapshot for a new copy to have files in common with.
    pub(crate) fn earlier(&self, id: &SnapshotId) -> Option<Earlier> {
        Some(Earlier { manifest: self.manifest(id)?, upper: self.layer(id) })
    }

    fn origins(&self) -> MutexGuard<'_, HashMap<SnapshotId, Origin>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every snapshot that is there.
    pub(crate) fn list(&self) -> io::Result<Vec<SnapshotId>> {
        let names = fs::read_dir(&self.directory)?;
        let ids = names.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(ids.collect())
    }

    /// What a server left that died while it made a snapshot.
    pub(crate) fn halves(&self) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.directory)?;
        let half = |entry: io::Result<fs::DirEntry>| {
            let name = entry.ok()?.file_name();
            let id: SnapshotId = name.to_str()?.strip_prefix('.')?.parse().ok()?;
            Some(self.half(&id))
        };
        Ok(entries.filter_map(half).collect())
    }
}
