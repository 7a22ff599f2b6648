//! Volumes: made, used, copied and removed, and what a crash leaves.

use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use warren_core::{
    Caller, SandboxError,
    caller::Owner,
    sandbox::{Wanted, WantedVolume},
    sandboxes::{InVolume, NewVolume},
    volumes::{Ownership, Volume, VolumeFiles as _},
};

use crate::world::World;

fn make(world: &World, name: &str) -> Result<Arc<Volume>, SandboxError> {
    let wanted = NewVolume { name: name.to_owned(), size_bytes: None };
    world.run(world.sandboxes.create_volume(&world.caller, wanted))
}

fn using(volume: &str, target: &str) -> Wanted {
    let volume =
        WantedVolume { volume: volume.to_owned(), target: target.to_owned(), read_only: false };
    Wanted { volumes: vec![volume], ..Wanted::default() }
}

fn write(world: &World, volume: &str, text: &'static str) -> Result<u64, SandboxError> {
    let at = InVolume { volume, path: "file" };
    let contents = Box::new(text.as_bytes());
    world.run(world.sandboxes.write_in_volume(&world.caller, at, Ownership::default(), contents))
}

fn read(world: &World, volume: &str) -> Result<String, SandboxError> {
    world.run(async {
        let at = InVolume { volume, path: "file" };
        let mut contents = world.sandboxes.read_in_volume(&world.caller, at, None).await?;
        let mut text = String::new();
        contents.bytes.read_to_string(&mut text).await.unwrap();
        Ok(text)
    })
}

fn on_host(world: &World) -> usize {
    let files = world.runtime.fake_volumes();
    world.run(async { files.list().await.unwrap().len() })
}

#[test]
fn a_volume_is_used_and_stays_until_nobody_has_it() {
    let world = World::start();
    let volume = make(&world, "data").unwrap();
    let sandbox = world.create_as(using("data", "/data"));
    assert_eq!(sandbox.spec.volumes[0].volume, volume.id);
    let refused = world.run(world.sandboxes.remove_volume(&world.caller, "data")).unwrap_err();
    assert_eq!(refused.to_string(), "volume data is used by a sandbox");
    world.run(world.sandboxes.delete(&world.caller, sandbox.id.as_str())).unwrap();
    world.run(world.sandboxes.remove_volume(&world.caller, "data")).unwrap();
    assert_eq!(on_host(&world), 0);
    assert!(world.sandboxes.volumes(&world.caller).is_empty());
}

#[test]
fn what_cannot_be_is_refused() {
    let world = World::start();
    make(&world, "data").unwrap();
    let taken = make(&world, "data").unwrap_err();
    assert!(matches!(taken, SandboxError::Taken { what: "volume", .. }), "{taken}");
    for name in ["", "a b", ".x", "-x", "vol-aaaaaaaaaaaaaaaa"] {
        let refused = make(&world, name).unwrap_err();
        assert!(matches!(refused, SandboxError::Invalid { field: "name", .. }), "{refused}");
    }
    let attempt = |wanted| world.run(world.sandboxes.create(&world.caller, wanted, None));
    for (wanted, expected) in [
        (using("nothing", "/data"), "there is no volume nothing"),
        (using("data", "data"), "no place inside"),
        (using("data", "/proc/x"), "nothing can be mounted"),
        (Wanted { disk_bytes: Some(1 << 30), ..Wanted::default() }, "warren setup storage"),
    ] {
        let refused = attempt(wanted).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    let mut twice = using("data", "/data");
    twice.volumes.extend(twice.volumes.clone());
    assert!(attempt(twice).unwrap_err().to_string().contains("two go to /data"));
    let stranger = Caller::remote(Owner::new("other"));
    assert!(world.sandboxes.volume(&stranger, "data").is_err());
}

#[test]
fn a_copy_is_its_own_and_a_snapshot_is_not_written_to() {
    let world = World::start();
    make(&world, "data").unwrap();
    write(&world, "data", "one").unwrap();
    let copy = |name: &str, read_only| {
        let wanted = NewVolume { name: name.to_owned(), size_bytes: None };
        world.run(world.sandboxes.copy_volume(&world.caller, "data", wanted, read_only)).unwrap()
    };
    let (saved, clone) = (copy("saved", true), copy("clone", false));
    assert!(saved.read_only && !clone.read_only && saved.source == clone.source);
    write(&world, "data", "two").unwrap();
    write(&world, "clone", "three").unwrap();
    assert!(write(&world, "saved", "four").is_err());
    let texts = ["data", "saved", "clone"].map(|name| read(&world, name).unwrap());
    assert_eq!(texts, ["two", "one", "three"]);
}

#[test]
fn what_fails_on_the_host_leaves_nothing_in_the_way() {
    let mut world = World::start();
    world.runtime.fake_volumes().fail(true);
    make(&world, "data").unwrap_err();
    assert!(world.sandboxes.volumes(&world.caller).is_empty(), "nobody sees half of one");
    // What could not be taken back is at the next start.
    world.runtime.fake_volumes().fail(false);
    world.restart(|_| ());
    make(&world, "data").unwrap();
    world.runtime.fake_volumes().fail(true);
    world.run(world.sandboxes.remove_volume(&world.caller, "data")).unwrap();
    assert!(world.sandboxes.volumes(&world.caller).is_empty());
    assert_eq!(on_host(&world), 1);
    world.runtime.fake_volumes().fail(false);
    world.restart(|_| ());
    assert_eq!(on_host(&world), 0);
    make(&world, "data").unwrap();
    write(&world, "data", "kept").unwrap();
    world.restart(|_| ());
    assert_eq!(read(&world, "data").unwrap(), "kept");
}
