//! The host's files.

use std::fs;

use super::profiles;
use crate::harness::Home;

#[test]
fn secrets_of_the_host_are_not_there() {
    let marker = tempfile::Builder::new().prefix("warren-secret-").tempfile().expect("a file");
    fs::write(marker.path(), "a secret of the host").expect("write it");
    let home = Home::new();
    for (sandbox, user) in profiles(&home) {
        let look = |line: &str| {
            let request = serde_json::json!({"command": ["sh", "-c", line], "user": user});
            sandbox.exec_as(&request)["stdout"].as_str().expect("text").to_owned()
        };
        assert_eq!(look("ls -A /home"), "user\n");
        assert_eq!(look("ls -A /root 2>/dev/null | grep -v '^\\.bashrc$\\|^\\.profile$'"), "");
        for path in [marker.path(), &home.data(), std::path::Path::new("/run/warren")] {
            assert_eq!(
                look(&format!("ls -d {} 2>/dev/null", path.display())),
                "",
                "{}",
                path.display()
            );
        }
        // Nobody inside has a password; on the host somebody may.
        assert_eq!(look("cut -d: -f2 /etc/shadow 2>/dev/null | grep -v '^[*!]*$'"), "");
        assert_eq!(
            look("cat /proc/cmdline /proc/kcore 2>/dev/null | head -c 1 | wc -c")
                .trim()
                .parse::<u32>()
                .unwrap()
                & !1,
            0
        );
    }
}

#[test]
fn the_hosts_usr_cannot_be_changed() {
    let home = Home::new();
    let sandbox = home.create(&serde_json::json!({}));
    let before = fs::metadata("/usr/bin/env").expect("env is there").len();
    sandbox.exec_as(&serde_json::json!({
        "command": ["sh", "-c", "echo broken > /usr/bin/env; rm -f /usr/bin/env; touch /usr/warren-was-here"],
        "user": "root",
    }));
    assert_eq!(fs::metadata("/usr/bin/env").expect("env is there").len(), before);
    assert!(!fs::exists("/usr/warren-was-here").expect("/usr can be looked at"));
}
