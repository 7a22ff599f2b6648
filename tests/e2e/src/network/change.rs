//! Rules that change while connections are there.

use serde_json::json;

use crate::harness::{Sandbox, allowing, in_world, needs, wait_at_most, wait_until};

/// Answers are good for half a minute at least, for programs are slow.
const ANSWERS_LIVE: std::time::Duration = std::time::Duration::from_secs(75);

/// Starts a client that listens to an endless stream of events and writes down what it hears; in a
/// second file, how it ended.
pub(super) fn listen(sandbox: &Sandbox<'_>, url: &str, file: &str) {
    sandbox.root(&format!(
        "(curl -sS -N --max-time 120 {url} > /tmp/{file} 2>&1; echo $? > /tmp/{file}.ended) \
         > /dev/null 2>&1 &"
    ));
    wait_until("the stream has begun", || length(sandbox, file) > 0);
}

pub(super) fn length(sandbox: &Sandbox<'_>, file: &str) -> u64 {
    sandbox.root(&format!("wc -c < /tmp/{file} 2>/dev/null || echo 0")).trim().parse().unwrap_or(0)
}

pub(super) fn ended(sandbox: &Sandbox<'_>, file: &str) -> bool {
    sandbox.root(&format!("ls /tmp/{file}.ended 2>/dev/null || true")).contains("ended")
}

/// Fails the test unless one stream goes on and the other is cut.
fn one_goes_on_and_the_other_is_cut(sandbox: &Sandbox<'_>, on: &str, cut: &str) {
    wait_until("the stream that is forbidden is cut", || ended(sandbox, cut));
    let heard = length(sandbox, on);
    wait_until("the stream that is allowed goes on", || length(sandbox, on) > heard + 100);
    assert!(!ended(sandbox, on), "{on} was cut too");
}

#[test]
fn a_download_that_is_allowed_goes_on_and_one_that_is_forbidden_is_cut() {
    needs!("curl");
    in_world(|world| {
        for start in [json!("open"), allowing(&["203.0.113.0/24"])] {
            let sandbox = world.create(&start);
            listen(&sandbox, "http://203.0.113.1:8080/events", "one");
            listen(&sandbox, "http://203.0.113.2:8080/events", "two");
            sandbox.set_network(&allowing(&["203.0.113.1"]));
            one_goes_on_and_the_other_is_cut(&sandbox, "one", "two");
        }
    });
}

#[test]
fn the_same_holds_for_names_and_what_passes_the_gate() {
    needs!("curl");
    in_world(|world| {
        let sandbox = world.allowing(&["one.example", "two.example"]);
        let authority = world.trust(&sandbox);
        let secret = format!("--cacert {}", authority.display());
        listen(&sandbox, "http://one.example/events", "one");
        listen(&sandbox, "http://two.example/events", "two");
        listen(&sandbox, &format!("{secret} https://one.example/events"), "secret-one");
        listen(&sandbox, &format!("{secret} https://two.example/events"), "secret-two");
        sandbox.set_network(&allowing(&["one.example"]));
        one_goes_on_and_the_other_is_cut(&sandbox, "one", "two");
        one_goes_on_and_the_other_is_cut(&sandbox, "secret-one", "secret-two");
        sandbox.set_network(&json!("none"));
        wait_until("everything is cut", || ended(&sandbox, "one") && ended(&sandbox, "secret-one"));
    });
}

#[test]
fn a_connection_outlives_the_answer_that_it_was_made_by() {
    needs!("curl");
    in_world(|world| {
        let turns: [&[_]; 2] =
            [&[warren_test_internet::site(1).into()], &[warren_test_internet::site(2).into()]];
        world.internet.zone().in_turn("moving.example", &turns, 1);
        let sandbox = world.allowing(&["moving.example"]);
        listen(&sandbox, "http://moving.example:8080/events", "old");
        wait_until("the name has another address", || {
            sandbox.attempts(&["name moving.example"]) == ["203.0.113.2"]
        });
        wait_at_most(ANSWERS_LIVE, "its first is closed", || {
            sandbox.attempts(&["tcp 203.0.113.1 9003"])[0].starts_with('!')
        });
        let heard = length(&sandbox, "old");
        wait_until("the old stream goes on", || length(&sandbox, "old") > heard + 100);
        assert!(!ended(&sandbox, "old"));
    });
}

#[test]
fn the_command_line_changes_and_shows_rules() {
    needs!("python3");
    in_world(|world| {
        let said = world.home.warren(&["create", "--json", "--allow", "203.0.113.1"]).good();
        let created: serde_json::Value = serde_json::from_str(&said.text()).expect("a sandbox");
        let id = created["id"].as_str().expect("an id").to_owned();
        let sandbox = Sandbox { home: &world.home, id, created };
        sandbox.expect(&[("tcp 203.0.113.1 9003", true), ("tcp 203.0.113.2 9003", false)]);
        let shown = world.home.warren(&["net", "show", &sandbox.id]).good().text();
        assert!(shown.contains("allow 203.0.113.1"), "{shown}");
        world.home.warren(&["net", "set", &sandbox.id, "--deny", "203.0.113.1"]).good();
        sandbox.expect(&[("tcp 203.0.113.1 9003", false), ("tcp 203.0.113.2 9003", true)]);
        world.home.warren(&["net", "set", &sandbox.id, "--network", "open"]).good();
        sandbox.expect(&[("tcp 203.0.113.1 9003", true)]);
    });
}
