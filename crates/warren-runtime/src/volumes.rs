//! Volumes: directories that outlive guests, and that several of them may see.
//!
//! ```text
//! <storage>/volumes/<id>/        on btrfs a subvolume, limited to the volume's size
//! <storage>/volumes/<id>/files/  what guests see of it
//! ```
//!
//! Files carry the ids of the inside, as those of disks do. Core writes a row before it asks for a
//! volume and removes it after, so nothing here has to be undone by who finds it.

mod files;

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use tokio::{io::AsyncRead, task::spawn_blocking};
use warren_core::{
    id::VolumeId,
    runtime::{Cost, RuntimeError},
    sandboxes::Range,
    spec::VolumeMount,
    volumes::{Abilities, Contents, Ownership, VolumeEntry, VolumeFiles},
};
use warren_layer::copy;
use warren_sys::mount::{self, Attributes};

use crate::storage::{Pool, backing::Room};

/// The user inside whose a new volume is, as every image of this product has it.
const USER: u32 = 1000;
/// The directory of a volume that guests see.
const FILES: &str = "files";

/// The volumes of one storage directory.
#[derive(Clone, Debug)]
pub(crate) struct Volumes {
    directory: PathBuf,
    pool: Pool,
    /// What uploads leave free, in bytes.
    reserve_bytes: u64,
}

impl Volumes {
    /// Opens the volumes of a storage directory, and makes their place.
    pub(crate) fn open(storage: &Path, pool: Pool, reserve_bytes: u64) -> io::Result<Arc<Self>> {
        let directory = storage.join("volumes");
        crate::storage::make_place(&directory)?;
        Ok(Arc::new(Self { directory, pool, reserve_bytes }))
    }

    /// A volume as a guest is to see it, detached: ids on disk are those of `user_namespace`, the
    /// guest's; none where the server is in a user namespace itself.
    pub(crate) fn detached(
        &self,
        wanted: &VolumeMount,
        user_namespace: Option<&OwnedFd>,
    ) -> Result<OwnedFd, RuntimeError> {
        let files = self.files(&wanted.volume);
        let refuse = |error: io::Error| RuntimeError::Mount {
            reason: match error.kind() {
                io::ErrorKind::NotFound => format!("the files of {} are gone", wanted.volume),
                _ => format!("{} cannot be mounted: {error}", wanted.volume),
            },
        };
        let attributes = Attributes {
            read_only: wanted.read_only,
            // What one sandbox leaves in it is another's to run, and no way to more rights there.
            no_suid: true,
            no_dev: true,
            ..Attributes::default()
        };
        let tree = mount::clone_tree(rustix::fs::CWD, &files, false).map_err(refuse)?;
        let shown = match user_namespace {
            Some(users) => mount::map_ids(tree.as_fd(), users.as_fd(), attributes),
            None => mount::set_attributes(tree.as_fd(), attributes),
        };
        shown.map_err(refuse)?;
        Ok(tree)
    }

    fn place(&self, id: &VolumeId) -> PathBuf {
        self.directory.join(id.as_str())
    }

    fn files(&self, id: &VolumeId) -> PathBuf {
        self.place(id).join(FILES)
    }

    /// The root of a volume's files, for look-ups beneath it.
    fn root(&self, id: &VolumeId) -> io::Result<File> {
        File::open(self.files(id))
    }

    fn make(&self, id: &VolumeId, limit: Option<u64>) -> io::Result<()> {
        let place = self.place(id);
        self.pool.make_directory(&place)?;
        let files = place.join(FILES);
        fs::create_dir(&files)?;
        fs::set_permissions(&files, fs::Permissions::from_mode(0o755))?;
        give_to_user(&files)?;
        self.pool.limit(&place, limit)
    }

    fn copy_now(&self, from: &VolumeId, to: &VolumeId, limit: Option<u64>) -> io::Result<()> {
        let (source, place) = (self.place(from), self.place(to));
        if !self.pool.share(&source, &place)? {
            self.pool.make_directory(&place)?;
            let (from, to) = (source.join(FILES), place.join(FILES));
            let mut copied = copy::copy(&from, &to, None).map_err(io::Error::other)?;
            // Once more, for what changed meanwhile: nobody is stopped for a copy.
            copy::catch_up(&mut copied, &from, &to, false).map_err(io::Error::other)?;
            rustix::fs::syncfs(File::open(&to)?)?;
        }
        self.pool.limit(&place, limit)
    }

