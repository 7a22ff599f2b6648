//! A sandbox without a network.

use serde_json::json;

use super::python;
use crate::harness::Home;

#[test]
fn with_no_network_there_is_only_the_loopback() {
    crate::harness::needs!("python3");
    let home = Home::new();
    let sandbox = home.create(&json!({"network": "none"}));
    let routes =
        sandbox.root("cat /proc/net/route | tail -n +2; ls /proc/sys/net/ipv4/conf 2>/dev/null");
    assert!(!routes.contains("eth0"), "{routes}");
    let program = "import socket, json\n\
        s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n\
        c = socket.create_connection(s.getsockname(), 1)\n\
        print(json.dumps('own loopback works'))";
    assert_eq!(python(&sandbox, "user", program), json!("own loopback works"));
}
