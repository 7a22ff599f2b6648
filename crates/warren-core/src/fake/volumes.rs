//! Volumes that live in this process.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Mutex,
};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::lock;
use crate::{
    id::VolumeId,
    runtime::{Cost, RuntimeError},
    sandboxes::{FileInfo, FileKind, Range},
    volumes::{Abilities, Contents, VolumeFiles},
};

/// The files of volumes: by path, without directories.
#[derive(Debug, Default)]
pub struct FakeVolumes {
    all: Mutex<HashMap<VolumeId, BTreeMap<String, Vec<u8>>>>,
    failing: Mutex<bool>,
}

impl FakeVolumes {
    /// Makes every change fail on the host, or none.
    pub fn fail(&self, failing: bool) {
        *lock(&self.failing) = failing;
    }

    fn check(&self) -> Result<(), RuntimeError> {
        let failed = || RuntimeError::host("change a volume")(io::Error::other("as told"));
        if *lock(&self.failing) { Err(failed()) } else { Ok(()) }
    }

    fn with<T>(
        &self,
        id: &VolumeId,
        act: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> io::Result<T>,
    ) -> io::Result<T> {
        act(lock(&self.all).get_mut(id).ok_or(io::ErrorKind::NotFound)?)
    }
}

fn info(path: &str, size: usize) -> FileInfo {
    FileInfo {
        name: path.rsplit('/').next().unwrap_or_default().to_owned(),
        path: path.to_owned(),
        kind: FileKind::File,
        size: size as u64,
        mode: 0o644,
        owner: "user".to_owned(),
        group: "user".to_owned(),
        modified_at: None,
        symlink_target: None,
    }
}

#[async_trait]
impl VolumeFiles for FakeVolumes {
    fn abilities(&self) -> Abilities {
        Abilities { limit: true, copy: Cost::Constant }
    }

    async fn create(&self, id: &VolumeId, _limit: Option<u64>) -> Result<(), RuntimeError> {
        self.check()?;
        lock(&self.all).insert(*id, BTreeMap::new());
        Ok(())
    }

    async fn copy(
        &self,
        from: &VolumeId,
        to: &VolumeId,
        _limit: Option<u64>,
    ) -> Result<(), RuntimeError> {
        self.check()?;
        let mut all = lock(&self.all);
        let files = all.get(from).cloned().unwrap_or_default();
        all.insert(*to, files);
        Ok(())
    }

    async fn remove(&self, id: &VolumeId) -> Result<(), RuntimeError> {
        self.check()?;
        lock(&self.all).remove(id);
        Ok(())
    }

    async fn limit(&self, _id: &VolumeId, _limit: Option<u64>) -> Result<(), RuntimeError> {
        self.check()
    }

    async fn used(&self, id: &VolumeId) -> Option<u64> {
        Some(lock(&self.all).get(id)?.values().map(|it| it.len() as u64).sum())
    }

    async fn list(&self) -> Result<Vec<VolumeId>, RuntimeError> {
        Ok(lock(&self.all).keys().copied().collect())
    }

    async fn stat(&self, id: &VolumeId, path: &str) -> io::Result<FileInfo> {
        self.with(id, |files| {
            let found = files.get(path).ok_or(io::ErrorKind::NotFound)?;
            Ok(info(path, found.len()))
        })
    }

    async fn entries(&self, id: &VolumeId, _path: &str, _depth: u32) -> io::Result<Vec<FileInfo>> {
        self.with(id, |files| Ok(files.iter().map(|(path, it)| info(path, it.len())).collect()))
    }

    async fn make_directory(&self, id: &VolumeId, path: &str) -> io::Result<FileInfo> {
        self.with(id, |_| Ok(FileInfo { kind: FileKind::Directory, ..info(path, 0) }))
    }

    async fn remove_file(&self, id: &VolumeId, path: &str) -> io::Result<()> {
        self.with(id, |files| match files.remove(path) {
            Some(_gone) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        })
    }

    async fn read(&self, id: &VolumeId, path: &str, _range: Option<Range>) -> io::Result<Contents> {
        self.with(id, |files| {
            let bytes = files.get(path).ok_or(io::ErrorKind::NotFound)?.clone();
            let length = bytes.len() as u64;
            Ok(Contents { bytes: Box::new(io::Cursor::new(bytes)), length, part: None })
        })
    }

    async fn write(
        &self,
        id: &VolumeId,
        path: &str,
        _mode: Option<u32>,
        mut contents: Box<dyn AsyncRead + Send + Unpin>,
    ) -> io::Result<u64> {
        let mut bytes = Vec::new();
        contents.read_to_end(&mut bytes).await?;
        let size = bytes.len() as u64;
        self.with(id, |files| {
            files.insert(path.to_owned(), bytes);
            Ok(size)
        })
    }
}
