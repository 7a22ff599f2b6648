use std::collections::{BTreeMap, HashSet};

use futures::future::join_all;
use warren_core::{
    config::{Config, Defaults, PoolConfig},
    fake::FakeRuntime,
    runtime::{Exit, ExitReason},
    sandbox::Wanted,
    sandboxes::Filter,
    state::State,
};

use crate::world::World;

fn world(size: usize) -> World {
    let parked = vec![(Defaults::default().spec(), size)];
    let world = World::with(Config { pool: PoolConfig { parked }, ..Config::default() });
    world.until("the pool is full", |world| world.sandboxes.parked() == size);
    world
}

#[test]
fn a_parked_one_is_handed_out_and_replaced() {
    let world = world(2);
    let made = world.create();
    assert!(made.warm);
    assert_eq!(made.state, State::Running);
    world.until("refilled", |world| world.sandboxes.parked() == 2);
    let cold = world.create_as(Wanted { cold: true, ..Wanted::default() });
    assert!(!cold.warm);
}

#[test]
fn what_differs_in_kind_is_made_anew() {
    let world = world(1);
    let other = world.create_as(Wanted { memory_bytes: Some(1 << 28), ..Wanted::default() });
    assert!(!other.warm);
    assert_eq!(world.sandboxes.parked(), 1);
}

#[test]
fn the_agent_learns_what_differs_from_when_it_was_parked() {
    let world = world(1);
    let plain = world.create();
    assert_eq!(world.runtime.agent(&plain.id).unwrap().initialised().len(), 1);
    world.until("refilled", |world| world.sandboxes.parked() == 1);
    let env = BTreeMap::from([("K".to_owned(), "v".to_owned())]);
    let made = world.create_as(Wanted { env, user: Some("root".into()), ..Wanted::default() });
    assert!(made.warm);
    let told = world.runtime.agent(&made.id).unwrap().initialised();
    assert_eq!(told.len(), 2);
    assert_eq!(told[1]["env"]["K"], "v");
    assert_eq!(told[1]["defaultUser"], "root");
}

#[test]
fn none_is_handed_out_twice() {
    let world = world(8);
    let made = world.run(async {
        let creates = (0..64).map(|_| {
            let (sandboxes, caller) = (world.sandboxes.clone(), world.caller.clone());
            tokio::task::JoinSet::from_iter([async move {
                sandboxes.create(&caller, Wanted::default(), None).await.unwrap().sandbox
            }])
            .join_all()
        });
        join_all(creates).await.concat()
    });
    let ids: HashSet<_> = made.iter().map(|sandbox| sandbox.id).collect();
    assert_eq!(ids.len(), 64);
    assert!(made.iter().filter(|sandbox| sandbox.warm).count() >= 8);
    assert_eq!(world.sandboxes.living(), 64);
}

#[test]
fn parked_ones_are_in_no_list_and_no_event() {
    let world = world(2);
    let filter = Filter { limit: 10, ..Filter::default() };
    assert!(world.sandboxes.list(&world.caller, &filter).sandboxes.is_empty());
    assert_eq!(world.sandboxes.living(), 0);
    for id in world.runtime.guests() {
        assert!(world.sandboxes.get(&world.caller, id.as_str()).is_err());
    }
    let made = world.create();
    let mut events = world.sandboxes.events(&world.caller, None, Some(0));
    let first = world.run(events.next()).unwrap().unwrap();
    assert_eq!((first.seq, first.sandbox), (1, made.id));
}

#[test]
fn one_that_ended_on_the_shelf_is_not_handed_out() {
    let world = world(1);
    let parked = world.runtime.guests();
    world.runtime.exit(&parked[0], Exit { reason: ExitReason::Unknown, oom_kills: 0 });
    world.until("noticed", |world| world.runtime.counts().1 == 1);
    let made = world.create();
    assert_ne!(made.id, parked[0]);
    assert_eq!(made.state, State::Running);
}

#[test]
fn parked_ones_do_not_outlive_their_server() {
    let mut world = world(2);
    let made = world.create();
    world.run(world.sandboxes.shut_down());
    assert_eq!(world.runtime.guests(), [made.id]);
    let crashed = |runtime: &FakeRuntime| assert_eq!(runtime.guests().len(), 1);
    world.crash(crashed);
    world.until("a new pool", |world| world.sandboxes.parked() == 2);
    let before: HashSet<_> = world.runtime.guests().into_iter().collect();
    world.crash(|_| {});
    world.until("a third pool", |world| world.sandboxes.parked() == 2);
    let after: HashSet<_> = world.runtime.guests().into_iter().collect();
    assert_eq!(before.intersection(&after).collect::<Vec<_>>(), [&made.id]);
}
