//! Every command with every kind of mistake: its exit status, words that say what was expected,
//! and nothing left behind.

use crate::world::World;

/// A command line, its exit status, and words of the message.
type Mistake<'a> = (&'a [&'a str], i32, &'a str);

/// What is wrong already before anybody is asked: no server is reached, and none is needed.
const AT_ONCE: &[Mistake<'_>] = &[
    // Flags that all commands have.
    (&["--color", "red", "list"], 2, "auto, always, never"),
    (&["--config", "/nowhere/warren.toml", "list"], 2, "/nowhere/warren.toml"),
    (&["--set", "memory=much", "list"], 2, "expected a size such as `512 MiB`"),
    (&["--set", "data_dir=relative", "list"], 2, "expected an absolute path"),
    (&["--server", "ftp://a", "list"], 2, "expected `https://HOST[:PORT]`"),
    (&["--server", "ftp://a", "run", "true"], 125, "expected `https://HOST[:PORT]`"),
    (&["--server", "ftp://a", "run"], 125, "<COMMAND>"),
    // run
    (&["run", "--frob", "true"], 125, "unexpected argument '--frob'"),
    (&["run", "--pids=-1", "true"], 125, "is not in 0.."),
    (&["run", "--pids", "many", "true"], 125, "invalid digit"),
    (&["run", "--open-files", "1.5", "true"], 125, "invalid digit"),
    (&["run", "--ttl", "soon", "true"], 125, "expected a duration such as `30s`"),
    (&["run", "--profile", "lax", "true"], 125, "default, strict"),
    (&["run", "--label", "=x", "true"], 125, "expected KEY=VALUE"),
    (&["run", "--env", "A B=1", "true"], 125, "there is a space in the name"),
    (&["run", "--env-file", "/nowhere", "true"], 125, "could not read the file /nowhere"),
    (&["run", "--detach", "--tty", "true"], 125, "cannot be used with"),
    (&["run", "--detach", "--interactive", "cat"], 125, "cannot be used with"),
    // create
    (&["create", "--memory=-1"], 2, "expected a size such as `512 MiB`"),
    (&["create", "--memory", "1 parsec"], 2, "expected a size such as `512 MiB`"),
    (&["create", "--cpus", "none"], 2, "expected a number of processor cores"),
    (&["create", "true"], 2, "unexpected argument 'true'"),
    // list and info
    (&["list", "--state", "happy"], 2, "creating, running, paused"),
    (&["list", "--state", "paused", "--all"], 2, "cannot be used with"),
    (&["list", "--limit", "0"], 2, "1.."),
    (&["list", "--limit", "all"], 2, "invalid digit"),
    (&["info"], 2, "<SANDBOX>"),
    // Commands in sandboxes.
    (&["exec"], 125, "<SANDBOX>"),
    (&["exec", "--timeout=-1s", "x", "true"], 125, "expected a duration"),
    (&["exec", "-it", "x", "sh"], 125, "`-it` needs a terminal at standard input"),
    (&["ps"], 2, "<SANDBOX>"),
    (&["attach"], 125, "<SANDBOX>"),
    (&["attach", "x", "y", "--offset", "end"], 125, "invalid digit"),
    (&["kill", "x"], 2, "<EXEC>"),
    (&["events", "--after=-1"], 2, "invalid digit"),
    (&["events", "--after", "yesterday"], 2, "invalid digit"),
    // What is done to sandboxes.
    (&["pause"], 2, "<SANDBOX>"),
    (&["resume"], 2, "<SANDBOX>"),
    (&["stop"], 2, "<SANDBOX>"),
    (&["start"], 2, "<SANDBOX>"),
    (&["extend", "x"], 2, "<"),
    (&["extend", "x", "soon"], 2, "expected a duration such as `30s`"),
    (&["rm", "--all", "x"], 2, "cannot be used with"),
    // The rest.
    (&["completion"], 2, "<SHELL>"),
    (&["completion", "tcsh"], 2, "bash, zsh, fish"),
    (&["setup", "install"], 2, "unrecognized subcommand 'install'"),
    (&["serve", "now"], 2, "unexpected argument 'now'"),
    (&["doctor", "--mend"], 2, "unexpected argument '--mend'"),
    (&["version", "2"], 2, "unexpected argument '2'"),
];

