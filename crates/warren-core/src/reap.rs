//! What has outlived its use: connections that idle, sandboxes that ended long ago, old events
//! and keys. Lifetimes are not here: each driver has its own timer.

use std::{sync::Arc, time::Duration};

use crate::{clock::Timestamp, config::Retention, sandbox::Sandbox, shared::Shared, store::Prune};

/// How often.
const EVERY: Duration = Duration::from_secs(60);

/// Reaps, until dropped.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        reap(&shared);
    }
}

/// Reaps once.
pub(crate) fn reap(shared: &Shared) {
    let now = shared.clock.now();
    let retention = shared.config.retention;
    let handles = shared.all();
    for handle in &handles {
        handle.guest().close_idle();
    }
    let ended = handles.iter().map(|handle| handle.sandbox()).collect();
    for sandbox in expired(ended, now, &retention) {
        shared.unregister(sandbox.id);
        shared.store.forget(sandbox.id, Vec::new());
    }
    shared.retain_keys(|key| now.since(key.created_at) <= retention.keys);
    let keys_before = Timestamp::from_millis(
        now.as_millis()
            .saturating_sub(u64::try_from(retention.keys.as_millis()).unwrap_or(u64::MAX)),
    );
    shared.store.prune(Prune { events: retention.events, keys_before });
}

/// Those that ended too long ago, or before too many others.
fn expired(
    sandboxes: Vec<Arc<Sandbox>>,
    now: Timestamp,
    retention: &Retention,
) -> Vec<Arc<Sandbox>> {
    let mut ended: Vec<_> = sandboxes
        .into_iter()
        .filter(|sandbox| !sandbox.state.is_living())
        .map(|sandbox| (sandbox.end.as_ref().map_or(sandbox.created_at, |end| end.at), sandbox))
        .collect();
    ended.sort_unstable_by_key(|(at, sandbox)| std::cmp::Reverse((*at, sandbox.id)));
    let too_old = |at: Timestamp| now.since(at) > retention.ended;
    ended
        .into_iter()
        .enumerate()
        .filter(|(place, (at, _))| *place >= retention.ended_count || too_old(*at))
        .map(|(_, (_, sandbox))| sandbox)
        .collect()
}
