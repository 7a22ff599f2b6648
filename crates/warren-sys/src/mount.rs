//! Mounts by descriptor: trees that exist before they have a place.
//!
//! `rustix` has the calls of the new mount interface; this module adds `mount_setattr(2)`, which
//! it lacks, and the few compositions that sandboxes need.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree, unmount,
};

/// Attributes of a mount, as in `mount_setattr(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Nothing below can be written.
    pub read_only: bool,
    /// Set-user-id bits and file capabilities are ignored.
    pub no_suid: bool,
    /// Device nodes cannot be opened.
    pub no_dev: bool,
    /// Nothing below can be executed.
    pub no_exec: bool,
}

impl Attributes {
    fn bits(self) -> u64 {
        let pairs = [
            (self.read_only, libc::MOUNT_ATTR_RDONLY),
            (self.no_suid, libc::MOUNT_ATTR_NOSUID),
            (self.no_dev, libc::MOUNT_ATTR_NODEV),
            (self.no_exec, libc::MOUNT_ATTR_NOEXEC),
        ];
        pairs.into_iter().filter(|(set, _)| *set).map(|(_, bit)| bit).fold(0, |all, bit| all | bit)
    }

    fn flags(self) -> MountAttrFlags {
        MountAttrFlags::from_bits_truncate(u32::try_from(self.bits()).unwrap_or_default())
    }
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Opens a private, detached copy of the mount at `path` (relative to `directory` if it is not
/// absolute), of this mount alone or with `recursive` of those below it too.
///
/// # Errors
///
/// The kernel's: `EPERM` without `CAP_SYS_ADMIN` over the mount namespace.
///
/// # Source
///
/// `open_tree(2)`.
pub fn clone_tree(directory: BorrowedFd<'_>, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(directory, path, flags)?)
}

/// Sets attributes on the mounts at and below `tree`.
///
/// # Errors
///
/// The kernel's error.
///
/// # Source
///
/// `mount_setattr(2)`.
pub fn set_attributes(tree: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
    mount_setattr(
        tree,
        libc::AT_RECURSIVE,
        &MountAttr { attr_set: attributes.bits(), attr_clr: 0, propagation: 0, userns_fd: 0 },
    )
}

/// Shows the files of a detached mount under the ids of `user_namespace`: what is owned by 0 on
/// disk is owned by the namespace's root.
///
/// # Errors
///
/// `EINVAL` where the filesystem cannot be id-mapped, `EPERM` without `CAP_SYS_ADMIN` over it.
///
/// # Source
///
/// `mount_setattr(2)`, section "ID-mapped mounts".
pub fn map_ids(
    tree: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    attributes: Attributes,
) -> io::Result<()> {
    let userns_fd = u64::try_from(user_namespace.as_raw_fd()).unwrap_or_default();
    mount_setattr(
        tree,
        0,
        &MountAttr {
            attr_set: libc::MOUNT_ATTR_IDMAP | attributes.bits(),
            attr_clr: 0,
            propagation: 0,
            userns_fd,
        },
    )
}

fn mount_setattr(tree: BorrowedFd<'_>, flags: i32, attr: &MountAttr) -> io::Result<()> {
    // SAFETY: the path is an empty C string, `attr` is a whole struct mount_attr of the size given
    // and is only read; the descriptor is borrowed for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags | libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attr),
            std::mem::size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a new, detached filesystem of `kind` with `options`; an option without value is a flag.
///
/// # Errors
///
/// The kernel's error of the step that failed.
///
/// # Source
///
/// `fsopen(2)`, `fsconfig(2)`, `fsmount(2)`.
pub fn new_filesystem(
    kind: &str,
    options: &[(&str, Option<&str>)],
    attributes: Attributes,
) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(context.as_fd(), *key, *value)?,
            None => fsconfig_set_flag(context.as_fd(), *key)?,
        }
    }
    finish_filesystem(&context, attributes)
}

/// Creates what `context` (from `fsopen`) describes and gives it as a detached mount.
///
/// # Errors
///
/// The kernel's error.
pub fn finish_filesystem(context: &OwnedFd, attributes: Attributes) -> io::Result<OwnedFd> {
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes.flags())?)
}

/// What the kernel wrote about the last failures of `context`, for error messages.
#[must_use]
pub fn context_log(context: &OwnedFd) -> String {
    let mut buffer = [0; 512];
    match rustix::io::read(context, &mut buffer) {
        Ok(count) => {
            let text = buffer.get(..count).unwrap_or_default();
            String::from_utf8_lossy(text).trim().to_owned()
        }
        Err(_nothing_logged) => String::new(),
    }
}

/// Puts a detached mount at `path`, relative to `directory`.
///
/// Links in the last component of `path` are not followed.
///
/// # Errors
///
/// The kernel's error.
///
/// # Source
///
/// `move_mount(2)`.
pub fn attach(tree: BorrowedFd<'_>, directory: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if path.is_empty() {
        flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    Ok(move_mount(tree, "", directory, path, flags)?)
}

/// Makes the mount at the working directory this process's root, and lets go of the old one.
///
/// # Errors
///
/// `EINVAL` when the working directory is not the root of a mount.
///
/// # Source
///
/// `pivot_root(2)`, section "pivot_root(".", ".")".
pub fn pivot_here() -> io::Result<()> {
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}
