//! Command lines of agentvm's page and of its bugs.

use proptest::prelude::*;

use super::*;

fn parsed(line: &str) -> Result<Command, CommandError> {
    parse(crate::words::split(line).unwrap())
}

fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

fn refused(line: &str, expected: &str) {
    let error = parsed(line).expect_err(line).to_string();
    assert!(error.starts_with(expected), "{line}: {error}");
}

#[test]
fn the_first_steps_of_the_page_are_understood() {
    assert_eq!(parse([]).unwrap(), Command::Help);
    let set = |key: &str, value: &str| {
        Command::Env(Settings::Set { key: key.into(), value: value.into() })
    };
    assert_eq!(
        parsed("env set ANTHROPIC_API_KEY=sk-ant-x=").unwrap(),
        set("ANTHROPIC_API_KEY", "sk-ant-x=")
    );
    assert_eq!(parsed("env set KEY -value").unwrap(), set("KEY", "-value"));
    let wanted = Wanted { profile: Some("claude-code".into()), ..Wanted::default() };
    assert_eq!(
        parsed("spawn c1 -p claude-code").unwrap(),
        Command::Spawn { name: name("c1"), wanted }
    );
    let exec = Command::Exec {
        name: name("c1"),
        typed: Typed::Text("write a hello-world in rust".into()),
        enter: true,
    };
    assert_eq!(parsed("exec c1 'write a hello-world in rust'").unwrap(), exec);
    let logs = Logs { name: name("c1"), lines: 200, follow: true, raw: false };
    assert_eq!(parsed("logs c1 -f").unwrap(), Command::Logs(logs));
    assert_eq!(parsed("attach c1").unwrap(), Command::Attach(name("c1")));
}

#[test]
fn flags_stand_on_either_side_of_a_name() {
    let lines = [
        "spawn r -p x --prompt /tmp/t.md -t a=1 --tag b=2 --from-git u --ref main --gitlawb -- sh -c 'a; b'",
        "spawn --gitlawb --ref main --from-git u -t a=1 -t b=2 --prompt /tmp/t.md --profile x r -- sh -c 'a; b'",
    ];
    let all = lines.map(|line| parsed(line).unwrap());
    assert_eq!(all[0], all[1]);
    let Command::Spawn { name, wanted } = &all[0] else { panic!("{all:?}") };
    assert_eq!((name.as_str(), wanted.tags.joined().as_str()), ("r", "a=1,b=2"));
    assert_eq!((wanted.identity, wanted.from_git_ref.as_deref()), (Some(true), Some("main")));
    assert_eq!(wanted.command, ["sh", "-c", "a; b"]);
    let logs = Logs { name: self::name("c"), lines: 5, follow: false, raw: true };
    assert_eq!(parsed("logs -n 5 --raw c").unwrap(), Command::Logs(logs));
}

#[test]
fn a_swarm_takes_its_flags_one_by_one() {
    // The example of agentvm's page, which its own program refuses.
    let line = "swarm crawler 5 -p claude-code --gitlawb --prompt /tmp/crawl.md";
    let Command::Swarm { names, wanted } = parsed(line).unwrap() else { panic!("{line}") };
    assert_eq!((names.len(), names[4].as_str()), (5, "crawler-5"));
    assert_eq!((wanted.identity, wanted.prompt.as_deref()), (Some(true), Some("/tmp/crawl.md")));
    let line = "swarm b --count 2 --no-gitlawb -- sh -c 'x y'";
    let Command::Swarm { names, wanted } = parsed(line).unwrap() else { panic!("{line}") };
    assert_eq!((names.len(), wanted.identity), (2, Some(false)));
    assert_eq!(wanted.command, ["sh", "-c", "x y"]);
    refused("swarm", "Usage: agentvm swarm");
    refused("swarm b", "Usage: agentvm swarm");
    refused("swarm b x", "swarm expects a number from 1 to 1000 (got 'x')");
    refused("swarm b 0", "swarm expects a number");
    refused("swarm b 99999", "swarm expects a number");
    refused("swarm b 2 -n 3", "Unexpected argument '2'");
    refused("swarm -x 2", "Unknown flag '-x' for swarm");
}

#[test]
fn a_run_begins_its_command_at_its_first_word() {
    let line = "run -p codex --timeout 600 --prompt /tmp/t.md --keep --name n sh -c x --keep";
    let Command::Run(run) = parsed(line).unwrap() else { panic!("{line}") };
    assert_eq!((run.timeout_seconds, run.keep, run.name), (600, true, Some(name("n"))));
    assert_eq!(run.wanted.command, ["sh", "-c", "x", "--keep"]);
    assert_eq!(parsed("run").unwrap(), Command::Run(Run::default()));
    let Command::Run(run) = parsed("run -- -x").unwrap() else { panic!() };
    assert_eq!(run.wanted.command, ["-x"]);
    refused("run --timeout", "--timeout requires an argument");
    refused("run --timeout soon", "--timeout expects a number (got 'soon')");
}

