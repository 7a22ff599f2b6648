//! Volumes: directories that outlive sandboxes, and that several of them may see.
//!
//! All volumes are in memory; a row of each survives the server. A row is written before there are
//! files and removed after them: whoever finds a row of one that was being made, or removed, takes
//! away what there is of it. Files without a row are left alone: perhaps the database is an older
//! copy, and they are all that is left.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::io::AsyncRead;

use crate::{
    caller::Owner,
    clock::Timestamp,
    error::SandboxError,
    guest::{files::Range, filesystem::FileInfo},
    id::VolumeId,
    runtime::{Cost, RuntimeError},
};

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its identity.
    pub id: VolumeId,
    /// Whose it is.
    pub owner: Owner,
    /// Its name, unique among the owner's volumes.
    pub name: String,
    /// How much it may hold, in bytes; none for no limit.
    pub size_bytes: Option<u64>,
    /// Whether nobody may write to it: it is what another was at one moment.
    pub read_only: bool,
    /// The volume that it was made from.
    pub source: Option<VolumeId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it is.
    pub status: Status,
}

/// What a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is being made: what there is of it goes if the server ends now.
    Making,
    /// It can be seen and used.
    Ready,
    /// It is being removed.
    Removing,
}

/// What the storage can do with volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// [`Volume::size_bytes`] is enforced.
    pub limit: bool,
    /// What it costs to copy one.
    pub copy: Cost,
}

/// What is at a path of a volume, with what only a file of the host's own can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeEntry {
    /// What is there.
    pub info: FileInfo,
    /// Whose it is, by the number inside.
    pub uid: u32,
    /// Which group's it is, by the number inside.
    pub gid: u32,
    /// When it was read last, as far as the storage writes that down.
    pub accessed_at: Timestamp,
    /// When anything of it changed last, its owner and its mode too.
    pub changed_at: Timestamp,
}

/// What a file or a directory of a volume is to have; what is absent is left to what is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Whose it is, by the number inside.
    pub uid: Option<u32>,
    /// Which group's it is, by the number inside.
    pub gid: Option<u32>,
}

impl Ownership {
    /// These permission bits, and the usual owner.
    #[must_use]
    pub fn mode(mode: Option<u32>) -> Self {
        Self { mode, ..Self::default() }
    }
}

/// The files of volumes, as a backend keeps them. Paths are below the volume's own root, whatever
/// they look like; no link leads out of it.
#[async_trait]
pub trait VolumeFiles: Send + Sync + fmt::Debug {
    /// What can be done here.
    fn abilities(&self) -> Abilities;

    /// Makes an empty volume.
    async fn create(&self, id: &VolumeId, limit: Option<u64>) -> Result<(), RuntimeError>;

    /// Makes a volume with the files that another has at one moment, or nearly so where the storage
    /// cannot.
    async fn copy(
        &self,
        from: &VolumeId,
        to: &VolumeId,
        limit: Option<u64>,
    ) -> Result<(), RuntimeError>;

    /// Removes a volume with its files, whole or half-made. One that is gone is no error.
    async fn remove(&self, id: &VolumeId) -> Result<(), RuntimeError>;

    /// Changes how much a volume may hold, from the next write on.
    async fn limit(&self, id: &VolumeId, limit: Option<u64>) -> Result<(), RuntimeError>;

    /// How many bytes a volume holds; none where only counting its files would tell.
    async fn used(&self, id: &VolumeId) -> Option<u64>;

    /// Every volume that has files.
    async fn list(&self) -> Result<Vec<VolumeId>, RuntimeError>;

    /// What is at a path.
    async fn stat(&self, id: &VolumeId, path: &str) -> io::Result<VolumeEntry>;

    /// What is in a directory, down to `depth` levels (at least 1), in the order of paths.
    async fn entries(&self, id: &VolumeId, path: &str, depth: u32) -> io::Result<Vec<VolumeEntry>>;

    /// Makes a directory and those above it that are missing; one that is there stays as it is,
    /// but for what `owned` says.
    async fn make_directory(
        &self,
        id: &VolumeId,
        path: &str,
        owned: Ownership,
    ) -> io::Result<VolumeEntry>;

    /// Changes whose something is, and what its permissions are. A link is not followed, and has
    /// no permissions of its own.
    async fn change(&self, id: &VolumeId, path: &str, owned: Ownership) -> io::Result<VolumeEntry>;

    /// Removes a file, or a directory with all that is in it.
    async fn remove_file(&self, id: &VolumeId, path: &str) -> io::Result<()>;

