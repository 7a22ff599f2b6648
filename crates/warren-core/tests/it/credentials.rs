//! What requests of sandboxes are given: resolved, renewed, stored sealed, trusted inside.

use std::sync::Arc;

use futures::TryStreamExt as _;
use warren_core::{
    config::Config,
    credentials::{Credentials, HostRule},
    sandbox::{Sandbox, Wanted},
    sandboxes::At,
    secrets::{SealKey, SecretValue, WantedSecret},
    spec::Profile,
};

use crate::world::World;

fn world() -> World {
    let world = World::with(Config { seal_key: Some(SealKey::generate()), ..Config::default() });
    set(&world, "hunter2hunter2");
    world
}

fn set(world: &World, value: &str) {
    let value = SecretValue::new(value.as_bytes().to_vec());
    world
        .run(world.sandboxes.set_secret(&world.caller, "TOKEN", WantedSecret::value(value)))
        .unwrap();
}

fn credentials() -> Credentials {
    let headers = [("Authorization".to_owned(), "Bearer {{secret:TOKEN}}".to_owned())].into();
    let rule = HostRule { host: "a.example".to_owned(), headers, ..HostRule::default() };
    Credentials { rules: vec![rule], ..Credentials::default() }
}

fn create(world: &World) -> Arc<Sandbox> {
    world.create_as(Wanted { credentials: credentials(), ..Wanted::default() })
}

/// The values of the headers that a guest's requests are given.
fn given(world: &World, sandbox: &Sandbox) -> Vec<String> {
    let granted = world.runtime.credentials(&sandbox.id).unwrap_or_default();
    let headers = granted.rules.iter().flat_map(|rule| &rule.headers);
    headers.map(|(_, value)| String::from_utf8(value.expose().to_vec()).unwrap()).collect()
}

fn read(world: &World, sandbox: &Sandbox, path: &str) -> String {
    world.run(async {
        let at = At { sandbox: sandbox.id.as_str(), user: None, path };
        let contents = world.sandboxes.read_file(&world.caller, at, None).await.unwrap();
        let pieces: Vec<_> = contents.try_collect().await.unwrap();
        String::from_utf8(pieces.concat()).unwrap()
    })
}

#[test]
fn a_secret_that_changes_is_sent_at_once_and_one_that_goes_no_more() {
    let world = world();
    let sandbox = create(&world);
    assert_eq!(given(&world, &sandbox), ["Bearer hunter2hunter2"]);
    set(&world, "other value");
    assert_eq!(given(&world, &sandbox), ["Bearer other value"]);
    world.run(world.sandboxes.remove_secret(&world.caller, "TOKEN")).unwrap();
    assert!(given(&world, &sandbox).is_empty());
}

#[test]
fn what_is_told_last_is_the_newest_value() {
    let world = world();
    let sandbox = create(&world);
    let slow = world.runtime.slow_credentials();
    let value = |text: &str| WantedSecret::value(SecretValue::new(text.as_bytes().to_vec()));
    let set = |text| world.sandboxes.set_secret(&world.caller, "TOKEN", value(text));
    let newest = async {
        slow.began.notified().await;
        let goes_on = async {
            while world.sandboxes.secrets(&world.caller)[0].version < 3 {
                tokio::task::yield_now().await;
            }
            // Whoever does not wait for the one before has told it by now.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            slow.goes_on.notify_one();
        };
        tokio::join!(set("the third"), goes_on).0
    };
    let (second, third) = world.run(async { tokio::join!(set("the second"), newest) });
    second.unwrap();
    third.unwrap();
    assert_eq!(given(&world, &sandbox), ["Bearer the third"]);
}

#[test]
fn a_new_server_tells_the_runtime_again() {
    let mut world = world();
    let sandbox = create(&world);
    let plain = world.create();
    world.crash(|runtime| runtime.forget_credentials());
    assert_eq!(given(&world, &sandbox), ["Bearer hunter2hunter2"]);
    assert!(world.runtime.credentials(&plain.id).is_none());
    world.run(world.sandboxes.delete(&world.caller, sandbox.id.as_str())).unwrap();
    world.crash(|runtime| runtime.forget_credentials());
    assert!(world.runtime.credentials(&sandbox.id).is_none());
}

#[test]
fn a_sandbox_trusts_its_authority_and_knows_no_secret() {
    let world = world();
    let sandbox = create(&world);
    let variables = &sandbox.setup.env;
    assert_eq!(variables["SSL_CERT_FILE"], "/etc/warren/ca-bundle.pem");
    assert_eq!(variables["NODE_EXTRA_CA_CERTS"], "/etc/warren/ca.pem");
    assert!(read(&world, &sandbox, "/etc/warren/ca-bundle.pem").contains(sandbox.id.as_str()));
    assert!(read(&world, &sandbox, "/etc/warren/ca.pem").contains(sandbox.id.as_str()));
    let told = format!("{variables:?} {sandbox:?}");
    assert!(!told.contains("hunter2") && !told.contains("secret:TOKEN"), "{told}");
    let strict =
        Wanted { credentials: credentials(), profile: Some(Profile::Strict), ..Wanted::default() };
    let strict = world.create_as(strict);
    assert_eq!(strict.setup.env["SSL_CERT_FILE"], "/var/tmp/.warren/ca-bundle.pem");
}
