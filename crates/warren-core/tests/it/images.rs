//! Images of registries, and sandboxes made from them.

use std::{collections::BTreeMap, sync::Arc};

use warren_core::{
    Caller, SandboxError,
    caller::Owner,
    config::Config,
    exec::{Command, ExecEvent},
    images::{ImageError, Progress, Prune},
    sandbox::{Sandbox, Wanted},
    sandboxes::WantedSnapshot,
    spec::{Image, OciImage},
};

use crate::world::World;

fn from(reference: &str) -> Wanted {
    let image = OciImage { reference: reference.to_owned(), id: None };
    Wanted { image: Some(Image::Oci(image)), ..Wanted::default() }
}

fn create(world: &World, caller: &Caller, wanted: Wanted) -> Result<Arc<Sandbox>, SandboxError> {
    world.run(world.sandboxes.create(caller, wanted, None)).map(|made| made.sandbox)
}

#[test]
fn a_sandbox_gets_what_its_image_says_unless_it_is_told_otherwise() {
    let world = World::start();
    let made = create(&world, &world.caller, from("python:3.12")).unwrap();
    let Image::Oci(OciImage { reference, id: Some(id) }) = &made.spec.image else {
        panic!("{:?}", made.spec.image)
    };
    assert_eq!(reference, "python:3.12");
    let images = world.sandboxes.images().unwrap();
    let listed = images.get(id).unwrap();
    assert!(listed.in_use && listed.image.references[0].to_string() == "python:3.12");
    assert_eq!((made.setup.user.as_str(), made.setup.workdir.as_str()), ("app", "/app"));
    assert_eq!(made.setup.env["IMAGE"], "python:3.12");

    let wanted = Wanted {
        env: BTreeMap::from([("IMAGE".into(), "mine".into()), ("MORE".into(), "1".into())]),
        user: Some("root".into()),
        workdir: Some("/tmp".into()),
        ..from("python:3.12")
    };
    let told = create(&world, &world.caller, wanted).unwrap();
    assert_eq!((told.setup.user.as_str(), told.setup.workdir.as_str()), ("root", "/tmp"));
    assert_eq!(told.setup.env["IMAGE"], "mine");
    assert_eq!(world.runtime.image_store().pulls().len(), 1, "what is here is not pulled");
}

#[test]
fn a_command_without_words_is_the_images() {
    let world = World::start();
    let made = create(&world, &world.caller, from("tool:1")).unwrap();
    let command = Command::default();
    let output = world.run(async {
        let exec = world.sandboxes.exec(&world.caller, made.id.as_str(), &command);
        let mut exec = exec.await.unwrap();
        let mut output = Vec::new();
        while let Some(event) = exec.next().await.unwrap() {
            if let ExecEvent::Output { bytes, .. } = event {
                output.extend_from_slice(&bytes);
            }
        }
        String::from_utf8(output).unwrap()
    });
    assert_eq!(output.trim(), "tool:1");
    let plain = create(&world, &world.caller, Wanted::default()).unwrap();
    let refused = world.sandboxes.exec(&world.caller, plain.id.as_str(), &command);
    let error = world.run(refused).unwrap_err().to_string();
    assert!(error.contains("image names none"), "{error}");
}

