//! IPv6: never a way around what holds for IPv4.

use serde_json::json;
use warren_test_internet::{HOST_6, site, site_6};

use crate::harness::{allowing, in_world, needs};

#[test]
fn ipv6_leads_nowhere_that_rules_do_not_allow() {
    needs!("python3");
    in_world(|world| {
        let sandbox = world.create(&json!("open"));
        for network in [allowing(&["203.0.113.1"]), allowing(&["one.example"]), json!("none")] {
            sandbox.set_network(&network);
            sandbox.expect(&[
                ("tcp 2001:db8:1::2 9003", false),
                ("udp 2001:db8:1::2 7", false),
                ("icmp 2001:db8:1::2", false),
                (&format!("tcp {HOST_6} 9003"), false),
                ("tcp fe80::1 9003", false),
                // An address of IPv4 in the clothes of the other family.
                ("tcp ::ffff:203.0.113.2 9003", false),
            ]);
        }
    });
}

#[test]
fn a_name_with_addresses_of_both_families_is_reached_all_the_same() {
    needs!("python3");
    needs!("curl");
    in_world(|world| {
        let zone = world.internet.zone();
        zone.set("both.example", &[site_6(1).into(), site(1).into()]);
        for network in [json!("open"), allowing(&["both.example"])] {
            let sandbox = world.create(&network);
            sandbox.expect(&[("tcp both.example 9003", true)]);
            // One family after the other, without waiting for the one that is not there.
            let line = "curl -sS -o /dev/null -w '%{time_total}' http://both.example/";
            let seconds: f64 = sandbox.root(line).parse().expect("seconds");
            assert!(seconds < 4.0, "{seconds} s");
        }
    });
}
