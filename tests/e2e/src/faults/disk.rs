//! Disks that are full, at every stage.

use serde_json::{Value, json};

use crate::harness::{Home, Sandbox, http::Answer, skip, wait_until};

/// A data directory with so many megabytes, none of which is held back.
fn home(megabytes: u64) -> Option<Home> {
    let settings = [("WARREN_BLANKS", "0"), ("WARREN_PARKED", "0"), ("WARREN_DISK_RESERVE", "0")];
    Home::on_disk(megabytes << 20, &settings)
}

/// What a request says that found no room.
#[track_caller]
fn full(home: &Home, answer: &Answer) {
    let text = answer.text();
    assert_eq!(answer.error_code(), "resource_exhausted", "{text}\n{}", home.log());
    assert!(text.contains("space") || text.contains("full"), "{text}");
}

#[test]
fn on_a_full_disk_sandboxes_are_refused_and_removed() {
    let Some(home) = home(48) else { skip!("only root can mount") };
    let sandbox = home.create(&json!({}));
    let fill = json!({"command": ["sh", "-c", "cat /dev/zero > /root/all"], "user": "root"});
    let filled = sandbox.exec_as(&fill);
    let said = filled["stderr"].as_str().unwrap();
    assert!(said.contains("No space left on device"), "{filled}");
    let refused = home.api("POST", "/v1/sandboxes", b"{}");
    if refused.status != 201 {
        full(&home, &refused);
    } else {
        let id = refused.json()["id"].as_str().unwrap().to_owned();
        let other = Sandbox { home: &home, id, created: Value::Null };
        assert_eq!(other.api("DELETE", "", b"").status, 204);
    }
    assert_eq!(sandbox.api("DELETE", "", b"").status, 204);
    // What was removed is thrown away in the background.
    let mut id = Value::Null;
    wait_until("there is room again", || {
        let made = home.api("POST", "/v1/sandboxes", b"{}");
        if made.status == 201 {
            id = made.json()["id"].clone();
        } else {
            full(&home, &made);
        }
        !id.is_null()
    });
    let id = id.as_str().unwrap().to_owned();
    let next = Sandbox { home: &home, id, created: Value::Null };
    assert_eq!(next.root("echo on > /root/x; cat /root/x"), "on\n");
}
