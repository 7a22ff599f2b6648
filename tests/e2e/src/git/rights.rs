//! What a sandbox may do with the remote, and what it never has.

use serde_json::json;

use super::{TOKEN, at_work, wanted, with_remote};
use crate::harness::needs;

/// The broker's address of the repository, as the sandbox's system settings have it.
const BASE: &str = "git config --system --get-regexp '^url\\..*\\.insteadof$' \
                    | sed 's/^url\\.\\(.*\\)\\.insteadof .*/\\1/'";

#[test]
fn the_token_is_nowhere_inside() {
    needs!("git");
    with_remote(|home, remote| {
        let sandbox = at_work(home, remote, "work");
        sandbox.work("echo a > a && git add a && git commit -q -m a && git push -q");
        assert_eq!(remote.file("work", "a"), "a");
        sandbox.git("POST", "/push");
        // The search itself must not have what it looks for in its command line.
        let (one, two) = TOKEN.split_at(10);
        sandbox.root(&format!("printf %s {one} > /tmp/needle; printf %s {two} >> /tmp/needle"));
        let found = sandbox.root(
            "cd /; grep -rlaFf /tmp/needle --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr \
             --exclude-dir=dev --exclude=needle / 2> /dev/null; \
             grep -laFf /tmp/needle /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2> /dev/null; true",
        );
        assert_eq!(found, "");
        let settings = sandbox.work("git config --list; git remote -v; env");
        assert!(!settings.contains(TOKEN), "{settings}");
        // Nor in what the server tells, or its log.
        for path in ["", "/git"] {
            assert!(!sandbox.api("GET", path, b"").text().contains(TOKEN));
        }
        assert!(!home.log().contains(TOKEN));
        let database = std::fs::read(home.data().join("warren.db")).expect("the database");
        assert!(!database.windows(TOKEN.len()).any(|it| it == TOKEN.as_bytes()));
    });
}

#[test]
fn a_sandbox_pushes_its_session_and_nothing_else() {
    needs!("git");
    needs!("curl");
    with_remote(|home, remote| {
        let sandbox = at_work(home, remote, "work");
        let trunk = remote.tip("trunk");
        sandbox.work("echo a > a && git add a && git commit -q -m a && git push -q origin work");
        for refused in [
            "git push -q origin HEAD:trunk",
            "git push -q --force origin HEAD~1:refs/heads/trunk",
            "git push -q origin HEAD:refs/tags/v1",
            "git push -q origin :work",
            "git push -q origin HEAD:work HEAD:trunk",
            "git push -q origin HEAD:session/other/rescue-1",
            "git push -q -o merge_request.create origin HEAD:work",
        ] {
            let outcome = sandbox.try_work(&format!("echo x >> a; git commit -qam x; {refused}"));
            assert_ne!(outcome["exit_code"], 0, "{refused}: {outcome}");
        }
        assert_eq!(
            (remote.tip("trunk"), remote.branches()),
            (trunk, vec!["trunk".into(), "work".into()])
        );
        // Not another repository, no other request, and no other host.
        let base = sandbox.root(BASE).trim().to_owned();
        let other = base.replace("agent.git", "other.git");
        let gate = base.split(&remote.authority()).next().unwrap().to_owned();
        assert_ne!(sandbox.try_work(&format!("git ls-remote {other}"))["exit_code"], 0);
        for path in [
            format!("{base}/HEAD"),
            format!("{base}/objects/info/packs"),
            format!("{other}/info/refs?service=git-upload-pack"),
            format!("{gate}169.254.169.254/team/agent.git/info/refs?service=git-upload-pack"),
            format!("{base}/../other.git/info/refs?service=git-upload-pack"),
            gate.clone(),
        ] {
            let line = format!("curl -s -o /dev/null -w '%{{http_code}}' --path-as-is '{path}'");
            assert_eq!(sandbox.work(&line), "403", "{path}");
        }
        assert!(!remote.seen().iter().any(|line| line.contains("other")), "{:?}", remote.seen());
        sandbox.work("echo last > last");
        let refusals = sandbox.refusals();
        let told = |words: &str| refusals.iter().any(|it| it.contains(words));
        for words in ["may not change refs/heads/trunk", "no right to", "options of a push"] {
            assert!(told(words), "{words}: {refusals:?}");
        }
        // A neighbour without a session does not even get there.
        let neighbour = home.create(&json!({}));
        let line = format!("curl -s '{base}/info/refs?service=git-upload-pack'; echo ended $?");
        assert_eq!(neighbour.root(&line).trim(), "ended 7");
    });
}

#[test]
fn who_may_read_does_not_push() {
    needs!("git");
    with_remote(|home, remote| {
        let mut body = wanted(remote, "work");
        body["git"]["read_only"] = json!(true);
        let sandbox = home.create(&body);
        sandbox.work("git fetch -q && echo a > a && git add a && git commit -q -m a");
        assert_ne!(sandbox.try_work("git push -q origin work")["exit_code"], 0);
        // Nothing of it is kept, and nothing keeps it.
        home.warren(&["rm", &sandbox.id]).good();
        assert_eq!(remote.branches(), ["trunk"]);
    });
}
