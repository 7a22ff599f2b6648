//! Volumes and their files.

use std::{io, sync::Arc};

use tokio::io::AsyncRead;

use super::{Range, Sandboxes};
use crate::{
    caller::Caller,
    error::{GuestRefusal, SandboxError},
    id::VolumeId,
    plan::{self, Plan},
    sandbox::WantedVolume,
    shared::Shared,
    spec::VolumeMount,
    store::{Object, ObjectChange, ObjectKind, object_volume, volume_object},
    volumes::{
        Abilities, Contents, Ownership, Status, Volume, VolumeEntry, VolumeFiles, VolumeHold,
    },
};

/// How many volumes a project may have.
const MOST: usize = 1000;
/// The least that a volume may be limited to, in bytes: less does not hold its own directory.
const LEAST_BYTES: u64 = 1 << 20;
/// How many levels of a directory one request lists at most.
const MOST_LEVELS: u32 = 32;

/// What is wanted of a new volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewVolume {
    /// Its name: `[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}`, unique among the caller's volumes.
    pub name: String,
    /// How much it may hold, in bytes; no limit where absent, or that of its source.
    pub size_bytes: Option<u64>,
}

/// Where a file is.
#[derive(Clone, Copy, Debug)]
pub struct InVolume<'a> {
    /// The volume's id or name.
    pub volume: &'a str,
    /// A path below its root.
    pub path: &'a str,
}

/// A volume whose files are being looked at: it stays meanwhile.
struct Opened {
    volume: Arc<Volume>,
    files: Arc<dyn VolumeFiles>,
    _hold: VolumeHold,
}

impl Sandboxes {
    /// Makes an empty volume.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Invalid`], [`SandboxError::Taken`], [`SandboxError::Limit`],
    /// [`SandboxError::Unsupported`]; nothing of it is left then.
    pub async fn create_volume(
        &self,
        caller: &Caller,
        wanted: NewVolume,
    ) -> Result<Arc<Volume>, SandboxError> {
        self.make_volume(caller, wanted, None, false).await
    }

    /// Makes a volume with the files that another has now; what is written to either later is its
    /// own. With `read_only` nobody ever writes to it.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::create_volume`], and [`SandboxError::NoSuch`].
    pub async fn copy_volume(
        &self,
        caller: &Caller,
        source: &str,
        wanted: NewVolume,
        read_only: bool,
    ) -> Result<Arc<Volume>, SandboxError> {
        let (source, hold) = self.shared.volumes.hold_one(caller.owner(), source)?;
        let wanted = NewVolume { size_bytes: wanted.size_bytes.or(source.size_bytes), ..wanted };
        self.make_volume(caller, wanted, Some((source, hold)), read_only).await
    }

    async fn make_volume(
        &self,
        caller: &Caller,
        wanted: NewVolume,
        source: Option<(Arc<Volume>, VolumeHold)>,
        read_only: bool,
    ) -> Result<Arc<Volume>, SandboxError> {
        let files = self.volume_files()?;
        check_name(&wanted.name)?;
        check_size(wanted.size_bytes, files.abilities())?;
        let shared = Arc::clone(&self.shared);
        let making = Volume {
            id: VolumeId::mint(),
            owner: caller.owner().clone(),
            name: wanted.name,
            size_bytes: wanted.size_bytes,
            read_only,
            source: source.as_ref().map(|(volume, _)| volume.id),
            created_at: shared.clock.now(),
            status: Status::Making,
        };
        self.to_the_end(async move {
            let ready = Volume { status: Status::Ready, ..making.clone() };
            shared.volumes.add(making.clone(), MOST)?;
            let made = make(&shared, files.as_ref(), &making, &ready, source).await;
            match made {
                Ok(()) => {
                    shared.volumes.replace(ready.clone());
                    Ok(Arc::new(ready))
                }
                Err(error) => {
                    sweep(&shared, files.as_ref(), making.id).await;
                    Err(error)
                }
            }
        })
        .await
    }

    /// The caller's volumes, by name.
    #[must_use]
    pub fn volumes(&self, caller: &Caller) -> Vec<Arc<Volume>> {
        self.shared.volumes.of(caller.owner())
    }

    /// The caller's volume with this id or name.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`].
    pub fn volume(&self, caller: &Caller, name: &str) -> Result<Arc<Volume>, SandboxError> {
        self.shared.volumes.find(caller.owner(), name)
    }

    /// How many bytes a volume holds, where the storage counts, and how many sandboxes use it.
    pub async fn volume_usage(&self, volume: &Volume) -> (Option<u64>, usize) {
        let used = match self.shared.runtime.volumes() {
            Some(files) => files.used(&volume.id).await,
            None => None,
        };
        (used, uses(&self.shared, volume.id))
    }

