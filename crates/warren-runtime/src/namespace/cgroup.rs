//! Limits, freezing and counting: one cgroup per guest, v2 where its controllers are there, v1
//! where only that is, none where neither can be written.

use std::{
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use warren_core::{runtime::Usage, spec::Limits};
use warren_proto::keeper::{CgroupView, Role};

use super::config::machine_memory;

mod memory;

/// How long a freeze may take before it is taken back.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(2);
/// The period that processor time is dealt out in.
const CPU_PERIOD_US: u64 = 100_000;
/// The v1 hierarchies in use; those that are mounted together are one directory.
const V1_CONTROLLERS: [&str; 5] = ["memory", "cpu", "cpuacct", "pids", "freezer"];

/// Where this server's cgroups are.
#[derive(Clone, Debug)]
pub(crate) enum Hierarchy {
    /// One directory per guest in each of these, by controller.
    V1(Vec<(&'static str, PathBuf)>),
    /// One directory per guest in this.
    V2(PathBuf),
    /// No cgroup can be written.
    None {
        /// Why, for people.
        reason: String,
    },
}

impl Hierarchy {
    /// Finds what this host has, and makes this server's own part of it.
    pub(crate) fn open(instance: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let name = format!("warren-{instance}");
        Self::open_v2(&mounts, &own, &name)
            .or_else(|why_not_v2| {
                Self::open_v1(&mounts, &own, &name).map_err(|why| (why_not_v2, why))
            })
            .unwrap_or_else(|(v2, v1)| Self::None { reason: format!("v2: {v2}; v1: {v1}") })
    }

    fn open_v2(mounts: &str, own: &str, name: &str) -> Result<Self, String> {
        let mount = mount_points(mounts, "cgroup2").next().ok_or("not mounted")?.0;
        let has = |directory: &Path, needed: &str| {
            let controllers = fs::read_to_string(directory.join("cgroup.controllers"));
            controllers.is_ok_and(|it| it.split_whitespace().any(|it| it == needed))
        };
        if !["memory", "pids"].iter().all(|it| has(&mount, it)) {
            return Err("the memory and pids controllers are not there".to_owned());
        }
        // Root may use the top; anybody else what was delegated, which is some parent of ours.
        let path = own.lines().find_map(|it| it.strip_prefix("0::/")).unwrap_or_default();
        let mut candidates: Vec<PathBuf> = mount.join(path).ancestors().map(Into::into).collect();
        candidates.retain(|it| it.starts_with(&mount));
        candidates.reverse();
        let mut last = "no cgroup is writable".to_owned();
        for parent in candidates {
            match Self::enable_v2(&parent, name) {
                Ok(directory) => return Ok(Self::V2(directory)),
                Err(error) => last = format!("{}: {error}", parent.display()),
            }
        }
        Err(last)
    }

    fn enable_v2(parent: &Path, name: &str) -> io::Result<PathBuf> {
        let directory = parent.join(name);
        make_directory(&directory)?;
        for holder in [parent, &directory] {
            for controller in ["+memory", "+pids", "+cpu"] {
                // Already on, or not to be had here: what follows tells.
                drop(fs::write(holder.join("cgroup.subtree_control"), controller));
            }
        }
        let enabled = fs::read_to_string(directory.join("cgroup.subtree_control"))?;
        if enabled.split_whitespace().any(|it| it == "memory") {
            return Ok(directory);
        }
        fs::remove_dir(&directory)?;
        Err(io::Error::other("the memory controller cannot be switched on"))
    }

    fn open_v1(mounts: &str, own: &str, name: &str) -> Result<Self, String> {
        let mut found = Vec::new();
        for controller in V1_CONTROLLERS {
            let mount = mount_points(mounts, "cgroup")
                .find(|(_, options)| options.split(',').any(|it| it == controller));
            let Some((mount, _)) = mount else {
                return Err(format!("the {controller} controller is not mounted"));
            };
            let path = own.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                controllers.split(',').any(|it| it == controller).then_some(path)
            });
            let within = path.unwrap_or("/").trim_start_matches('/');
            // In a container the path may be that of the host, which is not visible here.
            let base = if mount.join(within).is_dir() { mount.join(within) } else { mount };
            let directory = base.join(name);
            make_directory(&directory).map_err(|error| format!("{}: {error}", base.display()))?;
            found.push((controller, directory));
        }
        Ok(Self::V1(found))
    }

    /// Limits what all guests use together, so that they can end one another and not the host:
    /// the limits of each may add up to more than there is.
    pub(crate) fn confine(&self, memory_bytes: Option<u64>) -> io::Result<()> {
        let memory = memory_bytes.unwrap_or_else(|| machine_memory() / 10 * 9).to_string();
        let pids = most_of_the_pids().to_string();
        match self {
            Self::V1(found) => {
                found.iter().try_for_each(|(controller, directory)| match *controller {
                    "memory" => fs::write(directory.join("memory.limit_in_bytes"), &memory),
                    "pids" => fs::write(directory.join("pids.max"), &pids),
                    _ => Ok(()),
                })
            }
            Self::V2(directory) => {
                fs::write(directory.join("memory.max"), &memory)?;
                fs::write(directory.join("pids.max"), &pids)
            }
            Self::None { .. } => Ok(()),
        }
    }

    /// Which of its cgroups a guest is shown.
    pub(crate) fn view(&self) -> CgroupView {
        match self {
            Self::V1(_) => CgroupView::V1,
            Self::V2(_) => CgroupView::V2,
            Self::None { .. } => CgroupView::None,
        }
    }

    /// Whether limits and freezing work.
    pub(crate) fn works(&self) -> bool {
        !matches!(self, Self::None { .. })
    }

    /// Makes the cgroup of `slot`; one that an earlier guest left is used as it is.
    pub(crate) fn create(&self, slot: u32) -> io::Result<Cgroup> {
        let cgroup = self.of(slot);
        cgroup.directories().into_iter().try_for_each(make_directory)?;
        Ok(cgroup)
    }

    /// The cgroup of `slot`, whether or not it exists.
    pub(crate) fn of(&self, slot: u32) -> Cgroup {
        Cgroup { hierarchy: self.clone(), name: slot.to_string() }
    }

    /// The slots that have a cgroup.
    pub(crate) fn slots(&self) -> Vec<u32> {
        let directories: Vec<&PathBuf> = match self {
            Self::V1(all) => all.iter().map(|(_, it)| it).collect(),
            Self::V2(it) => vec![it],
            Self::None { .. } => Vec::new(),
        };
        let mut slots: Vec<u32> = directories
            .into_iter()
            .filter_map(|it| fs::read_dir(it).ok())
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// Removes this server's own directories; they are empty by then.
    pub(crate) fn close(&self) {
        let directories: Vec<&PathBuf> = match self {
            Self::V1(all) => all.iter().map(|(_, it)| it).collect(),
            Self::V2(it) => vec![it],
            Self::None { .. } => Vec::new(),
        };
        for directory in directories {
            // One that is not empty has a guest, and is found again by the next server.
            drop(fs::remove_dir(directory));
        }
    }
}

fn make_directory(path: impl AsRef<Path>) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Mount points and superblock options of filesystems of `kind`, from `proc_pid_mountinfo(5)`.
fn mount_points<'a>(mounts: &'a str, kind: &'a str) -> impl Iterator<Item = (PathBuf, &'a str)> {
    mounts.lines().filter_map(move |line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        if right.next()? != kind {
            return None;
        }
        let options = right.nth(1)?;
        Some((PathBuf::from(left.split(' ').nth(4)?), options))
    })
}

