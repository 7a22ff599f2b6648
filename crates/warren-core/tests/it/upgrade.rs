//! A database of an earlier version, opened by this one.

use std::collections::BTreeMap;

use warren_core::{
    config::Config, id::SandboxId, runtime::GuestState, sandbox::Wanted, sandboxes::Filter, spec,
    state::State,
};

use crate::world::World;

/// What the first version left: a running sandbox that was made under a key, and a paused one.
const SCHEMA_1: &str = include_str!("fixtures/schema-1.sql");
const KEYED: &str = "sb-90el0b4j28wzgrjn";
const KEPT: &str = "sb-qrji4pdwu7necrff";

fn upgraded() -> World {
    let id = |text: &str| text.parse::<SandboxId>().unwrap();
    World::on(Config::default(), SCHEMA_1, |runtime| {
        runtime.plant(id(KEYED), GuestState::Running);
        runtime.plant(id(KEPT), GuestState::Paused);
    })
}

#[test]
fn sandboxes_of_the_first_schema_are_there_with_all_that_was_known_of_them() {
    let world = upgraded();
    let find = |name: &str| world.sandboxes.get(&world.caller, name).unwrap();
    let (keyed, kept) = (find("keyed"), find("kept"));
    assert_eq!((keyed.id.as_str(), keyed.state), (KEYED, State::Running));
    assert_eq!((kept.id.as_str(), kept.state), (KEPT, State::Paused));
    assert_eq!(keyed.spec.profile, spec::Profile::Strict);
    assert_eq!(keyed.setup.env["A"], "b");
    assert_eq!(kept.labels["team"], "blue");
    assert_eq!(keyed.expires_at.map(|at| at.as_millis()), Some(1_795_360_800_015));
    let page = world.sandboxes.list(&world.caller, &every());
    assert_eq!(page.sandboxes.len(), 2, "the one that was removed stays so");
    world.run(world.sandboxes.resume(&world.caller, KEPT)).unwrap();
}

fn every() -> Filter {
    Filter { states: Vec::new(), labels: BTreeMap::new(), name: None, after: None, limit: 100 }
}

#[test]
fn events_of_the_first_schema_are_told_and_go_on() {
    let world = upgraded();
    let made = world.create();
    let mut events = world.sandboxes.events(&world.caller, None, Some(0));
    let (seqs, last) = world.run(async {
        let mut seen = Vec::new();
        while seen.len() < 10 {
            seen.push(events.next().await.unwrap().unwrap());
        }
        (seen.iter().map(|event| event.seq).collect::<Vec<_>>(), seen.pop().unwrap())
    });
    assert_eq!(seqs, (1..=10).collect::<Vec<_>>());
    assert_eq!(last.sandbox, made.id);
}

#[test]
fn a_key_of_the_first_schema_is_still_used() {
    let world = upgraded();
    let other = Wanted { name: Some("another".into()), ..Wanted::default() };
    let refused = world.run(world.sandboxes.create(&world.caller, other, Some("k-1")));
    assert!(refused.is_err(), "the key came with another request: {refused:?}");
}
