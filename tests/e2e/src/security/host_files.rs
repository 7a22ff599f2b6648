//! The host's files.

use std::fs;

use super::profiles;
use crate::harness::{Home, is_root, skip};

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
fn no_file_that_others_may_not_read_comes_in_with_usr() {
    if !is_root() {
        skip!("a file of root cannot be made in /usr");
    }
    let home = Home::new();
    for (sandbox, user) in profiles(&home) {
        // What group and others may not read on the host must not be readable inside, as root either.
        let find = "find /usr /etc -xdev -type f ! -perm -o=r -size +0 2>/dev/null | \
                    while read f; do cat \"$f\" >/dev/null 2>&1 && echo \"$f\"; done";
        let request =
            serde_json::json!({"command": ["sh", "-c", find], "user": user, "timeout_ms": 60_000});
        let outcome = sandbox.exec_as(&request);
        let readable: Vec<_> = outcome["stdout"]
            .as_str()
            .expect("text")
            .lines()
            // Files of the sandbox's own clean /etc.
            .filter(|path| !path.starts_with("/etc/"))
            .collect();
        assert_eq!(readable, [""; 0]);
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
