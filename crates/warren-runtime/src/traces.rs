//! What a server has on the host, found and removed from outside.
//!
//! A server cleans up by itself, and the next one after it does so for one that was killed. This
//! is for the last time: when nothing of an instance is to stay, whether or not its server runs,
//! and whether or not its directories are still there. Everything is found by the instance's name
//! or run directory, so nothing of another instance is touched.
//!
//! | found by | what |
//! |---|---|
//! | the name of a cgroup | guests and their cgroups |
//! | the journal | guests where there are no cgroups |
//! | a listening socket in the run directory | keepers |
//! | the alias of an interface | interfaces |
//! | its name | the table of packet filters |
//! | the blocks of slots that the run directory owns | those blocks, the gateway address |

mod cgroups;

mod processes;

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use warren_sys::netlink::{
    Socket,
    message::Request,
    nftables::{self, Batch},
    route::{self, LOOPBACK_INDEX},
};

use crate::{journal::Process, net::LABEL_PREFIX};

/// Which server's.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its data directory, which may be gone.
    pub data_dir: &'a Path,
    /// Its run directory, which may be gone.
    pub run_dir: &'a Path,
    /// What its objects have in their names.
    pub instance: &'a str,
}

/// One thing on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// A cgroup with everything below it and every process in it.
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// How many processes are in it.
        processes: usize,
    },
    /// A process that is in none of those.
    Process {
        /// Its number.
        pid: u32,
        /// When it started, in ticks since the boot: a later process of that number is another.
        start_time: u64,
        /// What it is.
        what: &'static str,
    },
    /// A network interface.
    Interface(String),
    /// A table of packet filters of the family `inet`.
    Table(String),
    /// An address on `lo`.
    Address(IpAddr),
    /// A file that claims a block of slots.
    Slots(PathBuf),
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup { path, processes: 0 } => write!(f, "cgroup {}", path.display()),
            Self::Cgroup { path, processes } => {
                write!(f, "cgroup {} with {processes} processes", path.display())
            }
            Self::Process { pid, what, .. } => write!(f, "process {pid} ({what})"),
            Self::Interface(name) => write!(f, "network interface {name}"),
            Self::Table(name) => write!(f, "nftables table inet {name}"),
            Self::Address(address) => write!(f, "address {address} on lo"),
            Self::Slots(path) => write!(f, "claim of sandbox numbers {}", path.display()),
        }
    }
}

/// What could not be done.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} {what}")]
pub struct TraceError {
    operation: &'static str,
    what: String,
    #[source]
    source: io::Error,
}

fn failed<E: Into<io::Error>>(
    operation: &'static str,
    what: impl ToString,
) -> impl FnOnce(E) -> TraceError {
    move |source| TraceError { operation, what: what.to_string(), source: source.into() }
}

/// Everything of an instance that is on the host, but for its directories.
///
/// Its server must have ended, else it makes new things meanwhile. Networks are looked at by root
/// alone: an ordinary user's are in namespaces that go with their processes.
///
/// # Errors
///
/// [`TraceError`] when the network cannot be looked at.
pub fn find(place: &Place<'_>) -> Result<Vec<Trace>, TraceError> {
    let groups = cgroups::find(&format!("warren-{}", place.instance));
    let grouped: BTreeSet<u32> = groups.iter().flat_map(|it| cgroups::processes(it)).collect();
    let mut traces: Vec<Trace> = groups
        .into_iter()
        .map(|path| Trace::Cgroup { processes: cgroups::processes(&path).len(), path })
        .collect();
    let others = processes::guests(place.data_dir)
        .into_iter()
        .map(|it| (it, "a sandbox"))
        .chain(processes::keepers(place.run_dir).into_iter().map(|it| (it, "keeper")))
        .filter(|(it, _)| !grouped.contains(&it.pid));
    for (Process { pid, start_time }, what) in others {
        let trace = Trace::Process { pid, start_time, what };
        if !traces.contains(&trace) {
            traces.push(trace);
        }
    }
    if rustix::process::geteuid().is_root() {
        let blocks = blocks(place.run_dir);
        let network = network(place.instance, &blocks);
        traces.extend(network.map_err(failed("look at", "the host's network"))?);
        traces.extend(blocks.into_iter().map(|(_, path)| Trace::Slots(path)));
    }
    Ok(traces)
}

/// The registry of slots of root's servers.
const SLOTS: &str = "/run/warren/slots";

/// The blocks of slots that a run directory owns.
fn blocks(run_dir: &Path) -> Vec<(u32, PathBuf)> {
    let owner = run_dir.to_string_lossy();
    let entries = fs::read_dir(SLOTS).into_iter().flatten().flatten();
    let mut blocks: Vec<_> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(_, path)| fs::read_to_string(path).is_ok_and(|text| text == *owner))
        .collect();
    blocks.sort_unstable();
    blocks
}

