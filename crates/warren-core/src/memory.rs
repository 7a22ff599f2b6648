//! Memory of paused sandboxes goes back to the host when the host is short of it.
//!
//! Nothing is taken while there is enough: what is there is there at once when a sandbox goes on.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    id::SandboxId,
    runtime::{Room, RuntimeError},
    sandbox::Sandbox,
    shared::Shared,
    state::State,
};

/// How often the host is asked.
const EVERY: Duration = Duration::from_secs(2);

/// The host is short of memory when less than one part of so many is free.
const PARTS: u64 = 8;

/// One that is paused.
#[derive(Debug)]
struct Paused {
    /// As it was published: another publication is another pause, perhaps.
    sandbox: Arc<Sandbox>,
    /// When it was first seen so.
    since: Instant,
    /// Whether it has given back what it can. It does not run, so it gets nothing new.
    gave: bool,
}

/// Watches, until dropped.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut paused = HashMap::new();
    loop {
        ticks.tick().await;
        look(&shared, &mut paused);
        if paused.values().all(|it| it.gave) {
            continue;
        }
        match shared.runtime.memory_room().await {
            None => return,
            Some(room) if is_short(room) => give_back(&shared, &mut paused).await,
            Some(_) => {}
        }
    }
}

fn is_short(room: Room) -> bool {
    room.free_bytes < room.total_bytes / PARTS
}

/// Brings the list up to date.
fn look(shared: &Shared, paused: &mut HashMap<SandboxId, Paused>) {
    let now: HashMap<_, _> = shared
        .all()
        .iter()
        .map(|handle| handle.sandbox())
        .filter(|sandbox| sandbox.state == State::Paused)
        .map(|sandbox| (sandbox.id, sandbox))
        .collect();
    paused.retain(|id, it| now.get(id).is_some_and(|now| Arc::ptr_eq(now, &it.sandbox)));
    let since = Instant::now();
    for (id, sandbox) in now {
        paused.entry(id).or_insert(Paused { sandbox, since, gave: false });
    }
}

/// Takes back from one after the other, the longest paused first, until there is enough.
async fn give_back(shared: &Shared, paused: &mut HashMap<SandboxId, Paused>) {
    let mut order: Vec<_> = paused.values_mut().filter(|it| !it.gave).collect();
    order.sort_unstable_by_key(|it| (it.since, it.sandbox.created_at, it.sandbox.id));
    for it in order {
        it.gave = true;
        let id = it.sandbox.id;
        match shared.runtime.reclaim(&id).await {
            Ok(bytes) => {
                tracing::info!(sandbox.id = %id, bytes, "a paused sandbox gave memory back")
            }
            Err(RuntimeError::Unsupported { .. } | RuntimeError::NotFound { .. }) => {}
            Err(error) => tracing::warn!(sandbox.id = %id, %error, "memory is not taken back"),
        }
        if !shared.runtime.memory_room().await.is_some_and(is_short) {
            return;
        }
    }
}
