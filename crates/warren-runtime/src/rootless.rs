//! A server of an ordinary user: the same code, inside one outer user namespace.
//!
//! Before any thread starts, the server enters a user, mount and network namespace of its own in
//! which it is root, and everything else works as for root: overlays, network namespaces, rules.
//! The ids that it has there are the user's own and, where `/etc/subuid` grants some and
//! `newuidmap` is installed, a range of further ones; else everything runs as one id.
//!
//! The namespaces outlive the server with its keeper; the next server enters them again.
//!
//! ```text
//! server, before threads        helper (forked, stays outside)
//!   fork ----------------------->
//!   unshare user
//!   "mine" --------------------->  newuidmap, newgidmap for the server's pid
//!   <----------- "mapped" or not
//!   become 0, unshare mounts and network
//!   "mine", sockets of inside --->  pasta or slirp4netns for the server's pid, until one of them
//!                                  has made a route
//!   <----- its name, or why none   ... supervises it as long as guests live
//! ```

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use warren_sys::{
    channel::{Channel, Received},
    fork::{self, Forked, Namespaces, SingleThreaded},
    namespaces, netns, privilege,
    spawn::{Program, Streams, spawn},
};

use crate::{
    journal::Process,
    net::{
        outside::Outside,
        uplink::{DIRECTORIES, Routes, Tool, Uplink, UplinkConfig, wait_until_ready},
    },
};

/// Set in a server that runs in the outer namespaces: how many ids it has there.
static NESTED: OnceLock<u32> = OnceLock::new();
/// The way out of them, or why there is none.
static UPLINK: OnceLock<Result<Tool, String>> = OnceLock::new();
/// The namespace that was left.
static OUTSIDE: OnceLock<Arc<Outside>> = OnceLock::new();
/// How long one program may take to make a way out.
const UPLINK_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes that the helper says about a way out.
const MAX_REASON: usize = 500;
/// The file that names a process which holds the outer namespaces.
const HOLDER: &str = "outer";
/// Where `newuidmap` and `newgidmap` are looked for.
const TOOL_DIRECTORIES: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"];

/// Why a server of an ordinary user cannot run.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation}{}", hint.map(|it| format!(" ({it})")).unwrap_or_default())]
pub struct RootlessError {
    operation: &'static str,
    hint: Option<&'static str>,
    #[source]
    source: io::Error,
}

fn step(operation: &'static str) -> impl FnOnce(io::Error) -> RootlessError {
    move |source| RootlessError { operation, hint: None, source }
}

/// What [`enter`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// Nothing: this server has the power that it needs.
    NotNeeded,
    /// It made new namespaces.
    New,
    /// It entered those of an earlier server, whose guests live on in them.
    Again,
}

/// How overlayfs marks opaque directories here: in a user namespace it may not do so as root does.
pub(crate) fn marks() -> warren_layer::Marks {
    match nested_ids() {
        Some(_) => warren_layer::Marks::User,
        None => warren_layer::Marks::Trusted,
    }
}

/// How many ids the server's own user namespace has; `None` where it was not started in one.
#[must_use]
pub fn nested_ids() -> Option<u32> {
    NESTED.get().copied()
}

/// The way out of the server's own namespaces; `None` where it was not started in any.
///
/// # Errors
///
/// Why there is no way out, a sentence for people.
pub fn uplink() -> Option<Result<Tool, &'static str>> {
    UPLINK.get().map(|it| it.as_ref().map(|tool| *tool).map_err(String::as_str))
}

/// The host, where the server was started in a namespace of its own.
#[must_use]
pub fn outside() -> Option<Arc<Outside>> {
    OUTSIDE.get().cloned()
}

