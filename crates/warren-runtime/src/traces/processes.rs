//! Processes of an instance that no cgroup names.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, pidfd_send_signal},
};

use crate::{
    journal::{Journal, Process},
    namespace::KEEPER,
    rootless,
};

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The living guests that the journal names. Without a data directory there is no journal.
pub(super) fn guests(data_dir: &Path) -> Vec<Process> {
    let Ok(Some(journal)) = Journal::existing(data_dir) else { return Vec::new() };
    let sandboxes = journal.sandboxes().unwrap_or_default().into_iter().map(|it| it.2);
    let blanks = journal.blanks().unwrap_or_default().into_iter().map(|it| it.1);
    sandboxes
        .chain(blanks)
        .flatten()
        .filter(|record| record.this_boot)
        .filter_map(|record| record.process)
        .filter(|process| process.lives())
        .collect()
}

/// The keepers that listen in a run directory, also when their sockets' names are gone.
pub(super) fn keepers(run_dir: &Path) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<_> = pids
        .filter(|pid| is_keeper(*pid) && listens_below(*pid, run_dir))
        .filter_map(|pid| Process::of(pid).ok())
        .collect();
    // An ordinary user may not look into a keeper; the run directory names it.
    found.extend(rootless::holder_of(run_dir).filter(|holder| !found.contains(holder)));
    found
}

/// Whether a process calls itself a keeper, which anybody may.
fn is_keeper(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).next() == Some(KEEPER.as_bytes())
}

/// Whether a process has a socket open that was bound to a name in `run_dir`.
fn listens_below(pid: u32, run_dir: &Path) -> bool {
    // The kernel lists the sockets of the process's own network namespace.
    let listed = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    let ours = sockets_below(&listed, run_dir);
    if ours.is_empty() {
        return false;
    }
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|target| {
            let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            inode.parse::<u64>().ok()
        })
        .any(|inode| ours.contains(&inode))
}

/// The inodes of sockets that were bound in `run_dir`, from the text of `/proc/net/unix`: its
/// seventh and eighth columns are inode and path.
fn sockets_below(listed: &str, run_dir: &Path) -> BTreeSet<u64> {
    let bound = |line: &str| {
        let mut columns = line.split_ascii_whitespace().skip(6);
        let inode = columns.next()?.parse().ok()?;
        let path = PathBuf::from(columns.next()?);
        (path.parent() == Some(run_dir)).then_some(inode)
    };
    listed.lines().skip(1).filter_map(bound).collect()
}

/// Kills a process, if it is still the one that was meant, and waits until it is gone.
pub(super) fn end(process: Process) -> io::Result<()> {
    let Some(pidfd) = process.open() else { return Ok(()) };
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        result => result?,
    }
    let patience = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
    let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
    match poll(&mut polled, Some(&patience))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_told_by_the_directory_they_were_bound_in() {
        let listed = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0005 01 4711 /run/w/1/keeper-a-0.sock\n\
            0000000000000000: 00000002 00000000 00010000 0005 01 4712 /run/w/12/keeper-a-0.sock\n\
            0000000000000000: 00000002 00000000 00010000 0005 01 4713\n";
        assert_eq!(sockets_below(listed, Path::new("/run/w/1")), BTreeSet::from([4711]));
        assert!(sockets_below(listed, Path::new("/run/w")).is_empty());
    }

    #[test]
    fn a_process_that_is_none_has_ended() {
        let pid = std::process::id();
        let other = Process { start_time: 1, ..Process::of(pid).unwrap() };
        end(other).unwrap();
    }

    #[test]
    fn this_process_is_no_keeper() {
        assert!(!is_keeper(std::process::id()));
        assert!(keepers(Path::new("/nowhere")).is_empty());
    }
}
