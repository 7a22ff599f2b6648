//! Snapshots on their way to another server.

mod registry;

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::harness::Home;

/// The names in a tar archive.
fn names(path: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    let entries = archive.entries().unwrap();
    entries.map(|it| it.unwrap().path().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_snapshot_goes_to_another_server() {
    let (here, there) = (Home::new(), Home::new());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved.tar");
    let path = file.to_str().unwrap();
    let sandbox = here.create(&json!({"name": "work"}));
    sandbox.root("mkdir -p /srv/d && echo one > /srv/d/f && echo old > /srv/g && rm /etc/shells");
    here.warren(&["snapshot", "create", "work", "--name", "first"]).good();
    let second = here.create(&json!({"snapshot": "first", "name": "more"}));
    second.root("echo two > /srv/d/f && rm /srv/g && chown 1000:7 /srv/d && chmod 4711 /srv/d/f");
    here.warren(&["snapshot", "create", "more", "--name", "second"]).good();
    here.warren(&["snapshot", "export", "second", path]).good();
    // Both of its layers, and not the host's.
    assert_eq!(names(&file).iter().filter(|it| it.starts_with("blobs/")).count(), 4);
    let again = here.warren(&["snapshot", "export", "second", path]);
    assert!(again.errors().contains("name another file"), "{}", again.errors());

    let arguments = ["--json", "snapshot", "import", path, "--name", "came", "--tag", "far"];
    let came: Value = serde_json::from_str(&there.warren(&arguments).good().text()).unwrap();
    assert_eq!((came["name"].as_str(), came["tags"][0].as_str()), (Some("came"), Some("far")));
    let other = there.create(&json!({"snapshot": "came"}));
    assert_eq!(
        other.root("cat /srv/d/f; stat -c '%u:%g' /srv/d; stat -c %a /srv/d/f"),
        "two\n1000:7\n4711\n"
    );
    assert_eq!(other.root("ls /srv; ls /etc/shells 2>/dev/null | wc -l"), "d\n0\n");
    // It is itself, and not what was saved.
    assert_ne!(other.root("hostname").trim(), "more");
    // Exported once more it is the same, in one layer.
    let back = folder.path().join("back.tar");
    there.warren(&["snapshot", "export", "came", back.to_str().unwrap()]).good();
    here.warren(&["snapshot", "import", back.to_str().unwrap(), "--name", "back"]).good();
    let same = here.warren(&["snapshot", "diff", "second", "back"]).good().text();
    assert_eq!(same, "");
}

#[test]
fn what_is_no_snapshot_is_refused_and_leaves_nothing() {
    let home = Home::new();
    let sandbox = home.create(&json!({"name": "work"}));
    sandbox.root("echo one > /srv/f");
    home.warren(&["snapshot", "create", "work", "--name", "saved"]).good();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved.tar");
    home.warren(&["snapshot", "export", "saved", file.to_str().unwrap()]).good();
    let whole = fs::read(&file).unwrap();
    let check = |bytes: &[u8], words: &str| {
        let answer = home.api("PUT", "/v1/snapshots?name=bad", bytes);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 400, "{text}");
        assert!(text.contains(words), "{text}");
    };
    check(b"", "archive");
    check(b"no archive at all", "ends too early");
    check(&whole[..whole.len() / 2], "archive");
    let mut damaged = whole.clone();
    let at = whole.windows(4).position(|it| it == [0x1f, 0x8b, 8, 0]).unwrap() + 20;
    damaged[at] ^= 0xff;
    check(&damaged, "blobs/sha256/");
    let taken = home.api("PUT", "/v1/snapshots?name=saved", &whole);
    assert_eq!(taken.status, 409, "{}", String::from_utf8_lossy(&taken.body));
    let list: Value = home.api("GET", "/v1/snapshots", b"").json();
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 1);
    let left = fs::read_dir(home.data().join("snapshots")).unwrap().count();
    assert_eq!(left, 1, "what was refused is on the disk");
}
