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
    clock::Timestamp,
    id::VolumeId,
    runtime::{Cost, RuntimeError},
    sandboxes::{FileInfo, FileKind, Range},
    volumes::{Abilities, Contents, Ownership, VolumeEntry, VolumeFiles},
};

/// What a volume holds, by path.
type Tree = BTreeMap<String, Held>;

/// A file, or a directory where there are no bytes.
#[derive(Clone, Debug)]
struct Held {
    bytes: Option<Vec<u8>>,
    owned: Ownership,
}

/// The files of volumes.
#[derive(Debug, Default)]
pub struct FakeVolumes {
    all: Mutex<HashMap<VolumeId, Tree>>,
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
        act: impl FnOnce(&mut Tree) -> io::Result<T>,
    ) -> io::Result<T> {
        act(lock(&self.all).get_mut(id).ok_or(io::ErrorKind::NotFound)?)
    }
}

/// A path as it is kept.
fn clean(path: &str) -> String {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}

fn entry(path: &str, held: &Held) -> VolumeEntry {
    let directory = held.bytes.is_none();
    let info = FileInfo {
        name: path.rsplit('/').next().unwrap_or_default().to_owned(),
        path: path.to_owned(),
        kind: if directory { FileKind::Directory } else { FileKind::File },
        size: held.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
        mode: held.owned.mode.unwrap_or(if directory { 0o755 } else { 0o644 }),
        owner: "user".to_owned(),
        group: "user".to_owned(),
        modified_at: Some(Timestamp::default()),
        symlink_target: None,
    };
    let (uid, gid) = (held.owned.uid.unwrap_or(1000), held.owned.gid.unwrap_or(1000));
    let (accessed_at, changed_at) = (Timestamp::default(), Timestamp::default());
    VolumeEntry { info, uid, gid, accessed_at, changed_at }
}

fn own(held: &mut Held, owned: Ownership) {
    held.owned.mode = owned.mode.or(held.owned.mode);
    held.owned.uid = owned.uid.or(held.owned.uid);
    held.owned.gid = owned.gid.or(held.owned.gid);
}

fn find<'a>(files: &'a Tree, path: &str) -> io::Result<&'a Held> {
    files.get(path).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Makes sure of the directories above a path.
fn make_above(files: &mut Tree, path: &str) {
    for (at, _) in path.match_indices('/').skip(1) {
        let above = path.get(..at).unwrap_or_default().to_owned();
        files.entry(above).or_insert(Held { bytes: None, owned: Ownership::default() });
    }
}

#[async_trait]
impl VolumeFiles for FakeVolumes {
    fn abilities(&self) -> Abilities {
        Abilities { limit: true, copy: Cost::Constant }
    }

    async fn create(&self, id: &VolumeId, _limit: Option<u64>) -> Result<(), RuntimeError> {
        self.check()?;
        let root = Held { bytes: None, owned: Ownership::default() };
        lock(&self.all).insert(*id, BTreeMap::from([("/".to_owned(), root)]));
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
        let all = lock(&self.all);
        Some(all.get(id)?.values().flat_map(|it| &it.bytes).map(|it| it.len() as u64).sum())
    }

    async fn list(&self) -> Result<Vec<VolumeId>, RuntimeError> {
        Ok(lock(&self.all).keys().copied().collect())
    }

    async fn stat(&self, id: &VolumeId, path: &str) -> io::Result<VolumeEntry> {
        let path = clean(path);
        self.with(id, |files| Ok(entry(&path, find(files, &path)?)))
    }

    async fn entries(&self, id: &VolumeId, path: &str, depth: u32) -> io::Result<Vec<VolumeEntry>> {
        let path = clean(path);
        let below = format!("{}/", path.trim_end_matches('/'));
        self.with(id, |files| {
            if find(files, &path)?.bytes.is_some() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            let near = |it: &str| {
                let rest = it.strip_prefix(&below).filter(|rest| !rest.is_empty());
                rest.is_some_and(|rest| rest.matches('/').count() < depth as usize)
            };
            Ok(files.iter().filter(|(it, _)| near(it)).map(|(it, held)| entry(it, held)).collect())
        })
    }

    async fn make_directory(
        &self,
        id: &VolumeId,
        path: &str,
        owned: Ownership,
    ) -> io::Result<VolumeEntry> {
        let path = clean(path);
        self.with(id, |files| {
            make_above(files, &path);
            let new = Held { bytes: None, owned: Ownership::default() };
            let held = files.entry(path.clone()).or_insert(new);
            if held.bytes.is_some() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            own(held, owned);
            Ok(entry(&path, held))
        })
    }

    async fn change(&self, id: &VolumeId, path: &str, owned: Ownership) -> io::Result<VolumeEntry> {
        let path = clean(path);
        self.with(id, |files| {
            let held = files.get_mut(&path).ok_or(io::ErrorKind::NotFound)?;
            own(held, owned);
            Ok(entry(&path, held))
        })
    }

    async fn remove_file(&self, id: &VolumeId, path: &str) -> io::Result<()> {
        let path = clean(path);
        self.with(id, |files| {
            find(files, &path)?;
            files.retain(|it, _| *it != path && !it.starts_with(&format!("{path}/")));
            Ok(())
        })
    }

    async fn read(&self, id: &VolumeId, path: &str, _range: Option<Range>) -> io::Result<Contents> {
        let path = clean(path);
        self.with(id, |files| {
            let bytes = find(files, &path)?.bytes.clone().ok_or(io::ErrorKind::IsADirectory)?;
            let length = bytes.len() as u64;
            Ok(Contents { bytes: Box::new(io::Cursor::new(bytes)), length, part: None })
        })
    }

    async fn write(
        &self,
        id: &VolumeId,
        path: &str,
        owned: Ownership,
        mut contents: Box<dyn AsyncRead + Send + Unpin>,
    ) -> io::Result<u64> {
        let mut bytes = Vec::new();
        contents.read_to_end(&mut bytes).await?;
        let (path, size) = (clean(path), bytes.len() as u64);
        self.with(id, |files| {
            make_above(files, &path);
            let before = files.get(&path);
            if before.is_some_and(|held| held.bytes.is_none()) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let kept = before.map(|held| held.owned).unwrap_or_default();
            let mut held = Held { bytes: Some(bytes), owned: kept };
            own(&mut held, owned);
            files.insert(path, held);
            Ok(size)
        })
    }
}