    /// Changes how much a volume may hold. Where it holds more already, that stays, and nothing
    /// can be added.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`], [`SandboxError::Invalid`].
    pub async fn resize_volume(
        &self,
        caller: &Caller,
        name: &str,
        size_bytes: Option<u64>,
    ) -> Result<Arc<Volume>, SandboxError> {
        let files = self.volume_files()?;
        check_size(size_bytes, files.abilities())?;
        let (old, hold) = self.shared.volumes.hold_one(caller.owner(), name)?;
        let shared = Arc::clone(&self.shared);
        self.to_the_end(async move {
            let _hold = hold;
            let new = Volume { size_bytes, ..(*old).clone() };
            let limited = files.limit(&new.id, size_bytes).await;
            limited.map_err(SandboxError::runtime("limit the volume"))?;
            write(&shared, &new).await?;
            shared.volumes.replace(new.clone());
            Ok(Arc::new(new))
        })
        .await
    }

    /// Removes a volume with its files.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`]; [`SandboxError::InUse`] as long as a sandbox has it, also a
    /// stopped one.
    pub async fn remove_volume(&self, caller: &Caller, name: &str) -> Result<(), SandboxError> {
        let files = self.volume_files()?;
        let found = self.shared.volumes.find(caller.owner(), name)?;
        let shared = Arc::clone(&self.shared);
        self.to_the_end(async move {
            let volume = shared.volumes.retire(found.id, uses(&shared, found.id))?;
            let retired = Volume { status: Status::Removing, ..(*volume).clone() };
            if let Err(error) = write(&shared, &retired).await {
                shared.volumes.replace((*volume).clone());
                return Err(error);
            }
            sweep(&shared, files.as_ref(), volume.id).await;
            Ok(())
        })
        .await
    }

    /// What is at a path of a volume.
    ///
    /// # Errors
    ///
    /// [`SandboxError::NoSuch`]; [`SandboxError::Guest`] when there is nothing.
    pub async fn stat_in_volume(
        &self,
        caller: &Caller,
        at: InVolume<'_>,
    ) -> Result<VolumeEntry, SandboxError> {
        let opened = self.open_volume(caller, at)?;
        opened.files.stat(&opened.volume.id, at.path).await.map_err(refused(at.path))
    }