/// One guest's cgroup.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    hierarchy: Hierarchy,
    name: String,
}

impl Cgroup {
    fn directories(&self) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = match &self.hierarchy {
            Hierarchy::V1(all) => all.iter().map(|(_, it)| it.join(&self.name)).collect(),
            Hierarchy::V2(it) => vec![it.join(&self.name)],
            Hierarchy::None { .. } => Vec::new(),
        };
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The file `v1` of that controller's directory, or the file `v2`.
    fn file(&self, controller: &str, v1: &str, v2: &str) -> Option<PathBuf> {
        match &self.hierarchy {
            Hierarchy::V1(all) => {
                let (_, directory) = all.iter().find(|(it, _)| *it == controller)?;
                Some(directory.join(&self.name).join(v1))
            }
            Hierarchy::V2(directory) => Some(directory.join(&self.name).join(v2)),
            Hierarchy::None { .. } => None,
        }
    }

    /// What the keeper is given of it, each with its role.
    pub(crate) fn descriptors(&self) -> io::Result<Vec<(Role, OwnedFd)>> {
        let open = |path: PathBuf, write: bool| -> io::Result<OwnedFd> {
            Ok(File::options().read(!write).write(write).open(path)?.into())
        };
        let mut all = Vec::new();
        match &self.hierarchy {
            Hierarchy::V1(_) => {
                for directory in self.directories() {
                    all.push((Role::CgroupProcesses, open(directory.join("cgroup.procs"), true)?));
                }
            }
            Hierarchy::V2(directory) => {
                all.push((Role::CgroupDirectory, open(directory.join(&self.name), false)?));
            }
            Hierarchy::None { .. } => return Ok(all),
        }
        let freezer = match self.hierarchy {
            Hierarchy::V1(_) => Role::FreezerV1,
            _ => Role::FreezerV2,
        };
        if let Some(path) = self.file("freezer", "freezer.state", "cgroup.freeze") {
            all.push((freezer, open(path, true)?));
        }
        if let Some(path) = self.file("memory", "memory.oom_control", "memory.events") {
            all.push((Role::OomCount, open(path, false)?));
        }
        Ok(all)
    }

