//! From the first clone to the next sandbox of the same session.

use serde_json::{Value, json};

use super::{REPO, TOKEN, at_work, wanted, with_remote};
use crate::harness::{needs, run};

#[test]
fn a_session_is_worked_on_saved_and_gone_on_with() {
    needs!("git");
    with_remote(|home, remote| {
        let sandbox = at_work(home, remote, "fix/login");
        assert_eq!(sandbox.work("cat README; git branch --show-current"), "first\nfix/login");
        sandbox.work("echo one > one");
        let status = sandbox.git("GET", "");
        assert_eq!((&status["branch"], &status["changed"]), (&json!("fix/login"), &json!(["one"])));
        let patch = sandbox.api("GET", "/git/diff", b"").text();
        assert!(patch.contains("+one"), "{patch}");
        let committed = sandbox.api("POST", "/git/commit", br#"{"message": "add one"}"#).json();
        assert_eq!(sandbox.git("GET", "")["ahead"], 1);
        let pushed = sandbox.git("POST", "/push");
        assert_eq!((&pushed["outcome"], &pushed["sha"]), (&json!("pushed"), &committed["sha"]));
        assert_eq!(remote.file("fix/login", "one"), "one");
        let log = sandbox.git("GET", "/log");
        assert_eq!(log["commits"][0]["subject"], "add one");
        assert_eq!(sandbox.git("POST", "/commit"), json!({}));
        let branches = sandbox.git("GET", "/branches");
        assert!(branches["branches"].as_array().unwrap().len() >= 3, "{branches}");
        // A pause saves, and what is asked of a paused one leaves it paused.
        sandbox.work("echo two > two");
        assert_eq!(sandbox.api("POST", "/pause", b"").json()["state"], "paused");
        assert_eq!(remote.file("fix/login", "two"), "two");
        assert_eq!(sandbox.git("GET", "")["changed"], json!([]));
        assert_eq!(sandbox.get()["state"], "paused");
        sandbox.api("POST", "/resume", b"").json();
        // So does a stop, and the session goes on after it.
        sandbox.work("echo three > three");
        assert_eq!(sandbox.api("POST", "/stop", b"").json()["state"], "stopped");
        assert_eq!(remote.file("fix/login", "three"), "three");
        sandbox.api("POST", "/start", b"").json();
        remote.commit("fix/login", "theirs", "of somebody else\n");
        assert_eq!(sandbox.git("POST", "/pull")["sha"], remote.tip("fix/login"));
        sandbox.work("cat theirs && git fetch -q && echo four > four");
        // And so does its end.
        home.warren(&["rm", &sandbox.id]).good();
        assert_eq!(remote.file("fix/login", "four"), "four");
        let next = at_work(home, remote, "fix/login");
        assert_eq!(next.work("cat one two three four"), "one\ntwo\nthree\nfour");
    });
}

#[test]
fn sessions_are_listed_and_worked_with_by_the_command_line() {
    needs!("git");
    with_remote(|home, remote| {
        let token = home.file("token", format!("{TOKEN}\n").as_bytes());
        let token = token.to_str().unwrap();
        let url = remote.url();
        let line = "pwd; echo made > made; git log -1 --format=%s";
        let words = ["run", "--git", &url, "--session", "a", "--git-token-file", token];
        let ran = home.warren(&[&words[..], &["--", "sh", "-c", line]].concat()).good();
        assert_eq!(ran.text(), format!("{REPO}\nchange README\n"));
        assert_eq!(remote.file("a", "made"), "made");
        assert!(remote.branches().contains(&"a".to_owned()));
        // The token of the environment, and of the server's secrets.
        let mut create = home.command(&["create", "--git", &url, "--session", "b"]);
        let id = run(create.env("WARREN_GIT_TOKEN", TOKEN), b"").good().text();
        let id = id.trim();
        run(&mut home.command(&["secret", "set", "GIT"]), TOKEN.as_bytes()).good();
        let named = ["create", "--git", &url, "--session", "c", "--git-secret", "GIT"];
        home.warren(&named).good();
        home.warren(&["exec", id, "sh", "-c", &format!("echo x > {REPO}/x")]).good();
        assert!(home.warren(&["git", "status", id]).good().text().contains("changed: x"));
        assert!(home.warren(&["git", "diff", id]).good().text().contains("+x"));
        home.warren(&["git", "commit", id, "-m", "add x"]).good();
        home.warren(&["git", "push", id]).good();
        assert!(home.warren(&["git", "log", id]).good().text().contains("add x"));
        assert!(home.warren(&["git", "branches", id]).good().text().contains("trunk"));
        let listed = home.warren(&["--json", "git", "sessions"]).good().text();
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let sessions = listed["sessions"].as_array().unwrap();
        assert_eq!(sessions.len(), 2);
        assert_eq!(
            (&sessions[1]["session"], &sessions[1]["pushed"]),
            (&json!("b"), &json!(remote.tip("b")))
        );
        assert!(home.warren(&["git", "sessions"]).good().text().contains("pushed"));
        // A secret that changes is the next request's.
        run(&mut home.command(&["secret", "set", "GIT"]), b"another").good();
        let refused = home.warren(&["git", "push", sessions[0]["sandbox_id"].as_str().unwrap()]);
        assert!(refused.errors().contains("credential"), "{}", refused.errors());
    });
}

#[test]
fn a_repository_that_cannot_be_had_leaves_nothing() {
    needs!("git");
    with_remote(|home, remote| {
        home.warren(&["list"]).good();
        let create = |git: Value| {
            let body = json!({"git": git}).to_string();
            let answer = home.api("POST", "/v1/sandboxes", body.as_bytes());
            (answer.error_code(), answer.text())
        };
        let (code, text) = create(json!({"repository": remote.url(), "token": "wrong-token"}));
        assert_eq!(code, "failed_precondition");
        assert!(text.contains("credential") && !text.contains("wrong-token"), "{text}");
        let other = remote.url().replace("agent", "nothing");
        let (code, text) = create(json!({"repository": other, "token": TOKEN}));
        assert_eq!(code, "failed_precondition", "{text}");
        for bad in [
            json!({"repository": "https://user:pass@git.example/a.git"}),
            json!({"repository": "ssh://git@git.example/a.git"}),
            json!({"repository": "http://git.example/a.git"}),
            json!({"repository": remote.url(), "session": "session/x"}),
            json!({"repository": remote.url(), "secret": "NONE"}),
            json!({"repository": remote.url(), "secret": "A", "token": "b"}),
            json!({"repository": remote.url(), "path": "repo"}),
        ] {
            assert_eq!(create(bad.clone()).0, "invalid_argument", "{bad}");
        }
        let mut body = wanted(remote, "x");
        body["network"] = json!("none");
        let answer = home.api("POST", "/v1/sandboxes", body.to_string().as_bytes());
        assert_eq!(answer.error_code(), "invalid_argument");
        let left = home.api("GET", "/v1/sandboxes", b"").json();
        assert_eq!(left["sandboxes"], json!([]));
        assert_eq!(home.api("GET", "/v1/git/sessions", b"").json()["sessions"], json!([]));
    });
}
