//! Stopped and started again.

use std::time::Duration;

use warren_core::{
    SandboxError,
    config::Config,
    events::EventKind,
    fake::Failure,
    quota::Quota,
    runtime::{DeadlineAction, Exit, ExitReason, GuestState},
    sandbox::{EndReason, Sandbox, Wanted},
    sandboxes::Filter,
    state::State,
};

use crate::world::World;

fn named() -> Wanted {
    Wanted { name: Some("box".into()), ..Wanted::default() }
}

fn stop(world: &World, sandbox: &Sandbox) {
    world.run(world.sandboxes.stop(&world.caller, sandbox.id.as_str())).unwrap();
}

fn start(world: &World, id_or_name: &str) -> Result<State, SandboxError> {
    world.run(world.sandboxes.start(&world.caller, id_or_name)).map(|made| made.sandbox.state)
}

#[test]
fn a_stopped_sandbox_is_found_by_its_name_and_started() {
    let world = World::start();
    let sandbox = world.create_as(named());
    stop(&world, &sandbox);
    let stopped = world.get(&sandbox);
    assert_eq!((stopped.state, stopped.kept), (State::Stopped, true));
    assert_eq!(stopped.end.as_ref().unwrap().reason, EndReason::Stopped);
    assert_eq!(world.sandboxes.living(), 0);
    let listed = world.sandboxes.list(&world.caller, &Filter { limit: 9, ..Filter::default() });
    assert_eq!(listed.sandboxes.len(), 1);

    world.clock.advance(Duration::from_secs(5000));
    assert_eq!(start(&world, "box").unwrap(), State::Running);
    let started = world.get(&sandbox);
    assert_eq!((&started.end, started.kept), (&None, false));
    assert_eq!(started.expires_at, Some(started.created_at + Duration::from_secs(5000 + 3600)));
    assert_eq!(world.sandboxes.living(), 1);
    let kinds = world.events(&sandbox, 4);
    use EventKind as K;
    assert_eq!(kinds, [K::Created, K::Running, K::Stopped, K::Started]);
    // Its agent is a new one that was told whose it is.
    let agent = world.runtime.agent(&sandbox.id).unwrap();
    assert_eq!(agent.initialised().len(), 1);
}

#[test]
fn what_runs_cannot_be_started_and_what_is_stopped_cannot_be_stopped() {
    let world = World::start();
    let sandbox = world.create_as(named());
    let error = start(&world, "box").unwrap_err();
    assert_eq!(error.to_string(), "a sandbox that is running cannot be started");
    stop(&world, &sandbox);
    let error = world.run(world.sandboxes.stop(&world.caller, "box")).unwrap_err();
    assert_eq!(error.to_string(), "a sandbox that is stopped cannot be stopped");
}

#[test]
fn a_paused_sandbox_can_be_stopped() {
    let world = World::start();
    let sandbox = world.create();
    world.run(world.sandboxes.pause(&world.caller, sandbox.id.as_str())).unwrap();
    stop(&world, &sandbox);
    assert_eq!(start(&world, sandbox.id.as_str()).unwrap(), State::Running);
}

#[test]
fn a_start_that_fails_leaves_it_stopped_and_can_be_repeated() {
    let world = World::start();
    let sandbox = world.create();
    stop(&world, &sandbox);
    world.runtime.fail_next(Failure::Start);
    start(&world, sandbox.id.as_str()).unwrap_err();
    let after = world.get(&sandbox);
    assert_eq!((after.state, after.kept), (State::Stopped, true));
    assert_eq!(world.sandboxes.living(), 0);
    assert_eq!(start(&world, sandbox.id.as_str()).unwrap(), State::Running);
}

#[test]
fn a_stopped_sandbox_needs_a_place_to_be_started() {
    let quota = Quota { sandboxes: 1, memory_bytes: None };
    let world = World::with(Config { quota, ..Config::default() });
    let first = world.create();
    stop(&world, &first);
    let second = world.create();
    let error = start(&world, first.id.as_str()).unwrap_err();
    assert!(matches!(error, SandboxError::Limit { .. }), "{error}");
    world.run(world.sandboxes.delete(&world.caller, second.id.as_str())).unwrap();
    assert_eq!(start(&world, first.id.as_str()).unwrap(), State::Running);
}

#[test]
fn a_stopped_sandbox_is_removed_with_its_files_and_frees_its_name() {
    let world = World::start();
    let sandbox = world.create_as(named());
    stop(&world, &sandbox);
    world.run(world.sandboxes.delete(&world.caller, "box")).unwrap();
    assert!(world.runtime.guests().is_empty());
    let error = world.run(world.sandboxes.delete(&world.caller, "box")).unwrap_err();
    assert!(matches!(error, SandboxError::NotFound { .. }), "{error}");
    world.create_as(named());
}

