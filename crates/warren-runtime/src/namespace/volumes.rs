//! Directories of the host inside a guest, and volumes.
//!
//! Everything is checked on one descriptor: the directory that is found is the one that is looked
//! at and the one that is mounted, whatever its path leads to a moment later. What the guest writes
//! there belongs to whom the directory belongs to.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::fs::{Mode, OFlags, ResolveFlags, Stat};
use warren_core::{
    runtime::RuntimeError,
    spec::{Grant, HostDirectory, VolumeMount},
};
use warren_sys::{
    idmap::{self, Pair},
    mount::{self, Attributes},
};

use super::host::Host;

/// The user inside whose files these are, as every image of this product has it.
const USER: u32 = 1000;

/// A directory of the host, detached, and where in the guest it goes.
pub(super) type Volume = (OwnedFd, String);

/// Opens what a sandbox wants of the host. `base` is the guest root's id outside; none where the
/// server is in a user namespace itself, and ids are the same inside and outside.
pub(super) fn open(
    wanted: &[HostDirectory],
    base: Option<u32>,
) -> Result<Vec<Volume>, RuntimeError> {
    wanted.iter().map(|it| Ok((open_one(it, base)?, it.target.clone()))).collect()
}

/// Opens the volumes that a sandbox wants, shown under the ids of its user namespace; none where
/// ids are the same inside and outside.
pub(super) fn open_kept(
    host: &Host,
    wanted: &[VolumeMount],
    user_namespace: Option<&OwnedFd>,
) -> Result<Vec<Volume>, RuntimeError> {
    let open =
        |it: &VolumeMount| Ok((host.volumes.detached(it, user_namespace)?, it.target.clone()));
    wanted.iter().map(open).collect()
}

fn open_one(wanted: &HostDirectory, base: Option<u32>) -> Result<OwnedFd, RuntimeError> {
    let shown = wanted.source.display();
    let refuse = |reason: String| RuntimeError::Mount { reason };
    let directory = find(wanted).map_err(|error| {
        refuse(match error.kind() {
            io::ErrorKind::NotFound => {
                format!("there is no directory {shown} on the server's machine")
            }
            io::ErrorKind::NotADirectory => format!("{shown} is not a directory"),
            _ => format!("{shown} cannot be opened: {error}"),
        })
    })?;
    let found = rustix::fs::fstat(&directory).map_err(RuntimeError::host("look at a directory"))?;
    check_owner(wanted, &found, base.is_none()).map_err(refuse)?;
    let tree = mount::clone_tree(directory.as_fd(), Path::new(""), false)
        .map_err(|error| refuse(format!("{shown} cannot be mounted: {error}")))?;
    let attributes = Attributes {
        read_only: wanted.read_only,
        no_suid: true,
        no_dev: true,
        ..Attributes::default()
    };
    let mapped = match base {
        Some(base) => show_to_guest(&tree, &found, base, attributes),
        None => mount::set_attributes(tree.as_fd(), attributes),
    };
    mapped.map_err(|error| {
        refuse(format!("the filesystem of {shown} cannot be mounted so: {error}"))
    })?;
    Ok(tree)
}

/// Opens the directory, beneath the one that the operator allows where that is why it may be had.
fn find(wanted: &HostDirectory) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match &wanted.grant {
        Grant::Owner => {
            let resolve = ResolveFlags::NO_MAGICLINKS;
            let cwd = rustix::fs::CWD;
            Ok(rustix::fs::openat2(cwd, &wanted.source, flags, Mode::empty(), resolve)?)
        }
        Grant::Beneath(root) => {
            let allowed = rustix::fs::open(root, flags, Mode::empty())?;
            let inside = wanted.source.strip_prefix(root).map_err(io::Error::other)?;
            if inside.as_os_str().is_empty() {
                return Ok(allowed);
            }
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            Ok(rustix::fs::openat2(&allowed, inside, flags, Mode::empty(), resolve)?)
        }
    }
}

/// A guest can make a program that runs as the owner of the directory: root's is not given away
/// for writing unless the operator says so.
fn check_owner(wanted: &HostDirectory, found: &Stat, nested: bool) -> Result<(), String> {
    let shown = wanted.source.display();
    match wanted.grant {
        Grant::Beneath(_) => Ok(()),
        Grant::Owner if nested && found.st_uid != 0 => {
            Err(format!("{shown} does not belong to the user who runs this server"))
        }
        Grant::Owner if !nested && found.st_uid == 0 && !wanted.read_only => Err(format!(
            "{shown} belongs to root, and a sandbox could leave programs in it that run as root: \
             mount it read-only (`:ro`), give it to another user, or allow it by the server's \
             setting `mounts`"
        )),
        Grant::Owner => Ok(()),
    }
}

/// Shows the owner of the directory as the guest's user, and nobody else as anybody.
fn show_to_guest(
    tree: &OwnedFd,
    found: &Stat,
    base: u32,
    attributes: Attributes,
) -> io::Result<()> {
    let shown = base + USER;
    let user = Pair { stored: found.st_uid, shown };
    let group = Pair { stored: found.st_gid, shown };
    let namespace = idmap::user_namespace(user, group)?;
    mount::map_ids(tree.as_fd(), namespace.as_fd(), attributes)
}
