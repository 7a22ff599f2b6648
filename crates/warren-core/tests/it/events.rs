use warren_core::events::EventKind;

use crate::world::World;

#[test]
fn a_reader_that_falls_behind_misses_nothing() {
    let world = World::start();
    let mut events = world.sandboxes.events(&world.caller, None, None);
    // Four events each: more than a slow reader's part of the broadcast holds.
    let lives = 300;
    for _ in 0..lives {
        let sandbox = world.create();
        world.run(world.sandboxes.delete(&world.caller, sandbox.id.as_str())).unwrap();
    }
    let seen = world.run(async {
        let mut seen = Vec::new();
        while seen.len() < 4 * lives {
            let event = events.next().await.unwrap().unwrap();
            seen.push((event.seq, event.kind));
        }
        seen
    });
    let expected: Vec<_> = (1..).take(4 * lives).collect();
    assert_eq!(seen.iter().map(|(seq, _)| *seq).collect::<Vec<u64>>(), expected);
    assert_eq!(seen.iter().filter(|(_, kind)| *kind == EventKind::Deleted).count(), lives);
}

#[test]
fn a_reader_of_what_is_to_come_is_not_told_what_was_when_it_falls_behind() {
    let world = World::start();
    let old = world.create();
    world.run(world.sandboxes.delete(&world.caller, old.id.as_str())).unwrap();
    // Wait until all of that is in the table.
    let last = world.run(async {
        let mut past = world.sandboxes.events(&world.caller, None, Some(0));
        loop {
            let event = past.next().await.unwrap().unwrap();
            if event.kind == EventKind::Deleted {
                break event.seq;
            }
        }
    });
    let mut events = world.sandboxes.events(&world.caller, None, None);
    assert_eq!(events.position(), last);
    for _ in 0..300 {
        let sandbox = world.create();
        world.run(world.sandboxes.delete(&world.caller, sandbox.id.as_str())).unwrap();
    }
    let first = world.run(events.next()).unwrap().unwrap();
    assert_eq!(first.seq, last + 1);
    assert_eq!(events.position(), last + 1);
}

#[test]
fn ports_are_told_of_to_those_who_follow() {
    let world = World::start();
    let sandbox = world.create();
    let mut events = world.sandboxes.events(&world.caller, Some(sandbox.id), None);
    let mut next = |kind| {
        world.run(async {
            loop {
                let event = events.next().await.unwrap().unwrap();
                if event.kind == kind {
                    return event.detail["port"].clone();
                }
            }
        })
    };
    world.runtime.set_port(3000, None);
    assert_eq!(next(EventKind::PortOpened), "3000");
    world.runtime.set_port(3001, None);
    assert_eq!(next(EventKind::PortOpened), "3001");
    world.runtime.close_ports();
    assert_eq!(next(EventKind::PortClosed), "3000");
}