/// Enters the outer namespaces if this process is not root. To be called before any thread starts.
/// New ones get their way out by `only` where somebody has chosen.
///
/// # Errors
///
/// [`RootlessError`] with what to do where the host forbids user namespaces.
pub fn enter(run_dir: &Path, only: Option<Tool>) -> Result<Entered, RootlessError> {
    if rustix::process::geteuid().is_root() {
        return Ok(Entered::NotNeeded);
    }
    let outside = Outside::here().map_err(io::Error::other);
    let outside = outside.map_err(step("look at the host's own addresses"))?;
    let (entered, count, uplink) = match holder(run_dir) {
        Some((holder, count, uplink)) => {
            enter_again(holder).map_err(step("enter the namespaces of the running sandboxes"))?;
            let lost = || "the program that was the way out is not known".to_owned();
            let uplink = uplink.ok_or_else(lost).and_then(|tool| {
                // It may be on its way back.
                let ready = wait_until_ready(UPLINK_TIMEOUT);
                ready.map(|()| tool).map_err(|error| error.to_string())
            });
            (Entered::Again, count, uplink)
        }
        None => {
            let (count, uplink) = enter_new(run_dir, only)?;
            (Entered::New, count, uplink)
        }
    };
    if let Ok(tool) = &uplink
        && let Err(error) = see_name_server(*tool, run_dir)
    {
        // Sandboxes have a resolver of their own, which knows whom to ask.
        let cause = &error as &dyn std::error::Error;
        tracing::warn!(error = cause, "this server may not find registries by name");
    }
    // This runs once, before threads, so nothing is set yet.
    NESTED.set(count).ok();
    UPLINK.set(uplink).ok();
    OUTSIDE.set(Arc::new(outside)).ok();
    Ok(entered)
}

/// Writes down a process that holds the outer namespaces for as long as guests live.
pub(crate) fn hold(run_dir: &Path, pid: u32) -> io::Result<()> {
    let Some(count) = nested_ids() else { return Ok(()) };
    let Process { pid, start_time } = Process::of(pid)?;
    let uplink = uplink().and_then(Result::ok).map_or("none", Tool::name);
    fs::write(run_dir.join(HOLDER), format!("{pid} {start_time} {count} {uplink}\n"))
}

/// The process that holds the outer namespaces of the server at `run_dir`, if it lives.
pub(crate) fn holder_of(run_dir: &Path) -> Option<Process> {
    holder(run_dir).map(|(process, ..)| process)
}

fn holder(run_dir: &Path) -> Option<(Process, u32, Option<Tool>)> {
    let text = fs::read_to_string(run_dir.join(HOLDER)).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let process =
        Process { pid: fields.next()?.parse().ok()?, start_time: fields.next()?.parse().ok()? };
    let count = fields.next()?.parse().ok()?;
    let uplink = fields.next().and_then(tool);
    process.lives().then_some((process, count, uplink))
}

fn tool(name: &str) -> Option<Tool> {
    [Tool::Pasta, Tool::Slirp4netns].into_iter().find(|it| it.name() == name)
}

fn enter_again(holder: Process) -> io::Result<()> {
    let open = |name: &str| fs::File::open(format!("/proc/{}/ns/{name}", holder.pid));
    let (users, network) = (open("user")?, open("net")?);
    namespaces::enter_users(users.as_fd())?;
    netns::enter(network.as_fd())?;
    privilege::become_user(0, 0)?;
    leave_mounts()
}

/// Makes the namespaces; gives how many ids they have and what leads out of them.
fn enter_new(
    run_dir: &Path,
    only: Option<Tool>,
) -> Result<(u32, Result<Tool, String>), RootlessError> {
    let proof = SingleThreaded::check().map_err(step("enter a user namespace"))?;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let ranges = Ranges::find(uid);
    let (mine, theirs) = Channel::pair().map_err(step("make a channel"))?;
    let me = std::process::id();
    let helper = fork::fork_into(&proof, Namespaces::NONE, None).map_err(step("fork"))?;
    if matches!(helper, Forked::Child) {
        drop(mine);
        let config = Helped { pid: me, ranges: ranges.as_ref(), ids: (uid, gid), run_dir, only };
        let helped = help(&theirs, config);
        fork::exit_now(i32::from(helped.is_err()));
    }
    drop(theirs);
    namespaces::leave_users().map_err(|source| RootlessError {
        operation: "make a user namespace",
        hint: Some("`warren doctor` says what forbids it here"),
        source,
    })?;
    let mapped = ask(&mine, &[]).map_err(step("hear from the id mapping helper"))?;
    let count = match &ranges {
        Some(ranges) if mapped == "mapped" => 1 + ranges.count,
        _ => {
            map_one(uid, gid).map_err(step("map the user's own id"))?;
            1
        }
    };
    if count > 1 {
        privilege::become_user(0, 0).map_err(step("become root of the user namespace"))?;
    }
    netns::unshare().map_err(step("make a network namespace"))?;
    leave_mounts().map_err(step("make a mount namespace"))?;
    let routes = Routes::here().map_err(io::Error::other).map_err(step("watch for routes"))?;
    let answer = ask(&mine, &routes.descriptors()).map_err(step("hear from the network helper"))?;
    let (name, failures) = answer.split_once('\n').unwrap_or((&answer, ""));
    for failure in failures.lines() {
        tracing::warn!("another way out is used, for {failure}");
    }
    Ok((count, tool(name).ok_or_else(|| answer.clone())))
}

