//! How a forked child becomes a guest: pid 1 of its own namespaces, with its own root.
//!
//! ```text
//! forked --- Prepare ---> blank: namespaces, own /proc, /run, terminals; the host's tree is gone
//!        --- Bind ------> root attached, privileges dropped, filter loaded: the agent
//! ```
//!
//! A blank holds nothing of any image or caller, so any sandbox can be made from it. When its
//! channel closes before it is bound, it ends: its server has gone.
//!
//! The child keeps the memory image of the keeper and never executes another: as its memory was
//! never owned by its user namespace, root inside can neither trace nor read it, and neither
//! `/proc/1/mem` nor `pidfd_getfd` lead anywhere.

mod filter;

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::OFlags,
    process::{Resource, Rlimit, setrlimit},
};
use warren_proto::keeper::{CgroupView, Guest, MAX_MESSAGE, Message, Progress, Step};
use warren_sys::{
    beneath,
    channel::Channel,
    fork, mount,
    mount::Attributes,
    privilege::{self, GUEST_CAPABILITIES},
    process,
};

pub(crate) use filter::Filters;

use crate::daemon;

/// The user that everything runs as in the strict profile.
const STRICT_ID: u32 = 1000;

/// The gid of `tty` in the roots that we make, as Debian and Fedora have it.
const TTY_GROUP: &str = "gid=5";

struct Failed {
    step: Step,
    source: io::Error,
}

fn at<E: Into<io::Error>>(step: Step) -> impl FnOnce(E) -> Failed {
    move |source| Failed { step, source: source.into() }
}

/// What a blank has ready for the moment it is bound.
struct Blank {
    listeners: daemon::Listeners,
    /// Detached mounts and where they go, in order.
    mounts: Vec<(OwnedFd, &'static str)>,
}

/// Everything that [`Guest::Bind`] says.
struct Binding {
    strict: bool,
    single_id: bool,
    open_files: u32,
    data_bytes: u64,
    processes: u32,
    hostname: String,
    mounts: Vec<(OwnedFd, String)>,
    /// Directories of the host, and where they go inside.
    volumes: Vec<(OwnedFd, String)>,
}

/// Becomes a guest. Never returns to the keeper's code.
pub(crate) fn run(channel: BorrowedFd<'_>, filters: &Filters) -> ! {
    // On an error the server went before it bound this blank, or was told what failed.
    let status = become_guest(channel, filters).unwrap_or(1);
    fork::exit_now(status)
}

fn become_guest(channel: BorrowedFd<'_>, filters: &Filters) -> Result<i32, ()> {
    // Numbers 0 to 2 lead to the null device; all else is the keeper's business.
    fork::close_all_but(&[0, 1, 2, channel.as_raw_fd()]).map_err(drop)?;
    process::restore_signals().map_err(drop)?;
    rustix::thread::set_name(c"warren-agent").map_err(drop)?;
    let channel = Channel::from(channel.try_clone_to_owned().map_err(drop)?);
    let blank = step(&channel, |message, descriptors| match message {
        Guest::Prepare { shm_bytes, run_bytes, cgroup_view } => {
            prepare(shm_bytes, run_bytes, cgroup_view, descriptors)
        }
        Guest::Bind { .. } => Err(unexpected()),
    })?;
    report(&channel, Progress::Done)?;
    let settings =
        step(&channel, |message, descriptors| bind(message, descriptors, &blank, filters))?;
    let Blank { listeners, .. } = blank;
    daemon::run(listeners, settings, move || {
        // The agent can take requests now; from here on its own socket tells how it does.
        drop(channel.send(&Progress::Done.encode(), &[]));
    })
    .map_err(drop)
}

/// Waits for the next message and does what it asks; a failure is reported before it ends us.
fn step<T>(
    channel: &Channel,
    act: impl FnOnce(Guest, Vec<OwnedFd>) -> Result<T, Failed>,
) -> Result<T, ()> {
    let mut buffer = [0; MAX_MESSAGE];
    let received = channel.receive(&mut buffer).map_err(drop)?;
    let message = buffer.get(..received.length).filter(|it| !it.is_empty()).ok_or(())?;
    let result = match Guest::decode(message) {
        Ok(message) => act(message, received.descriptors),
        Err(_invalid) => Err(unexpected()),
    };
    result.map_err(|failed| {
        let errno = failed.source.raw_os_error().unwrap_or_default();
        report(channel, Progress::Failed { step: failed.step, errno }).ok();
    })
}

fn report(channel: &Channel, progress: Progress) -> Result<(), ()> {
    channel.send(&progress.encode(), &[]).map_err(drop)
}

fn unexpected() -> Failed {
    at(Step::Message)(io::Error::from(rustix::io::Errno::PROTO))
}

/// The part that no image has a say in.
fn prepare(
    shm_bytes: u64,
    run_bytes: u64,
    cgroup_view: CgroupView,
    descriptors: Vec<OwnedFd>,
) -> Result<Blank, Failed> {
    let [envd, control] = <[OwnedFd; 2]>::try_from(descriptors).map_err(|_count| unexpected())?;
    privilege::become_user(0, 0).map_err(at(Step::Identity))?;
    let (quiet, no_exec) = (
        Attributes { no_suid: true, no_dev: true, ..Attributes::default() },
        Attributes { no_suid: true, no_dev: true, no_exec: true, ..Attributes::default() },
    );
    let mut mounts = Vec::new();
    let size = format!("size={run_bytes}");
    let run = memory(&size, "mode=755", quiet).map_err(at(Step::Memory))?;
    mounts.push((run, "run"));
    let proc = mount::new_filesystem("proc", &[], no_exec).map_err(at(Step::Proc))?;
    mounts.push((proc, "proc"));
    let terminals =
        terminals(Attributes { no_dev: false, ..no_exec }).map_err(at(Step::Terminals))?;
    mounts.push((terminals, "dev/pts"));
    let size = format!("size={shm_bytes}");
    let shm = memory(&size, "mode=1777", quiet).map_err(at(Step::Memory))?;
    mounts.push((shm, "dev/shm"));
    system_mounts(cgroup_view, &mut mounts).map_err(at(Step::CgroupView))?;
    Ok(Blank { listeners: daemon::Listeners { envd, control }, mounts })
}

fn memory(size: &str, mode: &str, attributes: Attributes) -> io::Result<OwnedFd> {
    let pair =
        |text: &'_ str| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let options: Vec<_> = [pair(size), pair(mode)].into_iter().flatten().collect();
    let options: Vec<_> = options.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))).collect();
    mount::new_filesystem("tmpfs", &options, attributes)
}

