//! Root filesystems: overlayfs, id-mapped layers, and the disk under the data directory.

use std::{
    fs, io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::Path,
};

use rustix::{
    fs::CWD,
    mount::{FsOpenFlags, MountFlags, fsconfig_set_fd, fsconfig_set_string, fsopen, mount},
    thread::UnshareFlags,
};
use warren_sys::{
    mount::{Attributes, attach, clone_tree, finish_filesystem, map_ids},
    probe,
};

use super::{Check, Host};
use crate::config::{Size, Storage};

const AREA: &str = "storage";

/// Where a range of ids begins that is tried with and given to nobody.
const TRIED_IDS: u32 = 2_000_000_000;

pub(super) fn checks(host: &Host<'_>) -> Vec<Check> {
    let mut checks = vec![overlay(host)];
    if host.is_root() {
        checks.extend([mapped_layers(host), layers_by_descriptor(host)]);
    }
    checks.extend([data_filesystem(host), space(host)]);
    checks
}

/// Lower, upper and work directories under the data directory, removed when dropped.
#[derive(Debug)]
struct Layers(std::path::PathBuf);

impl Layers {
    fn make(host: &Host<'_>) -> io::Result<Self> {
        let base = host.data.join(format!(".doctor-{}", std::process::id()));
        let layers = Self(base);
        for part in ["lower", "mapped", "upper", "work", "root"] {
            fs::create_dir_all(layers.0.join(part))?;
        }
        fs::write(layers.0.join("lower/file"), "x")?;
        Ok(layers)
    }

    fn path(&self, part: &str) -> String {
        self.0.join(part).to_string_lossy().into_owned()
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        // The kernel makes a directory in there that only root may look into.
        fs::set_permissions(self.0.join("work/work"), fs::Permissions::from_mode(0o700)).ok();
        drop(fs::remove_dir_all(&self.0)); // a few empty directories, by name ours
    }
}

fn overlay(host: &Host<'_>) -> Check {
    const NAME: &str = "overlayfs";
    let tried = Layers::make(host).and_then(|layers| {
        host.attempt(UnshareFlags::NEWNS, || {
            mount_overlay(&layers, "lower")?;
            fs::write(layers.path("root/file"), "changed")
        })
    });
    match tried {
        Ok(()) => Check::works(
            AREA,
            NAME,
            "layers on the data directory's filesystem can be written over",
        ),
        Err(error) => {
            Check::missing(AREA, NAME, format!("no root filesystem can be made: {error}")).mend(
                "put data_dir on ext4, xfs or btrfs, and load the module: sudo modprobe overlay",
            )
        }
    }
}

fn mount_overlay(layers: &Layers, lower: &str) -> io::Result<()> {
    let (lower, upper, work) = (layers.path(lower), layers.path("upper"), layers.path("work"));
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let options = std::ffi::CString::new(options)?;
    mount("overlay", layers.path("root"), "overlay", MountFlags::empty(), options.as_c_str())?;
    Ok(())
}

/// A private copy of the lower layer with other ids.
fn mapped_lower(host: &Host<'_>, layers: &Layers) -> io::Result<OwnedFd> {
    let ids = probe::mapped_user_namespace(&host.proof, TRIED_IDS)?;
    let tree = clone_tree(CWD, Path::new(&layers.path("lower")), false)?;
    map_ids(tree.as_fd(), ids.as_fd(), Attributes::default())?;
    Ok(tree)
}

fn mapped_layers(host: &Host<'_>) -> Check {
    const NAME: &str = "id-mapped layers";
    let tried = Layers::make(host).and_then(|layers| {
        host.attempt(UnshareFlags::NEWNS, || {
            let tree = mapped_lower(host, &layers)?;
            attach(tree.as_fd(), CWD, &layers.path("mapped"))?;
            mount_overlay(&layers, "mapped")
        })
    });
    match tried {
        Ok(()) => Check::works(AREA, NAME, "each sandbox has ids of its own on shared layers"),
        Err(error) => Check::missing(
            AREA,
            NAME,
            format!("a server of root needs them, one of an ordinary user does not: {error}"),
        )
        .mend("boot a kernel of 5.19 or later, with data_dir on ext4, xfs or btrfs"),
    }
}

