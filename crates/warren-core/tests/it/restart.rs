use std::{collections::BTreeMap, time::Duration};

use warren_core::{
    events::EventKind,
    exec::{Command, Signal},
    id::SandboxId,
    runtime::{DeadlineAction, Exit, ExitReason, GuestState},
    sandbox::{EndReason, Wanted},
    state::State,
};

use crate::world::World;

fn kill_nobody(_: &warren_core::fake::FakeRuntime) {}

#[test]
fn what_lives_is_adopted_with_all_that_is_known_of_it() {
    let mut world = World::start();
    let wanted = Wanted {
        name: Some("mine".into()),
        labels: BTreeMap::from([("a".into(), "b".into())]),
        env: BTreeMap::from([("K".into(), "v".into())]),
        hostname: Some("box".into()),
        lifetime: Some(Duration::from_secs(600)),
        ..Wanted::default()
    };
    let before = world.create_as(wanted);
    let paused = world.create();
    world.run(world.sandboxes.pause(&world.caller, paused.id.as_str())).unwrap();
    world.restart(kill_nobody);
    assert_eq!(world.get(&before), before);
    assert_eq!(world.get(&paused).state, State::Paused);
    assert_eq!(world.sandboxes.living(), 2);
    let again = world.run(world.sandboxes.create(
        &world.caller,
        Wanted { name: Some("mine".into()), ..Wanted::default() },
        None,
    ));
    assert_eq!(again.unwrap_err().to_string(), "a sandbox named mine exists");
    world.run(world.sandboxes.resume(&world.caller, paused.id.as_str())).unwrap();
}

#[test]
fn a_server_that_was_killed_forgets_nothing_it_answered() {
    let mut world = World::start();
    let made: Vec<_> = (0..20).map(|_| world.create()).collect();
    world.crash(kill_nobody);
    for sandbox in made {
        assert_eq!(world.get(&sandbox).id, sandbox.id);
        assert_eq!(world.get(&sandbox).state, State::Running, "as it was answered");
    }
}

#[test]
fn one_that_ended_meanwhile_says_how() {
    let mut world = World::start();
    let sandbox = world.create();
    // Both are stored, so that the third is what the next server adds.
    assert_eq!(world.events(&sandbox, 2), [EventKind::Created, EventKind::Running]);
    world.crash(|runtime| {
        runtime.exit(&sandbox.id, Exit { reason: ExitReason::Deadline, oom_kills: 0 });
    });
    let ended = world.get(&sandbox);
    assert_eq!(ended.state, State::Stopped);
    assert_eq!(ended.end.as_ref().unwrap().reason, EndReason::Timeout);
    assert_eq!(world.runtime.guests(), [], "what is left of it is removed");
    let kinds = world.events(&sandbox, 3);
    assert_eq!(*kinds.last().unwrap(), EventKind::Stopped);
}

#[test]
fn one_whose_guest_is_gone_ended_with_its_host() {
    let mut world = World::start();
    let sandbox = world.create();
    let id = sandbox.id;
    world.crash(|runtime| runtime.lose(&id));
    let ended = world.get(&sandbox);
    assert_eq!(ended.end.as_ref().unwrap().reason, EndReason::Host);
    assert_eq!(world.sandboxes.living(), 0);
}

/// As when its server removed it at its deadline and died before it could write that down.
#[test]
fn one_whose_guest_is_gone_and_whose_lifetime_was_over_ended_with_that() {
    let mut world = World::start();
    let lifetime = Some(Duration::from_secs(60));
    let sandbox = world.create_as(Wanted { lifetime, ..Wanted::default() });
    let (id, clock) = (sandbox.id, std::sync::Arc::clone(&world.clock));
    world.crash(|runtime| {
        clock.advance(Duration::from_secs(61));
        runtime.lose(&id);
    });
    assert_eq!(world.get(&sandbox).end.as_ref().unwrap().reason, EndReason::Timeout);
}

#[test]
fn a_guest_that_is_nobodys_is_removed() {
    let mut world = World::start();
    let kept = world.create();
    world.crash(|runtime| {
        runtime.plant(SandboxId::mint(), GuestState::Running);
        runtime.plant(SandboxId::mint(), GuestState::Paused);
    });
    assert_eq!(world.runtime.guests(), [kept.id]);
}

