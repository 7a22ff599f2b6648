//! The keeper's table of living guests, and how one is forked, watched and ended.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    process::{Signal, WaitIdOptions, WaitOptions, pidfd_send_signal, waitid},
    thread::{LinkNameSpaceType, move_into_link_name_space},
    time::{ClockId, clock_gettime},
};
use warren_proto::keeper::{Cause, Ending, Event, IdRange, Role, Step};
use warren_sys::{
    fork::{self, Forked, SingleThreaded, fork_into},
    privilege,
};

use super::record;
use crate::guest::{self, Filters};

/// All guests of this keeper, by slot.
pub(super) struct Guests {
    proof: SingleThreaded,
    /// Where exit records go.
    records: OwnedFd,
    /// The network namespace to come back to after a fork.
    own_network: OwnedFd,
    filters: Filters,
    living: BTreeMap<u32, Guest>,
    forks: u32,
}

struct Guest {
    pid: i32,
    pidfd: OwnedFd,
    freezer: Option<Freezer>,
    oom_count: Option<OwnedFd>,
    deadline: Option<Deadline>,
    cause: Cause,
}

struct Deadline {
    at_ns: u64,
    freeze: bool,
}

struct Freezer {
    file: OwnedFd,
    freeze: &'static [u8],
    thaw: &'static [u8],
}

/// What is to be forked.
pub(super) struct Order {
    pub(super) slot: u32,
    pub(super) ids: IdRange,
    pub(super) groups: bool,
    pub(super) oom_score: u16,
    pub(super) roles: Vec<Role>,
}

/// A new guest, for the one who ordered it.
pub(super) struct New {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) namespaces: Namespaces,
}

/// A guest's namespaces, for who makes its mounts and for who takes them down.
pub(super) struct Namespaces {
    pub(super) users: OwnedFd,
    pub(super) mounts: OwnedFd,
}

/// A step of a fork failed.
#[derive(Debug)]
pub(super) struct ForkError {
    pub(super) step: Step,
    pub(super) source: io::Error,
}

fn at<E: Into<io::Error>>(step: Step) -> impl FnOnce(E) -> ForkError {
    move |source| ForkError { step, source: source.into() }
}

/// The descriptors of an order, by role.
#[derive(Default)]
struct Parts {
    channel: Option<OwnedFd>,
    network: Option<OwnedFd>,
    cgroup: Option<OwnedFd>,
    cgroup_processes: Vec<OwnedFd>,
    freezer: Option<Freezer>,
    oom_count: Option<OwnedFd>,
}

impl Parts {
    fn sort(roles: &[Role], descriptors: Vec<OwnedFd>) -> Result<Self, ForkError> {
        if roles.len() != descriptors.len() {
            return Err(at(Step::Message)(io::Error::from_raw_os_error(libc_einval())));
        }
        let mut parts = Self::default();
        for (role, descriptor) in roles.iter().zip(descriptors) {
            match role {
                Role::Channel => parts.channel = Some(descriptor),
                Role::Network => parts.network = Some(descriptor),
                Role::CgroupDirectory => parts.cgroup = Some(descriptor),
                Role::CgroupProcesses => parts.cgroup_processes.push(descriptor),
                Role::FreezerV1 => parts.freezer = Some(Freezer::v1(descriptor)),
                Role::FreezerV2 => parts.freezer = Some(Freezer::v2(descriptor)),
                Role::OomCount => parts.oom_count = Some(descriptor),
            }
        }
        Ok(parts)
    }
}

fn libc_einval() -> i32 {
    rustix::io::Errno::INVAL.raw_os_error()
}

impl Freezer {
    fn v1(file: OwnedFd) -> Self {
        Self { file, freeze: b"FROZEN", thaw: b"THAWED" }
    }

    fn v2(file: OwnedFd) -> Self {
        Self { file, freeze: b"1", thaw: b"0" }
    }

    /// A cgroup that has gone is as good as thawed.
    fn set(&self, frozen: bool) {
        let state = if frozen { self.freeze } else { self.thaw };
        rustix::io::pwrite(&self.file, state, 0).ok();
    }
}

