//! The storage pool: made, used, mounted again, grown, and taken away.

mod device;
mod moved;

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use serde_json::json;

use crate::harness::{Home, Leftovers, command, is_root, skip, wait_until};

/// A home with a pool of half a gigabyte; `None`, and why, where there can be none.
pub(crate) fn pool(driver: &str, most: &str) -> Option<Home> {
    if !can_mount(driver) {
        return None;
    }
    let home = Home::new();
    let size = ["--size", "512MiB", "--max-size", most, "--driver", driver];
    let made = home.warren(&[&["setup", "storage"][..], &size].concat());
    if made.errors().contains("could not mount") {
        println!("SKIPPED: the kernel does not mount {driver}: {}", made.errors());
        return None;
    }
    made.good();
    Some(home)
}

/// Whether pools can be made here; says why not.
fn can_mount(driver: &str) -> bool {
    let mkfs = format!("mkfs.{driver}");
    let missing = match () {
        () if !is_root() => Some("root"),
        () if !Path::new("/usr/sbin").join(&mkfs).exists() => Some(mkfs.as_str()),
        () if !Path::new("/dev/loop-control").exists() => Some("loop devices"),
        () if !has_room() => Some("more room beside the part of the disk that stays free"),
        () => None,
    };
    if let Some(missing) = missing {
        println!("SKIPPED: a storage pool needs {missing}");
    }
    missing.is_none()
}

/// Whether pools fit on the disk of the homes: a twentieth of it is not theirs.
fn has_room() -> bool {
    let disk = rustix::fs::statvfs(std::env::temp_dir()).expect("the disk");
    let free = disk.f_bavail * disk.f_frsize;
    free > disk.f_blocks * disk.f_frsize / 20 + (4 << 30)
}

/// Whether limits hold in the pool that a home has: some kernels have no quotas for xfs.
pub(crate) fn has_limits(home: &Home) -> bool {
    let limits = home.warren(&["volume", "create", "probe", "--size", "64MiB"]).code() == 0;
    if limits {
        home.warren(&["volume", "rm", "probe"]).good();
    }
    limits
}

/// Bytes that the pool's file has on the disk.
fn file_bytes(home: &Home) -> u64 {
    fs::metadata(home.data().join("pool.img")).expect("the pool's file").blocks() * 512
}

fn is_mounted(home: &Home) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let place = home.data().join("pool").display().to_string();
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(&place))
}

#[test]
fn a_pool_is_used_mounted_again_after_a_reboot_and_taken_away() {
    let Some(home) = pool("btrfs", "512MiB") else { return };
    assert!(file_bytes(&home) >= 512 << 20, "every block is set aside");
    let sandbox = home.create(&json!({"name": "a"}));
    assert!(home.data().join("pool/sandboxes").join(&sandbox.id).is_dir());
    sandbox.root("echo kept > /root/file; rm -rf /usr/share/doc 2>/dev/null; true");
    assert!(file_bytes(&home) >= 512 << 20, "what is removed inside is not given back");
    let refused = home.warren(&["setup", "storage", "--remove"]);
    assert!(refused.errors().contains("there are sandboxes"), "{}", refused.errors());
    home.warren(&["stop", "a"]).good();
    home.warren(&["serve", "--stop"]).good();
    // As after a reboot: nothing is mounted.
    command("umount").arg(home.data().join("pool")).status().expect("umount");
    assert!(!is_mounted(&home));
    home.warren(&["start", "a"]).good();
    assert!(is_mounted(&home));
    assert_eq!(sandbox.root("cat /root/file"), "kept\n");
    home.warren(&["rm", "--force", "a"]).good();
    home.warren(&["setup", "storage", "--remove"]).good();
    let left = fs::read_dir(home.data()).expect("the data directory");
    let left: Vec<_> = left.map(|it| it.expect("an entry").file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("pool")), "{left:?}");
    assert_eq!(home.warren(&["run", "--", "echo", "on"]).good().text(), "on\n");
}

#[test]
fn sandboxes_go_on_without_the_mount_and_are_found_in_it_again() {
    let Some(home) = pool("btrfs", "512MiB") else { return };
    let sandbox = home.create(&json!({}));
    home.kill_server();
    // The sandbox holds the filesystem, and so the loop device, without the mount.
    command("umount").arg(home.data().join("pool")).status().expect("umount");
    home.warren(&["list"]).good();
    assert_eq!(sandbox.root("echo still > /root/here; cat /root/here"), "still\n");
    let place = home.data().join("pool/sandboxes").join(&sandbox.id);
    assert_eq!(fs::read(place.join("disk/upper/root/here")).expect("its file"), b"still\n");
}

