//! The agent, attacked by root of its own sandbox.

use serde_json::json;

use crate::harness::Home;

#[test]
fn the_control_socket_is_not_reachable_from_inside() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let found = sandbox
        .root("find / -xdev -type s 2>/dev/null; cat /proc/net/unix | grep -c control || true");
    assert_eq!(found.trim(), "0", "{found}");
}
