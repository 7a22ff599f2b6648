//! Numbers for guests that no two servers of a host give out twice.
//!
//! A slot decides a guest's id range, address and interface name, so it must be unique on the
//! host and not only in one server. Slots are claimed in blocks: a block is a file in a registry
//! directory that all servers of the host share, which holds the run directory of its owner. A
//! block stays claimed while its owner's keeper lives, for its guests outlive the server.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Slots in one block.
const BLOCK: u32 = 64;
/// Blocks on one host: with 65,536 ids for each slot they fill the range that is set aside.
const BLOCKS: u32 = 63;

/// The slots of one server.
#[derive(Debug)]
pub(crate) struct Slots {
    registry: PathBuf,
    owner: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Our blocks, each with the open file whose lock says that we live.
    blocks: BTreeMap<u32, File>,
    free: BTreeSet<u32>,
}

impl Slots {
    /// Opens the registry and takes back the blocks that `run_dir` has claimed before. `used` are
    /// the slots that guests of an earlier server still have.
    pub(crate) fn open(registry: &Path, run_dir: &Path, used: &BTreeSet<u32>) -> io::Result<Self> {
        fs::create_dir_all(registry)?;
        let slots = Self {
            registry: registry.to_owned(),
            owner: run_dir.to_string_lossy().into_owned(),
            state: Mutex::default(),
        };
        let mut state = slots.lock();
        for block in 0..BLOCKS {
            let mine = fs::read_to_string(slots.path(block)).is_ok_and(|it| it == slots.owner);
            if mine || used.iter().any(|slot| slot / BLOCK == block) {
                slots.claim(&mut state, block)?;
            }
        }
        state.free.retain(|slot| !used.contains(slot));
        if state.blocks.is_empty() {
            slots.claim_another(&mut state)?;
        }
        drop(state);
        Ok(slots)
    }

    /// The number of this server's first block, unique among the servers that run now.
    pub(crate) fn index(&self) -> u32 {
        self.lock().blocks.keys().next().copied().unwrap_or_default()
    }

    /// A slot that nobody has; `None` when the host has no more.
    pub(crate) fn take(&self) -> io::Result<Option<u32>> {
        let mut state = self.lock();
        if state.free.is_empty() && !self.claim_another(&mut state)? {
            return Ok(None);
        }
        Ok(state.free.pop_first())
    }

    /// Gives a slot back once nothing on the host is named after it.
    pub(crate) fn give_back(&self, slot: u32) {
        self.lock().free.insert(slot);
    }

    /// Gives all blocks back; the server ends and has no guest.
    pub(crate) fn close(&self) {
        for block in std::mem::take(&mut self.lock().blocks).into_keys() {
            // One that stays is taken over as stale by the next who looks.
            drop(fs::remove_file(self.path(block)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, block: u32) -> PathBuf {
        self.registry.join(block.to_string())
    }

    fn claim_another(&self, state: &mut State) -> io::Result<bool> {
        for block in 0..BLOCKS {
            if !state.blocks.contains_key(&block) && self.claim(state, block)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Claims a block that is new, ours, or left by an owner of whom nothing lives.
    fn claim(&self, state: &mut State, block: u32) -> io::Result<bool> {
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(self.path(block))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(false),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        let mut owner = String::new();
        file.read_to_string(&mut owner)?;
        if owner != self.owner {
            if !owner.is_empty() && super::keeper::any_lives(Path::new(&owner)) {
                return Ok(false);
            }
            file.set_len(0)?;
            io::Seek::rewind(&mut file)?;
            file.write_all(self.owner.as_bytes())?;
        }
        state.free.extend(block * BLOCK..(block + 1) * BLOCK);
        state.blocks.insert(block, file);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_never_share_a_slot() {
        let registry = tempfile::tempdir().unwrap();
        let none = BTreeSet::new();
        let one = Slots::open(registry.path(), Path::new("/nowhere/one"), &none).unwrap();
        let two = Slots::open(registry.path(), Path::new("/nowhere/two"), &none).unwrap();
        assert_ne!(one.index(), two.index());
        let mut taken = BTreeSet::new();
        for _ in 0..100 {
            assert!(taken.insert(one.take().unwrap().unwrap()));
            assert!(taken.insert(two.take().unwrap().unwrap()));
        }
    }

    #[test]
    fn used_slots_are_not_given_again_after_a_restart() {
        let registry = tempfile::tempdir().unwrap();
        let owner = Path::new("/nowhere/owner");
        let first = Slots::open(registry.path(), owner, &BTreeSet::new()).unwrap();
        let slot = first.take().unwrap().unwrap();
        drop(first);
        let again = Slots::open(registry.path(), owner, &BTreeSet::from([slot])).unwrap();
        for _ in 1..BLOCK {
            assert_ne!(again.take().unwrap(), Some(slot));
        }
        again.give_back(slot);
        assert_eq!(again.take().unwrap(), Some(slot));
    }

    #[test]
    fn the_host_has_an_end() {
        let registry = tempfile::tempdir().unwrap();
        let slots = Slots::open(registry.path(), Path::new("/nowhere"), &BTreeSet::new()).unwrap();
        let count = std::iter::from_fn(|| slots.take().unwrap()).count();
        assert_eq!(count as u32, BLOCK * BLOCKS);
    }
}
