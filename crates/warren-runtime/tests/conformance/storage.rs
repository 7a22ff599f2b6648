use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use warren_core::{
    id::{SandboxId, SnapshotId, VolumeId},
    runtime::{Haste, Runtime, Service},
    spec::Network,
};
use warren_runtime::storage::{Driver, Pool};

use crate::harness::{Host, health, possible, spec};

/// A small filesystem in a file, unmounted when the test ends.
pub(crate) struct Filesystem {
    mounted: PathBuf,
    _directory: tempfile::TempDir,
}

impl Filesystem {
    /// Makes and mounts a btrfs, or says what is missing.
    pub(crate) fn btrfs() -> Option<Self> {
        Self::mount("btrfs", 256 << 20, &["-q"], "loop")
    }

    /// An xfs that counts projects.
    pub(crate) fn xfs() -> Option<Self> {
        Self::mount("xfs", 320 << 20, &["-q"], "loop,prjquota")
    }

    /// An xfs that copies by sharing extents, and counts nothing: also where the kernel has no
    /// quotas for it.
    pub(crate) fn xfs_without_quotas() -> Option<Self> {
        Self::mount("xfs", 320 << 20, &["-q"], "loop")
    }

    /// An ext4 that counts projects.
    pub(crate) fn ext4() -> Option<Self> {
        let options = ["-q", "-O", "quota,project", "-E", "quotatype=prjquota"];
        Self::mount("ext4", 256 << 20, &options, "loop,prjquota")
    }

    fn mount(kind: &str, bytes: u64, make: &[&str], options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let (image, mounted) = (directory.path().join("image"), directory.path().join("mounted"));
        std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        std::fs::create_dir(&mounted).unwrap();
        let make: Vec<&Path> = make.iter().map(Path::new).chain([image.as_path()]).collect();
        let mounting: [&Path; 4] = ["-o".as_ref(), options.as_ref(), &image, &mounted];
        let done = run(&format!("mkfs.{kind}"), &make).and_then(|()| run("mount", &mounting));
        if let Err(error) = done {
            println!("SKIPPED: no {kind} with {options}: {error}");
            return None;
        }
        Some(Self { mounted, _directory: directory })
    }