#[test]
fn a_guest_that_its_keeper_froze_is_found_paused() {
    let mut world = World::start();
    let sandbox = world.create();
    world.crash(|runtime| runtime.freeze(&sandbox.id));
    let found = world.get(&sandbox);
    assert_eq!((found.state, found.expires_at), (State::Paused, None));
}

#[test]
fn a_deadline_that_passed_meanwhile_is_acted_on() {
    let mut world = World::start();
    let lifetime = Duration::from_secs(60);
    let sandbox = world.create_as(Wanted { lifetime: Some(lifetime), ..Wanted::default() });
    world.until("the runtime knows", |world| world.runtime.deadline(&sandbox.id).is_some());
    let deadline = world.runtime.deadline(&sandbox.id).unwrap();
    assert_eq!((deadline.after, deadline.action), (lifetime, DeadlineAction::Kill));
    world.restart(kill_nobody);
    world.clock.advance(Duration::from_secs(61));
    world.restart(kill_nobody);
    world.until("stopped", |world| world.get(&sandbox).state == State::Stopped);
    assert_eq!(world.get(&sandbox).end.as_ref().unwrap().reason, EndReason::Timeout);
}

#[test]
fn one_that_was_being_made_is_told_again_whose_it_is() {
    let mut world = World::start();
    let gate = world.runtime.close_gate();
    let wanted = Wanted { name: Some("half".into()), ..Wanted::default() };
    let caller = world.caller.clone();
    let id = world.run(async {
        let making = world.sandboxes.create(&caller, wanted, None);
        tokio::time::timeout(Duration::from_millis(50), making).await.unwrap_err();
        world.sandboxes.get(&caller, "half").unwrap().id
    });
    drop(gate);
    world.crash(|runtime| runtime.plant(id, GuestState::Running));
    world.until("running", |world| {
        world.sandboxes.get(&world.caller, "half").unwrap().state == State::Running
    });
    assert_eq!(world.runtime.agent(&id).unwrap().initialised().len(), 1);
}

#[test]
fn a_key_holds_across_a_restart() {
    let mut world = World::start();
    let create = |world: &World| {
        let made = world.sandboxes.create(&world.caller, Wanted::default(), Some("k"));
        world.run(made).unwrap().sandbox.id
    };
    let first = create(&world);
    world.crash(kill_nobody);
    assert_eq!(create(&world), first);
}

#[test]
fn a_deleted_one_stays_deleted() {
    let mut world = World::start();
    let sandbox = world.create();
    world.run(world.sandboxes.delete(&world.caller, sandbox.id.as_str())).unwrap();
    world.crash(kill_nobody);
    assert!(world.sandboxes.get(&world.caller, sandbox.id.as_str()).is_err());
}

#[test]
fn event_numbers_go_on_after_a_crash() {
    let mut world = World::start();
    let first = world.create();
    assert_eq!(world.events(&first, 2), [EventKind::Created, EventKind::Running]);
    world.crash(kill_nobody);
    world.create();
    let mut events = world.sandboxes.events(&world.caller, None, Some(0));
    let seqs = world.run(async {
        let mut seqs = Vec::new();
        while seqs.len() < 4 {
            seqs.push(events.next().await.unwrap().unwrap().seq);
        }
        seqs
    });
    assert_eq!(seqs, [1, 2, 3, 4]);
}

#[test]
fn an_old_want_of_memory_is_not_taken_for_a_new_one() {
    let mut world = World::start();
    let sandbox = world.create();
    world.runtime.count_oom_kill(&sandbox.id);
    world.restart(kill_nobody);
    let command = Command { argv: vec!["sleep".into()], ..Command::default() };
    let end = world.run(async {
        let id = sandbox.id.as_str();
        let mut exec = world.sandboxes.exec(&world.caller, id, &command).await.unwrap();
        exec.input().signal(Signal::KILL).await.unwrap();
        exec.outcome(0).await.unwrap().end
    });
    assert_eq!((end.signal, end.out_of_memory), (Some(9), None));
}
