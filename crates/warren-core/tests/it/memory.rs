//! Memory of paused sandboxes.

use std::time::Duration;

use warren_core::runtime::Room;

use crate::world::World;

#[test]
fn paused_sandboxes_give_memory_back_when_the_host_is_short_of_it() {
    let world = World::start();
    let room = |free_bytes| Room { total_bytes: 1000, free_bytes };
    world.runtime.set_room(room(500), 60);
    let ids = [(); 3].map(|()| {
        world.clock.advance(Duration::from_secs(1));
        world.create().id
    });
    world.create();
    for id in &ids {
        world.run(world.sandboxes.pause(&world.caller, id.as_str())).unwrap();
    }
    assert_eq!(world.runtime.reclaimed(), []);
    // Two are enough for an eighth.
    world.runtime.set_room(room(10), 60);
    world.until("two have given", |it| it.runtime.reclaimed().len() >= 2);
    world.until("it is enough", |it| it.runtime.reclaimed() == ids[..2]);
    // They have nothing more to give; the third has.
    world.runtime.set_room(room(10), 60);
    world.until("the third has given", |it| it.runtime.reclaimed() == ids);
    // After it ran it has memory again.
    world.run(world.sandboxes.resume(&world.caller, ids[0].as_str())).unwrap();
    world.run(world.sandboxes.pause(&world.caller, ids[0].as_str())).unwrap();
    world.until("the first gives again", |it| it.runtime.reclaimed().get(3) == Some(&ids[0]));
}