/// A terminal filesystem of our own; where only one id is mapped there is no group to give.
fn terminals(attributes: Attributes) -> io::Result<OwnedFd> {
    let make = |group: bool| {
        let group = if group { TTY_GROUP.split_once('=') } else { None };
        let mut options = vec![("ptmxmode", Some("0666")), ("mode", Some("0620"))];
        options.extend(group.map(|(key, value)| (key, Some(value))));
        mount::new_filesystem("devpts", &options, attributes)
    };
    make(true).or_else(|_unmapped| make(false))
}

/// An empty `/sys` with the guest's own cgroup in it, read-only, where language runtimes look for
/// their limits.
fn system_mounts(view: CgroupView, mounts: &mut Vec<(OwnedFd, &'static str)>) -> io::Result<()> {
    let attributes = Attributes { read_only: true, no_suid: true, no_dev: true, no_exec: true };
    let places: &[(&str, Option<&str>, &str)] = match view {
        CgroupView::None => &[],
        CgroupView::V1 => &[
            ("cgroup", Some("memory"), "sys/fs/cgroup/memory"),
            ("cgroup", Some("cpu"), "sys/fs/cgroup/cpu"),
        ],
        CgroupView::V2 => &[("cgroup2", None, "sys/fs/cgroup")],
    };
    let writable = Attributes { read_only: false, ..attributes };
    let system = memory("size=64k", "mode=755", writable)?;
    rustix::fs::mkdirat(&system, "fs", 0o755.into())?;
    rustix::fs::mkdirat(&system, "fs/cgroup", 0o755.into())?;
    for place in ["fs/cgroup/memory", "fs/cgroup/cpu"] {
        if view == CgroupView::V1 {
            rustix::fs::mkdirat(&system, place, 0o755.into())?;
        }
    }
    mount::set_attributes(system.as_fd(), attributes)?;
    mounts.push((system, "sys"));
    // Also where nothing is shown: where in the host's tree it is, is nobody's business inside.
    warren_sys::namespaces::leave_cgroups()?;
    for (kind, controller, place) in places {
        let options: Vec<_> = controller.iter().map(|it| (*it, None)).collect();
        mounts.push((mount::new_filesystem(kind, &options, attributes)?, place));
    }
    Ok(())
}

fn bind(
    message: Guest,
    descriptors: Vec<OwnedFd>,
    blank: &Blank,
    filters: &Filters,
) -> Result<daemon::Settings, Failed> {
    let Guest::Bind {
        strict,
        single_id,
        open_files,
        data_bytes,
        processes,
        hostname,
        mounts,
        volumes,
    } = message
    else {
        return Err(unexpected());
    };
    if mounts.len() != descriptors.len() {
        return Err(unexpected());
    }
    let mut mounts: Vec<_> = descriptors.into_iter().zip(mounts).collect();
    let own = mounts.len().checked_sub(usize::from(volumes)).ok_or_else(unexpected)?;
    let volumes = mounts.split_off(own);
    let binding =
        Binding { strict, single_id, open_files, data_bytes, processes, hostname, mounts, volumes };
    take_root(&binding, blank)?;
    rustix::system::sethostname(binding.hostname.as_bytes()).map_err(at(Step::Hostname))?;
    set_limits(&binding).map_err(at(Step::Limits))?;
    drop_privileges(&binding, filters)?;
    Ok(daemon::Settings { init: true })
}

/// Attaches the root and everything below it, and lets go of what was there before.
fn take_root(binding: &Binding, blank: &Blank) -> Result<(), Failed> {
    let mut given = binding.mounts.iter();
    let (root, _) = given.next().ok_or_else(unexpected)?;
    mount::attach(root.as_fd(), rustix::fs::CWD, "/root").map_err(at(Step::Mounts))?;
    rustix::process::fchdir(root).map_err(at(Step::Mounts))?;
    let here = rustix::fs::CWD;
    for (tree, place) in given {
        mount::attach(tree.as_fd(), here, place.trim_start_matches('/'))
            .map_err(at(Step::Mounts))?;
    }
    for (tree, place) in &blank.mounts {
        mount::attach(tree.as_fd(), here, place).map_err(at(Step::Mounts))?;
    }
    mount::pivot_here().map_err(at(Step::Pivot))?;
    // Only now: whatever links the image has on the way, they lead nowhere but inside.
    binding.volumes.iter().try_for_each(attach_volume).map_err(at(Step::Volumes))
}

/// Attaches a directory of the host at its place, which is made where it is missing.
fn attach_volume((tree, place): &(OwnedFd, String)) -> io::Result<()> {
    let mut path = String::new();
    for name in place.split('/').filter(|it| !it.is_empty()) {
        path.push('/');
        path.push_str(name);
        match beneath::place(&path)?.make_directory(0o755.into()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let place = beneath::open(&path, flags, rustix::fs::Mode::empty())?;
    mount::attach(tree.as_fd(), place.as_fd(), "")
}

fn set_limits(binding: &Binding) -> io::Result<()> {
    let limit = |resource, most: u64| {
        let hard = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX).min(most);
        setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })
    };
    limit(Resource::Nofile, u64::from(binding.open_files))?;
    limit(Resource::Core, 0)?;
    if binding.data_bytes != 0 {
        limit(Resource::Data, binding.data_bytes)?;
    }
    if binding.processes != 0 {
        limit(Resource::Nproc, u64::from(binding.processes))?;
    }
    Ok(())
}

/// The filter is loaded while `CAP_SYS_ADMIN` is held, for in the default profile `sudo` must
/// work and so no-new-privileges cannot be set. The child got every capability back with its user
/// namespace, whatever the keeper had dropped before.
fn drop_privileges(binding: &Binding, filters: &Filters) -> Result<(), Failed> {
    if binding.strict {
        privilege::forbid_new_privileges().map_err(at(Step::Capabilities))?;
    }
    filters.load(binding.strict).map_err(at(Step::Filter))?;
    if binding.strict && !binding.single_id {
        privilege::keep_capabilities_across_ids().map_err(at(Step::Capabilities))?;
        privilege::become_user(STRICT_ID, STRICT_ID).map_err(at(Step::Identity))?;
        privilege::drop_capabilities_across_ids().map_err(at(Step::Capabilities))?;
    }
    let keep =
        if binding.strict { rustix::thread::CapabilitySet::empty() } else { GUEST_CAPABILITIES };
    privilege::bound_capabilities(keep).map_err(at(Step::Capabilities))?;
    // Changing ids did this already; where none changed it must be said.
    process::forbid_tracing().map_err(at(Step::Capabilities))
}
