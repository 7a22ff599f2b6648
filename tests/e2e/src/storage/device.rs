//! A pool on a device of its own.

use std::{fs, path::PathBuf};

use serde_json::json;
use tempfile::TempDir;

use super::{Home, can_mount, has_limits, is_mounted};
use crate::harness::{command, run};

/// A disk: a file behind a loop device, which is let go of when this is dropped.
struct Disk {
    device: String,
    directory: TempDir,
}

impl Disk {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("disk");
        fs::File::create(&file).and_then(|it| it.set_len(512 << 20)).expect("make a file");
        let attached = run(command("losetup").args(["--find", "--show"]).arg(&file), b"").good();
        Self { device: attached.text().trim().to_owned(), directory }
    }

    fn mount(&self) -> PathBuf {
        let place = self.directory.path().join("mounted");
        fs::create_dir_all(&place).expect("make a directory");
        run(command("mount").arg(&self.device).arg(&place), b"").good();
        place
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is mounted of it keeps it until it is not.
        drop(command("losetup").args(["--detach", &self.device]).output());
    }
}

fn umount(place: &std::path::Path) {
    run(command("umount").arg(place), b"").good();
}

#[test]
fn a_device_carries_a_pool_that_is_mounted_again_after_a_reboot() {
    for driver in ["btrfs", "xfs"] {
        if !can_mount(driver) {
            continue;
        }
        let disk = Disk::new();
        let home = Home::new();
        home.warren(&["volume", "create", "data"]).good();
        home.warren_with(&["volume", "put", "-", "data", "file"], b"kept").good();
        let make = ["setup", "storage", "--device", &disk.device, "--driver", driver, "--yes"];
        home.warren(&make).good();
        assert!(is_mounted(&home) && !home.data().join("pool.img").exists());
        let limit = has_limits(&home).then_some(64 << 20);
        let sandbox = home.create(&json!({"name": "a", "disk_bytes": limit}));
        sandbox.root("echo kept > /root/file");
        home.warren(&["stop", "a"]).good();
        home.warren(&["serve", "--stop"]).good();
        // As after a reboot: nothing is mounted.
        umount(&home.data().join("pool"));
        home.warren(&["start", "a"]).good();
        assert!(is_mounted(&home));
        assert_eq!(sandbox.root("cat /root/file"), "kept\n");
        in_use(&disk);
        home.warren(&["rm", "--force", "a"]).good();
        home.warren(&["setup", "storage", "--remove"]).good();
        assert!(!is_mounted(&home));
        let read = home.warren(&["volume", "cat", "data", "file"]).good();
        assert_eq!(read.text(), "kept", "it was moved back");
        written(&disk);
    }
}

/// A device that is mounted is nobody else's.
fn in_use(disk: &Disk) {
    let other = Home::new();
    for more in [&["--yes"][..], &["--yes", "--overwrite"]] {
        let make = [&["setup", "storage", "--device", &disk.device], more].concat();
        let refused = other.warren(&make);
        assert!(refused.errors().contains("is in use"), "{}", refused.errors());
    }
}

/// A device with a filesystem is not overwritten by the way.
fn written(disk: &Disk) {
    let other = Home::new();
    run(command("mkfs.ext4").args(["-q", "-F", &disk.device]), b"").good();
    let place = disk.mount();
    fs::write(place.join("precious"), "x").expect("write a file");
    umount(&place);
    for driver in ["btrfs", "xfs"] {
        let make = ["setup", "storage", "--device", &disk.device, "--driver", driver, "--yes"];
        let refused = other.warren(&make);
        assert!(refused.errors().contains("there is something on"), "{}", refused.errors());
        assert!(refused.errors().contains("--overwrite"), "{}", refused.errors());
    }
    let place = disk.mount();
    assert!(place.join("precious").exists());
    umount(&place);
    let make = ["setup", "storage", "--device", &disk.device, "--yes", "--overwrite"];
    other.warren(&make).good();
    assert_eq!(other.warren(&["run", "--", "echo", "on"]).good().text(), "on\n");
    other.warren(&["setup", "storage", "--remove"]).good();
}