#[test]
fn files_that_cannot_be_removed_stay_known() {
    let world = World::start();
    let sandbox = world.create();
    stop(&world, &sandbox);
    world.runtime.fail_next(Failure::Destroy);
    world.run(world.sandboxes.delete(&world.caller, sandbox.id.as_str())).unwrap_err();
    assert!(world.get(&sandbox).kept);
    world.run(world.sandboxes.delete(&world.caller, sandbox.id.as_str())).unwrap();
}

#[test]
fn a_guest_that_ends_by_itself_leaves_its_files() {
    let world = World::start();
    let sandbox = world.create();
    world.runtime.exit(&sandbox.id, Exit { reason: ExitReason::OutOfMemory, oom_kills: 1 });
    world.until("stopped", |world| world.get(&sandbox).state == State::Stopped);
    let stopped = world.get(&sandbox);
    assert_eq!(stopped.end.as_ref().unwrap().reason, EndReason::OutOfMemory);
    assert_eq!(start(&world, sandbox.id.as_str()).unwrap(), State::Running);
}

#[test]
fn a_deadline_stops_or_removes_as_was_asked() {
    let world = World::start();
    let wanted = |action| Wanted {
        lifetime: Some(Duration::from_millis(1)),
        on_deadline: Some(action),
        ..Wanted::default()
    };
    let stopped = world.create_as(wanted(DeadlineAction::Stop));
    let removed = world.create_as(wanted(DeadlineAction::Kill));
    world.clock.advance(Duration::from_secs(1));
    for sandbox in [&stopped, &removed] {
        world.until("ended", |world| world.get(sandbox).state == State::Stopped);
        assert_eq!(world.get(sandbox).end.as_ref().unwrap().reason, EndReason::Timeout);
    }
    assert!(world.get(&stopped).kept);
    assert_eq!(world.runtime.guests(), [stopped.id]);
    assert!(start(&world, removed.id.as_str()).is_err());
}

#[test]
fn a_sandbox_can_be_extended_from_now_on() {
    let world = World::start();
    let sandbox = world.create();
    let id = sandbox.id.as_str();
    world.clock.advance(Duration::from_secs(100));
    let extend = |seconds| {
        let length = Duration::from_secs(seconds);
        world.run(world.sandboxes.extend(&world.caller, id, length))
    };
    let expected = sandbox.created_at + Duration::from_secs(100 + 7);
    assert_eq!(extend(7).unwrap().expires_at, Some(expected));
    assert_eq!(world.runtime.deadline(&sandbox.id).unwrap().after, Duration::from_secs(7));
    assert_eq!(extend(0).unwrap().expires_at, None);
    assert_eq!(world.runtime.deadline(&sandbox.id), None);
    let error = extend(u64::MAX / 2).unwrap_err();
    assert!(matches!(error, SandboxError::Invalid { field: "lifetime_seconds", .. }), "{error}");
}

#[test]
fn after_the_host_was_started_again_everything_is_stopped_and_can_be_started() {
    let mut world = World::start();
    let running = world.create_as(named());
    let paused = world.create();
    let stopped = world.create();
    world.run(world.sandboxes.pause(&world.caller, paused.id.as_str())).unwrap();
    stop(&world, &stopped);
    world.restart(|runtime| [&running, &paused].iter().for_each(|it| runtime.reboot(&it.id)));
    for sandbox in [&running, &paused, &stopped] {
        let after = world.get(sandbox);
        assert_eq!((after.state, after.kept), (State::Stopped, true));
        assert_eq!(start(&world, sandbox.id.as_str()).unwrap(), State::Running);
    }
    assert_eq!(world.get(&running).name.as_deref(), Some("box"));
}

#[test]
fn a_stopped_sandbox_whose_files_are_gone_cannot_be_started() {
    let mut world = World::start();
    let sandbox = world.create();
    stop(&world, &sandbox);
    world.restart(|runtime| runtime.lose(&sandbox.id));
    let after = world.get(&sandbox);
    assert_eq!((after.state, after.kept), (State::Stopped, false));
    assert!(start(&world, sandbox.id.as_str()).is_err());
}

#[test]
fn a_start_that_the_server_did_not_live_to_note_is_finished() {
    let mut world = World::start();
    let sandbox = world.create();
    stop(&world, &sandbox);
    world.restart(|runtime| {
        runtime.lose(&sandbox.id);
        runtime.plant(sandbox.id, GuestState::Running);
    });
    let after = world.get(&sandbox);
    assert_eq!((after.state, after.kept, &after.end), (State::Running, false, &None));
    assert_eq!(world.runtime.agent(&sandbox.id).unwrap().initialised().len(), 1);
}

#[test]
fn files_that_no_row_knows_are_left_alone() {
    let mut world = World::start();
    let sandbox = world.create();
    stop(&world, &sandbox);
    world.run(world.sandboxes.shut_down());
    world.meddle("DELETE FROM sandboxes");
    world.crash(|_| {});
    assert_eq!(world.runtime.guests(), [sandbox.id]);
}