#[test]
fn a_pool_that_is_gone_is_an_error_and_not_an_empty_one() {
    let Some(home) = pool("btrfs", "512MiB") else { return };
    home.create(&json!({"name": "a"}));
    home.warren(&["stop", "a"]).good();
    home.warren(&["serve", "--stop"]).good();
    let data = home.data();
    command("umount").arg(data.join("pool")).status().expect("umount");
    fs::rename(data.join("pool.img"), data.join("elsewhere")).expect("move the pool's file");
    let failed = home.warren(&["list"]);
    assert_ne!(failed.code(), 0);
    let log = home.log();
    assert!(log.contains("is gone") || failed.errors().contains("is gone"), "{log}");
    let served = home.warren(&["serve"]);
    assert!(served.errors().contains("pool.img is gone"), "{}", served.errors());
    assert!(served.errors().contains("--remove --yes"), "{}", served.errors());
    fs::rename(data.join("elsewhere"), data.join("pool.img")).expect("put it back");
    home.warren(&["start", "a"]).good();
    home.warren(&["rm", "--force", "a"]).good();
}

#[test]
fn a_pool_grows_before_it_is_full_and_no_further_than_it_may() {
    let Some(home) = pool("btrfs", "768MiB") else { return };
    let sandbox = home.create(&json!({}));
    sandbox.root("head -c 350000000 /dev/urandom > /root/big");
    wait_until("the pool has grown", || file_bytes(&home) >= 768 << 20);
    wait_until("the filesystem has grown", || {
        let size = sandbox.root("df --output=size -k / | tail -1").trim().parse::<u64>();
        size.expect("a number") > 700 << 10
    });
    let full = json!({"command": ["sh", "-c", "head -c 900000000 /dev/urandom > /root/more"],
        "user": "root"});
    let outcome = sandbox.exec_as(&full);
    let said = outcome["stderr"].as_str().unwrap_or_default();
    assert!(said.contains("No space left on device"), "{outcome}");
    assert!(file_bytes(&home) < 800 << 20);
    refuses_more_and_lets_go(&home);
    sandbox.root("rm /root/more; sync");
    wait_until("there is room again", || home.warren(&["run", "--", "true"]).code() == 0);
}

/// A full pool takes no further sandbox, and everything else goes on.
fn refuses_more_and_lets_go(home: &Home) {
    let mut refused = home.warren(&["create"]);
    wait_until("no sandbox is made", || {
        refused = home.warren(&["create"]);
        refused.code() != 0
    });
    assert!(refused.errors().contains("disk space"), "{}", refused.errors());
    home.warren(&["list"]).good();
    let listed = home.warren(&["list", "--json"]).good().text();
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("a list");
    for sandbox in
        listed["sandboxes"].as_array().or(listed.as_array()).expect("sandboxes").iter().skip(1)
    {
        home.warren(&["rm", "--force", sandbox["id"].as_str().expect("an id")]).good();
    }
}

#[test]
fn a_pool_of_xfs_carries_sandboxes_too() {
    let Some(home) = pool("xfs", "512MiB") else { return };
    assert_eq!(home.warren(&["run", "--", "echo", "on xfs"]).good().text(), "on xfs\n");
    assert!(is_mounted(&home));
    home.warren(&["setup", "uninstall", "--yes"]).good();
    assert!(!home.data().exists() && !is_mounted(&home));
    assert_eq!(Leftovers::of(&home).0.into_iter().collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn what_would_be_hidden_or_lost_is_refused() {
    if !is_root() {
        let home = Home::new();
        let refused = home.warren(&["setup", "storage"]);
        assert!(refused.errors().contains("takes root"), "{}", refused.errors());
        skip!("the rest needs root");
    }
    let home = Home::new();
    home.create(&json!({}));
    let refused = home.warren(&["setup", "storage", "--size", "512MiB"]);
    assert!(refused.errors().contains("there are sandboxes in"), "{}", refused.errors());
    home.warren(&["rm", "--all", "--force"]).good();
    for (arguments, expected) in [
        (&["--size", "1MiB"][..], "a pool has"),
        (&["--size", "100000TiB"], "stay free for the host"),
        (&["--device", "/dev/null", "--yes"], "no block device"),
        (&["--device", "/dev/loop0"], "nobody can be asked"),
        (&["--remove"], "there is no storage pool"),
    ] {
        let refused = home.warren(&[&["setup", "storage"], arguments].concat());
        assert!(refused.errors().contains(expected), "{}", refused.errors());
    }
    // What an interrupted setup leaves is in nobody's way.
    fs::write(home.data().join("pool.img"), "half").expect("leave a file");
    home.warren(&["run", "--", "true"]).good();
    home.warren(&["setup", "storage", "--remove"]).good();
    assert!(!home.data().join("pool.img").exists());
}
