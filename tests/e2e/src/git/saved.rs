//! Work that meets trouble on its way to the remote.

use serde_json::json;

use super::{Remote, at_work};
use crate::harness::{Home, needs};

#[test]
fn a_sandbox_whose_work_is_nowhere_else_stays() {
    needs!("git");
    let (home, remote) = (Home::new(), Remote::start());
    let sandbox = at_work(&home, &remote, "work");
    sandbox.work("echo kept > kept");
    remote.set_down(true);
    // A pause is made all the same: nothing is lost by it.
    assert_eq!(sandbox.api("POST", "/pause", b"").json()["state"], "paused");
    let listed = home.api("GET", "/v1/git/sessions", b"").json();
    assert!(listed["sessions"][0]["trouble"].is_string(), "{listed}");
    let refused = home.warren(&["rm", &sandbox.id]);
    assert_ne!(refused.code(), 0);
    assert!(refused.errors().contains("is paused, with work that is nowhere else"));
    assert_eq!(sandbox.api("POST", "/stop", b"").error_code(), "failed_precondition");
    assert_eq!(sandbox.get()["state"], "paused");
    remote.set_down(false);
    home.warren(&["rm", &sandbox.id]).good();
    assert_eq!(remote.file("work", "kept"), "kept");
    // Who says that it is to go is taken at their word.
    let other = at_work(&home, &remote, "other");
    other.work("echo lost > lost");
    remote.set_down(true);
    home.warren(&["rm", "--force", &other.id]).good();
    assert_eq!(home.api("GET", &format!("/v1/sandboxes/{}", other.id), b"").status, 404);
}

#[test]
fn two_sandboxes_push_to_one_session() {
    needs!("git");
    let (home, remote) = (Home::new(), Remote::start());
    let [one, two] = [at_work(&home, &remote, "both"), at_work(&home, &remote, "both")];
    one.work("echo one > one");
    two.work("echo two > two");
    one.git("POST", "/commit");
    two.git("POST", "/commit");
    assert_eq!(one.git("POST", "/push")["outcome"], "pushed");
    assert_eq!(two.git("POST", "/push")["outcome"], "integrated");
    assert_eq!((remote.file("both", "one"), remote.file("both", "two")), ("one".into(), "two".into()));
    // What does not go together is beside it, and neither is lost.
    one.git("POST", "/pull");
    one.work("echo mine > same");
    two.work("echo yours > same");
    home.warren(&["rm", &one.id]).good();
    two.git("POST", "/commit");
    let rescued = two.git("POST", "/push");
    assert_eq!(rescued["outcome"], "rescued", "{rescued}");
    assert_eq!(rescued["rescue"], "session/both/rescue-1");
    assert_eq!(remote.file("both", "same"), "mine");
    assert_eq!(remote.file("session/both/rescue-1", "same"), "yours");
    home.warren(&["rm", &two.id]).good();
}

#[test]
fn what_the_remote_refuses_is_said_in_its_words() {
    needs!("git");
    let (home, remote) = (Home::new(), Remote::start());
    let sandbox = at_work(&home, &remote, "work");
    remote.hook("pre-receive", "#!/bin/sh\necho 'no work on Sundays' >&2\nexit 1\n");
    sandbox.work("echo a > a");
    sandbox.git("POST", "/commit");
    let refused = sandbox.api("POST", "/git/push", b"");
    assert_eq!(refused.error_code(), "failed_precondition");
    assert!(refused.text().contains("no work on Sundays"), "{}", refused.text());
    assert_eq!(remote.branches(), ["trunk"]);
    remote.hook("pre-receive", "#!/bin/sh\nexit 0\n");
    assert_eq!(sandbox.git("POST", "/push")["outcome"], "pushed");
}

#[test]
fn a_session_outlives_the_server() {
    needs!("git");
    let (home, remote) = (Home::new(), Remote::start());
    let sandbox = at_work(&home, &remote, "work");
    sandbox.work("echo a > a");
    let committed = sandbox.git("POST", "/commit");
    home.kill_server();
    home.warren(&["list"]).good();
    assert_eq!(sandbox.git("GET", "")["head"], committed["sha"]);
    sandbox.work("git fetch -q");
    home.warren(&["rm", &sandbox.id]).good();
    assert_eq!(remote.tip("work"), committed["sha"].as_str().unwrap());
    assert_eq!(home.api("GET", "/v1/git/sessions", b"").json(), json!({"sessions": []}));
}
