//! Processes of the host.

use serde_json::json;

use super::profiles;
use crate::harness::Home;

#[test]
fn only_the_sandboxs_own_processes_are_seen() {
    let home = Home::new();
    for (sandbox, user) in profiles(&home) {
        let line =
            "ls -d /proc/[0-9]* | wc -l; kill -0 $(($$ + 100000)) 2>/dev/null && echo reached";
        let outcome = sandbox.exec_as(&json!({"command": ["sh", "-c", line], "user": user}));
        let count: u32 =
            outcome["stdout"].as_str().unwrap().trim().parse().expect("a number alone");
        assert!(count < 10, "{count} processes");
    }
}

#[test]
fn a_guests_root_is_nobody_on_the_host() {
    if !crate::harness::is_root() {
        crate::harness::skip!("an ordinary user's sandbox runs as that user");
    }
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let map = sandbox.root("cat /proc/self/uid_map");
    let words: Vec<u32> =
        map.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    let [inside, outside, count] = words[..] else { panic!("more than one range: {map}") };
    assert_eq!((inside, count), (0, 65_536), "{map}");
    assert!(outside >= 65_536, "{map}");
}
