//! Kill -9 at any moment: what lives goes on, what is nobody's is removed.

use std::fs;

use serde_json::json;

use crate::{
    harness::{Home, Leftovers, processes_named, wait_until},
    output::{lines, text_of},
};

#[test]
fn sandboxes_outlive_a_killed_server_and_are_found_again() {
    let home = Home::new();
    let sandbox = home.create(&json!({"name": "survivor"}));
    sandbox.exec(&["sh", "-c", "echo kept > ~/file; (setsid sleep 997 >/dev/null 2>&1 &)"]);
    home.kill_server();
    let listed = home.warren(&["list", "--quiet"]).good().text();
    assert_eq!(listed.trim(), sandbox.id);
    assert_eq!(sandbox.exec(&["cat", "/home/user/file"])["stdout"], "kept\n");
    assert_eq!(sandbox.exec(&["pgrep", "-c", "sleep"])["stdout"], "1\n");
    assert_eq!(sandbox.get()["state"], "running");
}

#[test]
fn output_is_complete_after_the_server_was_killed() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let line = "for i in 1 2 3 4 5; do echo line $i; done; \
                while [ ! -e /tmp/go ]; do sleep 0.02; done; echo end; exit 5";
    let started = sandbox.exec_as(&json!({"command": ["sh", "-c", line], "detach": true}));
    home.kill_server();
    home.warren(&["exec", &sandbox.id, "--", "touch", "/tmp/go"]).good();
    let exec = started["exec_id"].as_str().unwrap();
    let events = lines(&sandbox, "GET", &format!("/exec/{exec}/output?offset=0"), b"");
    assert_eq!(text_of(&events), "line 1\nline 2\nline 3\nline 4\nline 5\nend\n");
    assert_eq!(events.last().unwrap()["exit_code"], 5, "{events:?}");
}

#[test]
fn a_deadline_holds_though_no_server_runs() {
    let home = Home::new();
    let sandbox = home.create(&json!({"lifetime_seconds": 2}));
    let guest = guest_pid(&home, &sandbox.id);
    home.kill_server();
    wait_until("the guest has ended by itself", || !fs::exists(format!("/proc/{guest}")).unwrap());
    assert_eq!(home.warren(&["list", "--quiet"]).good().text(), "");
    let ended = sandbox.api("GET", "", b"");
    assert!(ended.status == 404 || ended.json()["end"]["reason"] == "timeout", "{}", ended.text());
    wait_until("nothing is left", || Leftovers::of(&home).0.is_empty());
}

#[test]
fn nothing_is_left_after_a_kill_in_the_middle_of_many_creates() {
    let mut home = Home::with(&[("WARREN_BLANKS", "4"), ("WARREN_PARKED", "1")]);
    home.warren(&["list"]).good();
    let socket = home.socket();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let socket = socket.clone();
            std::thread::spawn(move || {
                use std::io::{Read, Write};
                // The server may be gone before any of these; that is what this is about.
                let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) else {
                    return;
                };
                let request = "POST /v1/sandboxes HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                               content-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
                drop(stream.write_all(request.as_bytes()));
                let mut answer = Vec::new();
                drop(stream.read_to_end(&mut answer));
            })
        })
        .collect();
    home.kill_server();
    for client in clients {
        client.join().unwrap();
    }
    home.warren(&["rm", "--all", "--force"]).good();
    home.warren(&["serve", "--stop"]).good();
    // A server that keeps nothing ready must remove what those before it have left.
    home.set(&[("WARREN_BLANKS", "0"), ("WARREN_PARKED", "0")]);
    home.warren(&["list"]).good();
    wait_until("nothing is left", || Leftovers::of(&home).0.is_empty());
}

#[test]
fn a_removed_sandbox_leaves_nothing() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    sandbox.exec(&["sh", "-c", "echo x > ~/f; (setsid sleep 998 >/dev/null 2>&1 &)"]);
    assert!(!Leftovers::of(&home).0.is_empty(), "a live sandbox must be seen by this test");
    assert_eq!(sandbox.api("DELETE", "", b"").status, 204);
    wait_until("nothing is left", || Leftovers::of(&home).0.is_empty());
}

#[test]
fn sandboxes_outlive_a_killed_keeper() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let server = home.server_pid().unwrap();
    let keeper = Leftovers::keepers(&home);
    assert_eq!(keeper.len(), 1, "server {server}, keepers {:?}", processes_named("warren-keeper"));
    crate::harness::kill(keeper[0]);
    wait_until("commands go on", || sandbox.exec(&["echo", "on"])["stdout"] == "on\n");
    let next = home.create(&json!({}));
    assert_eq!(next.exec(&["echo", "new"])["stdout"], "new\n");
    for sandbox in [&sandbox, &next] {
        assert_eq!(sandbox.api("DELETE", "", b"").status, 204);
    }
    wait_until("nothing is left", || Leftovers::of(&home).0.is_empty());
}

#[test]
fn server_and_keeper_killed_together_leave_sandboxes_that_are_found() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let keepers = Leftovers::keepers(&home);
    home.kill_server();
    keepers.into_iter().for_each(crate::harness::kill);
    assert_eq!(home.warren(&["exec", &sandbox.id, "--", "echo", "on"]).good().text(), "on\n");
    home.warren(&["rm", &sandbox.id]).good();
    wait_until("nothing is left", || Leftovers::of(&home).0.is_empty());
}

/// The blanks of a server end with it, so its keeper buries them while the next server greets it.
#[test]
fn a_keeper_stays_with_the_next_server() {
    let home = Home::with(&[("WARREN_BLANKS", "4"), ("WARREN_PARKED", "0")]);
    let sandbox = home.create(&json!({}));
    let keepers = Leftovers::keepers(&home);
    let blanks = home.data().join("blanks");
    for round in 0..10 {
        wait_until("blanks wait", || fs::read_dir(&blanks).unwrap().count() == 4);
        match round % 2 {
            0 => home.kill_server(),
            _ => drop(home.warren(&["serve", "--stop"]).good()),
        }
        home.warren(&["list"]).good();
    }
    let log = fs::read_to_string(home.data().join("server.log")).unwrap();
    assert!(!log.contains("keeper died") && !log.contains("blank failed"), "{log}");
    let alive = |pid: &u32| fs::exists(format!("/proc/{pid}")).unwrap();
    assert!(keepers.len() == 1 && keepers.iter().all(alive), "{keepers:?}");
    assert_eq!(sandbox.exec(&["echo", "on"])["stdout"], "on\n");
    assert_eq!(sandbox.api("DELETE", "", b"").status, 204);
}

/// The first process of a sandbox, from the journal.
fn guest_pid(home: &Home, id: &str) -> u32 {
    let path = home.data().join("sandboxes").join(id).join("guest");
    let record = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let line = record.lines().find_map(|line| line.strip_prefix("pid ")).expect("a pid");
    line.parse().expect("a number")
}
