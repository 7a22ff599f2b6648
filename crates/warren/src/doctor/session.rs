//! What ends processes here that nobody meant to end, and who looks after those that lost their
//! parent: sandboxes outlive the command that made them.

use std::{fs, path::Path};

use super::{Check, Host, read};

const AREA: &str = "lifetime";

/// Where the session manager's settings are, the later of which win.
const LOGIND: [&str; 4] = [
    "/usr/lib/systemd/logind.conf",
    "/usr/lib/systemd/logind.conf.d",
    "/etc/systemd/logind.conf",
    "/etc/systemd/logind.conf.d",
];

/// First processes that look after everybody's orphans.
const INITS: [&str; 12] = [
    "systemd",
    "init",
    "tini",
    "docker-init",
    "dumb-init",
    "catatonit",
    "runit",
    "s6-svscan",
    "openrc-init",
    "procd",
    "busybox",
    "conmon",
];

pub(super) fn checks(host: &Host<'_>) -> Vec<Check> {
    let mut checks = vec![orphans()];
    if !host.is_root() {
        checks.push(logout(host));
    }
    checks
}

/// Sandboxes lose their parent when a keeper dies, and then the first process must reap them.
fn orphans() -> Check {
    const NAME: &str = "orphans";
    let first = read("/proc/1/comm").unwrap_or_default();
    if INITS.contains(&first.as_str()) {
        return Check::works(AREA, NAME, format!("process 1 ({first}) looks after them"));
    }
    match zombies_of_the_first() {
        0 => Check::works(AREA, NAME, format!("process 1 ({first}) has left none behind so far")),
        count => Check::weaker(
            AREA,
            NAME,
            format!(
                "process 1 ({first}) does not reap them: {count} that have ended are still there"
            ),
        )
        .mend("start the container with an init: docker run --init, or `init: true` in compose"),
    }
}

/// How many processes have ended and wait for the first process to notice.
fn zombies_of_the_first() -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter(|stat| is_zombie_of_the_first(stat)).count()
}

/// Reads a line of `/proc/PID/stat`: behind the name in brackets are state and parent.
fn is_zombie_of_the_first(stat: &str) -> bool {
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let mut fields = rest.split_ascii_whitespace();
    fields.next() == Some("Z") && fields.next() == Some("1")
}

/// A session manager may end everything of a user who logs out, the background server and its
/// sandboxes too.
fn logout(host: &Host<'_>) -> Check {
    const NAME: &str = "logging out";
    if !Path::new("/run/systemd/seats").exists() {
        return Check::works(AREA, NAME, "nobody here ends processes then");
    }
    let user = host.environment.get("USER").unwrap_or_default();
    if !user.is_empty() && Path::new("/var/lib/systemd/linger").join(user).exists() {
        return Check::works(AREA, NAME, "this user's processes stay (linger is on)");
    }
    let texts = LOGIND.iter().flat_map(|path| texts_of(Path::new(path)));
    match texts.filter_map(|text| kills(&text)).next_back() {
        Some(true) => Check::weaker(
            AREA,
            NAME,
            "it ends the server and all sandboxes (KillUserProcesses=yes)",
        )
        .mend(format!("sudo loginctl enable-linger {user}")),
        Some(false) => Check::works(AREA, NAME, "processes stay (KillUserProcesses=no)"),
        None => {
            Check::works(AREA, NAME, "KillUserProcesses is not set; most systems mean no by that")
        }
    }
}

/// The text of a file, or those of all in a directory by name.
fn texts_of(path: &Path) -> Vec<String> {
    let mut files: Vec<_> = match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_no_directory) => vec![path.to_owned()],
    };
    files.sort_unstable();
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect()
}

/// What a file of settings says, if anything.
fn kills(text: &str) -> Option<bool> {
    let said = text.lines().filter_map(|line| line.trim().strip_prefix("KillUserProcesses"));
    let value = said.filter_map(|rest| rest.trim_start().strip_prefix('=')).next_back()?;
    Some(matches!(value.trim().to_ascii_lowercase().as_str(), "yes" | "true" | "on" | "1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_about_logging_out_counts() {
        assert_eq!(kills("[Login]\n#KillUserProcesses=yes\n"), None);
        assert_eq!(kills("KillUserProcesses=no\nKillUserProcesses = yes\n"), Some(true));
        assert_eq!(kills("KillUserProcesses=no\nKillExcludeUsers=root\n"), Some(false));
    }

    #[test]
    fn only_what_ended_and_belongs_to_the_first_process_counts() {
        assert!(is_zombie_of_the_first("42 (a b) Z 1 42 42"));
        assert!(!is_zombie_of_the_first("42 (a) Z) S 1 42"));
        assert!(!is_zombie_of_the_first("42 (a) Z 7 42"));
        assert!(!is_zombie_of_the_first(""));
    }
}