#[test]
fn a_mistake_is_told_before_anybody_is_asked() {
    let world = World::empty();
    let mut wrong = Vec::new();
    for (arguments, status, words) in AT_ONCE {
        check(&world, arguments, *status, words, &mut wrong);
        assert!(!world.path("run/api.sock").exists(), "{arguments:?} started a server");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Adds a mistake that is not answered as it should be.
fn check(world: &World, arguments: &[&str], status: i32, words: &str, wrong: &mut Vec<String>) {
    let outcome = world.warren(arguments);
    let right = outcome.status == status && outcome.stderr.contains(words);
    if !right || !outcome.stdout.is_empty() {
        wrong.push(format!("{arguments:?}: {outcome:?}"));
    }
}

/// What only the server knows to be wrong. There is one sandbox, `x`, which is paused.
const BY_THE_SERVER: &[Mistake<'_>] = &[
    (&["create", "--name", "Not A Name"], 1, "name"),
    (&["create", "--name", "x"], 1, "hint: another --name"),
    (&["create", "--memory", "1"], 1, "memory"),
    (&["create", "--pids", "0"], 1, "pids"),
    (&["create", "--hostname", "a b"], 1, "hostname"),
    (&["create", "--workdir", "relative"], 1, "workdir"),
    (&["run", "--name", "Not A Name", "true"], 125, "name"),
    (&["run", "no-such-program"], 125, "no-such-program"),
    (&["list", "--cursor", "nonsense"], 1, "cursor"),
    (&["info", "sb-aaaaaaaaaaaaaaaa"], 1, "`warren list`"),
    (&["info", "../../etc"], 1, "`warren list`"),
    (&["exec", "x", "echo"], 125, "`warren resume`"),
    (&["exec", "nobody", "echo"], 125, "`warren list`"),
    (&["shell", "nobody"], 125, "`warren list`"),
    (&["ps", "nobody"], 1, "`warren list`"),
    (&["attach", "nobody", "ex-aaaaaaaaaaaaaaaa"], 125, "`warren list`"),
    (&["kill", "x", "first"], 1, "exec_id"),
    (&["kill", "--signal", "FROB", "x", "ex-aaaaaaaaaaaaaaaa"], 1, "expected a name such as TERM"),
    (&["kill", "nobody", "ex-aaaaaaaaaaaaaaaa"], 1, "`warren list`"),
    (&["events", "--sandbox", "nobody"], 1, "`warren list`"),
    (&["pause", "x"], 1, "paused"),
    (&["pause", "nobody"], 1, "`warren list`"),
    (&["resume", "nobody"], 1, "`warren list`"),
    (&["stop", "nobody"], 1, "`warren list`"),
    (&["start", "nobody"], 1, "`warren list`"),
    (&["extend", "nobody", "5m"], 1, "`warren list`"),
    (&["stats", "nobody"], 1, "`warren list`"),
    (&["ports", "nobody"], 1, "`warren list`"),
    (&["rm", "nobody"], 1, "`warren list`"),
];

#[test]
fn a_mistake_that_the_server_finds_leaves_nothing() {
    let world = World::start();
    world.create(&["--name", "x"]);
    world.data(&["pause", "x"]);
    let before = world.data(&["list", "-q"]);
    let mut wrong = Vec::new();
    for (arguments, status, words) in BY_THE_SERVER {
        let outcome = world.warren(arguments);
        if outcome.status != *status
            || !outcome.stderr.contains(words)
            || !outcome.stdout.is_empty()
        {
            wrong.push(format!("{arguments:?}: {outcome:?}"));
        }
        if world.fake.guests().len() > 1 {
            wrong.push(format!("{arguments:?} left something"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(world.data(&["list", "-q"]), before);
}