    /// Where it is mounted.
    pub(crate) fn place(&self) -> &Path {
        &self.mounted
    }
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        let done = run("umount", &["-l".as_ref(), &self.mounted]);
        assert_eq!(done, Ok(()), "the test's disk stays mounted");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own tools, with nothing to hide")]
fn run(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or_else(|| said.trim().replace('\n', " "))
}

#[tokio::test(flavor = "multi_thread")]
async fn on_btrfs_a_disk_is_a_subvolume_and_goes_with_its_sandbox() {
    if !possible() {
        return;
    }
    let Some(btrfs) = Filesystem::btrfs() else { return };
    let data = tempfile::tempdir_in(&btrfs.mounted).unwrap();
    let host = Host::open_in(data, 1, false);
    let id = SandboxId::mint();
    host.runtime().create(&id, &spec()).await.unwrap();
    assert_eq!(health(host.runtime(), &id, Service::Envd).await, "HTTP/1.1 204 No Content");
    assert!(warren_sys::btrfs::is_subvolume(&host.entry(&id).join("disk")));
    host.runtime().destroy(&id).await.unwrap();
    host.runtime().close();
    host.wait_until_clean().await;
}

/// Writes until there is no room; how much there was, and what the kernel said.
fn fill(path: &Path) -> (u64, io::ErrorKind) {
    let mut file = File::create(path).unwrap();
    let (piece, mut written) = (vec![7; 1 << 16], 0);
    loop {
        match file.write_all(&piece).and_then(|()| {
            written += piece.len() as u64;
            if written % (4 << 20) == 0 { file.sync_data() } else { Ok(()) }
        }) {
            Ok(()) => assert!(written < 200 << 20, "nothing limits"),
            Err(error) => return (written, error.kind()),
        }
    }
}

/// Limits hold, for each disk by itself; what is taken back is free for others.
fn limits_hold(filesystem: &Filesystem, expected: io::ErrorKind) {
    let pool = Pool::open(Driver::Auto, filesystem.place()).unwrap();
    assert!(pool.limits(), "{pool:?}");
    let [one, other] = ["one", "other"].map(|name| filesystem.place().join(name));
    for place in [&one, &other] {
        pool.create(place).unwrap();
        pool.limit(place, Some(16 << 20)).unwrap();
    }
    fs::create_dir_all(one.join("upper/deep/er")).unwrap();
    let (written, said) = fill(&one.join("upper/deep/er/file"));
    assert_eq!(said, expected);
    assert!(written > 8 << 20 && written <= 17 << 20, "{written}");
    let used = pool.used(&one).unwrap();
    assert_eq!(used.limit_bytes, Some(16 << 20));
    assert!(used.used_bytes > 8 << 20 && used.used_bytes <= 16 << 20, "{used:?}");
    let small = pool.used(&other).unwrap();
    assert!(small.used_bytes < 1 << 20, "counted for another: {small:?}");
    fs::write(other.join("upper/file"), vec![7; 1 << 20]).unwrap();
    pool.limit(&one, Some(64 << 20)).unwrap();
    fs::write(one.join("upper/more"), vec![7; 1 << 20]).unwrap();
    // As stopping and starting do: out of an entry and back into another.
    fs::create_dir(filesystem.place().join("aside")).unwrap();
    fs::rename(&one, filesystem.place().join("aside/disk")).unwrap();
    let moved = pool.used(&filesystem.place().join("aside/disk")).unwrap();
    assert!(moved.used_bytes > 8 << 20 && moved.limit_bytes == Some(64 << 20), "{moved:?}");
    pool.remove(&filesystem.place().join("aside/disk")).unwrap();
    pool.limit(&other, None).unwrap();
    assert_eq!(pool.used(&other).unwrap().limit_bytes, None);
    pool.remove(&other).unwrap();
}

#[test]
fn on_xfs_limits_of_disks_hold() {
    let Some(xfs) = possible().then(Filesystem::xfs).flatten() else { return };
    limits_hold(&xfs, io::ErrorKind::StorageFull);
}

/// There whoever may exceed resource limits writes past them, as overlayfs does for a guest.
#[test]
fn on_ext4_that_counts_projects_no_limit_is_promised() {
    let Some(ext4) = possible().then(Filesystem::ext4).flatten() else { return };
    let pool = Pool::open(Driver::Auto, ext4.place()).unwrap();
    assert!(!pool.limits());
    let disk = ext4.place().join("disk");
    pool.create(&disk).unwrap();
    assert_eq!(pool.limit(&disk, Some(1 << 20)).unwrap_err().kind(), io::ErrorKind::Unsupported);
    pool.limit(&disk, None).unwrap();
    pool.remove(&disk).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_xfs_disks_and_volumes_are_limited_saved_and_copied() {
    if !possible() {
        return;
    }
    let Some(xfs) = Filesystem::xfs() else { return };
    let data = tempfile::tempdir_in(xfs.place()).unwrap();
    let host = Host::open_in(data, 1, false);
    let runtime = host.runtime();
    assert!(runtime.capabilities().disk_limit);
    let (id, mut limited) = (SandboxId::mint(), spec());
    limited.limits.disk_bytes = Some(16 << 20);
    limited.network = Network::None;
    runtime.create(&id, &limited).await.unwrap();
    assert_eq!(health(runtime, &id, Service::Envd).await, "HTTP/1.1 204 No Content");
    let disk = host.entry(&id).join("disk");
    let (written, said) = fill(&disk.join("upper/full"));
    assert_eq!(said, io::ErrorKind::StorageFull);
    assert!(written <= 17 << 20, "{written}");
    let saved = SnapshotId::mint();
    runtime.capture(&id, &saved, None, Haste::Guest).await.unwrap();
    runtime.seal(&saved, None).await.unwrap();
    runtime.destroy(&id).await.unwrap();
    runtime.remove_snapshot(&saved).await.unwrap();

    let volumes = runtime.volumes().unwrap();
    let [one, copy] = [VolumeId::mint(), VolumeId::mint()];
    volumes.create(&one, Some(8 << 20)).await.unwrap();
    let files = host.data.path().join("volumes").join(one.as_str()).join("files");
    assert_eq!(fill(&files.join("full")).1, io::ErrorKind::StorageFull);
    volumes.limit(&one, Some(12 << 20)).await.unwrap();
    fs::write(files.join("more"), vec![7; 1 << 20]).unwrap();
    volumes.copy(&one, &copy, Some(32 << 20)).await.unwrap();
    let used = volumes.used(&copy).await.unwrap();
    assert!(used > 4 << 20 && used < 13 << 20, "a copy is counted by itself: {used}");
    for id in [&one, &copy] {
        volumes.remove(id).await.unwrap();
    }
    host.runtime().close();
    host.wait_until_clean().await;
}
