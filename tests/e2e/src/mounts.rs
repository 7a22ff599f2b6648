//! Directories of the host inside sandboxes.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use serde_json::json;

use crate::harness::{Home, Leftovers, is_root, wait_until};

/// Somebody on this machine who is neither root nor anybody else.
const SOMEBODY: u32 = 54_321;

/// A directory that belongs to somebody, with a file of its own and one of root's in it.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix("warren-e2e-mount-").tempdir().unwrap();
    fs::write(directory.path().join("mine"), "hello").unwrap();
    fs::write(directory.path().join("roots"), "secret").unwrap();
    fs::set_permissions(directory.path().join("roots"), fs::Permissions::from_mode(0o600)).unwrap();
    chown(directory.path(), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    chown(directory.path().join("mine"), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    directory
}

fn owner(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid())
}

#[test]
fn files_belong_to_the_directorys_owner_outside_and_to_the_user_inside() {
    if !is_root() {
        crate::harness::skip!("ids are mapped by a server of root");
    }
    let (home, directory) = (Home::new(), directory());
    let flag = format!("{}:/work/here", directory.path().display());
    let line = "id -un; cat mine; echo new > new; mkdir d; stat -c %U mine; stat -c %U roots; \
                cat roots 2>&1 | grep -c denied";
    let shown =
        home.warren(&["run", "--mount", &flag, "--workdir", "/work/here", "--", "sh", "-c", line]);
    assert_eq!(shown.good().text(), "user\nhellouser\nnobody\n1\n");
    for name in ["new", "d"] {
        assert_eq!(owner(&directory.path().join(name)), (SOMEBODY, SOMEBODY), "{name}");
    }
    assert_eq!(fs::read_to_string(directory.path().join("new")).unwrap(), "new\n");
    // Root inside is nobody there: what it cannot own, it cannot make.
    let line = "sudo sh -c 'cat mine; cat roots; touch made; chown root mine' 2>/dev/null; true";
    let shown =
        home.warren(&["run", "--mount", &flag, "--workdir", "/work/here", "--", "sh", "-c", line]);
    let text = shown.good().text();
    assert!(text.is_empty() || text == "hello", "{text}");
    assert_eq!(owner(&directory.path().join("mine")), (SOMEBODY, SOMEBODY));
    assert!(!directory.path().join("made").exists());
    wait_until("nothing is left", || Leftovers::of(&home).0.is_empty());
}

#[test]
fn a_directory_can_be_had_for_reading_alone() {
    let (home, directory) = (Home::new(), tempfile::tempdir().unwrap());
    fs::write(directory.path().join("file"), "words").unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let flag = format!("{}:ro", directory.path().display());
    let line = "cat /workspace/file; touch /workspace/new 2>&1 | grep -c Read-only";
    let shown = home.warren(&["run", "--mount", &flag, "--", "sh", "-c", line]).good();
    assert_eq!(shown.text(), "words1\n");
    assert!(!directory.path().join("new").exists());
}

#[test]
fn what_may_not_be_mounted_is_refused_and_leaves_nothing() {
    if !is_root() {
        crate::harness::skip!("an ordinary user's server has only that user's files");
    }
    let home = Home::new();
    home.warren(&["list"]).good();
    let ask = |mounts: serde_json::Value| {
        let body = json!({ "mounts": mounts }).to_string();
        let answer = home.api("POST", "/v1/sandboxes", body.as_bytes());
        assert_eq!(answer.error_code(), "invalid_argument", "{}", answer.text());
        answer.text()
    };
    let roots = tempfile::tempdir().unwrap();
    let path = roots.path().to_str().unwrap();
    let message = ask(json!([{"source": path, "target": "/w"}]));
    assert!(message.contains("belongs to root") && message.contains(":ro"), "{message}");
    assert!(ask(json!([{"source": "/nowhere", "target": "/w"}])).contains("no directory /nowhere"));
    assert!(ask(json!([{"source": "/etc/passwd", "target": "/w"}])).contains("not a directory"));
    assert!(ask(json!([{"source": "/etc/../etc", "target": "/w"}])).contains("without `..`"));
    assert!(ask(json!([{"source": path, "target": "/proc/1"}])).contains("/proc"));
    let pid = std::process::id();
    let magic = format!("/proc/{pid}/cwd");
    assert!(ask(json!([{"source": magic, "target": "/w"}])).contains("cannot be opened"));
    wait_until("nothing is left", || Leftovers::of(&home).0.is_empty());
}

#[test]
fn a_place_inside_never_leads_out_of_the_sandbox() {
    if !is_root() {
        crate::harness::skip!("a hostile image is made as root");
    }
    let (home, directory) = (Home::new(), directory());
    // A stopped sandbox whose files a hostile guest has prepared.
    let source = directory.path().to_str().unwrap();
    let sandbox = home.create(&json!({"mounts": [{"source": source, "target": "/home/user/w/x"}]}));
    assert_eq!(sandbox.exec(&["cat", "/home/user/w/x/mine"])["stdout"], "hello");
    home.warren(&["stop", &sandbox.id]).good();
    let upper = home.data().join("stopped").join(&sandbox.id).join("disk/upper/home/user");
    fs::remove_dir_all(upper.join("w")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), upper.join("w")).unwrap();
    let started = home.warren(&["start", &sandbox.id]);
    // It goes to a place of that name inside, or nowhere.
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(started.code() == 0, sandbox.get()["state"] == "running");
}

#[test]
fn what_the_operator_gives_is_everybodys() {
    if !is_root() {
        crate::harness::skip!("an ordinary user's server has only that user's files");
    }
    let given = tempfile::tempdir().unwrap();
    fs::create_dir(given.path().join("sub")).unwrap();
    fs::write(given.path().join("sub/file"), "data").unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), given.path().join("out")).unwrap();
    let path = given.path().canonicalize().unwrap();
    let path = path.to_str().unwrap();
    let home =
        Home::with(&[("WARREN_BLANKS", "0"), ("WARREN_PARKED", "0"), ("WARREN_MOUNTS", path)]);
    let source = format!("{path}/sub");
    let sandbox = home.create(&json!({"mounts": [{"source": source, "target": "/d"}]}));
    assert_eq!(sandbox.created["mounts"][0]["source"], source.as_str());
    let shown = sandbox.exec(&["sh", "-c", "cat /d/file; echo more > /d/new"]);
    assert_eq!(shown["stdout"], "data", "{shown}");
    assert_eq!(fs::read_to_string(given.path().join("sub/new")).unwrap(), "more\n");
    let body = json!({"mounts": [{"source": format!("{path}/out"), "target": "/d"}]}).to_string();
    let refused = home.api("POST", "/v1/sandboxes", body.as_bytes());
    assert_eq!(refused.error_code(), "invalid_argument", "{}", refused.text());
}
