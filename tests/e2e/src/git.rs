//! Sandboxes whose work is a branch: real git, and a real server of repositories that wants a token.

mod remote;
mod rights;
mod saved;
mod work;

use serde_json::{Value, json};

use crate::harness::{Home, Sandbox, http, in_world};
use remote::{Remote, TOKEN};

/// Where the repository is inside.
const REPO: &str = "/home/user/repo";

/// Runs a test on a host of its own, beside a server of repositories.
fn with_remote(test: impl FnOnce(&Home, &Remote) + Send) {
    in_world(|world| test(&world.home, &Remote::start()));
}

/// What a request says about git.
fn wanted(remote: &Remote, session: &str) -> Value {
    json!({"git": {"repository": remote.url(), "session": session, "token": TOKEN}})
}

/// A sandbox that works on a session.
#[track_caller]
fn at_work<'a>(home: &'a Home, remote: &Remote, session: &str) -> Sandbox<'a> {
    home.create(&wanted(remote, session))
}

impl Sandbox<'_> {
    /// Runs a shell line in the repository, as its user; gives its standard output when it succeeds.
    #[track_caller]
    fn work(&self, line: &str) -> String {
        let outcome = self.try_work(line);
        assert_eq!(outcome["exit_code"], 0, "{line}: {outcome}");
        outcome["stdout"].as_str().expect("text").trim().to_owned()
    }

    /// The same, however it ends.
    #[track_caller]
    fn try_work(&self, line: &str) -> Value {
        self.exec_as(&json!({"command": ["sh", "-c", line], "workdir": REPO}))
    }

    /// Asks for something about the repository.
    #[track_caller]
    fn git(&self, method: &str, what: &str) -> Value {
        let body: &[u8] = if method == "GET" || what != "/commit" { b"" } else { b"{}" };
        self.api(method, &format!("/git{what}"), body).json()
    }

    /// What was refused to it by its broker.
    fn refusals(&self) -> Vec<String> {
        let path = format!("/v1/events?after=0&sandbox={}", self.id);
        let socket = self.home.socket();
        let mut stream = http::open(&socket, "GET", &path, "text/event-stream", b"");
        let mut refusals = Vec::new();
        // A change that is noted after all that was refused ends the list.
        self.git("POST", "/commit");
        let mut line = String::new();
        while std::io::BufRead::read_line(&mut stream, &mut line).expect("an event") > 0 {
            let text = std::mem::take(&mut line);
            let Some(data) = text.strip_prefix("data:") else { continue };
            let event: Value = serde_json::from_str(data).expect("an event's data");
            let detail = &event["detail"];
            match detail["event"].as_str() {
                Some("refused") => refusals.push(detail["reason"].as_str().unwrap().to_owned()),
                Some("committed") => break,
                _ => {}
            }
        }
        refusals
    }
}
