//! Snapshots, forks, and going back.

use std::{collections::BTreeMap, sync::Arc};

use warren_core::{
    Caller, SandboxError,
    caller::Owner,
    events::EventKind,
    fake::Failure,
    id::{SandboxId, SnapshotId},
    runtime::{Exit, ExitReason},
    sandbox::{Sandbox, Wanted},
    sandboxes::{Forked, WantedFork, WantedSnapshot},
    snapshots::Snapshot,
    state::State,
};

use crate::world::World;

fn snapshot(world: &World, of: &Sandbox, name: &str) -> Result<Arc<Snapshot>, SandboxError> {
    let wanted = WantedSnapshot { name: Some(name.to_owned()), ..WantedSnapshot::default() };
    let made = world.run(world.sandboxes.snapshot(&world.caller, of.id.as_str(), wanted));
    made.map(|(snapshot, _)| snapshot)
}

fn fork(world: &World, of: &Sandbox, count: u32) -> Result<Forked, SandboxError> {
    let wanted = WantedFork { count, ..WantedFork::default() };
    world.run(world.sandboxes.fork(&world.caller, of.id.as_str(), wanted))
}

fn write(world: &World, id: SandboxId, text: &'static str) {
    world.runtime.agent(&id).unwrap().put("/work/file", text);
}

fn read(world: &World, id: SandboxId) -> String {
    let file = world.runtime.agent(&id).unwrap().file("/work/file");
    String::from_utf8(file.unwrap_or_default().to_vec()).unwrap()
}

fn on_host(world: &World) -> Vec<SnapshotId> {
    world.runtime.saved()
}

fn from_snapshot(name: &str) -> Wanted {
    Wanted { snapshot: Some(name.to_owned()), ..Wanted::default() }
}

#[test]
fn a_sandbox_is_made_from_what_another_one_was() {
    let world = World::start();
    let env = BTreeMap::from([("TOKEN".to_owned(), "secret".to_owned())]);
    let first = world.create_as(Wanted {
        env,
        user: Some("root".into()),
        memory_bytes: Some(1 << 28),
        ..Wanted::default()
    });
    write(&world, first.id, "one");
    let saved = snapshot(&world, &first, "base").unwrap();
    write(&world, first.id, "two");
    assert_eq!((saved.parent, saved.sandbox, saved.files), (None, Some(first.id), 1));

    let second = world.create_as(from_snapshot("base"));
    assert_eq!(read(&world, second.id), "one");
    assert_eq!(second.spec.image.layers(), [saved.id]);
    assert_eq!((second.setup.user.as_str(), second.spec.limits.memory_bytes), ("root", 1 << 28));
    assert_eq!(second.setup.env, BTreeMap::new(), "what the first was given is not inherited");

    // The tree: what is made of the second comes after what it was made from.
    let next = snapshot(&world, &second, "next").unwrap();
    assert_eq!(next.parent, Some(saved.id));
    assert_eq!(next.stack.layers, [next.id, saved.id]);
    let again = snapshot(&world, &first, "again").unwrap();
    assert_eq!((again.parent, &again.stack.layers), (Some(saved.id), &vec![again.id]));
    let kinds = world.events(&first, 4);
    assert_eq!(kinds[2..], [EventKind::Snapshotted, EventKind::Snapshotted]);
}

#[test]
fn names_are_checked_and_unique() {
    let world = World::start();
    let sandbox = world.create();
    for bad in ["", "Big", "sn-aaaaaaaaaaaaaaaa", "a b"] {
        let error = snapshot(&world, &sandbox, bad).unwrap_err();
        assert!(matches!(error, SandboxError::Invalid { field: "name", .. }), "{bad}: {error}");
    }
    let first = snapshot(&world, &sandbox, "one").unwrap();
    let error = snapshot(&world, &sandbox, "one").unwrap_err();
    assert_eq!(error.to_string(), "a snapshot named one exists");
    assert_eq!(on_host(&world), [first.id]);
    let tags = Some(["x".to_owned()].into());
    let renamed =
        world.run(world.sandboxes.change_snapshot(&world.caller, "one", Some("two".into()), tags));
    assert_eq!(renamed.unwrap().name.as_deref(), Some("two"));
    snapshot(&world, &sandbox, "one").unwrap();
    assert_eq!(world.sandboxes.snapshots(&world.caller, None, Some("x")).len(), 1);
    assert_eq!(world.sandboxes.snapshots(&world.caller, Some(sandbox.id), None).len(), 2);
    let error = world.run(world.sandboxes.create(&world.caller, from_snapshot("gone"), None));
    assert_eq!(error.unwrap_err().to_string(), "there is no snapshot gone");
}

