//! What an operator lets sandboxes reach although it is private.

use serde_json::json;
use warren_test_internet::NAME_SERVER;

use crate::harness::{Home, in_world, needs};

#[test]
fn a_private_network_that_is_named_is_reached_and_nothing_else_is() {
    needs!("python3");
    in_world(|world| {
        let zone = world.internet.zone();
        let addresses = ["192.168.77.5", "fd00:77::5"].map(|it| it.parse().expect("an address"));
        zone.set("intranet.example", &addresses);
        let name_servers = NAME_SERVER.to_string();
        let home = Home::with(&[
            ("WARREN_BLANKS", "0"),
            ("WARREN_PARKED", "0"),
            ("WARREN_NAME_SERVERS", &name_servers),
            ("WARREN_REACHABLE", "192.168.77.0/24, fd00:77::/64, 198.51.100.0/24"),
        ]);
        let near = [
            ("tcp 192.168.77.5 9003", true),
            ("udp 192.168.77.5 7", true),
            ("tcp fd00:77::5 9003", true),
            ("udp fd00:77::5 7", true),
            ("tcp intranet.example 9003", true),
            ("name intranet.example", true),
            ("name6 intranet.example", true),
            ("tcp one.example 9003", true),
            ("tcp 10.99.0.5 9003", false),
            ("tcp 169.254.169.254 9003", false),
            ("tcp fd00:ec2::254 9003", false),
            ("tcp 2001:db8:ff::1 9003", false),
            // This host itself is not reached, whatever is named.
            ("tcp 198.51.100.2 9003", false),
            ("tcp 2001:db8:ff::2 9003", false),
        ];
        let _service = std::net::TcpListener::bind(("::", 9003)).expect("bind");
        let open = home.create(&json!({"network": "open"}));
        open.expect(&near);
        let said = home.warren(&["net", "explain", &open.id, "192.168.77.5:80"]);
        assert_eq!(said.code(), 0, "{}", said.text());
        // Rules decide about it as about all else.
        let rules = json!({"otherwise": "deny", "rules": [
            {"action": "allow", "to": "192.168.77.5:9003"},
            {"action": "allow", "to": "intranet.example:80"},
        ]});
        let ruled = home.create(&json!({"network": rules}));
        ruled.expect(&[
            ("tcp 192.168.77.5 9003", true),
            ("web intranet.example 80 intranet.example", true),
            ("udp 192.168.77.5 7", false),
            ("tcp 192.168.77.6 9003", false),
            ("tcp fd00:77::5 9003", false),
        ]);
        // A server without the setting lets nobody there.
        let other = world.create(&json!("open"));
        other.expect(&[("tcp 192.168.77.5 9003", false), ("tcp fd00:77::5 9003", false)]);
    });
}

#[test]
fn a_setting_that_is_no_network_is_refused_with_what_was_expected() {
    let home = Home::with(&[("WARREN_REACHABLE", "0.0.0.0/0")]);
    let said = home.warren(&["list"]);
    assert_ne!(said.code(), 0);
    assert!(said.errors().contains("such as `192.168.7.0/24"), "{}", said.errors());
}
