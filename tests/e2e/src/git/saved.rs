//! Work that meets trouble on its way to the remote.

use std::time::Duration;

use serde_json::json;

use super::{at_work, wanted, with_remote};
use crate::harness::{Leftovers, Sandbox, http, needs, wait_at_most};

/// Waits for what takes git some commands and requests.
#[track_caller]
fn wait(what: &str, holds: impl FnMut() -> bool) {
    wait_at_most(Duration::from_secs(90), what, holds);
}

#[test]
fn a_sandbox_whose_work_is_nowhere_else_stays() {
    needs!("git");
    with_remote(|home, remote| {
        let sandbox = at_work(home, remote, "work");
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
    });
}

#[test]
fn a_sandbox_that_must_go_leaves_a_bundle() {
    needs!("git");
    with_remote(|home, remote| {
        let sandbox = at_work(home, remote, "work");
        sandbox
            .work("echo committed > one && git add one && git commit -q -m one && echo not > two");
        remote.set_down(true);
        home.warren(&["rm", "--force", &sandbox.id]).good();
        assert_eq!(sandbox.api("GET", "", b"").status, 404);
        // The next server has it too.
        home.kill_server();
        let listed = home.warren(&["--json", "git", "rescue", "list"]).good().text();
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let rescue = &listed["rescues"][0];
        assert_eq!((&rescue["id"], &rescue["session"]), (&json!(sandbox.id), &json!("work")));
        let place = tempfile::tempdir().expect("a place");
        let bundle = place.path().join("work.bundle");
        let bundle = bundle.to_str().unwrap();
        let restore = ["git", "rescue", "restore", &sandbox.id, bundle];
        home.warren(&restore).good();
        assert_ne!(home.warren(&restore).code(), 0, "what is there is somebody's");
        let clone = remote.clone_with(place.path(), bundle);
        assert_eq!(clone.show("refs/rescue/heads/work:one"), "committed");
        assert_eq!(clone.show("refs/rescue/heads/work:two"), "not");
        home.warren(&["git", "rescue", "rm", &sandbox.id]).good();
        assert_eq!(home.api("GET", "/v1/git/rescues", b"").json(), json!({"rescues": []}));
        assert_eq!(std::fs::read_dir(home.data().join("rescues")).unwrap().count(), 0);
    });
}

/// Ends the lifetime of a sandbox in a second.
fn hurry(sandbox: &Sandbox<'_>) {
    sandbox.api("POST", "/extend", br#"{"lifetime_seconds": 1}"#).json();
}

#[test]
fn a_lifetime_ends_with_the_work_saved() {
    needs!("git");
    with_remote(|home, remote| {
        let [good, bad] = [at_work(home, remote, "good"), at_work(home, remote, "bad")];
        good.work("echo a > a");
        bad.work("echo b > b");
        hurry(&good);
        let ended = |sandbox: &Sandbox<'_>| sandbox.get()["state"] == "stopped";
        wait("the first has ended", || ended(&good));
        assert_eq!(remote.file("good", "a"), "a");
        remote.set_down(true);
        hurry(&bad);
        wait("the second has ended", || ended(&bad));
        let listed = home.api("GET", "/v1/git/rescues", b"").json();
        assert_eq!(
            (listed["rescues"].as_array().unwrap().len(), &listed["rescues"][0]["session"]),
            (1, &json!("bad"))
        );
    });
}

#[test]
fn work_is_saved_when_the_server_ends_and_when_the_next_one_begins() {
    needs!("git");
    with_remote(|home, remote| {
        let sandbox = at_work(home, remote, "work");
        sandbox.work("echo a > a");
        home.warren(&["serve", "--stop"]).good();
        assert_eq!(remote.file("work", "a"), "a");
        home.warren(&["list"]).good();
        // Killed between commit and push.
        sandbox.work("echo b > b");
        sandbox.git("POST", "/commit");
        home.kill_server();
        home.warren(&["list"]).good();
        // The server before, which looked at what it had found, may have been first.
        let sha = sandbox.work("git rev-parse HEAD");
        wait("the next server has pushed", || remote.tip("work") == sha);
        // Its lifetime ends while no server runs.
        sandbox.work("echo c > c");
        hurry(&sandbox);
        home.kill_server();
        let guests = || Leftovers::of(home).0.iter().any(|it| it.starts_with("process"));
        wait("the keeper has ended it", || !guests());
        home.warren(&["list"]).good();
        wait("its work is saved", || {
            remote.branches().contains(&"work".to_owned()) && remote.has("work", "c")
        });
        wait("it is gone", || sandbox.api("GET", "", b"").status == 404);
    });
}

#[test]
fn a_sandbox_without_its_repository_goes_with_the_server_that_made_it() {
    needs!("git");
    with_remote(|home, remote| {
        home.warren(&["list"]).good();
        remote.hold(true);
        std::thread::scope(|scope| {
            let body = wanted(remote, "work").to_string();
            let socket = home.socket();
            // It is never answered: the server is killed.
            scope.spawn(move || http::attempt(&socket, "POST /v1/sandboxes HTTP/1.1", &body));
            wait("it is cloned", || !remote.seen().is_empty());
            home.kill_server();
        });
        remote.hold(false);
        home.warren(&["list"]).good();
        let left = home.api("GET", "/v1/sandboxes", b"").json();
        assert_eq!(left["sandboxes"], json!([]));
        assert_eq!(home.api("GET", "/v1/git/sessions", b"").json()["sessions"], json!([]));
    });
}

#[test]
fn two_sandboxes_push_to_one_session() {
    needs!("git");
    with_remote(|home, remote| {
        let [one, two] = [at_work(home, remote, "both"), at_work(home, remote, "both")];
        one.work("echo one > one");
        two.work("echo two > two");
        one.git("POST", "/commit");
        two.git("POST", "/commit");
        assert_eq!(one.git("POST", "/push")["outcome"], "pushed");
        assert_eq!(two.git("POST", "/push")["outcome"], "integrated");
        assert_eq!(
            (remote.file("both", "one"), remote.file("both", "two")),
            ("one".into(), "two".into())
        );
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
    });
}

#[test]
fn what_the_remote_refuses_is_said_in_its_words() {
    needs!("git");
    with_remote(|home, remote| {
        let sandbox = at_work(home, remote, "work");
        remote.hook("pre-receive", "#!/bin/sh\necho 'no work on Sundays' >&2\nexit 1\n");
        sandbox.work("echo a > a");
        sandbox.git("POST", "/commit");
        let refused = sandbox.api("POST", "/git/push", b"");
        assert_eq!(refused.error_code(), "failed_precondition");
        assert!(refused.text().contains("no work on Sundays"), "{}", refused.text());
        assert_eq!(remote.branches(), ["trunk"]);
        remote.hook("pre-receive", "#!/bin/sh\nexit 0\n");
        assert_eq!(sandbox.git("POST", "/push")["outcome"], "pushed");
    });
}

#[test]
fn a_session_outlives_the_server() {
    needs!("git");
    with_remote(|home, remote| {
        let sandbox = at_work(home, remote, "work");
        sandbox.work("echo a > a");
        let committed = sandbox.git("POST", "/commit");
        home.kill_server();
        home.warren(&["list"]).good();
        assert_eq!(sandbox.git("GET", "")["head"], committed["sha"]);
        sandbox.work("git fetch -q");
        home.warren(&["rm", &sandbox.id]).good();
        assert_eq!(remote.tip("work"), committed["sha"].as_str().unwrap());
        assert_eq!(home.api("GET", "/v1/git/sessions", b"").json(), json!({"sessions": []}));
    });
}
