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
