//! Tricks with paths through the files API.

use serde_json::json;

use crate::harness::Home;

#[test]
fn dots_and_links_stay_beneath_the_sandboxs_root() {
    let secret = tempfile::Builder::new().prefix("warren-secret-").tempfile().expect("a file");
    std::fs::write(secret.path(), "a secret of the host").expect("write it");
    let outside = secret.path().display();
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    sandbox.root(&format!(
        "ln -s /proc/1/root/{outside} /tmp/a; ln -s ../../../../../../{outside} /tmp/b; \
         ln -s /proc/self/root /tmp/c; ln -s / /tmp/d; ln -s loop /tmp/loop"
    ));
    for path in [
        format!("{outside}"),
        format!("/../../../..{outside}"),
        format!("/tmp/../../../../..{outside}"),
        "/tmp/a".to_owned(),
        "/tmp/b".to_owned(),
        format!("/tmp/c{outside}"),
        format!("/tmp/d{outside}"),
        "/tmp/loop".to_owned(),
        format!("/proc/1/root{outside}"),
        format!("/proc/1/cwd{outside}"),
        "/proc/1/environ".to_owned(),
    ] {
        for user in ["root", "user"] {
            let request = format!("/files?path={}&user={user}", path.replace('/', "%2F"));
            let answer = sandbox.api("GET", &request, b"");
            assert!(
                answer.status >= 400,
                "{path} as {user}: {} {:?}",
                answer.status,
                answer.text()
            );
            assert!(!answer.text().contains("secret of the host"), "{path} as {user}");
        }
    }
}

#[test]
fn writing_through_a_link_stays_inside() {
    let victim = tempfile::Builder::new().prefix("warren-victim-").tempfile().expect("a file");
    let path = victim.path().display().to_string();
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    sandbox.root(&format!("ln -s {path} /tmp/link; chmod 1777 /tmp"));
    sandbox.api("PUT", "/files?path=/tmp/link&user=root", b"overwritten");
    sandbox.api("PUT", &format!("/files?path={path}&user=root"), b"overwritten");
    assert_eq!(std::fs::read(victim.path()).expect("it is there"), b"");
}

#[test]
fn a_pipe_or_device_does_not_hang_the_agent() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    sandbox.exec(&["mkfifo", "/tmp/pipe"]);
    for path in ["/tmp/pipe", "/dev/zero", "/dev/tty"] {
        let answer = sandbox.api("GET", &format!("/files?path={path}"), b"");
        assert!(answer.status >= 400, "{path}: {}", answer.status);
    }
    assert_eq!(sandbox.exec(&["echo", "alive"])["stdout"], "alive\n");
}