    /// What is in a directory of a volume, down to `depth` levels (1 to 32).
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::stat_in_volume`].
    pub async fn list_in_volume(
        &self,
        caller: &Caller,
        at: InVolume<'_>,
        depth: u32,
    ) -> Result<Vec<VolumeEntry>, SandboxError> {
        if !(1..=MOST_LEVELS).contains(&depth) {
            return Err(SandboxError::invalid("depth", format!("expected 1 to {MOST_LEVELS}")));
        }
        let opened = self.open_volume(caller, at)?;
        opened.files.entries(&opened.volume.id, at.path, depth).await.map_err(refused(at.path))
    }

    /// Makes a directory in a volume, and those above it that are missing.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::stat_in_volume`].
    pub async fn make_directory_in_volume(
        &self,
        caller: &Caller,
        at: InVolume<'_>,
        owned: Ownership,
    ) -> Result<VolumeEntry, SandboxError> {
        check_ownership(owned)?;
        let opened = self.open_volume(caller, at)?;
        check_writable(&opened.volume)?;
        let made = opened.files.make_directory(&opened.volume.id, at.path, owned).await;
        made.map_err(refused(at.path))
    }

    /// Changes whose something in a volume is, and what its permissions are.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::stat_in_volume`], and [`SandboxError::Invalid`] for what no file can have.
    pub async fn change_in_volume(
        &self,
        caller: &Caller,
        at: InVolume<'_>,
        owned: Ownership,
    ) -> Result<VolumeEntry, SandboxError> {
        check_ownership(owned)?;
        let opened = self.open_volume(caller, at)?;
        check_writable(&opened.volume)?;
        let changed = opened.files.change(&opened.volume.id, at.path, owned).await;
        changed.map_err(refused(at.path))
    }

    /// Removes a file of a volume, or a directory with all that is in it.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::stat_in_volume`].
    pub async fn remove_in_volume(
        &self,
        caller: &Caller,
        at: InVolume<'_>,
    ) -> Result<(), SandboxError> {
        let opened = self.open_volume(caller, at)?;
        check_writable(&opened.volume)?;
        let path = at.path.to_owned();
        self.to_the_end(async move {
            let opened = opened; // all of it, the hold too
            opened.files.remove_file(&opened.volume.id, &path).await.map_err(refused(&path))
        })
        .await
    }

    /// Opens a file of a volume to be read.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::stat_in_volume`].
    pub async fn read_in_volume(
        &self,
        caller: &Caller,
        at: InVolume<'_>,
        range: Option<Range>,
    ) -> Result<Contents, SandboxError> {
        let opened = self.open_volume(caller, at)?;
        opened.files.read(&opened.volume.id, at.path, range).await.map_err(refused(at.path))
    }

    /// Writes a file of a volume, whole or not at all; gives its size.
    ///
    /// # Errors
    ///
    /// As [`Sandboxes::stat_in_volume`], and when the volume or its disk is full.
    pub async fn write_in_volume(
        &self,
        caller: &Caller,
        at: InVolume<'_>,
        owned: Ownership,
        contents: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<u64, SandboxError> {
        check_ownership(owned)?;
        let opened = self.open_volume(caller, at)?;
        check_writable(&opened.volume)?;
        opened
            .files
            .write(&opened.volume.id, at.path, owned, contents)
            .await
            .map_err(refused(at.path))
    }

    fn open_volume(&self, caller: &Caller, at: InVolume<'_>) -> Result<Opened, SandboxError> {
        let files = self.volume_files()?;
        let (volume, hold) = self.shared.volumes.hold_one(caller.owner(), at.volume)?;
        Ok(Opened { volume, files, _hold: hold })
    }

    fn volume_files(&self) -> Result<Arc<dyn VolumeFiles>, SandboxError> {
        let files = self.shared.runtime.volumes();
        files.ok_or(SandboxError::Unsupported { operation: "keep volumes" })
    }

    /// Puts the volumes that are wanted into a plan. They stay as long as the hold, until the
    /// sandbox itself can be seen to have them.
    pub(super) fn mount_volumes(
        &self,
        caller: &Caller,
        wanted: Vec<WantedVolume>,
        plan: &mut Plan,
    ) -> Result<VolumeHold, SandboxError> {
        let targets: Vec<_> = wanted.iter().map(|it| it.target.as_str()).collect();
        plan::check_volume_targets(&plan.spec.mounts, &targets)?;
        if !wanted.is_empty() {
            self.volume_files()?;
        }
        let names: Vec<_> = wanted.iter().map(|it| it.volume.as_str()).collect();
        let (found, hold) = self.shared.volumes.hold(caller.owner(), &names)?;
        let mut mounts = Vec::with_capacity(wanted.len());
        for (volume, wanted) in found.into_iter().zip(wanted) {
            if volume.read_only && !wanted.read_only {
                let reason = format!("{} can be mounted read-only alone", volume.name);
                return Err(SandboxError::invalid("volumes", reason));
            }
            let WantedVolume { target, read_only, .. } = wanted;
            mounts.push(VolumeMount { volume: volume.id, target, read_only });
        }
        plan.spec.volumes = mounts;
        Ok(hold)
    }
}

/// Remembers the stored volumes, and takes away what there is of those that were being made or
/// removed.
pub(crate) async fn restore(shared: &Arc<Shared>, objects: &[Object]) {
    let of_volumes = objects.iter().filter(|it| it.kind == ObjectKind::Volume);
    let mut known = Vec::new();
    for object in of_volumes {
        match object_volume(object) {
            Some(volume) => known.push(volume),
            None => tracing::error!(volume.id = object.id, "a stored volume cannot be understood"),
        }
    }
    let Some(files) = shared.runtime.volumes() else {
        return shared.volumes.restore(known);
    };
    let there = files.list().await.unwrap_or_else(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "volumes cannot be listed");
        Vec::new()
    });
    let unfinished: Vec<_> =
        known.iter().filter(|it| it.status != Status::Ready).map(|it| it.id).collect();
    for volume in &known {
        if volume.status == Status::Ready && !there.contains(&volume.id) {
            tracing::error!(volume.id = %volume.id, "the files of a volume are gone");
        }
    }
    for id in there.iter().filter(|id| known.iter().all(|it| it.id != **id)) {
        // Perhaps the database was lost, or is an older copy: then these are all that is left.
        tracing::warn!(volume.id = %id, "there are files of a volume without a row");
    }
    shared.volumes.restore(known);
    for id in unfinished {
        sweep(shared, files.as_ref(), id).await;
    }
}

async fn make(
    shared: &Shared,
    files: &dyn VolumeFiles,
    making: &Volume,
    ready: &Volume,
    source: Option<(Arc<Volume>, VolumeHold)>,
) -> Result<(), SandboxError> {
    write(shared, making).await?;
    let made = match &source {
        None => files.create(&making.id, making.size_bytes).await,
        Some((from, _hold)) => files.copy(&from.id, &making.id, making.size_bytes).await,
    };
    made.map_err(SandboxError::runtime("make the volume"))?;
    write(shared, ready).await
}

