//! What the storage of sandboxes can do, and what it costs: snapshots, forks, limits.

use std::{fs::File, os::fd::AsFd as _};

use warren_sys::{
    btrfs::{self, quota},
    project,
};

use super::{Check, Host, has_program, sentence};
use crate::config::Storage;

const AREA: &str = "storage";
const POOL: &str = "warren setup storage";

pub(super) fn checks(host: &Host<'_>) -> Vec<Check> {
    let on_btrfs = btrfs::is_btrfs(host.data).unwrap_or(false);
    let subvolumes = on_btrfs && host.config.storage != Storage::Dir;
    vec![pool(host, on_btrfs), snapshots(host, subvolumes), limits(host, subvolumes)]
}

fn pool(host: &Host<'_>, on_btrfs: bool) -> Check {
    const NAME: &str = "storage pool";
    let backing = match &host.pool {
        Ok(Some(backing)) => backing,
        Ok(None) if on_btrfs => return Check::works(AREA, NAME, "none, and none is needed"),
        Ok(None) => {
            let installed = has_program(host.environment, "mkfs.btrfs");
            let tools = if installed { "" } else { ", after installing btrfs-progs" };
            let text = "none: files are in the data directory's own filesystem";
            let who = if host.is_root() { "" } else { " (root's server alone can have one)" };
            return Check::works(AREA, NAME, format!("{text}; `{POOL}` makes one{tools}{who}"));
        }
        Err(error) => {
            return Check::missing(AREA, NAME, sentence(error))
                .mend("put pool.record in the data directory right");
        }
    };
    let kind = backing.filesystem.name();
    match backing.is_mounted() {
        Ok(true) => Check::works(AREA, NAME, format!("{kind} at {}", backing.place().display())),
        Ok(false) if backing.file().is_some_and(|file| !file.exists()) => {
            Check::missing(AREA, NAME, "its file is gone, and with it the files of all sandboxes")
                .mend("put pool.img back, or: warren setup storage --remove --yes")
        }
        Ok(false) => {
            Check::works(AREA, NAME, format!("{kind}; the server mounts it when it starts"))
        }
        Err(error) => Check::missing(AREA, NAME, sentence(&error)).mend("umount it"),
    }
}

fn snapshots(host: &Host<'_>, subvolumes: bool) -> Check {
    const NAME: &str = "snapshots and forks";
    if subvolumes {
        let found = "of files, without processes; btrfs: the same cost whatever a sandbox holds, milliseconds";
        return Check::works(AREA, NAME, found);
    }
    let found =
        "of files, without processes; copied: the cost grows with what a sandbox has written";
    Check::weaker(AREA, NAME, found).mend(mend(host))
}

fn limits(host: &Host<'_>, subvolumes: bool) -> Check {
    const NAME: &str = "disk limits";
    let by_projects = || File::open(host.data).is_ok_and(|it| project::works(it.as_fd()));
    if !subvolumes && host.is_root() && by_projects() {
        return Check::works(AREA, NAME, "enforced, by project quotas");
    }
    if !subvolumes {
        return Check::weaker(AREA, NAME, "none: one sandbox can fill the disk of all")
            .mend(mend(host));
    }
    let mode = File::open(host.data).and_then(|it| quota::mode(it.as_fd()));
    match mode {
        Ok(Some(quota::Mode::Simple)) => Check::works(AREA, NAME, "enforced, by simple quotas"),
        Ok(Some(quota::Mode::Full)) => {
            let found = "enforced, by quotas that make snapshots slower the more there are";
            Check::weaker(AREA, NAME, found).mend("boot a kernel of 6.7 or later")
        }
        Ok(None) | Err(_) => Check::weaker(AREA, NAME, "none: this btrfs does not count")
            .mend(format!("btrfs quota enable --simple {}", host.data.display())),
    }
}

fn mend(host: &Host<'_>) -> String {
    if host.is_root() {
        POOL.to_owned()
    } else {
        "put the data directory on btrfs, or use root's server with: sudo warren setup storage"
            .to_owned()
    }
}