#[test]
fn what_is_typed_keeps_its_flags() {
    let exec = |text: &str, enter| Command::Exec {
        name: name("w"),
        typed: Typed::Text(text.into()),
        enter,
    };
    assert_eq!(parsed("exec w hello --no-enter").unwrap(), exec("hello --no-enter", true));
    assert_eq!(parsed("exec w --no-enter y").unwrap(), exec("y", false));
    assert_eq!(parsed("exec w -- -x  y").unwrap(), exec("-x y", true));
    let file = Command::Exec { name: name("w"), typed: Typed::File("f".into()), enter: true };
    assert_eq!(parsed("exec w -f f").unwrap(), file);
    assert_eq!(parsed("send w f").unwrap(), file);
    refused("exec w", "Usage: agentvm exec");
    refused("exec w --file f text", "Usage: agentvm exec");
    refused("send w", "Usage: agentvm send");
    let hit = Command::Broadcast { tag: Some("env=staging".into()), text: "git pull".into() };
    assert_eq!(parsed("broadcast --tag env=staging 'git pull'").unwrap(), hit);
    refused("broadcast --tag a=b", "Usage: agentvm broadcast");
}

#[test]
fn other_names_of_commands_are_known() {
    assert_eq!(
        parsed("ls -q --json --tag a=b -s dead").unwrap(),
        parsed("list --status dead -t a=b --json --quiet").unwrap()
    );
    assert_eq!(parsed("mv a b").unwrap(), parsed("rename a b").unwrap());
    assert_eq!(parsed("cp a b").unwrap(), parsed("clone a b").unwrap());
    for (lines, command) in [
        (["help", "--help", "-h"], Command::Help),
        (["version", "--version", "-v"], Command::Version),
    ] {
        assert!(lines.iter().all(|line| parsed(line).unwrap() == command));
    }
    let history = Command::History { count: 7, event: Some("kill".into()) };
    assert_eq!(parsed("history -e kill -n 7").unwrap(), history);
    let wait = Command::Wait { name: name("a"), timeout_seconds: 3 };
    assert_eq!(parsed("wait a --timeout 3").unwrap(), wait);
    assert_eq!(parsed("killall --tag a=b --force").unwrap(), parsed("killall -f -t a=b").unwrap());
    assert_eq!(parsed("purge -f").unwrap(), Command::Purge { force: true });
    assert_eq!(parsed("watch -n 5").unwrap(), Command::Watch { seconds: 5 });
    assert_eq!(parsed("ps -a --json").unwrap(), Command::Ps { all: true, json: true });
    assert_eq!(parsed("completion").unwrap(), Command::Completion(None));
    assert_eq!(parsed("config").unwrap(), Command::Config(Settings::List));
    assert_eq!(parsed("env something").unwrap(), Command::Env(Settings::Usage));
    assert_eq!(parsed("env rm K").unwrap(), Command::Env(Settings::Unset("K".into())));
}

#[test]
fn mistakes_are_named_in_agentvms_words() {
    refused("frobnicate", "Unknown command 'frobnicate'.");
    refused("spawn", "Usage: agentvm spawn");
    refused("spawn a b", "Unexpected argument 'b'. Use -- to separate a command.");
    refused("spawn a --frob", "Unknown flag '--frob' for spawn");
    refused("spawn a -p", "--profile requires an argument");
    refused("spawn a --from-dir", "--from-dir requires an argument");
    refused("spawn a -t x", "Tag must be KEY=VALUE (got 'x')");
    refused("spawn a_b", "invalid agent name 'a_b': must be alphanumeric with hyphens");
    refused("spawn ''", "the name of an agent is empty");
    refused("rename a a", "The new name must be different");
    refused("clone a", "Usage: agentvm clone");
    refused("info a b", "Unexpected argument 'b'");
    refused("wait a --timeout x", "--timeout expects a number (got 'x')");
    refused("logs", "Usage: agentvm logs");
    refused("stats now", "Unexpected argument 'now'");
    refused("env set key=x", "invalid key 'key'");
    refused("env set KEY=", "the value of KEY is empty");
    refused("env set KEY", "Usage: agentvm env set");
    refused("env set A B C", "Unexpected argument 'C'");
    refused("config get", "Usage: agentvm config get");
    refused("config set a.b=c", "invalid key 'a.b'");
}

#[test]
fn mistakes_show_no_escape_codes() {
    for line in [
        &["\x1b]0;t\x07"][..],
        &["spawn", "a", "\x1b[2J"],
        &["list", "-\x1b[2J"],
        &["run", "--timeout", "\x07"],
    ] {
        let error = parse(line.iter().map(|it| (*it).to_owned())).unwrap_err().to_string();
        assert!(!error.contains(['\x1b', '\x07']), "{error:?}");
    }
}

proptest! {
    #[test]
    fn any_words_are_a_command_or_none(words in proptest::collection::vec(
        prop_oneof![
            Just("spawn".to_owned()), Just("swarm".to_owned()), Just("exec".to_owned()),
            Just("run".to_owned()), Just("env".to_owned()), Just("set".to_owned()),
            Just("--".to_owned()), Just("-n".to_owned()), Just("-t".to_owned()), "\\PC{0,6}",
        ],
        0..6,
    )) {
        drop(parse(words));
    }
}
