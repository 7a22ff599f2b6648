use std::time::Duration;

use futures::future::join_all;
use warren_core::{
    Caller, SandboxError,
    access::ProjectQuota,
    caller::Owner,
    config::{Config, Retention},
    events::EventKind,
    fake::Failure,
    runtime::{DeadlineAction, Exit, ExitReason},
    sandbox::{EndReason, Wanted},
    sandboxes::Filter,
    state::State,
};

use crate::world::World;

#[test]
fn a_pause_stops_the_clock_and_a_resume_starts_it_anew() {
    let world = World::start();
    let lifetime = Some(Duration::from_secs(100));
    let sandbox = world.create_as(Wanted { lifetime, ..Wanted::default() });
    let id = sandbox.id.as_str();
    world.run(world.sandboxes.pause(&world.caller, id)).unwrap();
    world.until("no deadline", |world| world.runtime.deadline(&sandbox.id).is_none());
    world.clock.advance(Duration::from_secs(1000));
    let resumed = world.run(world.sandboxes.resume(&world.caller, id)).unwrap();
    let expected = sandbox.created_at + Duration::from_secs(1100);
    assert_eq!(resumed.expires_at, Some(expected));
}

#[test]
fn a_deadline_may_pause_instead() {
    let world = World::start();
    let sandbox = world.create_as(Wanted {
        lifetime: Some(Duration::from_millis(1)),
        on_deadline: Some(DeadlineAction::Pause),
        ..Wanted::default()
    });
    world.clock.advance(Duration::from_secs(1));
    world.until("paused", |world| world.get(&sandbox).state == State::Paused);
    assert_eq!(world.runtime.guests(), [sandbox.id]);
}

#[test]
fn what_cannot_be_paused_at_its_deadline_is_stopped() {
    let world = World::start();
    world.runtime.fail_next(Failure::Pause);
    let sandbox = world.create_as(Wanted {
        lifetime: Some(Duration::from_millis(1)),
        on_deadline: Some(DeadlineAction::Pause),
        ..Wanted::default()
    });
    world.clock.advance(Duration::from_secs(1));
    world.until("stopped", |world| world.get(&sandbox).state == State::Stopped);
    assert_eq!(world.get(&sandbox).end.as_ref().unwrap().reason, EndReason::Timeout);
}

#[test]
fn of_many_who_remove_one_a_single_one_succeeds() {
    let world = World::start();
    let sandbox = world.create();
    let results = world
        .run(join_all((0..8).map(|_| world.sandboxes.delete(&world.caller, sandbox.id.as_str()))));
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for error in results.into_iter().filter_map(Result::err) {
        assert!(matches!(error, SandboxError::NotFound { .. }), "{error}");
    }
    assert_eq!(world.runtime.counts(), (1, 1));
}

#[test]
fn a_removal_that_fails_can_be_asked_for_again() {
    let world = World::start();
    let sandbox = world.create();
    let id = sandbox.id.as_str();
    // Once for the removal, once for the clean-up behind it.
    world.runtime.fail_next(Failure::Destroy);
    world.runtime.fail_next(Failure::Destroy);
    world.run(world.sandboxes.delete(&world.caller, id)).unwrap_err();
    assert_eq!(world.get(&sandbox).state, State::Failed);
    assert_eq!(world.runtime.guests(), [sandbox.id]);
    world.run(world.sandboxes.delete(&world.caller, id)).unwrap();
    assert_eq!(world.runtime.guests(), []);
}

#[test]
fn a_removal_waits_for_a_create_under_way() {
    let world = World::start();
    let gate = world.runtime.close_gate();
    let wanted = Wanted { name: Some("a".into()), ..Wanted::default() };
    let (made, removed) = world.run(async {
        futures::join!(world.sandboxes.create(&world.caller, wanted, None), async {
            while world.sandboxes.get(&world.caller, "a").is_err() {
                tokio::task::yield_now().await;
            }
            let removed = world.sandboxes.delete(&world.caller, "a");
            let opened = async { gate.notify_one() };
            futures::join!(removed, opened).0
        })
    });
    made.unwrap();
    removed.unwrap();
    assert_eq!(world.runtime.guests(), []);
}

#[test]
fn an_exit_is_told_with_its_cause() {
    let world = World::start();
    let sandbox = world.create();
    world.runtime.exit(&sandbox.id, Exit { reason: ExitReason::Status(3), oom_kills: 0 });
    world.until("stopped", |world| world.get(&sandbox).state == State::Stopped);
    let ended = world.get(&sandbox);
    let end = ended.end.as_ref().unwrap();
    assert_eq!((end.reason, end.exit_code), (EndReason::Exit, Some(3)));
    assert_eq!(
        world.events(&sandbox, 3),
        [EventKind::Created, EventKind::Running, EventKind::Stopped]
    );
    assert_eq!(world.sandboxes.living(), 0);
}

#[test]
fn owners_do_not_see_each_others_names() {
    let world = World::start();
    world.project("other", ProjectQuota::default());
    let other = Caller::remote(Owner::new("other"));
    let named = || Wanted { name: Some("same".into()), ..Wanted::default() };
    let mine = world.create_as(named());
    let theirs = world.run(world.sandboxes.create(&other, named(), None)).unwrap().sandbox;
    assert_ne!(mine.id, theirs.id);
    assert_eq!(world.sandboxes.get(&other, "same").unwrap().id, theirs.id);
    assert!(world.sandboxes.get(&other, mine.id.as_str()).is_err());
}

#[test]
fn ended_ones_are_forgotten_after_their_time() {
    let retention = Retention { ended: Duration::from_secs(60), ..Retention::default() };
    let mut world = World::with(Config { retention, ..Config::default() });
    world.runtime.change_capabilities(|it| it.stop = false);
    let sandbox = world.create();
    world.runtime.exit(&sandbox.id, Exit { reason: ExitReason::Status(0), oom_kills: 0 });
    world.until("stopped", |world| world.get(&sandbox).state == State::Stopped);
    world.restart(|_| {});
    let all = Filter { states: vec![State::Stopped], limit: 10, ..Filter::default() };
    assert_eq!(world.sandboxes.list(&world.caller, &all).sandboxes.len(), 1);
    world.clock.advance(Duration::from_secs(61));
    world.restart(|_| {});
    world
        .until("forgotten", |world| world.sandboxes.list(&world.caller, &all).sandboxes.is_empty());
}

#[test]
fn a_database_that_takes_nothing_stops_creates_and_no_removal() {
    let mut world = World::start();
    let kept = world.create();
    let removed = world.create();
    world.events(&removed, 2);
    // As on a full disk: every transaction fails.
    world.meddle("ALTER TABLE events RENAME TO elsewhere");
    let refused = world.run(world.sandboxes.create(&world.caller, Wanted::default(), None));
    assert!(matches!(refused, Err(SandboxError::Store { .. })), "{refused:?}");
    world.run(world.sandboxes.delete(&world.caller, removed.id.as_str())).unwrap();
    assert_eq!(world.runtime.guests(), [kept.id], "nothing is left of either");
    assert!(world.sandboxes.get(&world.caller, removed.id.as_str()).is_err());

    // What could not be written is written when it can be.
    world.meddle("ALTER TABLE elsewhere RENAME TO events");
    world.create();
    world.crash(|_| {});
    assert!(world.sandboxes.get(&world.caller, removed.id.as_str()).is_err());
    assert_eq!(
        world.events(&removed, 4).last(),
        Some(&EventKind::Deleted),
        "the removal is told, later"
    );
}
