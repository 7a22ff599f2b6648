//! Who changes an agent, so that two commands do not at once.

use std::{
    fs::{File, TryLockError},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::fs::{AtFlags, OFlags};

use super::{FILE, Home, HomeError, STATE};
use crate::AgentName;

/// The lock that every write takes for as long as it lasts.
const TURN: &str = "state/.lock";

/// The right to make, change and remove an agent, until it is dropped or the process ends.
///
/// It is a lock of the kernel on a file in `state/`: kill -9 gives it up, and leaves an empty file
/// that the next claim takes over.
#[derive(Debug)]
pub struct Claim {
    name: AgentName,
    above: OwnedFd,
    file: String,
    /// Holds the lock.
    _lock: File,
}

impl Claim {
    /// Whose it is.
    pub fn name(&self) -> &AgentName {
        &self.name
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While it is locked: whoever opened it meanwhile sees that it is no longer there.
        let gone = rustix::fs::unlinkat(&self.above, self.file.as_str(), AtFlags::empty());
        gone.unwrap_or_default();
    }
}

impl Home {
    /// Claims an agent, whether it is there or not.
    ///
    /// # Errors
    ///
    /// [`HomeError::Claimed`] where another command has it.
    pub fn claim(&self, name: &AgentName) -> Result<Claim, HomeError> {
        // A leading dot is in no name of an agent.
        let file = format!(".{name}.claim");
        let relative = Path::new(STATE).join(&file);
        loop {
            let lock = self.lock_file(&relative)?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(HomeError::Claimed(name.clone())),
                Err(TryLockError::Error(source)) => {
                    return Err(self.failed("lock", &relative)(source));
                }
            }
            let (above, _) = self.parent(&relative)?;
            if is_at(&lock, &above, &file) {
                return Ok(Claim { name: name.clone(), above, file, _lock: lock });
            }
        }
    }

    /// Waits until no other process writes.
    pub(super) fn turn(&self) -> Result<File, HomeError> {
        let file = self.lock_file(Path::new(TURN))?;
        file.lock().map_err(self.failed("lock", Path::new(TURN)))?;
        Ok(file)
    }

    fn lock_file(&self, relative: &Path) -> Result<File, HomeError> {
        Ok(self.open_at(relative, OFlags::RDWR | OFlags::CREATE, FILE)?.into())
    }
}

/// Whether an open file is what has that name; another command may have removed it.
fn is_at(file: &File, above: &OwnedFd, name: &str) -> bool {
    let there = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW);
    let here = rustix::fs::fstat(file);
    matches!((here, there), (Ok(here), Ok(there))
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino))
}
