//! The kernel: its version, and what it lacks for being older than the newest.

use warren_sys::probe;

use super::{Check, Host, read};

const AREA: &str = "kernel";

/// What versions bring; each says what is done without.
const STEPS: [((u32, u32), &str); 3] = [
    ((5, 19), "overlay on id-mapped layers: before it, everything runs inside one outer namespace"),
    ((6, 13), "layers by descriptor: before it, layers are mounted by path"),
    ((6, 15), "exit status by pidfd: before it, how an orphaned sandbox ended stays unknown"),
];

pub(super) fn checks(host: &Host<'_>) -> Vec<Check> {
    vec![version(), processor(), clone3(), exit_info(host), seccomp()]
}

fn version() -> Check {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    judge(&release)
}

fn judge(release: &str) -> Check {
    let Some(version) = parse(release) else {
        return Check::weaker(
            AREA,
            "version",
            format!("`{release}` is no version that can be read"),
        )
        .mend("boot a kernel of 6.1 or later");
    };
    if version < (5, 15) {
        return Check::missing(
            AREA,
            "version",
            format!("{release}; 5.15 is the oldest that works"),
        )
        .mend("boot a kernel of 6.1 or later");
    }
    let lacking: Vec<_> =
        STEPS.iter().filter(|(since, _)| version < *since).map(|(_, what)| *what).collect();
    if version < (6, 1) {
        let found = format!("{release}; from 6.1 on it is fully supported. Not here: ");
        return Check::weaker(AREA, "version", found + &lacking.join("; "))
            .mend("boot a kernel of 6.1 or later");
    }
    let without = match lacking.as_slice() {
        [] => String::new(),
        lacking => format!("; not here: {}", lacking.join("; ")),
    };
    Check::works(AREA, "version", format!("{release}{without}"))
}

/// Major and minor version of a release such as `6.1.0-18-amd64`.
fn parse(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|it: char| !it.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn processor() -> Check {
    let machine = std::env::consts::ARCH;
    if ["x86_64", "aarch64"].contains(&machine) {
        Check::works(AREA, "processor", machine)
    } else {
        Check::weaker(AREA, "processor", format!("{machine} is not tested"))
            .mend("use a machine with an x86_64 or aarch64 processor")
    }
}

fn clone3() -> Check {
    if probe::has_clone3() {
        return Check::works(AREA, "clone3", "sandboxes are forked straight into their namespaces");
    }
    Check::missing(AREA, "clone3", "the kernel, or a filter of a container around us, refuses it")
        .mend("in a container: run it with a seccomp profile that allows clone3, or unconfined")
}

fn exit_info(host: &Host<'_>) -> Check {
    match probe::has_exit_info(&host.proof) {
        Ok(true) => {
            Check::works(AREA, "exit status by pidfd", "orphaned sandboxes keep their story")
        }
        Ok(false) => Check::weaker(
            AREA,
            "exit status by pidfd",
            "how a sandbox ended stays unknown where its keeper died before it",
        )
        .mend("boot a kernel of 6.15 or later"),
        Err(error) => Check::weaker(AREA, "exit status by pidfd", super::sentence(&error))
            .mend("in a container: run it with a seccomp profile that allows pidfd_open"),
    }
}

fn seccomp() -> Check {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.split_whitespace().any(|action| action == "errno") {
        Check::works(AREA, "seccomp", "system calls are filtered")
    } else {
        Check::missing(AREA, "seccomp", "the kernel cannot filter system calls")
            .mend("boot a kernel with CONFIG_SECCOMP_FILTER")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn each_release_is_judged_by_its_version() {
        for (release, outcome, word) in [
            ("6.18.44-fc", Outcome::Works, "6.18"),
            ("6.1.0-18-amd64", Outcome::Works, "layers by descriptor"),
            ("5.15.0-100-generic", Outcome::Weaker, "id-mapped layers"),
            ("5.10.0-28-amd64", Outcome::Missing, "5.15 is the oldest"),
            ("strange", Outcome::Weaker, "no version"),
        ] {
            let check = judge(release);
            assert_eq!(check.outcome, outcome, "{release}");
            assert!(check.found.contains(word), "{}", check.found);
        }
    }
}