fn network(instance: &str, blocks: &[(u32, PathBuf)]) -> io::Result<Vec<Trace>> {
    let mut socket = Socket::route().map_err(io::Error::other)?;
    let alias = format!("warren {instance} ");
    let links = route::links(&mut socket).map_err(io::Error::other)?;
    let ours = links
        .into_iter()
        .filter(|link| link.alias.as_deref().is_some_and(|it| it.starts_with(&alias)));
    let mut traces: Vec<_> = ours.map(|link| Trace::Interface(link.name)).collect();
    let table = format!("warren-{instance}");
    let mut filters = Socket::netfilter().map_err(io::Error::other)?;
    // A kernel without packet filters has no table either.
    if nftables::table_exists(&mut filters, &table).unwrap_or(false) {
        traces.push(Trace::Table(table));
    }
    let labels: Vec<_> = blocks.iter().map(|(block, _)| format!("{LABEL_PREFIX}{block}")).collect();
    let addresses = route::addresses(&mut socket).map_err(io::Error::other)?;
    let ours = addresses.into_iter().filter(|address| {
        address.link == LOOPBACK_INDEX
            && address.label.as_ref().is_some_and(|label| labels.contains(label))
    });
    let gateways: Vec<_> = ours.map(|address| address.address).collect();
    let six: Vec<_> =
        gateways.iter().map(|gateway| crate::net::six::address_of(*gateway)).collect();
    let addresses = route::addresses_6(&mut socket).map_err(io::Error::other)?;
    let ours = addresses
        .into_iter()
        .filter(|it| it.link == LOOPBACK_INDEX && six.contains(&it.address))
        .map(|it| IpAddr::V6(it.address));
    traces.extend(gateways.into_iter().map(IpAddr::V4).chain(ours).map(Trace::Address));
    Ok(traces)
}

/// Removes what [`find`] has found; what has gone meanwhile is as good. Gives what could not be
/// removed.
///
/// Blocks for up to ten seconds where processes take their time to end.
#[must_use]
pub fn remove(traces: &[Trace]) -> Vec<TraceError> {
    let groups: Vec<&Path> = traces
        .iter()
        .filter_map(|trace| match trace {
            Trace::Cgroup { path, .. } => Some(path.as_path()),
            _ => None,
        })
        .collect();
    let mut errors = Vec::new();
    let mut note = |result: Result<(), TraceError>| errors.extend(result.err());
    // Guests before keepers, so that somebody reaps them.
    note(cgroups::kill(&groups).map_err(failed("end the processes in", "cgroups")));
    for trace in traces {
        let result = match trace {
            Trace::Cgroup { path, .. } => cgroups::remove(path),
            Trace::Process { pid, start_time, .. } => {
                processes::end(Process { pid: *pid, start_time: *start_time })
            }
            Trace::Interface(name) => transact(&mut [route::delete_link(name)], Errno::NODEV),
            Trace::Table(name) => remove_table(name),
            Trace::Address(address) => transact(
                &mut [route::delete_address(
                    LOOPBACK_INDEX,
                    *address,
                    if address.is_ipv4() { 32 } else { 128 },
                )],
                Errno::ADDRNOTAVAIL,
            ),
            Trace::Slots(path) => gone(fs::remove_file(path)),
        };
        note(result.map_err(failed("remove", trace)));
    }
    errors
}

fn transact(requests: &mut [Request], absent: Errno) -> io::Result<()> {
    let mut socket = Socket::route().map_err(io::Error::other)?;
    match socket.transact("remove a part of the network", requests) {
        Err(error) if error.errno() != Some(absent.raw_os_error()) => Err(io::Error::other(error)),
        _ => Ok(()),
    }
}

fn remove_table(name: &str) -> io::Result<()> {
    let mut socket = Socket::netfilter().map_err(io::Error::other)?;
    if !nftables::table_exists(&mut socket, name).map_err(io::Error::other)? {
        return Ok(());
    }
    let mut batch = Batch::new(name);
    batch.delete_table();
    batch.apply(&mut socket, "remove a table of packet filters").map_err(io::Error::other)
}

/// Takes the absence of a file as success.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_never_was_has_left_nothing() {
        let nowhere = Path::new("/nowhere/warren");
        let place = Place { data_dir: nowhere, run_dir: nowhere, instance: "00000000" };
        match find(&place) {
            Ok(traces) => assert_eq!(traces, []),
            // Some test machines let nobody look at the network.
            Err(error) => assert!(error.to_string().contains("network"), "{error}"),
        }
        assert!(remove(&[]).is_empty());
    }

    #[test]
    fn what_has_gone_meanwhile_is_no_error() {
        let gone = [
            Trace::Cgroup { path: "/sys/fs/cgroup/warren-nowhere".into(), processes: 0 },
            Trace::Process { pid: u32::MAX, start_time: 1, what: "keeper" },
            Trace::Slots("/nowhere/slots/1".into()),
        ];
        assert!(remove(&gone).is_empty());
    }

    #[test]
    fn a_trace_says_what_it_is() {
        let group = Trace::Cgroup { path: "/a".into(), processes: 2 };
        assert_eq!(group.to_string(), "cgroup /a with 2 processes");
        assert_eq!(Trace::Table("warren-x".into()).to_string(), "nftables table inet warren-x");
    }
}
