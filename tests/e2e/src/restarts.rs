//! Stopped and started again, with the real thing; and what is measured and reached from outside.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use serde_json::json;

use crate::harness::{Home, Leftovers, wait_until};

#[test]
fn files_survive_a_stop_and_processes_do_not() {
    let home = Home::new();
    let sandbox = home.create(&json!({"name": "keeper"}));
    let write = "echo words > ~/file && sudo sh -c 'echo more > /etc/own' 2>/dev/null; \
                 ln -s /etc/passwd ~/link; mkdir -p ~/d/e; rm /etc/hosts; sleep 999 >/dev/null 2>&1 & echo done";
    assert_eq!(sandbox.exec(&["bash", "-c", write])["stdout"], "done\n");
    let before = sandbox.exec(&["bash", "-c", "cat /etc/own 2>/dev/null; hostname; id -u"]);
    home.warren(&["stop", "keeper"]).good();
    assert_eq!(sandbox.get()["state"], "stopped");
    assert_eq!(sandbox.get()["startable"], true);
    let refused = sandbox.api("POST", "/exec", br#"{"command":["true"]}"#);
    assert_eq!(refused.error_code(), "failed_precondition", "{}", refused.text());
    // Nothing runs on the host for it.
    wait_until("no slot is in use", || {
        std::fs::read_dir(home.run_directory().join("s")).is_ok_and(|it| it.count() == 0)
    });

    home.warren(&["start", "keeper"]).good();
    let look = "cat ~/file; readlink ~/link; test -d ~/d/e && echo dir; \
                grep -c localhost /etc/hosts; pgrep -c sleep; true";
    let shown = sandbox.exec(&["bash", "-c", look]);
    assert_eq!(shown["stdout"], "words\n/etc/passwd\ndir\n2\n0\n", "{shown}");
    let after = sandbox.exec(&["bash", "-c", "cat /etc/own 2>/dev/null; hostname; id -u"]);
    assert_eq!(after["stdout"], before["stdout"]);
    home.warren(&["rm", "keeper"]).good();
    wait_until("nothing is left", || Leftovers::of(&home).0.is_empty());
}

#[test]
fn a_stopped_sandbox_outlives_its_server_and_is_removed_with_its_files() {
    let home = Home::new();
    let sandbox = home.create(&json!({"on_deadline": "stop", "lifetime_seconds": 1}));
    wait_until("it is stopped", || sandbox.get()["state"] == "stopped");
    assert_eq!(sandbox.get()["end"]["reason"], "timeout");
    home.kill_server();
    home.warren(&["list"]).good();
    assert_eq!(sandbox.get()["startable"], true);
    home.warren(&["start", &sandbox.id]).good();
    home.warren(&["extend", &sandbox.id, "1h"]).good();
    home.warren(&["stop", &sandbox.id]).good();
    home.warren(&["rm", &sandbox.id]).good();
    wait_until("nothing is left", || Leftovers::of(&home).0.is_empty());
    let stopped = home.data().join("stopped");
    assert_eq!(std::fs::read_dir(stopped).unwrap().count(), 0);
}

#[test]
fn what_a_sandbox_uses_is_measured() {
    let home = Home::new();
    let sandbox = home.create(&json!({"memory_bytes": 256 << 20}));
    sandbox.exec(&["bash", "-c", "for i in $(seq 20000); do :; done; head -c 8M /dev/zero > ~/f"]);
    let metrics = sandbox.api("GET", "/metrics", b"");
    if metrics.status == 501 {
        crate::harness::skip!("measuring needs cgroups: {}", metrics.text());
    }
    let metrics = metrics.json();
    assert!(metrics["memory_bytes"].as_u64().unwrap() > 1 << 20, "{metrics}");
    assert!(metrics["cpu_us"].as_u64().unwrap() > 1000, "{metrics}");
    assert_eq!(metrics["limits"]["memory_bytes"], 256 << 20);
    let stats = home.warren(&["stats"]).good().text();
    assert!(stats.contains(&sandbox.id) && stats.contains("256 MiB"), "{stats}");
}

#[test]
fn a_port_inside_is_listed_and_reached() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let version = home.api("GET", "/v1/version", b"").json();
    if version["runtime"]["capabilities"]["dial"] != true {
        crate::harness::skip!("no network for sandboxes here: {version}");
    }
    let server = "import socket\ns = socket.create_server(('127.0.0.1', 8123))\n\
                  while True:\n c, _ = s.accept()\n c.sendall(b'got ' + c.recv(64)); c.close()";
    sandbox.exec_as(&json!({"command": ["python3", "-c", server], "detach": true}));
    let listed = || sandbox.api("GET", "/ports", b"").json()["ports"].clone();
    wait_until("it listens", || listed() == json!([{"port": 8123, "loopback": true}]));

    let mut stream = UnixStream::connect(home.socket()).unwrap();
    let ask = |port: u16| {
        format!(
            "GET /v1/sandboxes/{}/ports/{port} HTTP/1.1\r\nhost: warren\r\n\
             connection: upgrade\r\nupgrade: tcp\r\n\r\n",
            sandbox.id
        )
    };
    stream.write_all(ask(8123).as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream.write_all(b"bytes").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "got bytes");

    let mut stream = UnixStream::connect(home.socket()).unwrap();
    stream
        .write_all(ask(8124).replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("listens on port 8124"),
        "{answer}"
    );
}

#[test]
fn what_a_detached_command_writes_outlives_the_server_and_the_sandbox() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let line = "echo first; until test -e ~/go; do sleep 0.02; done; echo second; echo third >&2";
    let started = sandbox.exec_as(&json!({"command": ["sh", "-c", line], "detach": true}));
    let exec = started["exec_id"].as_str().unwrap().to_owned();
    let logs = || home.warren(&["logs", &sandbox.id]).good();
    wait_until("the first line is kept", || logs().text() == "first\n");
    home.kill_server();
    home.warren(&["exec", &sandbox.id, "--", "touch", "/home/user/go"]).good();
    wait_until("its end is kept", || logs().errors().contains("ended with status 0"));
    assert_eq!(logs().text(), "first\nsecond\n");
    let errors = logs().errors();
    assert!(
        errors.contains("third\n") && errors.contains(&format!("[{exec} started]")),
        "{errors}"
    );
    home.warren(&["stop", &sandbox.id]).good();
    let last = home.warren(&["logs", "--quiet", "--tail", "1", &sandbox.id]).good();
    let last = last.text() + &last.errors();
    assert!(["second\n", "third\n"].contains(&last.as_str()), "{last}");
    let followed = home.warren(&["logs", "--follow", "--quiet", &sandbox.id]).good();
    assert_eq!((followed.text(), followed.errors()), ("first\nsecond\n".into(), "third\n".into()));
}