    /// Opens a file to be read.
    async fn read(&self, id: &VolumeId, path: &str, range: Option<Range>) -> io::Result<Contents>;

    /// Writes a file, whole or not at all, and the directories above it that are missing; gives its
    /// size. It is on the disk when this returns.
    async fn write(
        &self,
        id: &VolumeId,
        path: &str,
        owned: Ownership,
        contents: Box<dyn AsyncRead + Send + Unpin>,
    ) -> io::Result<u64>;
}

/// A file, or a part of it, on its way.
pub struct Contents {
    /// The bytes.
    pub bytes: Box<dyn AsyncRead + Send + Unpin>,
    /// How many there will be.
    pub length: u64,
    /// The first byte's place and the size of the whole file, where it is a part.
    pub part: Option<(u64, u64)>,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").field("length", &self.length).finish_non_exhaustive()
    }
}

/// All volumes.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    all: HashMap<VolumeId, Arc<Volume>>,
    names: HashMap<(Owner, String), VolumeId>,
    /// Volumes that something uses which cannot be seen yet, and how many such there are.
    held: HashMap<VolumeId, u32>,
}

/// Volumes stay as long as this lives.
#[derive(Debug)]
pub(crate) struct VolumeHold {
    volumes: Arc<Volumes>,
    held: Vec<VolumeId>,
}

impl Drop for VolumeHold {
    fn drop(&mut self) {
        let mut table = self.volumes.lock();
        for id in &self.held {
            if let Some(count) = table.held.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    table.held.remove(id);
                }
            }
        }
    }
}

impl Volumes {
    /// Remembers what was stored.
    pub(crate) fn restore(&self, volumes: Vec<Volume>) {
        let mut table = self.lock();
        for volume in volumes {
            table.insert(volume);
        }
    }

    /// Adds a volume, which takes its name; its owner has at most `most`.
    pub(crate) fn add(&self, volume: Volume, most: usize) -> Result<(), SandboxError> {
        let mut table = self.lock();
        if table.names.contains_key(&(volume.owner.clone(), volume.name.clone())) {
            return Err(SandboxError::Taken { what: "volume", name: volume.name });
        }
        let have = table.all.values().filter(|it| it.owner == volume.owner).count();
        if have >= most {
            let limit = most as u64;
            return Err(SandboxError::Limit { whose: "project's", what: "volumes", limit });
        }
        table.insert(volume);
        Ok(())
    }

    /// Puts a volume in the place of its earlier form.
    pub(crate) fn replace(&self, volume: Volume) {
        self.lock().insert(volume);
    }

    /// Forgets a volume.
    pub(crate) fn forget(&self, id: VolumeId) {
        let mut table = self.lock();
        if let Some(gone) = table.all.remove(&id) {
            table.names.remove(&(gone.owner.clone(), gone.name.clone()));
        }
    }

    /// The owner's volume with this id or name, if it can be used.
    pub(crate) fn find(&self, owner: &Owner, name: &str) -> Result<Arc<Volume>, SandboxError> {
        self.lock().find(owner, name)
    }

