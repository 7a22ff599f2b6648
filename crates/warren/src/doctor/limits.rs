//! Limits of the machine that many sandboxes run into.

use rustix::process::{Resource, getrlimit};

use super::{Check, Host, read_number};

const AREA: &str = "capacity";

pub(super) fn checks(host: &Host<'_>) -> Vec<Check> {
    let mut checks = vec![open_files()];
    for (name, file, wanted, setting) in [
        ("process ids", "/proc/sys/kernel/pid_max", 32_768, "kernel.pid_max=4194304"),
        ("threads", "/proc/sys/kernel/threads-max", 16_384, "kernel.threads-max=262144"),
        (
            "inotify instances",
            "/proc/sys/fs/inotify/max_user_instances",
            128,
            "fs.inotify.max_user_instances=8192",
        ),
        (
            // Only there once something tracks connections.
            "tracked connections",
            "/proc/sys/net/netfilter/nf_conntrack_max",
            32_768,
            "net.netfilter.nf_conntrack_max=262144",
        ),
        (
            "user namespaces",
            "/proc/sys/user/max_user_namespaces",
            1000,
            "user.max_user_namespaces=65536",
        ),
        (
            "network namespaces",
            "/proc/sys/user/max_net_namespaces",
            1000,
            "user.max_net_namespaces=65536",
        ),
    ] {
        checks.extend(read_number(file).map(|found| judge(name, found, wanted, setting)));
    }
    checks.extend(connections());
    checks.push(memory(host));
    checks
}

/// A full table of connections drops those of everybody on the machine.
fn connections() -> Option<Check> {
    let count = read_number("/proc/sys/net/netfilter/nf_conntrack_count")?;
    let most = read_number("/proc/sys/net/netfilter/nf_conntrack_max")?;
    Some(judge_connections(count, most))
}

fn judge_connections(count: u64, most: u64) -> Check {
    const NAME: &str = "connections now";
    let found = format!("{count} of {most}");
    if count.saturating_mul(10) < most.saturating_mul(8) {
        return Check::works(AREA, NAME, found);
    }
    let double = most.saturating_mul(2);
    Check::weaker(AREA, NAME, format!("{found}: when the table is full, packets are dropped"))
        .mend(format!("sudo sysctl -w net.netfilter.nf_conntrack_max={double}"))
}

fn judge(name: &'static str, found: u64, wanted: u64, setting: &str) -> Check {
    if found >= wanted {
        Check::works(AREA, name, found.to_string())
    } else {
        Check::weaker(AREA, name, format!("{found}; {wanted} is what we would not go below"))
            .mend(format!("sudo sysctl -w {setting}"))
    }
}

/// The server holds a few descriptors for each sandbox.
fn open_files() -> Check {
    const NAME: &str = "open files";
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if limit >= 4096 {
        let found = if limit == u64::MAX { "no limit".to_owned() } else { limit.to_string() };
        Check::works(AREA, NAME, found)
    } else {
        Check::weaker(
            AREA,
            NAME,
            format!("{limit} for one process: some hundred sandboxes at most"),
        )
        .mend("raise `nofile` in /etc/security/limits.conf, or LimitNOFILE of the service")
    }
}

fn memory(host: &Host<'_>) -> Check {
    use crate::config::Size;
    const NAME: &str = "memory";
    let total = Size(rustix::system::sysinfo().totalram as u64 >> 20 << 20);
    let each = host.config.memory;
    if total.0 < each.0 {
        return Check::weaker(
            AREA,
            NAME,
            format!("{total}, less than one sandbox may use ({each})"),
        )
        .mend("set memory to less");
    }
    Check::works(AREA, NAME, format!("{total}; a sandbox may use {each}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn a_low_limit_says_how_to_raise_it() {
        let check = judge("process ids", 100, 32_768, "kernel.pid_max=4194304");
        assert_eq!(check.outcome, Outcome::Weaker);
        assert_eq!(check.mend.unwrap(), "sudo sysctl -w kernel.pid_max=4194304");
        assert_eq!(judge("x", 5, 5, "").outcome, Outcome::Works);
        assert_eq!(judge_connections(79, 100).outcome, Outcome::Works);
        let full = judge_connections(80, 100);
        assert_eq!(full.mend.unwrap(), "sudo sysctl -w net.netfilter.nf_conntrack_max=200");
    }
}
