//! Namespaces, and the security modules that forbid them.

use std::io;

use rustix::thread::UnshareFlags;
use warren_sys::mount::{Attributes, new_filesystem};

use super::{Check, Host, read, read_number};

const AREA: &str = "isolation";

pub(super) fn checks(host: &Host<'_>) -> Vec<Check> {
    vec![user_namespaces(host), all_namespaces(host), apparmor(), selinux()]
}

/// A user namespace is of use only if its root may mount in it.
fn user_namespaces(host: &Host<'_>) -> Check {
    const NAME: &str = "user namespaces";
    let tried = warren_sys::probe::attempt(&host.proof, || {
        warren_sys::probe::enter_new(UnshareFlags::NEWUSER)?;
        warren_sys::probe::become_root_inside(host.uid, host.gid)?;
        warren_sys::probe::enter_new(UnshareFlags::NEWNS)?;
        new_filesystem("tmpfs", &[], Attributes::default()).map(drop)
    });
    match tried {
        Ok(()) => Check::works(AREA, NAME, "root of a sandbox is nobody outside"),
        Err(error) => {
            let (why, mend) = obstacle(&error);
            Check::missing(AREA, NAME, format!("{why} ({error})")).mend(mend)
        }
    }
}

/// Which of the usual obstacles it is.
fn obstacle(error: &io::Error) -> (&'static str, &'static str) {
    if read_number("/proc/sys/user/max_user_namespaces") == Some(0) {
        return ("they are switched off", "sudo sysctl -w user.max_user_namespaces=65536");
    }
    if read_number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return (
            "ordinary users may not make them",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        );
    }
    if read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return (
            "AppArmor lets ordinary users make them and takes all rights in them away",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run the server as root",
        );
    }
    if error.raw_os_error() == Some(28) {
        return ("there are too many", "sudo sysctl -w user.max_user_namespaces=65536");
    }
    (
        "the kernel, or a container around us, refuses them",
        "in a container: run it privileged, or with a profile that allows unshare and mount",
    )
}

fn all_namespaces(host: &Host<'_>) -> Check {
    const NAME: &str = "other namespaces";
    const EACH: [(UnshareFlags, &str); 6] = [
        (UnshareFlags::NEWNS, "mount"),
        (UnshareFlags::NEWPID, "pid"),
        (UnshareFlags::NEWIPC, "ipc"),
        (UnshareFlags::NEWUTS, "uts"),
        (UnshareFlags::NEWNET, "net"),
        (UnshareFlags::NEWCGROUP, "cgroup"),
    ];
    let refused: Vec<_> = EACH
        .iter()
        .filter_map(|(flag, name)| Some((name, host.attempt(*flag, || Ok(())).err()?)))
        .map(|(name, error)| format!("{name} ({error})"))
        .collect();
    if refused.is_empty() {
        Check::works(AREA, NAME, "mount, pid, ipc, uts, net, cgroup")
    } else {
        Check::missing(AREA, NAME, format!("refused: {}", refused.join(", ")))
            .mend("in a container: run it privileged; else boot a kernel with all namespaces")
    }
}

fn apparmor() -> Check {
    const NAME: &str = "AppArmor";
    if read("/sys/module/apparmor/parameters/enabled").as_deref() != Some("Y") {
        return Check::works(AREA, NAME, "not active");
    }
    let profile = read("/proc/self/attr/apparmor/current")
        .or_else(|| read("/proc/self/attr/current"))
        .unwrap_or_default();
    let restricted =
        read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1);
    let found = match restricted {
        true => format!(
            "active, we run as `{profile}`; user namespaces of ordinary users are restricted"
        ),
        false => format!("active, we run as `{profile}`"),
    };
    Check::works(AREA, NAME, found)
}

fn selinux() -> Check {
    const NAME: &str = "SELinux";
    match read("/sys/fs/selinux/enforce").as_deref() {
        Some("1") => Check::works(AREA, NAME, "enforcing; what it refuses is in the audit log"),
        Some(_) => Check::works(AREA, NAME, "permissive"),
        None => Check::works(AREA, NAME, "not active"),
    }
}
