//! Control groups: limits, pausing, and what it costs to enter one.

use std::{fs, path::PathBuf};

use super::{Check, Host, read};

const AREA: &str = "limits";

/// What sandboxes use, and what is lost without each.
const WANTED: [(&str, &str); 3] = [
    ("memory", "no memory limit, no report of running out of it"),
    ("cpu", "no processor limit"),
    ("pids", "no limit of processes"),
];

pub(super) fn checks(host: &Host<'_>) -> Vec<Check> {
    let found = Hierarchies::find(
        &read("/proc/self/mountinfo").unwrap_or_default(),
        &read("/proc/self/cgroup").unwrap_or_default(),
    );
    let mut checks: Vec<_> = WANTED
        .iter()
        .map(|(controller, lost)| controller_check(host, &found, controller, lost))
        .collect();
    checks.push(freezer(host, &found));
    checks.extend(entering(host, &found));
    checks
}

/// One mounted hierarchy and the group that this process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    /// The directory of our group.
    group: PathBuf,
    unified: bool,
    controllers: Vec<String>,
    /// Whether entering a group costs no wait for the whole machine.
    fast: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Hierarchies(Vec<Hierarchy>);

impl Hierarchies {
    /// From the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`.
    fn find(mounts: &str, groups: &str) -> Self {
        let mut found = Vec::new();
        for line in mounts.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let mut after = after.split(' ');
            let (Some(kind), Some(options)) = (after.next(), after.nth(1)) else { continue };
            let mut before = before.split(' ').skip(3);
            let (Some(root), Some(point)) = (before.next(), before.next()) else { continue };
            let unified = kind == "cgroup2";
            if !unified && kind != "cgroup" {
                continue;
            }
            let options: Vec<_> = options.split(',').map(str::to_owned).collect();
            let Some(group) = own_group(groups, unified, &options) else { continue };
            let inner = group.strip_prefix(root).unwrap_or(group).trim_start_matches('/');
            found.push(Hierarchy {
                group: PathBuf::from(point).join(inner),
                unified,
                fast: options.iter().any(|it| it == "favordynmods"),
                controllers: options,
            });
        }
        Self(found)
    }

    /// The hierarchy that has a controller, where new groups would be made.
    fn with(&self, controller: &str) -> Option<&Hierarchy> {
        self.0.iter().find(|it| match it.unified {
            false => it.controllers.iter().any(|has| has == controller),
            true => fs::read_to_string(it.group.join("cgroup.controllers"))
                .is_ok_and(|text| text.split_whitespace().any(|has| has == controller)),
        })
    }
}

/// The group of this process in one hierarchy: lines are `id:controllers:path`.
fn own_group<'a>(groups: &'a str, unified: bool, options: &[String]) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let ours = match unified {
            true => controllers.is_empty(),
            false => controllers
                .split(',')
                .any(|it| !it.is_empty() && options.iter().any(|option| option == it)),
        };
        ours.then_some(path)
    })
}

/// Whether we may make a group there, tried.
fn can_make(hierarchy: &Hierarchy) -> std::io::Result<bool> {
    let group = hierarchy.group.join(format!("warren-doctor-{}", std::process::id()));
    fs::create_dir(&group)?;
    let freezes = group.join("cgroup.freeze").exists() || group.join("freezer.state").exists();
    fs::remove_dir(&group)?;
    Ok(freezes)
}

fn controller_check(
    host: &Host<'_>,
    found: &Hierarchies,
    controller: &'static str,
    lost: &str,
) -> Check {
    let Some(hierarchy) = found.with(controller) else {
        return Check::weaker(
            AREA,
            controller,
            format!("there is no such controller here: {lost}"),
        )
        .mend(delegation(host, false));
    };
    let version = if hierarchy.unified { "cgroup v2" } else { "cgroup v1" };
    match can_make(hierarchy) {
        Ok(_freezes) => Check::works(AREA, controller, format!("enforced by {version}")),
        Err(error) => {
            Check::weaker(AREA, controller, format!("{version} may not be used: {lost} ({error})"))
                .mend(delegation(host, hierarchy.unified))
        }
    }
}

/// How this user gets groups of its own.
fn delegation(host: &Host<'_>, unified: bool) -> &'static str {
    match (host.is_root(), unified) {
        (true, _) => {
            "mount it: sudo mount -t cgroup2 none /sys/fs/cgroup (in a container: make it writable there)"
        }
        (false, true) => {
            "run it in a delegated group: systemd-run --user --scope -p Delegate=yes warren serve"
        }
        (false, false) => {
            "run the server as root, or boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1): \
             ordinary users get no groups of v1"
        }
    }
}

fn freezer(host: &Host<'_>, found: &Hierarchies) -> Check {
    const NAME: &str = "pausing";
    let legacy = found.with("freezer").filter(|it| !it.unified);
    let unified = found.0.iter().find(|it| it.unified);
    let works =
        legacy.into_iter().chain(unified).any(|it| can_make(it).is_ok_and(|freezes| freezes));
    if works {
        Check::works(AREA, NAME, "by the freezer of control groups")
    } else {
        Check::weaker(AREA, NAME, "no freezer can be used: sandboxes can not be paused")
            .mend(delegation(host, found.with("memory").is_some_and(|it| it.unified)))
    }
}

/// On v1 every entry into a group waits for the whole machine, unless told otherwise once.
fn entering(host: &Host<'_>, found: &Hierarchies) -> Option<Check> {
    const NAME: &str = "favordynmods";
    // Ordinary users enter none on v1.
    if !host.is_root() || found.with("memory").is_none_or(|it| it.unified) {
        return None;
    }
    Some(if found.0.iter().any(|it| it.fast) {
        Check::works(AREA, NAME, "entering a group is fast")
    } else {
        Check::works(AREA, NAME, "not on yet; the server switches it on, until the next boot")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_hierarchy_are_found_with_our_group() {
        let mounts = "31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            32 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 none rw,favordynmods\n\
            33 24 0:29 / /proc rw - proc proc rw\n";
        let groups = "4:memory:/user/a\n1:name=systemd:/x\n0::/user.slice\n";
        let Hierarchies(found) = Hierarchies::find(mounts, groups);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].group, PathBuf::from("/sys/fs/cgroup/memory/user/a"));
        assert_eq!((found[0].unified, found[0].fast), (false, false));
        assert_eq!(found[1].group, PathBuf::from("/sys/fs/cgroup/unified/user.slice"));
        assert_eq!((found[1].unified, found[1].fast), (true, true));
    }

    #[test]
    fn a_group_namespace_is_seen_from_inside() {
        let mounts = "31 24 0:27 /docker/x /sys/fs/cgroup rw - cgroup2 none rw\n";
        let Hierarchies(found) = Hierarchies::find(mounts, "0::/docker/x/y\n");
        assert_eq!(found[0].group, PathBuf::from("/sys/fs/cgroup/y"));
    }

    #[test]
    fn texts_of_another_shape_find_nothing() {
        assert_eq!(Hierarchies::find("nonsense\n - cgroup\n", ":\n"), Hierarchies::default());
    }
}
