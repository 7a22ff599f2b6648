//! What sandboxes may reach, as far as core decides it.

use std::{collections::BTreeMap, sync::Arc};

use warren_core::{
    SandboxError,
    config::{Config, Defaults, PoolConfig},
    egress::{Action, Egress, Protocol, Question, Reason, Rule},
    events::EventKind,
    fake::Failure,
    runtime::{Denial, Destination, Reached},
    sandbox::{Sandbox, Wanted},
    spec::Network,
};

use crate::world::World;

fn rules(texts: &[&str]) -> Network {
    let rule = |text: &&str| Rule::parse(Action::Allow, text).unwrap();
    let rules = texts.iter().map(rule).collect();
    Network::Rules(Arc::new(Egress { rules, ..Egress::default() }))
}

fn wanted(network: Network) -> Wanted {
    Wanted { network: Some(network), ..Wanted::default() }
}

fn set(world: &World, sandbox: &Sandbox, network: Network) -> Result<Arc<Sandbox>, SandboxError> {
    let id = sandbox.id.as_str();
    world.run(world.sandboxes.set_network(&world.caller, id, network))
}

#[test]
fn rules_are_made_changed_and_kept() {
    let mut world = World::start();
    let sandbox = world.create_as(wanted(rules(&["a.example:443"])));
    assert_eq!(world.runtime.network(&sandbox.id), Some(rules(&["a.example:443"])));

    let changed = set(&world, &sandbox, rules(&["b.example"])).unwrap();
    assert_eq!(changed.spec.network, rules(&["b.example"]));
    assert_eq!(world.runtime.network(&sandbox.id), Some(rules(&["b.example"])));
    let events = world.events(&sandbox, 3);
    assert_eq!(events.last(), Some(&EventKind::NetworkChanged));

    world.crash(|_| {});
    assert_eq!(world.get(&sandbox).spec.network, rules(&["b.example"]));
}

#[test]
fn an_adopted_sandbox_is_given_the_rules_that_are_stored() {
    let mut world = World::start();
    let sandbox = world.create_as(wanted(rules(&["a.example"])));
    let id = sandbox.id;
    world.crash(|runtime| runtime.forget_network(&id));
    world.until("the rules are restored", |world| {
        world.runtime.network(&id) == Some(rules(&["a.example"]))
    });
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let world = World::start();
    let sandbox = world.create();
    world.runtime.fail_next(Failure::Network);
    assert!(set(&world, &sandbox, Network::None).is_err());
    assert_eq!(world.get(&sandbox).spec.network, Network::Open);
}

#[test]
fn what_is_stopped_has_its_new_rules_when_it_starts() {
    let world = World::start();
    let sandbox = world.create();
    world.run(world.sandboxes.stop(&world.caller, sandbox.id.as_str())).unwrap();
    set(&world, &sandbox, rules(&["a.example"])).unwrap();
    world.run(world.sandboxes.start(&world.caller, sandbox.id.as_str())).unwrap();
    assert_eq!(world.runtime.network(&sandbox.id), Some(rules(&["a.example"])));
    world.run(world.sandboxes.delete(&world.caller, sandbox.id.as_str())).unwrap();
    assert!(matches!(set(&world, &sandbox, Network::Open), Err(SandboxError::NotFound { .. })));
}

#[test]
fn forks_and_snapshots_inherit_them() {
    let world = World::start();
    let network = rules(&["a.example"]);
    let sandbox = world.create_as(wanted(network.clone()));
    let id = sandbox.id.as_str();
    let snapshot = world.run(world.sandboxes.snapshot(&world.caller, id, Default::default()));
    let (snapshot, _) = snapshot.unwrap();
    let from = Wanted { snapshot: Some(snapshot.id.to_string()), ..Wanted::default() };
    let made = world.create_as(from);
    assert_eq!(made.spec.network, network);
    assert_eq!(world.runtime.network(&made.id), Some(network));
}

#[test]
fn a_parked_sandbox_serves_whoever_wants_rules() {
    let defaults = Defaults::default();
    let parked = vec![(defaults.spec(), 1)];
    let world = World::with(Config { pool: PoolConfig { parked }, ..Config::default() });
    world.until("one is parked", |world| world.sandboxes.statistics().parked == 1);
    let sandbox = world.create_as(wanted(rules(&["a.example"])));
    assert!(sandbox.warm);
    assert_eq!(sandbox.spec.network, rules(&["a.example"]));
    assert_eq!(world.runtime.network(&sandbox.id), Some(rules(&["a.example"])));
}

#[test]
fn rules_that_cannot_be_meant_or_enforced_are_refused() {
    let world = World::start();
    let many = vec!["*"; 300];
    let create = |network| {
        world.run(world.sandboxes.create(&world.caller, wanted(network), None)).unwrap_err()
    };
    assert!(matches!(create(rules(&many)), SandboxError::Invalid { field: "network", .. }));
    world.runtime.change_capabilities(|it| it.network_rules = false);
    assert!(matches!(create(rules(&["*"])), SandboxError::Unsupported { .. }));
}

#[test]
fn a_denial_is_an_event_with_what_and_why() {
    let world = World::start();
    let sandbox = world.create_as(wanted(rules(&["a.example"])));
    let to = Destination {
        name: Some("b.example".to_owned()),
        address: Some("192.0.2.1".parse().unwrap()),
        protocol: Protocol::Tcp,
        port: Some(443),
    };
    assert_eq!(world.events(&sandbox, 2).len(), 2);
    let mut events = world.sandboxes.events(&world.caller, Some(sandbox.id), None);
    let why = Some("its name is hidden");
    let denial = Denial { to: to.clone(), rule: None, why, enforced: true, untold: 3 };
    world.runtime.deny(&sandbox.id, denial);
    let event = world.run(events.next()).unwrap().unwrap();
    assert_eq!(event.kind, EventKind::Denied);
    let expected = [
        ("host", "b.example"),
        ("address", "192.0.2.1"),
        ("protocol", "tcp"),
        ("port", "443"),
        ("untold", "3"),
        ("why", "its name is hidden"),
    ];
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    assert_eq!(event.detail, expected.map(pair).into_iter().collect::<BTreeMap<_, _>>());

    world.runtime.reach(&sandbox.id, Reached { to, count: 2 });
    let id = sandbox.id.as_str();
    let learned = world.run(world.sandboxes.learned(&world.caller, id)).unwrap();
    assert_eq!(learned.rules[0].to_string(), "tcp://b.example:443");
    let question = Question::about("b.example", Protocol::Tcp, Some(443)).unwrap();
    let (_, explained) = world.run(world.sandboxes.explain(&world.caller, id, &question)).unwrap();
    assert_eq!(explained.reason, Reason::NotAnswered(None));
}
