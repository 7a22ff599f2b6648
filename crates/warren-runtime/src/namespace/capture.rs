//! Saving what guests have written, and giving it up.
//!
//! ```text
//! <storage>/snapshots/.<id>/       being made; goes at the next start
//!   -- rename --> snapshots/<id>/  whole
//!                   disk/upper     the files, as overlayfs wants a layer
//!                   manifest       what they are, with checksums, once it is sealed
//! ```
//!
//! A guest is frozen while its files are copied, or shared on a storage that can. Whoever is in a
//! system call finishes it first, so nothing is copied up or written half. A mark in the guest's
//! entry says that the freeze is ours: should the server die in between, the next one thaws it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use warren_core::{
    id::{SandboxId, SnapshotId},
    runtime::{Captured, Haste, RuntimeError, Sealed},
};

use super::{
    blank,
    host::{Guest, Host, lock},
};
use warren_layer::merge;

use crate::{journal::Process, storage::copy::Origin};

/// The mark of a freeze that is over soon.
const FROZEN: &str = "frozen";

impl Host {
    /// Saves the files of a guest as those of `snapshot`.
    pub(super) fn capture(
        &self,
        id: &SandboxId,
        snapshot: &SnapshotId,
        previous: Option<&SnapshotId>,
        haste: Haste,
    ) -> Result<Captured, RuntimeError> {
        let begun = self.snapshots.begin(snapshot);
        let place = begun.map_err(RuntimeError::host("begin a snapshot"))?;
        let captured = self.capture_into(id, &place.join("disk"), previous, haste);
        let captured = captured.and_then(|(captured, origin)| {
            let finished = self.snapshots.finish(snapshot, Some(origin));
            finished.map_err(RuntimeError::host("finish the snapshot"))?;
            Ok(captured)
        });
        if captured.is_err() {
            match self.journal.discard(&place) {
                Ok(place) => self.remove_later(place),
                // The next start tries again.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "a half snapshot could not be removed");
                }
            }
        }
        captured
    }

    fn capture_into(
        &self,
        id: &SandboxId,
        place: &Path,
        previous: Option<&SnapshotId>,
        haste: Haste,
    ) -> Result<(Captured, Origin), RuntimeError> {
        let failed = || RuntimeError::host("copy the files of the sandbox");
        let guest = self.guest(id).ok();
        let disk = match &guest {
            Some(guest) => guest.entry.join("disk"),
            None if self.journal.is_shelved(id) => self.journal.shelf(id).join("disk"),
            None => return Err(RuntimeError::NotFound { id: *id }),
        };
        let living = guest.as_ref().filter(|guest| self.lives(guest));
        if living.is_some() && !self.cgroups.works() {
            let operation = "save the files of a sandbox that runs; stop it first";
            return Err(RuntimeError::Unsupported { operation });
        }
        let earlier = previous.and_then(|id| self.snapshots.earlier(id));
        // Everything that can be done while the guest runs.
        let copying = self.pool.begin_copy(&disk, place, earlier, haste);
        let copying = copying.map_err(failed())?;
        let still = living.map(|guest| Standstill::begin(self, guest)).transpose()?;
        let origin = copying.finish().map_err(failed())?;
        let frozen = still.map(Standstill::end).transpose()?.unwrap_or_default();
        Ok((Captured { frozen }, origin))
    }

    fn lives(&self, guest: &Guest) -> bool {
        lock(&guest.exit).is_none() && guest.process.is_some_and(Process::lives)
    }

    /// Puts the layers below a snapshot's into its own.
    pub(super) fn flatten(
        &self,
        snapshot: &SnapshotId,
        below: &[SnapshotId],
    ) -> Result<(), RuntimeError> {
        let layers = [snapshot].into_iter().chain(below).map(|id| self.snapshots.layer(id));
        let layers: Vec<_> = layers.collect();
        let merged = || -> io::Result<PathBuf> {
            let place = self.snapshots.begin(snapshot)?;
            let disk = place.join("disk");
            self.pool.create_saved(&disk)?;
            fs::remove_dir(disk.join("upper"))?;
            let options = merge::Options {
                marks: crate::rootless::marks(),
                // There is the image below.
                is_partial: true,
                ..merge::Options::default()
            };
            merge::merge(&layers, &disk.join("upper"), options).map_err(io::Error::other)?;
            // There is a whole snapshot at the place at any time.
            self.snapshots.exchange(snapshot)?;
            Ok(place)
        };
        let merged = merged().map_err(RuntimeError::host("merge the layers of the snapshot"));
        // The old one, or what there is of the new one.
        let rest = self.snapshots.half(snapshot);
        match self.journal.discard(&rest) {
            Ok(place) => self.remove_later(place),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "what was merged could not be removed");
            }
        }
        merged.map(drop)
    }

    /// Makes the files of a stopped guest those of `snapshot`, as they lie there.
    pub(super) fn convert(
        &self,
        id: &SandboxId,
        snapshot: &SnapshotId,
    ) -> Result<(), RuntimeError> {
        if !self.journal.is_shelved(id) {
            return Err(RuntimeError::NotFound { id: *id });
        }
        let moved = || -> io::Result<()> {
            let place = self.snapshots.begin(snapshot)?;
            fs::rename(self.journal.shelf(id).join("disk"), place.join("disk"))?;
            self.snapshots.finish(snapshot, None)
        };
        moved().map_err(RuntimeError::host("move the files of the sandbox"))?;
        self.clear_shelf(id)
    }

    /// Puts an empty layer in the place of a stopped guest's files.
    pub(super) fn reset(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        if !self.journal.is_shelved(id) {
            return Err(RuntimeError::NotFound { id: *id });
        }
        let shelf = self.journal.shelf(id);
        let swapped = || -> io::Result<PathBuf> {
            let (disk, new) = (shelf.join("disk"), shelf.join("new"));
            // What an earlier try left.
            self.pool.remove(&new)?;
            self.pool.create(&new)?;
            blank::write_identity(&new, self.resolver())?;
            // It stays the same machine.
            if let Some(machine_id) = super::again::machine_id(&disk) {
                fs::write(new.join("upper/etc/machine-id"), machine_id)?;
            }
            // There are whole files at the place at any time.
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            let here = rustix::fs::CWD;
            rustix::fs::renameat_with(here, &disk, here, &new, flags)?;
            Ok(new)
        };
        let old = swapped().map_err(RuntimeError::host("give up the files of the sandbox"))?;
        self.discard_disk(&old).map_err(RuntimeError::host("give up the files of the sandbox"))
    }

    /// Has a disk removed in the background that is in no entry.
    fn discard_disk(&self, disk: &Path) -> io::Result<()> {
        let entry = self.journal.trash_entry()?;
        fs::rename(disk, entry.join("disk"))?;
        self.remove_later(entry);
        Ok(())
    }

    /// Writes down what the files of a snapshot are, and has all of it on the disk.
    pub(super) fn seal(
        &self,
        snapshot: &SnapshotId,
        previous: Option<&SnapshotId>,
    ) -> Result<Sealed, RuntimeError> {
        let sealed = self.snapshots.seal(snapshot, previous);
        sealed.map_err(RuntimeError::host("write down what the snapshot holds"))
    }

    /// Has a snapshot's files removed.
    pub(super) fn remove_snapshot(&self, snapshot: &SnapshotId) -> Result<(), RuntimeError> {
        self.snapshots.forget(snapshot);
        match self.journal.discard(&self.snapshots.place(snapshot)) {
            Ok(place) => {
                self.remove_later(place);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(RuntimeError::host("remove the snapshot")(error)),
        }
    }

    /// Removes what an earlier server left that died while it saved files.
    pub(super) fn remove_halves(&self) -> io::Result<()> {
        for half in self.snapshots.halves()? {
            self.remove_later(self.journal.discard(&half)?);
        }
        Ok(())
    }

    /// Lets a guest go on that an earlier server froze to save its files.
    pub(super) fn thaw_captured(&self, guest: &Guest) {
        let mark = guest.entry.join(FROZEN);
        if !mark.exists() {
            return;
        }
        let thawed = self.cgroups.of(guest.slot).thaw().and_then(|()| fs::remove_file(mark));
        if let Err(error) = thawed {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "a sandbox stands still since its files were saved");
        }
    }
}