/// Removes a volume's files, then its row. What cannot be removed now is at the next start.
async fn sweep(shared: &Shared, files: &dyn VolumeFiles, id: VolumeId) {
    if let Err(error) = files.remove(&id).await {
        let cause = &error as &dyn std::error::Error;
        tracing::warn!(volume.id = %id, error = cause, "a volume is not removed yet");
        return;
    }
    let remove = vec![(ObjectKind::Volume, id.to_string())];
    let change = ObjectChange { remove, durable: true, ..ObjectChange::default() };
    match shared.store.change_objects(change).await {
        Ok(()) => shared.volumes.forget(id),
        Err(error) => tracing::warn!(volume.id = %id, %error, "removed, its row is not yet"),
    }
}

async fn write(shared: &Shared, volume: &Volume) -> Result<(), SandboxError> {
    let put = vec![volume_object(volume)];
    let change = ObjectChange { put, durable: true, ..ObjectChange::default() };
    let written = shared.store.change_objects(change).await;
    written.map_err(SandboxError::store("write down the volume"))
}

/// How many sandboxes have a volume: those that live, and those that can be started again.
fn uses(shared: &Shared, id: VolumeId) -> usize {
    let all = shared.all();
    let sandboxes = all.iter().map(|handle| handle.sandbox());
    sandboxes
        .filter(|it| it.state.is_living() || it.kept)
        .filter(|it| it.spec.volumes.iter().any(|mount| mount.volume == id))
        .count()
}

/// The largest number of a user or a group inside: guests have 65,536 of them.
const MOST_ID: u32 = 65_535;

fn check_ownership(owned: Ownership) -> Result<(), SandboxError> {
    if owned.mode.is_some_and(|mode| mode > 0o7777) {
        return Err(SandboxError::invalid("mode", "expected permission bits, at most 0o7777"));
    }
    for (field, id) in [("uid", owned.uid), ("gid", owned.gid)] {
        if id.is_some_and(|id| id > MOST_ID) {
            return Err(SandboxError::invalid(field, format!("expected 0 to {MOST_ID}")));
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), SandboxError> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = name.bytes();
    let good = name.len() <= 63
        && bytes.next().is_some_and(letter)
        && bytes.all(|byte| letter(byte) || b".-".contains(&byte));
    if !good {
        return Err(SandboxError::invalid("name", "expected [A-Za-z0-9_][A-Za-z0-9_.-]{0,62}"));
    }
    if name.parse::<VolumeId>().is_ok() {
        return Err(SandboxError::invalid("name", "must not look like the id of a volume"));
    }
    Ok(())
}

fn check_size(size_bytes: Option<u64>, abilities: Abilities) -> Result<(), SandboxError> {
    match size_bytes {
        Some(_) if !abilities.limit => {
            Err(SandboxError::invalid("size_bytes", crate::spec::NO_DISK_LIMITS))
        }
        Some(size) if size < LEAST_BYTES => {
            Err(SandboxError::invalid("size_bytes", format!("expected {LEAST_BYTES} or more")))
        }
        _ => Ok(()),
    }
}

fn check_writable(volume: &Volume) -> Result<(), SandboxError> {
    if !volume.read_only {
        return Ok(());
    }
    let reason = "is a snapshot, which nobody writes to; a clone of it can be written".to_owned();
    Err(SandboxError::InUse { what: "volume", name: volume.name.clone(), reason })
}

/// Says what a failure of a file is to the caller.
fn refused(path: &str) -> impl FnOnce(io::Error) -> SandboxError {
    use GuestRefusal as R;
    move |error| {
        let (kind, said) = match error.kind() {
            io::ErrorKind::NotFound => (R::NotFound, "there is no such file or directory"),
            io::ErrorKind::AlreadyExists => (R::AlreadyExists, "it is there already"),
            io::ErrorKind::NotADirectory => (R::FailedPrecondition, "it is no directory"),
            io::ErrorKind::IsADirectory => (R::FailedPrecondition, "it is a directory"),
            io::ErrorKind::CrossesDevices => (R::PermissionDenied, "it leads out of the volume"),
            io::ErrorKind::InvalidInput => (R::InvalidArgument, "it is no file that can be used"),
            io::ErrorKind::InvalidFilename => (R::InvalidArgument, "it is too long"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (R::ResourceExhausted, "the volume is full")
            }
            io::ErrorKind::FileTooLarge => (R::ResourceExhausted, "there is too much of it"),
            _ => {
                tracing::warn!(%error, "a file of a volume");
                (R::Internal, "the storage failed")
            }
        };
        SandboxError::Guest { kind, message: format!("{path}: {said}") }
    }
}