#[test]
fn strangers_reach_listed_registries_and_no_credentials() {
    let config = Config { registries_for_all: vec!["docker.io".into()], ..Config::default() };
    let world = World::with(config);
    let stranger = Caller::remote(Owner::new("default"));
    create(&world, &stranger, from("python:3.12")).unwrap();
    let refused = create(&world, &stranger, from("10.0.0.1:80/x")).unwrap_err();
    let not_allowed = |error: &SandboxError| {
        matches!(error, SandboxError::Image(ImageError::RegistryNotAllowed { .. }))
    };
    assert!(not_allowed(&refused), "{refused}");
    create(&world, &world.caller, from("10.0.0.1:80/x")).unwrap();
    // What is here has been let in.
    create(&world, &stranger, from("10.0.0.1:80/x")).unwrap();
    let images = world.sandboxes.images().unwrap();
    let pulled = world.run(images.pull(&stranger, "10.0.0.1:80/x", &Progress::default()));
    assert!(not_allowed(&pulled.unwrap_err()));
    let pulls = world.runtime.image_store().pulls();
    let with: Vec<_> = pulls.iter().map(|pull| pull.with_credentials).collect();
    assert_eq!(with, [false, true]);
    for refused in [
        world.run(images.remove(&stranger, "python:3.12")).map(drop),
        world.run(images.prune(&stranger, Prune::Unused)).map(drop),
        world.run(images.push(&stranger, "python:3.12", None, &Progress::default())).map(drop),
        world.run(images.tag(&stranger, "python:3.12", "x")).map(drop),
    ] {
        assert!(matches!(refused, Err(SandboxError::Denied { .. })), "{refused:?}");
    }
}

#[test]
fn snapshots_of_registries_follow_the_rules_of_images() {
    let config = Config { registries_for_all: vec!["docker.io".into()], ..Config::default() };
    let world = World::with(config);
    let stranger = Caller::remote(Owner::new("default"));
    let progress = Progress::default();
    let pull = |caller: &Caller, reference: &str| {
        let wanted = WantedSnapshot::default();
        world.run(world.sandboxes.pull_snapshot(caller, reference, wanted, &progress)).unwrap_err()
    };
    let refused = pull(&stranger, "10.0.0.1:80/x");
    let not_allowed = ImageError::RegistryNotAllowed { registry: "10.0.0.1:80".into() };
    assert_eq!(refused.to_string(), not_allowed.to_string());
    assert!(matches!(pull(&stranger, "No Name"), SandboxError::Invalid { field: "reference", .. }));
    // As far as it goes here: the fake runtime unpacks no snapshots.
    for (caller, reference) in [(&stranger, "tool:1"), (&world.caller, "10.0.0.1:80/x")] {
        let failed = pull(caller, reference);
        assert!(matches!(failed, SandboxError::Unsupported { .. }), "{failed}");
        assert!(world.sandboxes.snapshots(caller, None, None).is_empty(), "half of one is seen");
    }
    let pulls = world.runtime.image_store().pulls();
    let with: Vec<_> = pulls.iter().map(|pull| pull.with_credentials).collect();
    assert_eq!(with, [false, true]);
    let push = world.sandboxes.push_snapshot(&stranger, "built", "tool:2", &progress);
    let refused = world.run(push).unwrap_err();
    assert!(matches!(refused, SandboxError::Denied { .. }), "{refused}");
}

#[test]
fn what_something_is_made_from_stays() {
    let world = World::start();
    let made = create(&world, &world.caller, from("tool:1")).unwrap();
    let images = world.sandboxes.images().unwrap();
    let id = images.get("tool:1").unwrap().image.id;
    let refused = world.run(images.remove(&world.caller, &id.to_string())).unwrap_err();
    assert!(matches!(refused, SandboxError::Image(ImageError::InUse { .. })), "{refused}");
    assert_eq!(world.run(images.prune(&world.caller, Prune::Unused)).unwrap().images, []);
    world.run(world.sandboxes.delete(&world.caller, made.id.as_str())).unwrap();
    assert_eq!(world.run(images.prune(&world.caller, Prune::Unused)).unwrap().images, [id]);
    let missing = images.get("tool:1").unwrap_err();
    assert!(matches!(missing, SandboxError::Image(ImageError::NotFound { .. })), "{missing}");
}

#[test]
fn an_image_that_cannot_be_had_leaves_no_sandbox() {
    let world = World::start();
    let error = create(&world, &world.caller, from("absent:1")).unwrap_err();
    assert!(matches!(error, SandboxError::Image(ImageError::NotInRegistry { .. })), "{error}");
    let error = create(&world, &world.caller, from("UPPER CASE")).unwrap_err().to_string();
    assert!(error.contains("expected a name such as `python:3.12`"), "{error}");
    assert_eq!(world.sandboxes.living(), 0);
}
