//! Templates: built from files, found again step by step, and used.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Home, Sandbox, command, wait_until};

const DOCKERFILE: &str = "\
FROM host AS build
ARG WORD=default
WORKDIR /work
RUN echo \"built $WORD\" > out && mkdir -p sub && echo deep > sub/file
FROM host
ENV GREETING=\"hello there\" BOTH=\"$GREETING\"
COPY --from=build /work/out /data/
COPY --from=build /work/sub /data/sub
COPY --chmod=755 bin/*.sh /opt/
COPY <<EOF /data/inline
name=$GREETING
EOF
USER user
WORKDIR /home/user
RUN touch mine
CMD [\"cat\", \"/data/out\"]
";

/// A directory to build from.
fn context(dockerfile: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("Dockerfile"), dockerfile).unwrap();
    fs::create_dir(root.join("bin")).unwrap();
    fs::write(root.join("bin/run.sh"), "#!/bin/sh\necho ran\n").unwrap();
    fs::write(root.join("big.log"), "ignored").unwrap();
    fs::write(root.join(".dockerignore"), "*.log\n").unwrap();
    folder
}

#[test]
fn a_template_is_built_found_again_and_used() {
    let home = Home::new();
    let folder = context(DOCKERFILE);
    let built = home.build(folder.path(), &["--build-arg", "WORD=given"]);
    assert_eq!((&built["status"], &built["cached"]), (&json!("ready"), &json!(0)), "{built}");
    let sandbox = home.create(&json!({"template": "t"}));
    let read = |path: &str| sandbox.exec(&["cat", path])["stdout"].as_str().unwrap().to_owned();
    assert_eq!(read("/data/out"), "built given\n");
    assert_eq!(read("/data/sub/file"), "deep\n");
    assert_eq!(read("/data/inline"), "name=hello there\n");
    assert_eq!(sandbox.exec(&["/opt/run.sh"])["stdout"], "ran\n");
    let about = sandbox.exec(&["sh", "-c", "id -un; pwd; stat -c %U mine; echo $GREETING"]);
    assert_eq!(about["stdout"], "user\n/home/user\nuser\nhello there\n");

    let again = home.build(folder.path(), &["--build-arg", "WORD=given"]);
    assert_eq!(again["status"], "ready");
    let all = again["cached"].as_u64().unwrap();
    assert_eq!(all, 6, "{again}");
    // One file has changed: what comes before its step is found.
    fs::write(folder.path().join("bin/run.sh"), "#!/bin/sh\necho changed\n").unwrap();
    let changed = home.build(folder.path(), &["--build-arg", "WORD=given"]);
    assert_eq!(changed["cached"], 3, "{changed}");
    let sandbox = home.create(&json!({"template": "t"}));
    assert_eq!(sandbox.exec(&["/opt/run.sh"])["stdout"], "changed\n");
    let run = home.warren(&["run", "--template", "t", "--", "cat", "/data/out"]);
    assert_eq!(run.good().text(), "built given\n");
}

#[test]
fn a_secret_is_seen_by_its_step_and_is_nowhere_else() {
    let home = Home::new();
    let folder = context(
        "FROM host\n\
         RUN --mount=type=secret,id=token --mount=type=secret,id=rc,target=/root/.rc \\\n\
             --mount=type=tmpfs,target=/scratch \\\n\
             test \"$(cat /run/secrets/token)\" = correct-horse-battery && cat /root/.rc \\\n\
             && cp /run/secrets/token /scratch/copy && echo done > /done\n\
         RUN test ! -e /run/secrets/token && test ! -e /root/.rc && test ! -e /scratch/copy\n\
         RUN --mount=type=secret,id=token,env=TOKEN \\\n\
             echo \"it is $TOKEN\"; echo \"$TOKEN\" >&2; exit ${FAIL:-0}\n",
    );
    let secret = folder.path().join("token.log");
    fs::write(&secret, "correct-horse-battery").unwrap();
    let secrets = ["token", "rc"].map(|id| format!("id={id},src={}", secret.display()));
    let more = ["--secret", secrets[0].as_str(), "--secret", secrets[1].as_str()];
    let built = home.build(folder.path(), &more);
    assert_eq!(built["status"], "ready", "{built}");
    let log = home.warren(&["--json", "template", "logs", "t"]).good().text();
    assert!(log.contains("it is ***"), "{log}");
    // Nor where a step fails that has it, nor once the server has written all that it knows.
    let dockerfile = folder.path().join("Dockerfile");
    let text = fs::read_to_string(&dockerfile).unwrap().replace("${FAIL:-0}", "3");
    fs::write(&dockerfile, text).unwrap();
    assert_eq!(home.build(folder.path(), &more)["status"], "failed");
    home.warren(&["serve", "--stop"]).good();
    for place in [home.data(), home.run_directory()] {
        let found = command("grep").args(["-rl", "correct-horse-battery"]).arg(place).output();
        let found = String::from_utf8_lossy(&found.unwrap().stdout).into_owned();
        assert_eq!(found, "", "the secret is on the disk");
    }
}

#[test]
fn what_fails_is_named_and_can_be_cancelled() {
    let home = Home::new();
    let folder = context("FROM host\nRUN echo so far >&2; exit 7\n");
    let failed = home.build(folder.path(), &[]);
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["failure"]["line"], 2);
    assert_eq!(failed["failure"]["message"], "it ended with status 7");
    let log = home.warren(&["--json", "template", "logs", "t"]).good().text();
    assert!(log.contains("so far"), "{log}");

    fs::write(folder.path().join("Dockerfile"), "FROM host\nRUN sleep 1000\n").unwrap();
    let path = folder.path().to_str().unwrap();
    let id = home.warren(&["template", "build", "--detach", "--tag", "t", path]).good().text();
    let ended = home.warren(&["--json", "template", "cancel", id.trim()]).good().text();
    let ended: Value = serde_json::from_str(&ended).unwrap();
    assert_eq!(ended["status"], "cancelled");
}

#[test]
fn a_server_that_is_killed_in_a_build_leaves_nothing_half_made() {
    let home = Home::new();
    let folder = context("FROM host\nRUN echo one > /one\nRUN echo two > /two && sleep 1000\n");
    let path = folder.path().to_str().unwrap();
    let id = home.warren(&["template", "build", "--detach", "--tag", "t", path]).good().text();
    let id = id.trim().to_owned();
    let get = |home: &Home| {
        let builds = home.warren(&["--json", "template", "builds", "t"]).good().text();
        let builds: Value = serde_json::from_str(&builds).unwrap();
        let all = builds["builds"].as_array().unwrap().clone();
        all.into_iter().find(|build| build["id"] == id.as_str()).unwrap()
    };
    wait_until("the second step runs", || get(&home)["done"] == 2);
    home.kill_server();
    let build_after = get(&home);
    assert_eq!(build_after["status"], "failed", "{build_after}");
    let snapshots = home.data().join("snapshots");
    wait_until("one layer is left", || {
        fs::read_dir(&snapshots).map_or(0, |entries| entries.flatten().count()) == 1
    });
    fs::write(folder.path().join("Dockerfile"), "FROM host\nRUN echo one > /one\n").unwrap();
    let built = home.build(folder.path(), &[]);
    assert_eq!((&built["status"], &built["cached"]), (&json!("ready"), &json!(1)), "{built}");
}

#[test]
fn what_is_started_is_ready_when_the_sandbox_is() {
    let home = Home::new();
    let folder = context(
        "FROM host\n\
         COPY <<'EOF' /srv/serve.sh\n\
         echo started with $WORD > /tmp/state\n\
         sleep 0.2\n\
         touch /tmp/ready\n\
         sleep 1000\n\
         EOF\n\
         ENV WORD=this\n",
    );
    let start = ["--start", "sh /srv/serve.sh", "--ready", "file:/tmp/ready", "--warm", "1"];
    let built = home.build(folder.path(), &start);
    assert_eq!(built["status"], "ready", "{built}");
    let sandbox = home.create(&json!({"template": "t", "warm": false}));
    let state = sandbox.exec(&["sh", "-c", "cat /tmp/state; test -e /tmp/ready && echo ready"]);
    assert_eq!(state["stdout"], "started with this\nready\n");
    let page = || home.api("GET", "/v1/metrics", b"").text();
    wait_until("one waits", || page().lines().any(|line| line == "warren_sandboxes_parked 1"));
    assert_eq!(home.create(&json!({"template": "t"})).get()["warm"], true);
}

#[test]
fn nothing_at_all_and_tar_archives_can_be_built_on() {
    let home = Home::new();
    let folder = context("FROM scratch\nADD tree.tar /\nCOPY bin/run.sh /bin/\n");
    let tree = folder.path().join("tree.tar");
    let made = command("tar")
        .args(["-cf", tree.to_str().unwrap(), "-C", folder.path().to_str().unwrap(), "bin"])
        .status()
        .unwrap();
    assert!(made.success());
    let built = home.build(folder.path(), &[]);
    assert_eq!(built["status"], "ready", "{built}");
    let sandbox = home.create(&json!({"template": "t", "user": "root"}));
    let listed = home.warren(&["files", "ls", &sandbox.id, "/bin"]);
    assert!(listed.good().text().contains("run.sh"));
}

#[test]
fn what_is_started_is_started_again_on_the_same_files() {
    let home = Home::new();
    let folder = context(
        "FROM host\n\
         RUN mkdir /data\n\
         COPY <<'EOF' /srv/serve.sh\n\
         echo \"started $WORD\" >> /data/log\n\
         touch /dev/shm/ready\n\
         sleep 1000\n\
         EOF\n\
         ENV WORD=this\n\
         USER root\n",
    );
    let start = ["--start", "sh /srv/serve.sh", "--ready", "file:/dev/shm/ready"];
    let built = home.build(folder.path(), &start);
    assert_eq!(built["status"], "ready", "{built}");
    let sandbox = home.create(&json!({"template": "t"}));
    let log = || sandbox.root("test -e /dev/shm/ready && cat /data/log");
    assert_eq!(log(), "started this\n");
    assert_eq!(sandbox.api("POST", "/stop", b"").status, 200);
    assert_eq!(sandbox.api("POST", "/start", b"").status, 200);
    assert_eq!(log(), "started this\n".repeat(2));
    // A server that dies meanwhile changes nothing in that.
    assert_eq!(sandbox.api("POST", "/stop", b"").status, 200);
    home.kill_server();
    home.warren(&["start", &sandbox.id]).good();
    assert_eq!(log(), "started this\n".repeat(3));

    let saved = sandbox.api("POST", "/snapshots", b"{}").json();
    let child = home.create(&json!({"snapshot": saved["id"]}));
    assert_eq!(child.root("test -e /dev/shm/ready && cat /data/log"), "started this\n".repeat(4));
    let forked = home.warren(&["fork", &sandbox.id]).good().text();
    let fork = Sandbox { home: &home, id: forked.trim().to_owned(), created: Value::Null };
    assert_eq!(fork.root("test -e /dev/shm/ready && cat /data/log"), "started this\n".repeat(4));
    sandbox.root("rm /data/log");
    home.warren(&["rollback", &sandbox.id, saved["id"].as_str().unwrap()]).good();
    assert_eq!(log(), "started this\n".repeat(4));
}