impl Guests {
    pub(super) fn new(proof: SingleThreaded, records: OwnedFd) -> io::Result<Self> {
        let own_network = std::fs::File::open("/proc/self/ns/net")?.into();
        let filters = Filters::compile()?;
        Ok(Self { proof, records, own_network, filters, living: BTreeMap::new(), forks: 0 })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.living.is_empty()
    }

    pub(super) fn forks(&self) -> u32 {
        self.forks
    }

    /// Slot and pid of every living guest.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.living.iter().map(|(slot, guest)| (*slot, guest.pid.unsigned_abs()))
    }

    /// Forks a guest, gives it its ids and puts it into its cgroups.
    ///
    /// The child waits on its channel; whoever holds the other end speaks only once this has
    /// returned, so the child never acts before it is where it belongs.
    pub(super) fn fork(
        &mut self,
        order: Order,
        descriptors: Vec<OwnedFd>,
    ) -> Result<New, ForkError> {
        let parts = Parts::sort(&order.roles, descriptors)?;
        let missing = || at(Step::Message)(io::Error::from_raw_os_error(libc_einval()));
        let channel = parts.channel.as_ref().ok_or_else(missing)?;
        if self.living.contains_key(&order.slot) {
            return Err(at(Step::Message)(io::Error::from(rustix::io::Errno::EXIST)));
        }
        let forked = self.clone_child(&order, &parts)?;
        let (pid, pidfd) = match forked {
            // Nothing of the parent's values is dropped on this side: the child never returns.
            Forked::Child => guest::run(channel.as_fd(), &self.filters),
            Forked::Parent { pid, pidfd } => (pid, pidfd),
        };
        self.forks = self.forks.wrapping_add(1);
        match place(pid, &order, &parts) {
            Ok(namespaces) => {
                let new = pidfd.try_clone().map(|pidfd| New { pid, pidfd, namespaces });
                let guest = Guest {
                    pid,
                    pidfd,
                    freezer: parts.freezer,
                    oom_count: parts.oom_count,
                    deadline: None,
                    cause: Cause::Own,
                };
                self.living.insert(order.slot, guest);
                new.map_err(|source| {
                    self.kill(order.slot);
                    at(Step::Fork)(source)
                })
            }
            Err(error) => {
                // The reaper knows only guests in the table, so this one is waited for here.
                pidfd_send_signal(&pidfd, Signal::KILL).ok();
                waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).ok();
                Err(error)
            }
        }
    }

    /// Clones with the effective user and the network namespace that the child is to be born with,
    /// and goes back to the keeper's own.
    fn clone_child(&self, order: &Order, parts: &Parts) -> Result<Forked, ForkError> {
        let enter = |namespace: BorrowedFd<'_>| {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
        };
        if let Some(network) = &parts.network {
            enter(network.as_fd()).map_err(at(Step::Network))?;
        }
        // The owner of a user namespace is the effective user at its making, and per-user limits
        // (inotify, pending signals, locked memory) are counted for it: each guest gets its own.
        let owner = order.ids.base;
        let forked = privilege::set_effective_user(owner).and_then(|()| {
            let cgroup = parts.cgroup.as_ref().map(AsRawFd::as_raw_fd);
            fork_into(&self.proof, fork::Namespaces::GUEST, cgroup)
        });
        if matches!(forked, Ok(Forked::Child)) {
            return Ok(Forked::Child);
        }
        let back = privilege::set_effective_user(0);
        if parts.network.is_some() {
            enter(self.own_network.as_fd()).map_err(at(Step::Network))?;
        }
        back.map_err(at(Step::Identity))?;
        forked.map_err(at(Step::Fork))
    }

    /// Reaps what has ended, and says how.
    pub(super) fn reap(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let Some((&slot, _)) = self.living.iter().find(|(_, guest)| guest.pid == pid) else {
                continue;
            };
            let Some(guest) = self.living.remove(&slot) else { continue };
            let ending = Ending {
                code: status.exit_status().or_else(|| status.terminating_signal()).unwrap_or(-1),
                signaled: status.exit_status().is_none(),
                cause: guest.cause,
                oom_kills: guest.oom_count.map_or(0, |file| oom_kills(&file)),
            };
            let event = Event::Exited { slot, pid: pid.unsigned_abs(), ending };
            // Who asked for the kill is waiting for it and removes the guest; no one else asks.
            if guest.cause != Cause::Killed {
                // On a full disk the event alone must do.
                drop(record::write(self.records.as_fd(), &event));
            }
            events.push(event);
        }
        events
    }

    pub(super) fn kill(&mut self, slot: u32) {
        if let Some(guest) = self.living.get_mut(&slot) {
            guest.end(Cause::Killed);
        }
    }

    pub(super) fn set_deadline(&mut self, slot: u32, at_ns: u64, freeze: bool) {
        if let Some(guest) = self.living.get_mut(&slot) {
            guest.deadline = (at_ns != 0).then_some(Deadline { at_ns, freeze });
        }
    }

    /// How long until the next deadline.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let deadlines = self.living.values().filter_map(|guest| guest.deadline.as_ref());
        let at_ns = deadlines.map(|deadline| deadline.at_ns).min()?;
        Some(Duration::from_nanos(at_ns.saturating_sub(now_ns())))
    }

    /// Ends or freezes every guest whose time has come.
    pub(super) fn enforce_deadlines(&mut self) {
        let now = now_ns();
        for guest in self.living.values_mut() {
            let Some(deadline) = guest.deadline.take_if(|it| it.at_ns <= now) else { continue };
            match &guest.freezer {
                Some(freezer) if deadline.freeze => freezer.set(true),
                _ => guest.end(Cause::Deadline),
            }
        }
    }
}