    /// Sets every limit that the hierarchy has.
    pub(crate) fn set_limits(&self, limits: &Limits) -> io::Result<()> {
        let write = |controller, v1, v2, text: String| match self.file(controller, v1, v2) {
            Some(path) => fs::write(path, text),
            None => Ok(()),
        };
        self.set_memory(limits.memory_bytes)?;
        write("pids", "pids.max", "pids.max", limits.pids.to_string())?;
        let quota = u64::from(limits.cpu_millis) * CPU_PERIOD_US / 1000;
        match self.hierarchy {
            Hierarchy::V1(_) => write("cpu", "cpu.cfs_quota_us", "", quota.to_string()),
            // The cpu controller may not have been delegated; capabilities say so.
            Hierarchy::V2(_) => {
                match write("cpu", "", "cpu.max", format!("{quota} {CPU_PERIOD_US}")) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    result => result,
                }
            }
            Hierarchy::None { .. } => Ok(()),
        }
    }

    /// Memory and swap together may not exceed the limit, so that it means the same with swap on.
    fn set_memory(&self, bytes: u64) -> io::Result<()> {
        let text = bytes.to_string();
        match &self.hierarchy {
            Hierarchy::V1(_) => {
                let limit = self.file("memory", "memory.limit_in_bytes", "").unwrap_or_default();
                let both =
                    self.file("memory", "memory.memsw.limit_in_bytes", "").unwrap_or_default();
                // The sum may never be below the part: which comes first depends on the direction.
                if fs::write(&limit, &text).is_err() {
                    if both.exists() {
                        fs::write(&both, &text)?;
                    }
                    return fs::write(&limit, &text);
                }
                if both.exists() { fs::write(&both, &text) } else { Ok(()) }
            }
            Hierarchy::V2(directory) => {
                let directory = directory.join(&self.name);
                fs::write(directory.join("memory.max"), &text)?;
                match fs::write(directory.join("memory.swap.max"), "0") {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    result => result,
                }
            }
            Hierarchy::None { .. } => Ok(()),
        }
    }

    /// Freezes every process, and waits until all are; on a time-out all run again.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        let (file, state, done) = match self.hierarchy {
            Hierarchy::V1(_) => ("freezer.state", "FROZEN", "FROZEN"),
            _ => ("cgroup.freeze", "1", "frozen 1"),
        };
        let path = self.file("freezer", file, file).ok_or(io::ErrorKind::Unsupported)?;
        fs::write(&path, state)?;
        let told_by = match self.hierarchy {
            Hierarchy::V1(_) => path,
            _ => self.file("", "", "cgroup.events").ok_or(io::ErrorKind::Unsupported)?,
        };
        let begun = Instant::now();
        // v1 freezes lazily and tells only when asked; being asked also drives it on.
        while !fs::read_to_string(&told_by)?.lines().any(|line| line == done) {
            if begun.elapsed() > FREEZE_TIMEOUT {
                self.thaw()?;
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Lets every process run again.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        let path = self
            .file("freezer", "freezer.state", "cgroup.freeze")
            .ok_or(io::ErrorKind::Unsupported)?;
        let state = if matches!(self.hierarchy, Hierarchy::V1(_)) { "THAWED" } else { "0" };
        fs::write(path, state)?;
        // It runs, whatever comes of this.
        self.allow_swap(false).or(Ok(()))
    }

    /// Whether it is frozen now.
    pub(crate) fn is_frozen(&self) -> bool {
        let file = self.file("freezer", "freezer.state", "cgroup.freeze");
        let state = file.and_then(|it| fs::read_to_string(it).ok()).unwrap_or_default();
        matches!(state.trim(), "FROZEN" | "FREEZING" | "1")
    }

    /// What its processes use.
    pub(crate) fn usage(&self) -> io::Result<Usage> {
        let read = |controller, v1, v2| {
            let file = self.file(controller, v1, v2).ok_or(io::ErrorKind::Unsupported)?;
            fs::read_to_string(file)
        };
        let number = |text: String| text.trim().parse().unwrap_or_default();
        let oom = read("memory", "memory.oom_control", "memory.events")?;
        let cpu = match self.hierarchy {
            Hierarchy::V1(_) => Duration::from_nanos(number(read("cpuacct", "cpuacct.usage", "")?)),
            _ => Duration::from_micros(field(&read("", "", "cpu.stat")?, "usage_usec")),
        };
        let memory = number(read("memory", "memory.usage_in_bytes", "memory.current")?);
        // The peak came to v2 with Linux 5.19.
        let peak = read("memory", "memory.max_usage_in_bytes", "memory.peak");
        Ok(Usage {
            memory_bytes: memory,
            memory_peak_bytes: peak.map_or(memory, number),
            cpu,
            pids: number(read("pids", "pids.current", "pids.current")?),
            oom_kills: field(&oom, "oom_kill"),
            disk_bytes: None,
            traffic: None,
        })
    }

    /// Removes it. It has no process any more; one that is gone is not an error.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for directory in self.directories() {
            match fs::remove_dir(directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// The processes in it, by pid.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let files = self.directories().into_iter().map(|it| it.join("cgroup.procs"));
        let mut all: Vec<i32> = files
            .filter_map(|it| fs::read_to_string(it).ok())
            .flat_map(|text| text.lines().filter_map(|it| it.parse().ok()).collect::<Vec<_>>())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The number after `name` in a file of `name number` lines.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        .unwrap_or_default()
}

/// Switches on cheap joining of v1 cgroups for this boot of the host.
///
/// Without it, moving a process into a v1 cgroup waits for a grace period of the kernel, 10 ms as
/// a rule. The setting belongs to the kernel and not to the mount: it stays until the next boot,
/// and it makes forks and exits on the whole host a little slower (a percpu lock is taken shared).
///
/// # Source
///
/// `cgroups(7)`; `favordynmods` in the kernel's `admin-guide/cgroup-v2.rst`.
pub(crate) fn favor_dynamic_modifications() -> io::Result<()> {
    let options = [("none", None), ("name", Some("warren")), ("favordynmods", None)];
    let attributes = warren_sys::mount::Attributes::default();
    match warren_sys::mount::new_filesystem("cgroup", &options, attributes) {
        // One that somebody made is just going away: that one has switched it on.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
            Ok(())
        }
        made => made.map(drop),
    }
}

/// Nine tenths of the processes and threads that this machine can have.
fn most_of_the_pids() -> u64 {
    let most = |file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    limits.into_iter().filter_map(most).min().unwrap_or(32_768) / 10 * 9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_kind_and_options() {
        let mounts = "31 25 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                      32 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n";
        let v1: Vec<_> = mount_points(mounts, "cgroup").collect();
        assert_eq!(v1, [(PathBuf::from("/sys/fs/cgroup/cpu"), "rw,cpu,cpuacct")]);
        let v2: Vec<_> = mount_points(mounts, "cgroup2").map(|(path, _)| path).collect();
        assert_eq!(v2, [PathBuf::from("/sys/fs/cgroup/unified")]);
    }

    #[test]
    fn fields_are_read_by_their_whole_name() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "oom_kill"), 3);
        assert_eq!(field(text, "oom"), 0);
    }
}
