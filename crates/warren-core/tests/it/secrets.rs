//! Secrets: what survives the server, and what does not open any more.

use warren_core::{
    Caller, SandboxError,
    access::ProjectQuota,
    caller::Owner,
    config::Config,
    secrets::{Place, SealKey, SecretValue, WantedSecret},
};

use crate::world::World;

fn world() -> World {
    World::with(Config { seal_key: Some(SealKey::generate()), ..Config::default() })
}

fn set(world: &World, name: &str, value: &str) -> u64 {
    let value = SecretValue::new(value.as_bytes().to_vec());
    world
        .run(world.sandboxes.set_secret(&world.caller, name, WantedSecret::value(value)))
        .unwrap()
        .version
}

#[test]
fn a_secret_survives_the_server() {
    let mut world = world();
    assert_eq!(set(&world, "K", "one"), 1);
    assert_eq!(set(&world, "K", "two"), 2);
    set(&world, "GONE", "three");
    world.run(world.sandboxes.remove_secret(&world.caller, "GONE")).unwrap();
    world.crash(|_| {});
    let secrets = world.sandboxes.secrets(&world.caller);
    assert_eq!(secrets.len(), 1);
    assert_eq!((secrets[0].name.as_str(), secrets[0].version), ("K", 2));
    assert!(secrets[0].usable);
}

#[test]
fn a_row_under_another_owner_does_not_open() {
    let mut world = world();
    set(&world, "K", "value");
    world.meddle("UPDATE objects SET owner = 'other' WHERE kind = 'secret'");
    world.crash(|_| {});
    let other = Caller::remote(Owner::new("other"));
    assert!(!world.sandboxes.secrets(&other)[0].usable);
}

#[test]
fn a_project_with_secrets_is_not_removed() {
    let world = world();
    world.project("team", ProjectQuota::default());
    let team = Caller::remote(Owner::new("team"));
    let value = SecretValue::new(b"x".to_vec());
    world.run(world.sandboxes.set_secret(&team, "K", WantedSecret::value(value))).unwrap();
    let refused = world.run(world.sandboxes.delete_project(&Caller::local(), "team"));
    let Err(SandboxError::ProjectInUse { reason, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(reason, "has 1 secrets");
}

#[test]
fn a_secret_is_made_where_its_place_is_free_and_keeps_what_is_said_of_it() {
    let mut world = world();
    let labels = |text: &str| Some([("team".to_owned(), text.to_owned())].into());
    let set = |world: &World, labels, place| {
        let value = SecretValue::new(b"x".to_vec());
        let wanted = WantedSecret { value, labels, place };
        world.run(world.sandboxes.set_secret(&world.caller, "K", wanted))
    };
    let none = set(&world, None, Place::Taken);
    assert!(matches!(none, Err(SandboxError::NoSuch { .. })), "{none:?}");
    let made = set(&world, labels("a"), Place::Free).unwrap();
    let taken = set(&world, labels("b"), Place::Free);
    assert!(matches!(taken, Err(SandboxError::Taken { .. })), "{taken:?}");
    assert_eq!(set(&world, None, Place::Taken).unwrap().labels["team"], "a");
    world.crash(|_| {});
    let found = world.sandboxes.secret_by(&world.caller, &made.id()).unwrap();
    assert_eq!((found.labels["team"].as_str(), found.version), ("a", 2));
    let other = Caller::remote(Owner::new("other"));
    assert!(world.sandboxes.secret_by(&other, &made.id()).is_err());
    let odd = set(&world, Some([(String::new(), String::new())].into()), Place::Either);
    assert!(matches!(odd, Err(SandboxError::Invalid { field: "labels", .. })), "{odd:?}");
}