impl Guest {
    /// Kills the guest's first process, with which the kernel ends all others. A frozen process
    /// dies only once it is thawed (cgroup v1).
    fn end(&mut self, cause: Cause) {
        if self.cause == Cause::Own {
            self.cause = cause;
        }
        pidfd_send_signal(&self.pidfd, Signal::KILL).ok();
        if let Some(freezer) = &self.freezer {
            freezer.set(false);
        }
    }
}

/// Gives a new child its ids and its place, and opens its namespaces.
fn place(pid: i32, order: &Order, parts: &Parts) -> Result<Namespaces, ForkError> {
    let write = |name: &str, text: String| std::fs::write(format!("/proc/{pid}/{name}"), text);
    let map = id_map(order.ids);
    write("uid_map", map.clone()).map_err(at(Step::IdMap))?;
    if !order.groups {
        write("setgroups", "deny".to_owned()).map_err(at(Step::IdMap))?;
    }
    write("gid_map", map).map_err(at(Step::IdMap))?;
    for file in &parts.cgroup_processes {
        let text = pid.to_string();
        rustix::io::write(file, text.as_bytes()).map_err(at(Step::Cgroup))?;
    }
    write("oom_score_adj", order.oom_score.to_string()).map_err(at(Step::Fork))?;
    let open = |name: &str| std::fs::File::open(format!("/proc/{pid}/ns/{name}"));
    let users = open("user").map_err(at(Step::Fork))?.into();
    let mounts = open("mnt").map_err(at(Step::Fork))?.into();
    Ok(Namespaces { users, mounts })
}

/// The lines of `uid_map` and `gid_map`.
///
/// One line must lie in one line of the outer map. A range that starts at the outer root is that of
/// an ordinary user's server, whose own id and further ids are two lines.
fn id_map(IdRange { base, count }: IdRange) -> String {
    match (base, count) {
        (0, 2..) => format!("0 0 1\n1 1 {}\n", count - 1),
        _ => format!("0 {base} {count}\n"),
    }
}

/// The number after `oom_kill` in a cgroup's `memory.oom_control` or `memory.events`.
fn oom_kills(file: &OwnedFd) -> u64 {
    let mut buffer = [0; 512];
    let length = rustix::io::pread(file, &mut buffer, 0).unwrap_or_default();
    let text = std::str::from_utf8(buffer.get(..length).unwrap_or_default()).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or_default()
}

/// The clock that deadlines are set on: it runs while the host sleeps.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000_000
        + u64::try_from(now.tv_nsec).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_from_the_outer_root_is_mapped_in_two_lines() {
        let check = |base, count, expected| assert_eq!(id_map(IdRange { base, count }), expected);
        check(0, 1, "0 0 1\n");
        check(0, 65_536, "0 0 1\n1 1 65535\n");
        check(0x7000_0000, 65_536, "0 1879048192 65536\n");
    }
}