#[test]
fn what_fails_leaves_nothing_and_frees_the_name() {
    let world = World::start();
    let sandbox = world.create();
    for failure in [Failure::Capture, Failure::Seal] {
        world.runtime.fail_next(failure);
        snapshot(&world, &sandbox, "base").unwrap_err();
        assert!(world.sandboxes.snapshots(&world.caller, None, None).is_empty());
        assert!(on_host(&world).is_empty());
    }
    snapshot(&world, &sandbox, "base").unwrap();
}

#[test]
fn forks_are_independent_and_keep_nothing_alive_when_they_go() {
    let world = World::start();
    let parent = world.create_as(Wanted {
        name: Some("parent".into()),
        env: BTreeMap::from([("TOKEN".to_owned(), "secret".to_owned())]),
        ..Wanted::default()
    });
    write(&world, parent.id, "live");
    let wanted = WantedFork {
        count: 3,
        name: Some("child".into()),
        env: BTreeMap::from([("N".to_owned(), "1".to_owned())]),
        ..WantedFork::default()
    };
    let forked = world.run(world.sandboxes.fork(&world.caller, "parent", wanted)).unwrap();
    let children: Vec<_> = forked.made.into_iter().map(|made| made.sandbox).collect();
    let names: Vec<_> = children.iter().map(|it| it.name.clone().unwrap()).collect();
    assert_eq!(names, ["child-1", "child-2", "child-3"]);
    write(&world, children[0].id, "changed");
    assert_eq!(read(&world, children[1].id), "live");
    assert_eq!(read(&world, parent.id), "live");
    for child in &children {
        assert_eq!(child.history.parent, Some(parent.id));
        assert_eq!(child.setup.env.keys().collect::<Vec<_>>(), ["N"]);
    }
    assert!(world.sandboxes.snapshots(&world.caller, None, None).is_empty());
    assert_eq!(on_host(&world).len(), 1);
    for child in &children {
        assert_eq!(on_host(&world).len(), 1);
        world.run(world.sandboxes.delete(&world.caller, child.id.as_str())).unwrap();
    }
    world.until("the layer goes with the last fork", |world| on_host(world).is_empty());
}

#[test]
fn all_forks_are_made_or_none() {
    let world = World::start();
    let parent = world.create();
    world.runtime.fail_next(Failure::Create);
    fork(&world, &parent, 4).unwrap_err();
    assert_eq!(world.runtime.guests(), [parent.id]);
    world.until("the layer goes", |world| on_host(world).is_empty());
    for bad in [0, 1001] {
        let error = fork(&world, &parent, bad).unwrap_err();
        assert!(matches!(error, SandboxError::Invalid { field: "count", .. }), "{error}");
    }
}

#[test]
fn a_removed_snapshot_stays_for_those_that_need_it() {
    let world = World::start();
    let first = world.create();
    let root = snapshot(&world, &first, "root").unwrap();
    let second = world.create_as(from_snapshot("root"));
    let leaf = snapshot(&world, &second, "leaf").unwrap();
    world.run(world.sandboxes.delete_snapshot(&world.caller, "root")).unwrap();
    let error = world.sandboxes.get_snapshot(&world.caller, root.id.as_str()).unwrap_err();
    assert!(matches!(error, SandboxError::NoSuch { what: "snapshot", .. }), "{error}");
    // The name is free, the tree is whole, and the files are there.
    let leaf = world.sandboxes.get_snapshot(&world.caller, leaf.id.as_str()).unwrap();
    assert_eq!(leaf.parent, None);
    assert_eq!(on_host(&world).len(), 2);
    world.run(world.sandboxes.delete(&world.caller, second.id.as_str())).unwrap();
    assert_eq!(on_host(&world).len(), 2, "the leaf lies on it");
    world.run(world.sandboxes.delete_snapshot(&world.caller, "leaf")).unwrap();
    world.until("both go", |world| on_host(world).is_empty());
}