/// Tells the helper that it is its turn, and gives its answer.
fn ask(helper: &Channel, descriptors: &[BorrowedFd<'_>]) -> io::Result<String> {
    helper.send(b"mine", descriptors)?;
    let mut buffer = [0; MAX_REASON];
    let received = helper.receive(&mut buffer)?;
    let text = buffer.get(..received.length).unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Whom a helper helps.
struct Helped<'a> {
    pid: u32,
    ranges: Option<&'a Ranges>,
    ids: (u32, u32),
    run_dir: &'a Path,
    only: Option<Tool>,
}

/// The helper's whole life: maps ids, starts the way out, and stays for as long as it is needed.
fn help(server: &Channel, helped: Helped<'_>) -> io::Result<()> {
    let Helped { pid, ranges, ids: (uid, gid), run_dir, only } = helped;
    // The server's lock and listener must not live on in here.
    fork::close_all_but(&[0, 1, 2, server.as_fd().as_raw_fd()])?;
    let mut turn = [0; 8];
    if server.receive(&mut turn)?.length == 0 {
        return Ok(());
    }
    let mapped = ranges.is_some_and(|it| it.map(pid, uid, gid).is_ok());
    server.send(if mapped { b"mapped" } else { b"none" }, &[])?;
    let Received { length, descriptors } = server.receive(&mut turn)?;
    if length == 0 {
        return Ok(());
    }
    let routes = descriptors.try_into().map(Routes::of_another);
    let mut routes = routes.map_err(|_others| io::Error::from(io::ErrorKind::InvalidData))?;
    let directories = DIRECTORIES.map(PathBuf::from);
    let target = i32::try_from(pid).map_err(io::Error::other)?;
    let log = rustix::stdio::stderr();
    let patience = UPLINK_TIMEOUT;
    let config = UplinkConfig { target, directories: &directories, only, log, patience };
    let (uplink, failures) = match Uplink::start(&config, &mut routes) {
        Ok(started) => started,
        Err(error) => {
            let mut text = crate::error::chain(&error);
            text.truncate(text.floor_char_boundary(MAX_REASON));
            return server.send(text.as_bytes(), &[]);
        }
    };
    drop(routes); // what is announced from here on, nobody reads
    let answer: Vec<&str> =
        std::iter::once(uplink.tool().name()).chain(failures.iter().map(String::as_str)).collect();
    server.send(answer.join("\n").as_bytes(), &[])?;
    let first = Process::of(pid)?;
    let watched = || holder(run_dir).map(|(holder, ..)| holder).or(first.lives().then_some(first));
    let needed_by = || {
        let process = watched()?;
        Some((process.open()?, i32::try_from(process.pid).ok()?))
    };
    uplink.supervise(needed_by).map_err(io::Error::other)
}

fn leave_mounts() -> io::Result<()> {
    use rustix::mount::{MountPropagationFlags as Propagation, mount_change};
    namespaces::leave_mounts()?;
    Ok(mount_change("/", Propagation::DOWNSTREAM | Propagation::REC)?)
}

/// Has this process, which has mounts of its own, ask for names where the way out has them: the
/// host's resolver is often on a loopback that is not ours.
fn see_name_server(tool: Tool, run_dir: &Path) -> io::Result<()> {
    let seen = match fs::canonicalize("/etc/resolv.conf") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let ours = run_dir.join("resolv.conf.new");
    fs::write(&ours, format!("nameserver {}\n", tool.name_server().ip()))?;
    let mounted = rustix::mount::mount_bind(&ours, &seen);
    // What is mounted stays without its name.
    fs::remove_file(&ours)?;
    Ok(mounted?)
}

/// One id for everything: what every user may do without help.
fn map_one(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/uid_map", format!("0 {uid} 1\n"))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1\n"))
}

