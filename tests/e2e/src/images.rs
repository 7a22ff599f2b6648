//! Root filesystems that are not the host's.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Home, command, run};

/// A root filesystem with a shell and little else.
pub(crate) fn small_root() -> TempDir {
    root_with(&["/bin/sh", "/bin/cat", "/bin/ls"])
}

/// A root filesystem with these programs of the host, and what they need.
pub(crate) fn root_with(programs: &[&str]) -> TempDir {
    let root = tempfile::Builder::new().prefix("warren-image-").tempdir().expect("a directory");
    // The server of an ordinary user and the guest's users must be able to enter it.
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("open it");
    for program in programs {
        copy(Path::new(program), root.path());
        let libraries = run(command("ldd").arg(program), b"").good().text();
        let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        paths.for_each(|path| copy(Path::new(path), root.path()));
    }
    fs::create_dir_all(root.path().join("etc")).expect("make /etc");
    fs::write(root.path().join("etc/motd"), "a small root\n").expect("write a file");
    root
}

fn copy(file: &Path, root: &Path) {
    let to = root.join(file.strip_prefix("/").expect("an absolute path"));
    fs::create_dir_all(to.parent().expect("a parent")).expect("make a directory");
    fs::copy(file, to).expect("copy a file");
}

#[test]
fn a_directory_is_a_root_that_is_never_written_to() {
    let root = small_root();
    let home = Home::new();
    let image = format!("dir:{}", root.path().display());
    let sandbox = home.create(&json!({"image": image}));
    assert_eq!(
        sandbox.root("cat /etc/motd; echo changed > /etc/motd; cat /etc/motd"),
        "a small root\nchanged\n"
    );
    assert_eq!(
        fs::read_to_string(root.path().join("etc/motd")).expect("it is there"),
        "a small root\n"
    );
    assert_eq!(sandbox.created["image"], image);
    let other = home.create(&json!({"image": image}));
    assert_eq!(other.root("cat /etc/motd"), "a small root\n");
}

#[test]
fn an_archive_is_a_root() {
    let root = small_root();
    let archive = root.path().join("root.tar");
    let mut tar = command("tar");
    tar.arg("-C").arg(root.path()).arg("--exclude=./root.tar").arg("-cf").arg(&archive).arg(".");
    run(&mut tar, b"").good();
    let home = Home::new();
    let image = format!("tar:{}", archive.display());
    for _ in 0..2 {
        let said = home.warren(&["run", "--image", &image, "--", "/bin/cat", "/etc/motd"]).good();
        assert_eq!(said.text(), "a small root\n");
    }
}

#[test]
fn a_blank_that_was_prepared_for_one_image_serves_another() {
    let root = small_root();
    let image = json!({"image": format!("dir:{}", root.path().display())});
    let home = Home::with(&[("WARREN_BLANKS", "2"), ("WARREN_PARKED", "0")]);
    home.warren(&["list"]).good();
    let prepared = home.data().join("blanks");
    let ready = || fs::read_dir(&prepared).map_or(0, |blanks| blanks.count());
    for _ in 0..3 {
        crate::harness::wait_until("blanks wait", || ready() == 2);
        assert_eq!(home.create(&image).root("cat /etc/motd"), "a small root\n");
    }
}

#[test]
fn an_image_that_is_not_there_is_said_so() {
    let home = Home::new();
    let ended = home.warren(&["run", "--image", "dir:/no/such/root", "--", "true"]);
    assert_eq!(ended.code(), 125);
    assert!(ended.errors().contains("/no/such/root"), "{}", ended.errors());
}
