//! Capabilities and ids of one thread, by raw system calls.
//!
//! The C library's set-id functions change every thread of a process and must not be used after a
//! raw `clone3`; these change the calling thread alone.

use std::io;

use rustix::{
    process::{Gid, Uid},
    thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets},
};

/// What root of a sandbox keeps in the default profile: Docker's default set less `NET_RAW` and
/// `MKNOD`.
pub const GUEST_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Keeps capabilities across changes of this thread's user id.
///
/// # Errors
///
/// `EPERM` without `CAP_SETPCAP`.
///
/// # Source
///
/// `capabilities(7)`, `SECBIT_NO_SETUID_FIXUP`.
pub fn keep_capabilities_across_ids() -> io::Result<()> {
    let bits = rustix::thread::capabilities_secure_bits()?;
    rustix::thread::set_capabilities_secure_bits(bits | CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
    Ok(())
}

/// Makes user id changes drop capabilities again, as is the default.
///
/// # Errors
///
/// `EPERM` without `CAP_SETPCAP`.
pub fn drop_capabilities_across_ids() -> io::Result<()> {
    let bits = rustix::thread::capabilities_secure_bits()?;
    rustix::thread::set_capabilities_secure_bits(bits - CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
    Ok(())
}

/// Bounds this thread and all it will start to `keep`, for ever.
///
/// # Errors
///
/// The kernel's error of the set that could not be changed.
///
/// # Source
///
/// `capabilities(7)`, `PR_CAPBSET_DROP(2const)`.
pub fn bound_capabilities(keep: CapabilitySet) -> io::Result<()> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if keep.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Past the last capability that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let sets =
        CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(())
}

/// No program that is started from here on gains anything by set-id bits or file capabilities.
///
/// # Errors
///
/// None is expected.
pub fn forbid_new_privileges() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// Takes on `uid` and `gid` as real, effective, saved and filesystem ids, with no further group.
///
/// In a user namespace where groups cannot be set at all (an ordinary user's with one id) those of
/// the caller stay; nothing could be done about them.
///
/// # Errors
///
/// `EINVAL` when an id is not mapped in this user namespace, `EPERM` without the capability.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    match rustix::thread::set_thread_groups(&[]) {
        Err(rustix::io::Errno::PERM) if groups_are_fixed() => {}
        result => result?,
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// Whether this user namespace forbids `setgroups`. `user_namespaces(7)`.
fn groups_are_fixed() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|it| it.trim() == "deny")
}

/// Takes on `uid` as the effective id alone; the real and saved ids stay, so it can be undone.
///
/// # Errors
///
/// As [`become_user`].
pub fn set_effective_user(uid: u32) -> io::Result<()> {
    rustix::thread::set_thread_res_uid(None, Uid::from_raw(uid), None)?;
    Ok(())
}

/// Takes on `uid` and `gid` for access to files alone.
///
/// With [`keep_capabilities_across_ids`] the capabilities stay.
///
/// # Errors
///
/// `InvalidInput` when the ids did not change, for the call itself reports nothing.
///
/// # Source
///
/// `setfsuid(2)`.
pub fn set_filesystem_ids(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: takes one integer, changes this thread's credentials only.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid) };
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
    // An invalid id changes nothing; the call gives the id from before, which tells.
    // SAFETY: as above.
    let now = unsafe { libc::syscall(libc::SYS_setfsuid, u32::MAX) };
    if u32::try_from(now) == Ok(uid) { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}
