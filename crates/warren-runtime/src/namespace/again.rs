//! Guests made anew on the files of one that was stopped.
//!
//! The files are a hostile guest's work by now: whatever is written to them from outside is
//! looked up beneath them, and no link in them is followed.

use std::{fs, io, net::Ipv4Addr, os::fd::AsFd, path::Path, sync::Arc};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use warren_core::{
    id::SandboxId,
    runtime::{Created, RuntimeError},
    spec::Spec,
};

use super::{
    NamespaceRuntime, Owner, Steps,
    blank::{self, Blank},
    finish,
    host::Host,
};
use crate::image::Image;

impl NamespaceRuntime {
    /// Makes a guest on the files of a stopped one. On an error they are put aside again.
    pub(super) fn start_now(&self, id: &SandboxId, spec: &Spec) -> Result<Created, RuntimeError> {
        let mut steps = Steps::new();
        let host = &self.host;
        if !host.journal.is_shelved(id) {
            return Err(RuntimeError::NotFound { id: *id });
        }
        let reach = host.allowed_reach(&spec.network)?;
        let image = host.resolve(&spec.image)?;
        steps.done("image");
        let blank = self.blanks.take(reach, &image, false);
        let (mut blank, entry) = self.claim(id, reach, blank, &mut steps)?;
        // Its mounts are of a disk that goes.
        blank.unprepare();
        let owner = Owner { id, spec, entry: &entry };
        let ruled = host.give_rules(blank.slot, blank.network.as_fd(), &entry, &spec.network);
        let begun = ruled.and_then(|()| begin_again(host, &mut blank, &owner, &image, &mut steps));
        match begun {
            Ok(()) => {
                host.enroll(*id, blank.into_guest(entry));
                Ok(Created { steps: steps.0 })
            }
            Err(error) => {
                let (slot, process) = (blank.slot, blank.process);
                rustix::process::pidfd_send_signal(&blank.pidfd, rustix::process::Signal::KILL)
                    .ok();
                if entry.join("disk/upper").exists()
                    && !host.journal.is_shelved(id)
                    && let Err(error) = host.journal.shelve(&entry, id)
                {
                    // The entry stays, and with it the files: the next start of the server tries
                    // again.
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, sandbox.id = %id, "its files could not be put aside");
                    return Err(RuntimeError::host("put the files of the sandbox aside")(
                        io::Error::other("see the log"),
                    ));
                }
                host.remove_slot(slot, Some(process), &entry);
                Err(error)
            }
        }
    }
}

fn begin_again(
    host: &Host,
    blank: &mut Blank,
    owner: &Owner<'_>,
    image: &Arc<Image>,
    steps: &mut Steps,
) -> Result<(), RuntimeError> {
    let disk = owner.entry.join("disk");
    let mut taken = || -> io::Result<()> {
        host.pool.remove(&disk)?;
        host.journal.unshelve(owner.id, owner.entry)?;
        // One that is full must be startable all the same: its limit comes back below.
        host.pool.limit(&disk, None)?;
        blank.limits.disk_bytes = None;
        crate::storage::renew_work(&disk)?;
        renew_identity(&disk, host.resolver(), owner.hostname())
    };
    taken().map_err(RuntimeError::host("take the files of the sandbox"))?;
    finish(host, blank, owner, image, steps)
}

/// The identity that a disk's guest gave its machine, if it is one.
pub(super) fn machine_id(disk: &Path) -> Option<String> {
    use std::io::Read as _;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let upper = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let upper = rustix::fs::open(disk.join("upper"), upper, Mode::empty()).ok()?;
    // Not waited for, whatever it is.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat2(upper, "etc/machine-id", flags, Mode::empty(), beneath).ok()?;
    let mut text = String::new();
    fs::File::from(file).take(64).read_to_string(&mut text).ok()?;
    let id = text.trim_end();
    (id.len() == 32 && id.bytes().all(|it| it.is_ascii_hexdigit())).then_some(text)
}

/// Writes what of `/etc` depends on where the guest runs now, unless the guest has put something
/// else than plain files in its place.
fn renew_identity(disk: &Path, resolver: Option<Ipv4Addr>, hostname: &str) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let upper = rustix::fs::open(disk.join("upper"), flags, Mode::empty())?;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let Ok(etc) = rustix::fs::openat2(&upper, "etc", flags, Mode::empty(), beneath) else {
        return Ok(());
    };
    let files = [
        ("resolv.conf", blank::resolv_conf(resolver)),
        ("hostname", format!("{hostname}\n")),
        ("hosts", blank::hosts(hostname)),
    ];
    for (name, text) in files {
        const NEW: &str = ".warren-new";
        rustix::fs::unlinkat(&etc, NEW, AtFlags::empty()).ok();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o644);
        let file = rustix::fs::openat(&etc, NEW, flags | OFlags::CLOEXEC, mode)?;
        rustix::fs::fchmod(&file, mode)?;
        io::Write::write_all(&mut fs::File::from(file), text.as_bytes())?;
        // A directory of that name stays; the guest wanted it so.
        if rustix::fs::renameat(&etc, NEW, &etc, name).is_err() {
            rustix::fs::unlinkat(&etc, NEW, AtFlags::empty()).ok();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_a_guest_left_are_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let (disk, outside) = (base.path().join("disk"), base.path().join("outside"));
        fs::create_dir_all(disk.join("upper/etc")).unwrap();
        fs::write(&outside, "mine").unwrap();
        std::os::unix::fs::symlink(&outside, disk.join("upper/etc/hosts")).unwrap();
        std::os::unix::fs::symlink(&outside, disk.join("upper/etc/.warren-new")).unwrap();
        fs::create_dir(disk.join("upper/etc/resolv.conf")).unwrap();
        renew_identity(&disk, None, "name").unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "mine");
        let hosts = fs::symlink_metadata(disk.join("upper/etc/hosts")).unwrap();
        assert!(hosts.is_file());
        assert!(disk.join("upper/etc/resolv.conf").is_dir());
        assert_eq!(fs::read_to_string(disk.join("upper/etc/hostname")).unwrap(), "name\n");
    }

    #[test]
    fn an_etc_that_leads_elsewhere_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let (disk, outside) = (base.path().join("disk"), base.path().join("outside"));
        fs::create_dir_all(disk.join("upper")).unwrap();
        fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, disk.join("upper/etc")).unwrap();
        renew_identity(&disk, None, "name").unwrap();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
