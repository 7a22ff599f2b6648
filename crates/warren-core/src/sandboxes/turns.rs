//! Turns: who may say what requests of a sandbox are given.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use tokio::sync::{Mutex, MutexGuard};

use crate::id::SandboxId;

/// Whose turn it is to say what requests of a sandbox are given. Some sandboxes share one, so that
/// nothing has to be made or forgotten with each.
#[derive(Debug)]
pub(crate) struct Turns([Mutex<()>; TURNS]);

/// The turn to say it.
pub(crate) type Turn<'a> = MutexGuard<'a, ()>;

const TURNS: usize = 64;

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Turns {
    /// Waits for the turn of a sandbox.
    pub(crate) async fn of(&self, id: SandboxId) -> Turn<'_> {
        let place = BuildHasherDefault::<DefaultHasher>::default().hash_one(id) % TURNS as u64;
        let [first, ..] = &self.0;
        let turn = usize::try_from(place).ok().and_then(|place| self.0.get(place));
        turn.unwrap_or(first).lock().await
    }
}