#[test]
fn a_sandbox_goes_back_and_forth() {
    let world = World::start();
    let sandbox = world.create_as(Wanted { name: Some("box".into()), ..Wanted::default() });
    write(&world, sandbox.id, "one");
    let one = snapshot(&world, &sandbox, "one").unwrap();
    write(&world, sandbox.id, "two");
    let back = world.run(world.sandboxes.roll_back(&world.caller, "box", "one")).unwrap();
    assert_eq!((back.sandbox.id, back.sandbox.state), (sandbox.id, State::Running));
    assert_eq!(read(&world, sandbox.id), "one");
    assert_eq!(back.sandbox.history.snapshot, Some(one.id));
    // A stopped one as well, and its files survive another stop.
    world.run(world.sandboxes.stop(&world.caller, "box")).unwrap();
    world.run(world.sandboxes.roll_back(&world.caller, "box", "one")).unwrap();
    assert_eq!(read(&world, sandbox.id), "one");
    let kinds = world.events(&sandbox, 6);
    assert!(kinds.contains(&EventKind::RolledBack), "{kinds:?}");
    world.runtime.fail_next(Failure::Reset);
    world.run(world.sandboxes.roll_back(&world.caller, "box", "one")).unwrap_err();
    assert_eq!(world.get(&sandbox).state, State::Stopped);
    world.run(world.sandboxes.start(&world.caller, "box")).unwrap();
}

#[test]
fn the_best_of_some_forks_is_kept() {
    let world = World::start();
    let parent = world.create();
    write(&world, parent.id, "before");
    let forks = fork(&world, &parent, 2).unwrap();
    let best = &forks.made[1].sandbox;
    write(&world, best.id, "best");
    let kept = world.run(world.sandboxes.keep(&world.caller, best.id.as_str())).unwrap();
    assert_eq!(kept.sandbox.id, parent.id);
    assert_eq!(read(&world, parent.id), "best");
    assert_eq!(world.get(best).state, State::Running);
    let error = world.run(world.sandboxes.keep(&world.caller, parent.id.as_str())).unwrap_err();
    assert!(error.to_string().contains("not a fork"), "{error}");
}

#[test]
fn a_server_that_dies_in_between_leaves_all_or_nothing() {
    let mut world = World::start();
    let sandbox = world.create();
    write(&world, sandbox.id, "one");
    let whole = snapshot(&world, &sandbox, "whole").unwrap();
    let half = snapshot(&world, &sandbox, "half").unwrap();
    // As it would be after its files were saved and before it was announced.
    world.meddle(
        "UPDATE objects SET record = json_set(record, '$.status', 'making')
         WHERE record ->> 'name' = 'half'",
    );
    world.crash(|_| {});
    let found = world.sandboxes.snapshots(&world.caller, None, None);
    assert_eq!(found.iter().map(|it| it.id).collect::<Vec<_>>(), [whole.id]);
    assert_eq!(found[0], whole);
    world.until("the half one goes", |world| on_host(world) == [whole.id]);
    assert_ne!(half.id, whole.id);
    snapshot(&world, &sandbox, "half").unwrap();
    assert_eq!(read(&world, world.create_as(from_snapshot("whole")).id), "one");
}

#[test]
fn a_server_that_dies_while_a_sandbox_goes_back_finishes_it() {
    let mut world = World::start();
    let sandbox = world.create();
    write(&world, sandbox.id, "one");
    let saved = snapshot(&world, &sandbox, "one").unwrap();
    write(&world, sandbox.id, "two");
    world.run(world.sandboxes.stop(&world.caller, sandbox.id.as_str())).unwrap();
    world.until("stored", |world| !world.get(&sandbox).state.is_living());
    world.restart(|_| {});
    world.meddle(
        "UPDATE sandboxes SET record = json_set(record, '$.going_back',
         (SELECT record -> 'stack' FROM objects))",
    );
    world.crash(|_| {});
    let after = world.get(&sandbox);
    assert_eq!((after.state, after.kept), (State::Stopped, true));
    assert_eq!(after.spec.image.layers(), [saved.id]);
    world.run(world.sandboxes.start(&world.caller, sandbox.id.as_str())).unwrap();
    assert_eq!(read(&world, sandbox.id), "one");
}