    /// The owner's volumes, by name.
    pub(crate) fn of(&self, owner: &Owner) -> Vec<Arc<Volume>> {
        let table = self.lock();
        let visible = |it: &&Arc<Volume>| it.owner == *owner && it.status == Status::Ready;
        let mut found: Vec<_> = table.all.values().filter(visible).cloned().collect();
        found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// How many volumes an owner has, whatever they are.
    pub(crate) fn count(&self, owner: &Owner) -> usize {
        self.lock().all.values().filter(|it| it.owner == *owner).count()
    }

    /// The owner's volume with this id or name, which stays as long as the hold.
    pub(crate) fn hold_one(
        self: &Arc<Self>,
        owner: &Owner,
        name: &str,
    ) -> Result<(Arc<Volume>, VolumeHold), SandboxError> {
        let mut table = self.lock();
        let found = table.find(owner, name)?;
        let hold = table.hold(self, vec![found.id]);
        Ok((found, hold))
    }

    /// The owner's volumes with these ids or names, which stay as long as the hold.
    pub(crate) fn hold(
        self: &Arc<Self>,
        owner: &Owner,
        names: &[&str],
    ) -> Result<(Vec<Arc<Volume>>, VolumeHold), SandboxError> {
        let mut table = self.lock();
        let found = names.iter().map(|name| table.find(owner, name));
        let found: Vec<_> = found.collect::<Result<_, _>>()?;
        let hold = table.hold(self, found.iter().map(|volume| volume.id).collect());
        Ok((found, hold))
    }

    /// Takes a volume out of sight that nothing is about to use: from here on it is being removed.
    pub(crate) fn retire(&self, id: VolumeId, uses: usize) -> Result<Arc<Volume>, SandboxError> {
        let mut table = self.lock();
        let volume = table.all.get(&id).cloned();
        let volume = volume.filter(|it| it.status == Status::Ready);
        let volume = volume.ok_or_else(|| no_such(id.as_str()))?;
        let held = table.held.contains_key(&id);
        if uses > 0 || held {
            let reason = match uses {
                0 => "is being used".to_owned(),
                1 => "is used by a sandbox".to_owned(),
                uses => format!("is used by {uses} sandboxes"),
            };
            let name = volume.name.clone();
            return Err(SandboxError::InUse { what: "volume", name, reason });
        }
        let retired = Volume { status: Status::Removing, ..(*volume).clone() };
        table.insert(retired);
        Ok(volume)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn hold(&mut self, volumes: &Arc<Volumes>, held: Vec<VolumeId>) -> VolumeHold {
        for id in &held {
            *self.held.entry(*id).or_default() += 1;
        }
        VolumeHold { volumes: Arc::clone(volumes), held }
    }

    fn insert(&mut self, volume: Volume) {
        self.names.insert((volume.owner.clone(), volume.name.clone()), volume.id);
        self.all.insert(volume.id, Arc::new(volume));
    }

    fn find(&self, owner: &Owner, name: &str) -> Result<Arc<Volume>, SandboxError> {
        let id = match name.parse() {
            Ok(id) => Some(id),
            Err(_a_name) => self.names.get(&(owner.clone(), name.to_owned())).copied(),
        };
        let usable = |it: &&Arc<Volume>| it.owner == *owner && it.status == Status::Ready;
        let found = id.and_then(|id| self.all.get(&id)).filter(usable);
        found.cloned().ok_or_else(|| no_such(name))
    }
}

fn no_such(name: &str) -> SandboxError {
    SandboxError::NoSuch { what: "volume", name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(owner: &str, name: &str) -> Volume {
        Volume {
            id: VolumeId::mint(),
            owner: Owner::new(owner),
            name: name.to_owned(),
            size_bytes: None,
            read_only: false,
            source: None,
            created_at: Timestamp::default(),
            status: Status::Ready,
        }
    }

    #[test]
    fn a_volume_is_its_owners_by_id_and_by_name() {
        let volumes = Volumes::default();
        let one = volume("a", "data");
        volumes.add(one.clone(), 10).unwrap();
        volumes.add(volume("b", "data"), 10).unwrap();
        let taken = volumes.add(volume("a", "data"), 10).unwrap_err();
        assert!(matches!(taken, SandboxError::Taken { .. }), "{taken}");
        let full = volumes.add(volume("a", "more"), 1).unwrap_err();
        assert!(matches!(full, SandboxError::Limit { limit: 1, .. }), "{full}");
        for name in ["data", one.id.as_str()] {
            assert_eq!(volumes.find(&one.owner, name).unwrap().id, one.id);
        }
        let theirs = volumes.find(&Owner::new("b"), one.id.as_str()).unwrap_err();
        assert!(matches!(theirs, SandboxError::NoSuch { .. }), "{theirs}");
        assert_eq!(volumes.of(&one.owner).len(), 1);
    }

    #[test]
    fn what_is_used_or_about_to_be_is_not_removed() {
        let volumes = Arc::new(Volumes::default());
        let one = volume("a", "data");
        volumes.add(one.clone(), 10).unwrap();
        let (_, hold) = volumes.hold(&one.owner, &["data"]).unwrap();
        let refused = volumes.retire(one.id, 0).unwrap_err();
        assert_eq!(refused.to_string(), "volume data is being used");
        drop(hold);
        let refused = volumes.retire(one.id, 2).unwrap_err();
        assert_eq!(refused.to_string(), "volume data is used by 2 sandboxes");
        volumes.retire(one.id, 0).unwrap();
        assert!(volumes.find(&one.owner, "data").is_err(), "nobody sees it any more");
        assert!(
            volumes.add(volume("a", "data"), 10).is_err(),
            "its name is taken until it is gone"
        );
        volumes.forget(one.id);
        volumes.add(volume("a", "data"), 10).unwrap();
    }
}
