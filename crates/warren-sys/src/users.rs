//! Another user's rights over files, for one thread and one piece of work.
//!
//! The ids that count for files (`fsuid`, `fsgid`, supplementary groups) belong to a thread in the
//! kernel. The C library's own functions change them for a whole process, so these are raw calls.

use std::io;

use rustix::process::Gid;

use crate::privilege::set_filesystem_ids;
use crate::spawn::Identity;

/// Runs `work` with `identity`'s rights over files, then takes this thread's own back.
///
/// Going from user 0 to another drops the capabilities that let root pass every permission, and
/// coming back raises them again; the kernel does both.
///
/// # Errors
///
/// `EPERM` when this process may not change its groups, `EINVAL` or `InvalidInput` when an id is
/// not mapped in this user namespace. `work` has not run then.
///
/// # Source
///
/// `setfsuid(2)`, `setgroups(2)`, `capabilities(7)`, section "Effect of user ID changes".
pub fn with_files_of<T>(identity: &Identity, work: impl FnOnce() -> T) -> io::Result<T> {
    let restore = Restore::here()?;
    let groups: Vec<Gid> = identity.groups.iter().map(|it| Gid::from_raw(*it)).collect();
    rustix::thread::set_thread_groups(&groups)?;
    set_filesystem_ids(identity.uid, identity.gid)?;
    let result = work();
    drop(restore);
    Ok(result)
}

/// Puts a thread's ids back, also when something fails half way.
struct Restore {
    uid: u32,
    gid: u32,
    groups: Vec<Gid>,
}

impl Restore {
    fn here() -> io::Result<Self> {
        Ok(Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            groups: rustix::process::getgroups()?,
        })
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        // What this thread had a moment ago is mapped and allowed. Should it fail all the same,
        // the thread keeps the lesser rights, and the next piece of work fails instead.
        drop(set_filesystem_ids(self.uid, self.gid));
        let _lesser = rustix::thread::set_thread_groups(&self.groups);
    }
}

/// Whether this process may take on other users' ids at all: more than one id is mapped in its
/// user namespace, and it has the capabilities.
///
/// Where it may not, everything runs as the one user there is.
pub fn may_switch_users() -> bool {
    let maps_many = |path| std::fs::read_to_string(path).is_ok_and(|text| mapped_ids(&text) > 1);
    let groups_allowed =
        !std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny");
    let needed = rustix::thread::CapabilitySet::SETUID | rustix::thread::CapabilitySet::SETGID;
    let capable =
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed));
    maps_many("/proc/self/uid_map") && maps_many("/proc/self/gid_map") && groups_allowed && capable
}

/// How many ids a map of `/proc/PID/uid_map` covers.
fn mapped_ids(map: &str) -> u64 {
    map.lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_counted() {
        assert_eq!(mapped_ids("         0     100000      65536\n"), 65_536);
        assert_eq!(mapped_ids("0 1000 1\n"), 1);
        assert_eq!(mapped_ids("0 1000 1\n1 100000 65535\n"), 65_536);
        assert_eq!(mapped_ids("nonsense"), 0);
    }

    #[test]
    fn another_user_is_held_to_permissions() {
        if !may_switch_users() {
            return assert!(!rustix::process::geteuid().is_root() || mapped_ids("") == 0);
        }
        let path = std::env::temp_dir().join(format!("warren-users-{}", std::process::id()));
        std::fs::write(&path, "secret").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let nobody = Identity { uid: 65_534, gid: 65_534, groups: vec![] };
        let denied = with_files_of(&nobody, || std::fs::read(&path)).unwrap();
        assert_eq!(denied.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(std::fs::read(&path).unwrap(), b"secret");
        std::fs::remove_file(&path).unwrap();
    }
}
