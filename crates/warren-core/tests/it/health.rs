use warren_core::{
    fake::Failure,
    sandboxes::{Statistics, Unready},
};

use crate::world::World;

#[test]
fn what_there_is_is_counted() {
    let world = World::start();
    let first = world.create();
    world.create();
    world.run(world.sandboxes.pause(&world.caller, first.id.as_str())).unwrap();
    let Statistics { states, parked, last_event, failed_commits, warnings } =
        world.sandboxes.statistics();
    assert_eq!(states.into_iter().collect::<Vec<_>>(), [("paused", 1), ("running", 1)]);
    assert_eq!((parked, failed_commits, warnings), (0, 0, 1));
    assert!(last_event > 0);
}

#[test]
fn a_database_that_takes_no_changes_is_not_ready() {
    let world = World::start();
    let sandbox = world.create();
    assert_eq!(world.run(world.sandboxes.check()), Ok(()));
    world.meddle("ALTER TABLE sandboxes RENAME TO elsewhere");
    world.run(world.sandboxes.pause(&world.caller, sandbox.id.as_str())).unwrap();
    assert_eq!(world.run(world.sandboxes.check()), Err(Unready::Store));
    assert!(world.sandboxes.statistics().failed_commits > 0);
    world.meddle("ALTER TABLE elsewhere RENAME TO sandboxes");
    assert_eq!(world.run(world.sandboxes.check()), Ok(()));
}

#[test]
fn a_machine_that_cannot_isolate_is_not_ready() {
    let world = World::start();
    world.runtime.fail_next(Failure::Check);
    assert_eq!(world.run(world.sandboxes.check()), Err(Unready::Runtime));
    assert_eq!(world.run(world.sandboxes.check()), Ok(()));
    world.run(world.sandboxes.shut_down());
    assert_eq!(world.run(world.sandboxes.check()), Err(Unready::ShuttingDown));
}