/// A guest that stands still until this ends.
struct Standstill<'a> {
    host: &'a Host,
    guest: &'a Guest,
    began: Instant,
    /// Whether it stood still before.
    paused: bool,
    over: bool,
}

impl<'a> Standstill<'a> {
    fn begin(host: &'a Host, guest: &'a Guest) -> Result<Self, RuntimeError> {
        let failed = RuntimeError::host("freeze the guest");
        let cgroup = host.cgroups.of(guest.slot);
        let paused = cgroup.is_frozen();
        if !paused {
            let mark = fs::write(guest.entry.join(FROZEN), "");
            mark.map_err(RuntimeError::host("mark the freeze"))?;
        }
        let still = Self { host, guest, began: Instant::now(), paused, over: false };
        if !paused {
            cgroup.freeze().map_err(failed)?;
        }
        Ok(still)
    }

    /// Lets it go on; for how long it stood still.
    fn end(mut self) -> Result<Duration, RuntimeError> {
        self.over = true;
        self.thaw()?;
        Ok(if self.paused { Duration::ZERO } else { self.began.elapsed() })
    }

    fn thaw(&self) -> Result<(), RuntimeError> {
        if self.paused {
            return Ok(());
        }
        let thawed = self.host.cgroups.of(self.guest.slot).thaw();
        thawed.map_err(RuntimeError::host("thaw the guest"))?;
        // One that stays is taken for ours and does no harm: the guest runs.
        fs::remove_file(self.guest.entry.join(FROZEN)).ok();
        Ok(())
    }
}

impl Drop for Standstill<'_> {
    fn drop(&mut self) {
        if !self.over
            && let Err(error) = self.thaw()
        {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "a sandbox stands still since its files were to be saved");
        }
    }
}