fn layers_by_descriptor(host: &Host<'_>) -> Check {
    const NAME: &str = "layers by descriptor";
    let tried = Layers::make(host).and_then(|layers| {
        host.attempt(UnshareFlags::NEWNS, || {
            let tree = mapped_lower(host, &layers)?;
            let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_set_fd(context.as_fd(), "lowerdir+", tree.as_fd())?;
            fsconfig_set_string(context.as_fd(), "upperdir", layers.path("upper"))?;
            fsconfig_set_string(context.as_fd(), "workdir", layers.path("work"))?;
            finish_filesystem(&context, Attributes::default()).map(drop)
        })
    });
    match tried {
        Ok(()) => Check::works(AREA, NAME, "layers need no place in anybody's mount table"),
        Err(error) => Check::weaker(
            AREA,
            NAME,
            format!("layers are mounted by path, which is slower: {error}"),
        )
        .mend("boot a kernel of 6.13 or later"),
    }
}

fn data_filesystem(host: &Host<'_>) -> Check {
    const NAME: &str = "data directory";
    let place = host.data.display();
    let kind = match rustix::fs::statfs(host.data) {
        Ok(found) => filesystem_name(found.f_type),
        Err(error) => {
            return Check::missing(AREA, NAME, format!("{place}: {error}"))
                .mend("WARREN_DATA_DIR=/a/local/disk");
        }
    };
    let wants_btrfs = host.config.storage == Storage::Btrfs;
    match kind {
        "btrfs" => {
            Check::works(AREA, NAME, format!("{place} is on btrfs: storage = \"btrfs\" works"))
        }
        _ if wants_btrfs => {
            Check::missing(AREA, NAME, format!("{place} is on {kind}, and storage is set to btrfs"))
                .mend("put data_dir on btrfs, or set storage = \"dir\"")
        }
        "ext4" | "xfs" => Check::works(AREA, NAME, format!("{place} is on {kind}")),
        "tmpfs" => {
            Check::weaker(AREA, NAME, format!("{place} is in memory and gone after a reboot"))
                .mend("WARREN_DATA_DIR=/a/local/disk")
        }
        "nfs" | "overlayfs" | "fuse" => Check::weaker(
            AREA,
            NAME,
            format!("{place} is on {kind}, which may not carry the upper layer of an overlay"),
        )
        .mend("WARREN_DATA_DIR=/a/local/disk"),
        _ => Check::works(AREA, NAME, format!("{place} is on a filesystem that we do not know")),
    }
}

/// Names of the usual filesystems by their magic numbers (`statfs(2)`).
fn filesystem_name(magic: rustix::fs::FsWord) -> &'static str {
    match u64::try_from(magic).unwrap_or_default() & 0xffff_ffff {
        0x9123_683e => "btrfs",
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x0102_1994 => "tmpfs",
        0x6969 => "nfs",
        0x794c_7630 => "overlayfs",
        0x6573_5546 => "fuse",
        _ => "another",
    }
}

fn space(host: &Host<'_>) -> Check {
    const NAME: &str = "disk space";
    let Ok(found) = rustix::fs::statvfs(host.data) else {
        return Check::weaker(AREA, NAME, "it could not be measured")
            .mend("WARREN_DATA_DIR=/a/local/disk");
    };
    let free = Size(found.f_bavail.saturating_mul(found.f_frsize) >> 20 << 20);
    let inodes = found.f_favail;
    // Filesystems without a table of inodes say 0 of 0.
    let inodes_short = found.f_files > 0 && inodes < 100_000;
    if free.0 < 1 << 30 || inodes_short {
        return Check::weaker(AREA, NAME, format!("{free} and {inodes} inodes are free"))
            .mend("make room: `warren rm --all` removes every sandbox with its files");
    }
    Check::works(AREA, NAME, format!("{free} are free"))
}
