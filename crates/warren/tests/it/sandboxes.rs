//! Commands about sandboxes: what they print for people, and what for machines.

use crate::world::World;

#[test]
fn a_created_sandbox_is_listed_until_it_is_removed() {
    let world = World::start();
    let id = world.create(&["--name", "builder", "--label", "team=a"]);
    assert!(id.starts_with("sb-") && id.len() == 19, "{id}");

    let list = world.data(&["list"]);
    let lines: Vec<_> = list.lines().collect();
    assert!(lines[0].starts_with("ID "), "{list}");
    assert!(lines[1].starts_with(&id) && lines[1].contains("builder  running  host"), "{list}");
    assert_eq!(world.data(&["list", "-q"]), format!("{id}\n"));
    assert_eq!(world.data(&["list", "-q", "--label", "team=b"]), "");

    assert_eq!(world.warren(&["rm", "builder"]).stderr, "removed builder\n");
    assert_eq!(world.data(&["list", "-q"]), "");
    assert!(world.fake.guests().is_empty());
}

#[test]
fn json_is_the_apis() {
    let world = World::start();
    let created = world.json(&["create", "--memory", "64MiB", "--cpus", "0.5", "--ttl", "90s"]);
    let id = created["id"].as_str().unwrap();
    assert_eq!(created["limits"]["memory_bytes"], 64 << 20);
    assert_eq!(created["limits"]["cpu_millis"], 500);
    assert!(created["expires_at"].is_string(), "{created}");

    let list = world.json(&["list"]);
    assert_eq!(list["sandboxes"].as_array().unwrap().len(), 1);
    assert_eq!(list["sandboxes"][0]["id"], id);
    assert_eq!(world.json(&["info", id])["state"], "running");
    assert_eq!(world.json(&["pause", id])["state"], "paused");
    assert_eq!(world.json(&["resume", id])["state"], "running");
}

#[test]
fn info_is_for_people() {
    let world = World::start();
    let id = world.create(&["--name", "x", "--label", "a=b", "--network", "none"]);
    let text = world.data(&["info", "x"]);
    for line in [
        &format!("id:         {id}"),
        "name:       x",
        "state:      running",
        "network:    off",
        "memory:     1 GiB",
        "labels:     a=b",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is not in:\n{text}");
    }
}

#[test]
fn removing_what_is_not_there_is_an_error_unless_forced() {
    let world = World::start();
    let id = world.create(&[]);
    let outcome = world.warren(&["rm", "nobody", &id]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.contains("there is no sandbox nobody"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&format!("removed {id}")), "the others go all the same");
    assert_eq!(world.warren(&["rm", "--force", "nobody"]).status, 0);
}

#[test]
fn removing_all_asks_first_and_cannot_ask_a_script() {
    let world = World::start();
    world.create(&[]);
    world.create(&[]);
    let outcome = world.warren(&["rm", "--all"]);
    assert_eq!(outcome.status, 2);
    assert!(outcome.stderr.contains("`--force` says that this is meant"), "{}", outcome.stderr);
    assert_eq!(world.fake.guests().len(), 2);
    assert_eq!(world.warren(&["rm", "--all", "--force"]).status, 0);
    assert!(world.fake.guests().is_empty());
}

#[test]
fn an_unknown_sandbox_says_where_to_look() {
    let world = World::start();
    for arguments in [&["info", "x"][..], &["pause", "x"], &["resume", "x"]] {
        let outcome = world.warren(arguments);
        assert_eq!(outcome.status, 1, "{arguments:?}");
        assert!(outcome.stderr.contains("there is no sandbox x"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("`warren list`"), "{}", outcome.stderr);
    }
}

#[test]
fn a_list_is_read_to_its_last_page() {
    let world = World::start();
    for _ in 0..3 {
        world.create(&[]);
    }
    assert_eq!(world.data(&["list", "-q"]).lines().count(), 3);
    let outcome = world.warren(&["list"]);
    assert_eq!(outcome.stdout.lines().count(), 4);
}

#[test]
fn an_empty_list_says_how_to_fill_it() {
    let world = World::start();
    let outcome = world.warren(&["list"]);
    assert_eq!(outcome.stdout, "");
    assert!(outcome.stderr.contains("warren run -- COMMAND"), "{}", outcome.stderr);
}

#[test]
fn the_version_names_the_server() {
    let world = World::start();
    let value = world.json(&["version"]);
    assert_eq!(value["server"]["version"], "0.0.0-test");
    assert!(value["version"].as_str().unwrap().starts_with(env!("CARGO_PKG_VERSION")));
    assert!(world.data(&["version"]).contains("server 0.0.0-test, runtime "));
}

#[test]
fn a_refusal_says_what_helps() {
    let world = World::start();
    let id = world.create(&["--name", "x"]);
    world.data(&["pause", &id]);
    for (arguments, words) in [
        (&["exec", "x", "echo"][..], "hint: `warren resume` lets it go on"),
        (&["create", "--name", "x"], "hint: another --name"),
    ] {
        let outcome = world.warren(arguments);
        assert!(outcome.stderr.contains(words), "{arguments:?}: {}", outcome.stderr);
    }
}
