use std::{
    path::{Path, PathBuf},
    process::Command,
};

use warren_core::{
    id::SandboxId,
    runtime::{Runtime, Service},
};

use crate::harness::{Host, health, possible, spec};

/// A small btrfs in a file, unmounted when the test ends.
pub(crate) struct Btrfs {
    mounted: PathBuf,
    _directory: tempfile::TempDir,
}

impl Btrfs {
    /// Makes and mounts it, or says what is missing.
    pub(crate) fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let (image, mounted) = (directory.path().join("image"), directory.path().join("mounted"));
        std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        std::fs::create_dir(&mounted).unwrap();
        let mounted_now = run("mkfs.btrfs", &["-q".as_ref(), &image])
            && run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &mounted]);
        if !mounted_now {
            println!("SKIPPED: btrfs needs mkfs.btrfs, loop devices and the kernel's driver");
            return None;
        }
        Some(Self { mounted, _directory: directory })
    }

    /// Where it is mounted.
    pub(crate) fn place(&self) -> &Path {
        &self.mounted
    }
}

impl Drop for Btrfs {
    fn drop(&mut self) {
        assert!(run("umount", &["-l".as_ref(), &self.mounted]), "the test's btrfs stays mounted");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own tools, with nothing to hide")]
fn run(program: &str, arguments: &[&Path]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|it| it.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_btrfs_a_disk_is_a_subvolume_and_goes_with_its_sandbox() {
    if !possible() {
        return;
    }
    let Some(btrfs) = Btrfs::mount() else { return };
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
