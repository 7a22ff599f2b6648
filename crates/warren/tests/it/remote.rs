//! A server that is named with `--server`: nothing is started, and this machine is left alone.

use std::net::TcpListener;

use crate::world::World;

#[test]
fn a_socket_that_is_named_is_used_and_nothing_else_is_touched() {
    let world = World::start();
    let url = format!("unix://{}", world.path("run/api.sock").display());
    let child = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env("WARREN_DATA_DIR", world.path("other")).env_remove("WARREN_RUN_DIR");
        crate::world::finish(command.spawn().unwrap())
    };
    let made = child(&["--server", &url, "create", "--name", "far"]);
    assert_eq!(made.status, 0, "{made:?}");
    assert_eq!(world.data(&["list", "-q"]), made.stdout);
    assert_eq!(child(&["--server", &url, "run", "echo", "x"]).stdout, "x\n");
    let version = child(&["--server", &url, "--json", "version"]).stdout;
    let version: serde_json::Value = serde_json::from_str(&version).unwrap();
    assert_eq!(version["url"], url.as_str());
    assert_eq!(version["server"]["version"], "0.0.0-test");
    assert!(!world.path("other").exists(), "a data directory was made");
}

#[test]
fn the_environment_names_a_server_too() {
    let world = World::start();
    let url = format!("unix://{}", world.path("run/api.sock").display());
    let mut command = world.command(&["version"]);
    command.env("WARREN_SERVER", &url).env("WARREN_DATA_DIR", world.path("other"));
    let outcome = crate::world::finish(command.spawn().unwrap());
    assert!(outcome.stdout.contains("server 0.0.0-test"), "{outcome:?}");
}

#[test]
fn nobody_at_the_address_is_said_and_no_server_is_started() {
    let world = World::empty();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let outcome = world.warren(&["--server", &url, "list"]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.contains(&format!("nobody listens at {url}")), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("hint: `warren serve --listen"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("its log is"), "{}", outcome.stderr);
    assert!(!world.path("run").exists() && !world.path("data").exists());
}

#[test]
fn what_is_about_this_machine_says_so() {
    let world = World::empty();
    for arguments in [&["serve"][..], &["serve", "--stop"], &["doctor"]] {
        let outcome = world.warren(&[&["--server", "https://a.invalid"], arguments].concat());
        assert_eq!(outcome.status, 2, "{outcome:?}");
        assert!(outcome.stderr.contains("is about this machine"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("hint: leave --server out"), "{}", outcome.stderr);
    }
}

#[test]
fn a_mistake_about_the_server_says_what_was_expected() {
    let world = World::empty();
    for (arguments, words) in [
        (&["--server", "localhost:1", "list"][..], "expected `https://HOST[:PORT]`"),
        (&["--server", "https://a/v1", "list"], "a path is no part of it"),
        (&["--ca", "/x", "list"], "`--ca` is about a server that is named"),
        (&["--server", "https://a", "--ca", "/nowhere", "list"], "certificates in /nowhere"),
        (&["--server", "https://a", "create", "--image", "dir:x"], "expected an absolute path"),
    ] {
        let outcome = world.warren(arguments);
        assert_eq!(outcome.status, 2, "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains(words), "{arguments:?}: {}", outcome.stderr);
    }
}

#[test]
fn a_key_stays_off_the_open_network_and_out_of_every_message() {
    let world = World::empty();
    let mut command = world.command(&["--server", "http://192.0.2.1:80", "list"]);
    command.env("WARREN_API_KEY", "wrn_0123456789");
    let outcome = crate::world::finish(command.spawn().unwrap());
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.contains("the API key is not sent"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("hint: use https"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("0123456789"), "{}", outcome.stderr);
}
