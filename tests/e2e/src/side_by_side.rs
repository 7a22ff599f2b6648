//! Several servers on one machine.

use serde_json::json;

use crate::harness::Home;

#[test]
fn two_data_directories_do_not_see_each_other() {
    let (one, other) = (Home::new(), Home::new());
    let here = one.create(&json!({"name": "same"}));
    let there = other.create(&json!({"name": "same"}));
    assert_ne!(one.run_directory(), other.run_directory());
    assert_eq!(one.warren(&["list", "--quiet"]).good().text().trim(), here.id);
    assert_eq!(other.warren(&["list", "--quiet"]).good().text().trim(), there.id);
    assert_eq!(
        other.api("GET", &format!("/v1/sandboxes/{}", here.id), b"").error_code(),
        "not_found"
    );
    here.exec(&["sh", "-c", "echo here > ~/a"]);
    assert_ne!(there.exec(&["cat", "/home/user/a"])["exit_code"], 0);
    assert_eq!(here.api("DELETE", "", b"").status, 204);
    assert_eq!(there.exec(&["echo", "untouched"])["stdout"], "untouched\n");
}

#[test]
fn two_sandboxes_do_not_see_each_other() {
    let home = Home::new();
    let (one, other) = (home.create(&json!({})), home.create(&json!({})));
    one.exec(&["sh", "-c", "echo x > /tmp/a; (setsid sleep 996 >/dev/null 2>&1 &)"]);
    assert_ne!(other.exec(&["cat", "/tmp/a"])["exit_code"], 0);
    assert_eq!(other.exec(&["pgrep", "-c", "sleep"])["stdout"], "0\n");
    let owner = |sandbox: &crate::harness::Sandbox<'_>| sandbox.root("cat /proc/self/uid_map");
    if crate::harness::is_root() {
        assert_ne!(owner(&one), owner(&other), "two sandboxes share a range of ids");
    }
}
