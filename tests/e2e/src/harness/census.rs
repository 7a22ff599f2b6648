//! How many things of each kind one server has on the host.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use super::{Home, Leftovers, process::command};

/// Counts by kind. Two of an idle server are equal, unless something is left behind in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Census(BTreeMap<String, usize>);

impl Census {
    /// Counts what there is now. Namespaces are not on the list, and need not be: without a
    /// process, a descriptor or a mount there is none.
    pub(crate) fn of(home: &Home) -> Self {
        let mut counts = BTreeMap::<String, usize>::new();
        let mut add =
            |kind: &str, count: usize| *counts.entry(kind.to_owned()).or_default() += count;
        for left in Leftovers::of(home).0 {
            add(left.split(' ').next().unwrap_or_default(), 1);
        }
        let server = home.server_pid().expect("a server runs");
        for (name, pid) in [("server", server)]
            .into_iter()
            .chain(Leftovers::keepers(home).into_iter().map(|it| ("keeper", it)))
        {
            add(name, 1);
            add(&format!("descriptors of {name}"), entries(&proc(pid, "fd")).count());
            add(&format!("threads of {name}"), entries(&proc(pid, "task")).count());
            let mounts = fs::read_to_string(proc(pid, "mountinfo")).unwrap_or_default();
            add(&format!("mounts of {name}"), mounts.lines().count());
            add(&format!("ended children of {name}"), zombies(pid));
        }
        add("files in the run directory", tree(&home.run_directory(), 4));
        let data = home.data();
        for entry in entries(&data).filter(|it| it.is_dir() && !it.ends_with("images")) {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            add(&format!("entries of {name}"), entries(&entry).count());
        }
        let table = format!("warren-{}", home.instance());
        let rules = command("nft").args(["list", "table", "inet", &table]).output();
        let rules = rules.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
        add("words of firewall rules", rules.unwrap_or_default().split_whitespace().count());
        Self(counts)
    }

    /// How much of one kind there is.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.0.get(kind).copied().unwrap_or_default()
    }

    /// What is more than in `before`; of threads and descriptors so many more are taken for the
    /// moods of an event loop.
    pub(crate) fn grown_since(&self, before: &Self, moods: usize) -> Vec<String> {
        let allowed = |kind: &str| {
            let moody = kind.starts_with("threads") || kind.starts_with("descriptors");
            before.count(kind) + if moody { moods } else { 0 }
        };
        let grown = self.0.iter().filter(|(kind, count)| **count > allowed(kind));
        grown
            .map(|(kind, count)| format!("{kind}: {} became {count}", before.count(kind)))
            .collect()
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// The resident memory of a process in bytes.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(proc(pid, "status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it lives");
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

fn proc(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn tree(directory: &Path, depth: u32) -> usize {
    let below = |path: PathBuf| match path.is_dir() && depth > 0 {
        true => 1 + tree(&path, depth - 1),
        false => 1,
    };
    entries(directory).map(below).sum()
}

fn zombies(parent: u32) -> usize {
    let stats =
        entries(Path::new("/proc")).filter_map(|it| fs::read_to_string(it.join("stat")).ok());
    let ended = stats.filter(|stat| {
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let mut words = rest.split_whitespace();
        words.next() == Some("Z") && words.next() == Some(parent.to_string().as_str())
    });
    ended.count()
}
