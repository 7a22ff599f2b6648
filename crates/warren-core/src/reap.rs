//! What has outlived its use: connections that idle, sandboxes that ended long ago, old events
//! and keys. Lifetimes are not here: each driver has its own timer.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Timestamp,
    config::Retention,
    sandbox::{
        Sandbox,
        handle::{Command, Handle},
    },
    shared::Shared,
    store::Prune,
};

/// How often.
const EVERY: Duration = Duration::from_secs(60);

/// Every how many times old files of builds are looked for.
const HOURLY: u32 = 60;

/// For how long files of builds are kept that nobody asks for.
const FILES: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reaps, until dropped.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for tick in 0_u32.. {
        ticks.tick().await;
        reap(&shared);
        if tick % HOURLY == 0 {
            forget_files(&shared).await;
        }
    }
}

/// Reaps once.
pub(crate) fn reap(shared: &Shared) {
    let now = shared.clock.now();
    let retention = shared.config.retention;
    let handles = shared.all();
    for handle in &handles {
        handle.guest().close_idle();
        let unsaved =
            || shared.git.get(handle.id()).is_some_and(|it| it.settings.push && !it.is_saved());
        if stopped_too_long(&handle.sandbox(), now, &retention) && !unsaved() {
            shared.store.tasks().spawn(remove(Arc::clone(handle)));
        }
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

/// Removes files that no build has asked for since long ago.
async fn forget_files(shared: &Shared) {
    let Some(files) = shared.runtime.build_files() else { return };
    if let Err(error) = files.prune(FILES).await {
        let cause = &error as &dyn std::error::Error;
        tracing::warn!(error = cause, "old files of builds are not removed: {error}");
    }
}

fn stopped_too_long(sandbox: &Sandbox, now: Timestamp, retention: &Retention) -> bool {
    let stopped = sandbox.end.as_ref().filter(|_| sandbox.kept);
    stopped.zip(retention.stopped).is_some_and(|(end, longest)| now.since(end.at) > longest)
}

async fn remove(handle: Arc<Handle>) {
    match handle.ask(Command::Delete).await {
        Ok(()) => tracing::info!(sandbox.id = %handle.id(), "stopped for too long and removed"),
        Err(error) => tracing::warn!(sandbox.id = %handle.id(), %error, "not removed"),
    }
}

/// Those that ended too long ago, or before too many others.
fn expired(
    sandboxes: Vec<Arc<Sandbox>>,
    now: Timestamp,
    retention: &Retention,
) -> Vec<Arc<Sandbox>> {
    let mut ended: Vec<_> = sandboxes
        .into_iter()
        .filter(|sandbox| !sandbox.state.is_living() && !sandbox.kept)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        caller::Owner,
        config::Defaults,
        id::SandboxId,
        runtime::DeadlineAction,
        sandbox::{End, Lifetime, Setup},
        state::State,
    };

    fn sandbox(ended_at: Option<u64>) -> Arc<Sandbox> {
        let state = if ended_at.is_some() { State::Stopped } else { State::Running };
        Arc::new(Sandbox {
            id: SandboxId::mint(),
            owner: Owner::new("local"),
            name: None,
            state,
            spec: Defaults::default().spec(),
            labels: Default::default(),
            setup: Setup {
                env: Default::default(),
                image_env: Default::default(),
                user: "user".into(),
                workdir: "/".into(),
            },
            lifetime: Lifetime { length: None, action: DeadlineAction::Kill },
            created_at: Timestamp::default(),
            expires_at: None,
            end: ended_at.map(|at| End::host(Timestamp::from_millis(at), "gone")),
            runtime: "fake".into(),
            warm: false,
            kept: false,
            history: Default::default(),
            program: Default::default(),
            exposure: Default::default(),
        })
    }

    #[test]
    fn only_what_was_stopped_too_long_ago_goes() {
        let check = |kept, ended_at, stopped: Option<u64>, expected| {
            let sandbox = Sandbox { kept, ..(*sandbox(ended_at)).clone() };
            let stopped = stopped.map(Duration::from_secs);
            let retention = Retention { stopped, ..Retention::default() };
            let now = Timestamp::from_millis(100_000);
            assert_eq!(stopped_too_long(&sandbox, now, &retention), expected);
        };
        check(true, Some(0), Some(99), true);
        check(true, Some(2_000), Some(99), false);
        check(true, Some(0), None, false);
        check(false, Some(0), Some(99), false);
        check(true, None, Some(99), false);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_their_time_is_over() {
        let all = [Some(1), Some(50_000), Some(60_000), Some(70_000), None].map(sandbox);
        let now = Timestamp::from_millis(100_000);
        let ids = |count, length| {
            let ended = Duration::from_secs(length);
            let retention = Retention { ended, ended_count: count, ..Retention::default() };
            let gone = expired(all.to_vec(), now, &retention);
            gone.iter().map(|sandbox| sandbox.id).collect::<Vec<_>>()
        };
        let [oldest, old, .., living] = all.each_ref().map(|sandbox| sandbox.id);
        assert_eq!(ids(9, 60), [oldest]);
        assert_eq!(ids(2, 999), [old, oldest]);
        assert!(!ids(0, 0).contains(&living));
    }
}
