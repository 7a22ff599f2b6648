//! What is wrong with a command line is said, and has its exit status.

use crate::world::World;

#[test]
fn each_mistake_has_its_words_and_its_status() {
    let world = World::start();
    for (arguments, status, words) in [
        (&["frob"][..], 2, "unrecognized subcommand 'frob'"),
        (&["run"], 125, "<COMMAND>"),
        (&["run", "--memory", "much", "--", "true"], 125, "expected a size such as `512 MiB`"),
        (&["run", "--cpus", "0", "true"], 125, "expected a number of processor cores"),
        (&["run", "--env", "=x", "true"], 125, "`--env =x`: there is no name before the `=`"),
        (&["run", "--timeout", "5", "true"], 125, "expected a duration such as `30s`"),
        (&["run", "--network", "all", "true"], 125, "invalid value 'all'"),
        (&["run", "-it", "sh"], 125, "`-it` needs a terminal at standard input"),
        (&["exec", "x"], 125, "<COMMAND>"),
        (&["exec", "-d", "-i", "x", "cat"], 125, "cannot be used with"),
        (&["shell"], 125, "<SANDBOX>"),
        (&["create", "--label", "x"], 2, "`--label x`: expected KEY=VALUE"),
        (&["create", "--frob"], 2, "unexpected argument '--frob'"),
        (&["list", "--label", "=x"], 2, "expected KEY=VALUE"),
        (&["rm"], 2, "<SANDBOX>"),
        (&["rm", "--all", "x"], 2, "cannot be used with"),
        (&["serve", "--stop", "--background"], 2, "cannot be used with"),
        (&["--set", "foo=1", "list"], 2, "there is no setting `foo` (flag --set)"),
        (&["--set", "foo", "list"], 2, "expected NAME=VALUE"),
    ] {
        let outcome = world.warren(arguments);
        assert_eq!(outcome.status, status, "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains(words), "{arguments:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "{arguments:?}");
    }
}

#[test]
fn nothing_said_is_answered_with_help() {
    let outcome = World::empty().warren(&[]);
    assert_eq!(outcome.status, 2);
    assert!(outcome.stderr.contains("Usage: warren"), "{}", outcome.stderr);
}

#[test]
fn help_and_version_are_data() {
    let world = World::empty();
    assert!(world.data(&["--help"]).starts_with("Give every agent a computer of its own"));
    assert!(world.data(&["run", "--help"]).contains("The exit status is the command's own"));
    assert_eq!(world.data(&["--version"]), format!("warren {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_follows_the_command_is_the_commands() {
    let world = World::start();
    assert_eq!(world.data(&["run", "echo", "--keep", "-i", "--json"]), "--keep -i --json\n");
    assert_eq!(world.data(&["run", "--", "echo", "--", "x"]), "-- x\n");
}

#[test]
fn an_error_is_json_where_that_is_asked_for() {
    let world = World::start();
    let outcome = world.warren(&["--json", "info", "nobody"]);
    assert_eq!(outcome.status, 1);
    let error: serde_json::Value = serde_json::from_str(&outcome.stderr).unwrap();
    assert_eq!(error["code"], "not_found");
    assert!(error["message"].as_str().unwrap().contains("nobody"), "{error}");
}