/// The further ids that a user may use.
#[derive(Debug, PartialEq, Eq)]
struct Ranges {
    first_uid: u32,
    first_gid: u32,
    count: u32,
    new_uid_map: PathBuf,
    new_gid_map: PathBuf,
}

impl Ranges {
    fn find(uid: u32) -> Option<Self> {
        let tool = |name: &str| {
            TOOL_DIRECTORIES.iter().map(|it| Path::new(it).join(name)).find(|it| it.exists())
        };
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = name_of(&passwd, uid);
        let range = |file: &str| {
            granted(&fs::read_to_string(file).unwrap_or_default(), name.as_deref(), uid)
        };
        let (first_uid, uids) = range("/etc/subuid")?;
        let (first_gid, gids) = range("/etc/subgid")?;
        Some(Self {
            first_uid,
            first_gid,
            count: uids.min(gids),
            new_uid_map: tool("newuidmap")?,
            new_gid_map: tool("newgidmap")?,
        })
    }

    fn map(&self, pid: u32, uid: u32, gid: u32) -> io::Result<()> {
        run(&self.new_uid_map, pid, &[(0, uid, 1), (1, self.first_uid, self.count)])?;
        run(&self.new_gid_map, pid, &[(0, gid, 1), (1, self.first_gid, self.count)])
    }
}

fn run(tool: &Path, pid: u32, ranges: &[(u32, u32, u32)]) -> io::Result<()> {
    let mut arguments = vec![tool.to_string_lossy().into_owned(), pid.to_string()];
    for (inside, outside, count) in ranges {
        arguments.extend([inside, outside, count].map(ToString::to_string));
    }
    let arguments: Vec<CString> =
        arguments.into_iter().map(CString::new).collect::<Result<_, _>>()?;
    let null = fs::File::options().read(true).write(true).open("/dev/null")?;
    let path = arguments.first().cloned().unwrap_or_default();
    let program = Program {
        path: &path,
        arguments: &arguments,
        environment: &[],
        directory: c"/",
        identity: None,
        streams: Streams::Each([null.as_fd(), null.as_fd(), null.as_fd()]),
        open_files: None,
        mark: None,
    };
    let tool = spawn(&program).map_err(|error| error.source)?;
    let id = rustix::process::WaitId::PidFd(tool.pidfd.as_fd());
    let status = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED)?;
    match status.and_then(|it| it.exit_status()) {
        Some(0) => Ok(()),
        status => Err(io::Error::other(format!("status {status:?}"))),
    }
}

fn name_of(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// The first range of at least 1,001 ids that a file like `subuid(5)` grants: start and count.
fn granted(text: &str, name: Option<&str>, uid: u32) -> Option<(u32, u32)> {
    let number = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let (start, count): (u32, u32) =
            (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        let ours = Some(owner) == name || owner == number;
        (ours && count > 1000 && start.checked_add(count).is_some()).then_some((start, count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_found_by_name_or_number_and_must_be_large_enough() {
        let text = "other:100000:65536\nme:165536:10\nme:300000:65536\n1007:500000:2000\n";
        assert_eq!(granted(text, Some("me"), 1000), Some((300_000, 65_536)));
        assert_eq!(granted(text, None, 1007), Some((500_000, 2000)));
        assert_eq!(granted(text, Some("nobody"), 65_534), None);
        assert_eq!(granted("me:x:y\nme\n", Some("me"), 1), None);
    }

    #[test]
    fn names_are_read_from_passwd() {
        let passwd = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\nbroken\n";
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("me"));
        assert_eq!(name_of(passwd, 5), None);
    }
}
