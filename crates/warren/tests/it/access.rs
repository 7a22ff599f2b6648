//! Keys, projects, backups, and listening on TCP, as a person asks for them.

use crate::world::World;

#[test]
fn a_key_is_made_listed_and_revoked() {
    let world = World::start();
    let new = world.json(&["key", "create", "ci", "--expires", "30d"]);
    let key = new["key"].as_str().unwrap();
    assert!(key.starts_with("wrn_") && key.len() == 44, "{new}");
    assert_eq!((&new["name"], &new["project"]), (&"ci".into(), &"default".into()));
    assert!(new["expires_at"].is_string());

    let plain = world.warren(&["key", "create", "metrics of the host", "--metrics"]);
    assert_eq!(plain.status, 0, "{plain:?}");
    assert!(plain.stdout.starts_with("wrn_") && plain.stdout.lines().count() == 1, "{plain:?}");
    assert!(plain.stderr.contains("reads the server's metrics"), "{plain:?}");

    let table = world.data(&["key", "list"]);
    let begin = &key[..10];
    assert!(table.starts_with("ID") && table.contains(begin), "{table}");
    assert!(!table.contains(key), "a key is shown once");
    let listed = world.json(&["key", "list"]);
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);

    let id = new["id"].as_str().unwrap();
    world.data(&["key", "revoke", "ci", "metrics of the host"]);
    assert_eq!(world.json(&["key", "list"])["keys"], serde_json::json!([]));
    let again = world.warren(&["key", "revoke", id]);
    assert_eq!(again.status, 1);
    assert!(again.stderr.contains(&format!("there is no key {id}")), "{again:?}");
}

#[test]
fn of_keys_with_one_name_none_is_revoked_by_it() {
    let world = World::start();
    world.data(&["key", "create", "twin"]);
    world.data(&["key", "create", "twin"]);
    let outcome = world.warren(&["key", "revoke", "twin"]);
    assert_eq!(outcome.status, 2);
    assert!(outcome.stderr.contains("several keys are called twin"), "{outcome:?}");
    assert_eq!(world.json(&["key", "list"])["keys"].as_array().unwrap().len(), 2);
}

#[test]
fn a_project_is_made_limited_worked_in_and_removed() {
    let world = World::start();
    world.data(&["project", "create", "team", "--sandboxes", "1"]);
    let id = world.create(&["--project", "team"]);
    assert_eq!(world.data(&["--project", "team", "list", "-q"]).trim(), id);
    assert_eq!(world.data(&["list", "-q"]), "");
    let full = world.warren(&["--project", "team", "create"]);
    assert!(full.stderr.contains("the project's limit of 1 sandboxes"), "{full:?}");

    let project = world.json(&["project", "quota", "team", "--memory", "3GiB"]);
    let quota = serde_json::json!({"sandboxes": 1, "memory_bytes": 3_u64 << 30});
    assert_eq!(project["quota"], quota);
    let project = world.json(&["project", "quota", "team", "--sandboxes", "none"]);
    assert_eq!(project["quota"], serde_json::json!({"memory_bytes": 3_u64 << 30}));
    let table = world.data(&["project", "list"]);
    assert!(table.contains("1 GiB of 3 GiB"), "{table}");

    let mut named = world.command(&["list", "-q"]);
    let listed = crate::world::finish(named.env("WARREN_PROJECT", "team").spawn().unwrap());
    assert_eq!(listed.stdout.trim(), id);

    let busy = world.warren(&["project", "rm", "team"]);
    assert!(busy.stderr.contains("project team has 1 sandboxes"), "{busy:?}");
    world.data(&["--project", "team", "rm", &id]);
    // Its driver may take a moment to be gone.
    let removed = || world.warren(&["project", "rm", "team"]).status == 0;
    assert!((0..100).any(|_| removed()));
    let gone = world.warren(&["--project", "team", "list"]);
    assert!(gone.stderr.contains("there is no project team"), "{gone:?}");
}

#[test]
fn what_is_wrong_about_keys_and_projects_is_said() {
    let world = World::start();
    for (arguments, status, words) in [
        (&["key"][..], 2, "Usage: warren key"),
        (&["key", "create"], 2, "<NAME>"),
        (&["key", "create", ""], 1, "name: expected 1 to 100 characters"),
        (&["key", "create", "k", "--expires", "soon"], 2, "expected a duration"),
        (&["key", "create", "k", "--expires", "0"], 2, "a second or more"),
        (&["--project", "nothing", "key", "create", "k"], 1, "there is no project nothing"),
        (&["project", "create", "A"], 1, "expected [a-z0-9][a-z0-9-]{0,62}"),
        (&["project", "create", "default"], 1, "a project named default exists"),
        (&["project", "create", "p", "--sandboxes", "many"], 2, "invalid"),
        (&["project", "quota", "nothing"], 1, "there is no project nothing"),
        (&["project", "rm", "default"], 1, "is always there"),
        (&["backup"], 2, "<FILE>"),
    ] {
        let outcome = world.warren(arguments);
        assert_eq!(outcome.status, status, "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains(words), "{arguments:?}: {}", outcome.stderr);
    }
    assert_eq!(world.json(&["key", "list"])["keys"], serde_json::json!([]));
}

#[test]
fn a_backup_that_fails_leaves_nothing_and_none_is_replaced() {
    let world = World::start();
    let copy = world.path("copy.db");
    // The server of this test has its database in memory, which it does not copy.
    let outcome = world.warren(&["backup", copy.to_str().unwrap()]);
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(!copy.exists());
    std::fs::write(&copy, "mine").unwrap();
    let outcome = world.warren(&["backup", copy.to_str().unwrap()]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.contains("name another file"), "{outcome:?}");
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "mine");
}

#[test]
fn a_server_that_cannot_listen_as_asked_leaves_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, status, words) in [
        (&["--listen", "0.0.0.0", "--no-auth"][..], 2, "loopback addresses alone"),
        (&["--listen", "127.0.0.1:0", "--listen", "[::]:0", "--no-auth"], 2, "and [::]:0 is none"),
        (&["--no-auth"], 2, "listens on no TCP address"),
        (&["--listen", "example.com"], 2, "expected ADDRESS[:PORT]"),
        (&["--listen", "127.0.0.1:0", "--tls-cert", "/a"], 2, "go together"),
        (&["--listen", "127.0.0.1:0", "--tls-cert", "/a", "--tls-key", "/b"], 1, "in /a"),
        (&["--listen", &taken], 1, "could not listen on"),
        (&["--stop", "--no-auth"], 2, "cannot be used with"),
    ] {
        let world = World::empty();
        let outcome = world.warren(&[&["serve"], arguments].concat());
        assert_eq!(outcome.status, status, "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains(words), "{arguments:?}: {}", outcome.stderr);
        assert!(!world.path("run").join("api.sock").exists(), "{arguments:?}");
    }
}