#[test]
fn somebody_elses_snapshot_is_not_found() {
    let world = World::start();
    world.project("other", Default::default());
    let sandbox = world.create();
    let saved = snapshot(&world, &sandbox, "mine").unwrap();
    let other = Caller::remote(Owner::new("other"));
    for name in ["mine", saved.id.as_str()] {
        let error = world.sandboxes.get_snapshot(&other, name).unwrap_err();
        assert!(matches!(error, SandboxError::NoSuch { .. }), "{error}");
        let made = world.run(world.sandboxes.create(&other, from_snapshot(name), None));
        assert!(matches!(made.unwrap_err(), SandboxError::NoSuch { .. }));
    }
    assert!(world.sandboxes.snapshots(&other, None, None).is_empty());
}

#[test]
fn a_stack_does_not_grow_without_end() {
    let world = World::start();
    let mut last = world.create();
    for depth in 1..=70 {
        let forked = fork(&world, &last, 1).unwrap();
        let next = Arc::clone(&forked.made[0].sandbox);
        let layers = next.spec.image.layers().len();
        assert_eq!(layers, if depth <= 64 { depth } else { depth - 64 });
        world.run(world.sandboxes.delete(&world.caller, last.id.as_str())).unwrap();
        last = next;
    }
    world.until("what was merged is gone", |world| on_host(world).len() == 6);
}

#[test]
fn sandboxes_and_snapshots_are_compared() {
    use warren_core::{compare::Comparison, fake::Failure};
    let world = World::start();
    let sandbox = world.create();
    let saved = snapshot(&world, &sandbox, "base").unwrap();
    let other = world.create_as(Wanted { name: Some("other".into()), ..from_snapshot("base") });
    let compare = |before: Option<&str>, after: &str| -> Result<String, SandboxError> {
        let options = Comparison::default();
        world.run(async {
            let mut changes = world.sandboxes.compare(&world.caller, before, after, options)?;
            let first = changes.next().await?.unwrap();
            assert!(changes.next().await?.is_none());
            Ok(first.path)
        })
    };
    let (one, two) = (sandbox.id.as_str(), other.id.as_str());
    let base = saved.id.as_str();
    assert_eq!(compare(Some(one), two).unwrap(), format!("{one} {two}"));
    assert_eq!(compare(Some("base"), "other").unwrap(), format!("{base} {two}"));
    assert_eq!(compare(Some("sandbox:other"), "snapshot:base").unwrap(), format!("{two} {base}"));
    assert_eq!(compare(None, "other").unwrap(), format!("{base} {two}"));
    assert_eq!(compare(None, base).unwrap(), format!("image {base}"));
    let error = |before: &str| compare(Some(before), one).unwrap_err().to_string();
    assert_eq!(error("gone"), "there is no sandbox or snapshot gone");
    assert_eq!(error("snapshot:other"), "there is no snapshot other");
    assert_eq!(error("sandbox:base"), "there is no sandbox base");
    world.runtime.fail_next(Failure::Compare);
    assert!(matches!(compare(None, "other").unwrap_err(), SandboxError::Runtime { .. }));
}

#[test]
fn late_news_of_a_guest_do_not_end_the_next_one() {
    let world = World::start();
    let sandbox = world.create();
    snapshot(&world, &sandbox, "one").unwrap();
    world.run(world.sandboxes.roll_back(&world.caller, sandbox.id.as_str(), "one")).unwrap();
    let exit = Exit { reason: ExitReason::Killed, oom_kills: 0 };
    world.runtime.tell_exit(&sandbox.id, exit);
    // What is asked after the news is answered after it.
    world.run(world.sandboxes.pause(&world.caller, sandbox.id.as_str())).unwrap();
    assert_eq!(world.get(&sandbox).state, State::Paused);
}