    /// Ends an upload that would take what is kept for everybody else.
    fn check_room(&self) -> io::Result<()> {
        let room = Room::of(&self.directory)?;
        let reserve = self.reserve_bytes.min(room.total_bytes / 10);
        if room.free_bytes < reserve { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

/// Gives something to the user inside. Where there is one id alone, everything is its own.
fn give_to_user(path: &Path) -> io::Result<()> {
    match std::os::unix::fs::lchown(path, Some(USER), Some(USER)) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

#[async_trait]
impl VolumeFiles for Volumes {
    fn abilities(&self) -> Abilities {
        let copy = if self.pool.shares() { Cost::Constant } else { Cost::Bytes };
        Abilities { limit: self.pool.limits(), copy }
    }

    async fn create(&self, id: &VolumeId, limit: Option<u64>) -> Result<(), RuntimeError> {
        let (this, id) = (self.clone(), *id);
        on_host("make a volume", move || this.make(&id, limit)).await
    }

    async fn copy(
        &self,
        from: &VolumeId,
        to: &VolumeId,
        limit: Option<u64>,
    ) -> Result<(), RuntimeError> {
        let (this, from, to) = (self.clone(), *from, *to);
        on_host("copy a volume", move || this.copy_now(&from, &to, limit)).await
    }

    async fn remove(&self, id: &VolumeId) -> Result<(), RuntimeError> {
        let (this, id) = (self.clone(), *id);
        on_host("remove a volume", move || this.pool.remove(&this.place(&id))).await
    }

    async fn limit(&self, id: &VolumeId, limit: Option<u64>) -> Result<(), RuntimeError> {
        let (this, id) = (self.clone(), *id);
        on_host("limit a volume", move || this.pool.limit(&this.place(&id), limit)).await
    }

    async fn used(&self, id: &VolumeId) -> Option<u64> {
        let (this, id) = (self.clone(), *id);
        let used = spawn_blocking(move || this.pool.used(&this.place(&id))).await;
        used.ok().flatten().map(|it| it.used_bytes)
    }

    async fn list(&self) -> Result<Vec<VolumeId>, RuntimeError> {
        let directory = self.directory.clone();
        on_host("list the volumes", move || {
            let names = fs::read_dir(directory)?.flatten().map(|it| it.file_name());
            Ok(names.filter_map(|name| name.to_str()?.parse().ok()).collect())
        })
        .await
    }

    async fn stat(&self, id: &VolumeId, path: &str) -> io::Result<VolumeEntry> {
        self.below(id, path, files::stat).await
    }

    async fn entries(&self, id: &VolumeId, path: &str, depth: u32) -> io::Result<Vec<VolumeEntry>> {
        self.below(id, path, move |root, path| files::entries(root, path, depth)).await
    }

    async fn make_directory(
        &self,
        id: &VolumeId,
        path: &str,
        owned: Ownership,
    ) -> io::Result<VolumeEntry> {
        self.below(id, path, move |root, path| {
            files::make_directories(root, path)?;
            files::change(root, path, owned)
        })
        .await
    }

    async fn change(&self, id: &VolumeId, path: &str, owned: Ownership) -> io::Result<VolumeEntry> {
        self.below(id, path, move |root, path| files::change(root, path, owned)).await
    }

    async fn remove_file(&self, id: &VolumeId, path: &str) -> io::Result<()> {
        self.below(id, path, files::remove).await
    }

    async fn read(&self, id: &VolumeId, path: &str, range: Option<Range>) -> io::Result<Contents> {
        self.below(id, path, move |root, path| files::read(root, path, range)).await
    }

    async fn write(
        &self,
        id: &VolumeId,
        path: &str,
        owned: Ownership,
        contents: Box<dyn AsyncRead + Send + Unpin>,
    ) -> io::Result<u64> {
        let new = self.below(id, path, move |root, path| files::begin(root, path, owned)).await?;
        let (new, size) = new.fill(contents, || self.check_room()).await?;
        spawn_blocking(move || new.finish()).await.map_err(io::Error::other)??;
        Ok(size)
    }
}

impl Volumes {
    /// Does something about a path below a volume's root, where it may block.
    async fn below<T: Send + 'static>(
        &self,
        id: &VolumeId,
        path: &str,
        act: impl FnOnce(&File, &str) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (this, id, path) = (self.clone(), *id, files::clean(path)?);
        let done = spawn_blocking(move || act(&this.root(&id)?, &path)).await;
        done.map_err(io::Error::other)?.map_err(files::named)
    }
}

/// Does something on the host that may block.
async fn on_host<T: Send + 'static>(
    operation: &'static str,
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, RuntimeError> {
    let done = spawn_blocking(act).await.map_err(RuntimeError::host(operation))?;
    done.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => RuntimeError::Exhausted { what: "disk space" },
        _ => RuntimeError::host(operation)(error),
    })
}
