//! Finding out what this kernel allows, by trying it in a child process that then goes away.
//!
//! Nothing here changes the caller: namespaces, mounts and interfaces that a probe makes end with
//! its child.

use std::{
    fs,
    io::{self, PipeWriter, Read as _, Write as _},
    os::fd::{AsRawFd as _, OwnedFd},
};

use rustix::{
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, waitid},
    thread::{UnshareFlags, unshare_unsafe},
};

use crate::{
    fork::{SingleThreaded, exit_now},
    netlink::{
        NetlinkError, Socket,
        message::{Answer, Attributes, Request, flags},
    },
};

/// Does `step` in a child process and gives its error number back.
///
/// # Errors
///
/// What `step` returned, as an error number; `EIO` for an error that has none, and for a child
/// that died.
pub fn attempt(proof: &SingleThreaded, step: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let (mut reader, writer) = io::pipe()?;
    let child = fork(proof, |_child| {
        let code = match step() {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        report(writer, code);
    })?;
    let mut code = [0; 4];
    let told = reader.read_exact(&mut code);
    reap(child)?;
    match (told, i32::from_ne_bytes(code)) {
        (Ok(()), 0) => Ok(()),
        (Ok(()), code) => Err(io::Error::from_raw_os_error(code)),
        (Err(_died), _) => Err(io::Error::from_raw_os_error(libc::EIO)),
    }
}

fn report(mut writer: PipeWriter, code: i32) {
    // If nobody listens any more there is nobody to tell.
    drop(writer.write_all(&code.to_ne_bytes()));
}

/// Forks a child that does `step` and ends.
fn fork(_proof: &SingleThreaded, step: impl FnOnce(Pid)) -> io::Result<Pid> {
    // SAFETY: the proof says that this process has one thread, so the child is a whole copy in
    // which no lock can be held by a thread that does not exist; it may run any code.
    let pid = unsafe { libc::fork() };
    match Pid::from_raw(pid) {
        None if pid == 0 => {
            step(rustix::process::getpid());
            exit_now(0)
        }
        Some(pid) if pid.as_raw_nonzero().get() > 0 => Ok(pid),
        _ => Err(io::Error::last_os_error()),
    }
}

fn reap(child: Pid) -> io::Result<()> {
    rustix::io::retry_on_intr(|| waitid(WaitId::Pid(child), WaitIdOptions::EXITED))?;
    Ok(())
}

/// Moves the calling process into new namespaces. For a child of [`attempt`].
///
/// # Errors
///
/// `EPERM` where that is not allowed, `ENOSPC` at a limit on namespaces, `EINVAL` for flags that
/// are no namespaces.
pub fn enter_new(namespaces: UnshareFlags) -> io::Result<()> {
    if namespaces.intersects(UnshareFlags::FILES | UnshareFlags::FS | UnshareFlags::SYSVSEM) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the flag that could take descriptors away from another thread, FILES, is refused.
    unsafe { unshare_unsafe(namespaces) }.map_err(io::Error::from)
}

/// Makes the caller, which is alone in a new user namespace, root there.
///
/// # Errors
///
/// `EPERM` where a security module does not allow it.
pub fn become_root_inside(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// A new user namespace whose ids 0 to 65,535 are `base` and up outside.
///
/// # Errors
///
/// The kernel's; `EPERM` for all but root of the machine.
pub fn mapped_user_namespace(proof: &SingleThreaded, base: u32) -> io::Result<OwnedFd> {
    let (mut entered, enter) = io::pipe()?;
    let child = fork(proof, |_child| {
        if enter_new(UnshareFlags::NEWUSER).is_ok() {
            report(enter, 0);
            loop {
                std::thread::park(); // until killed
            }
        }
    })?;
    let mut code = [0; 4];
    let opened = entered.read_exact(&mut code).and_then(|()| {
        let pid = child.as_raw_nonzero();
        fs::write(format!("/proc/{pid}/uid_map"), format!("0 {base} 65536"))?;
        fs::write(format!("/proc/{pid}/gid_map"), format!("0 {base} 65536"))?;
        fs::File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from)
    });
    kill_process(child, Signal::KILL)?;
    reap(child)?;
    opened
}

/// Whether the kernel has `clone3(2)` for us; a filter may answer that it has not.
#[must_use]
pub fn has_clone3() -> bool {
    // SAFETY: a size of 0 is refused before the pointer is looked at, so no process is made.
    let result = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0) };
    result < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// `struct pidfd_info` in its first version, 64 bytes.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`.
const INFO_EXIT: u64 = 1 << 3;

/// `PIDFD_GET_INFO`: `_IOWR(0xff, 11, struct pidfd_info)`.
const GET_INFO: libc::Ioctl =
    ((3_u64 << 30) | ((size_of::<PidfdInfo>() as u64) << 16) | (0xff << 8) | 11) as libc::Ioctl;

/// Whether a pidfd still tells how its process ended after somebody else has reaped it.
///
/// # Errors
///
/// When no child could be made to try it with.
///
/// # Source
///
/// `include/uapi/linux/pidfd.h`, since Linux 6.15.
pub fn has_exit_info(proof: &SingleThreaded) -> io::Result<bool> {
    let child = fork(proof, |_child| {})?;
    let pidfd = pidfd_open(child, PidfdFlags::empty()); // the child is not reaped yet
    reap(child)?;
    let pidfd = pidfd?;
    let mut info = PidfdInfo { mask: INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the request says how long the structure is, and `info` is that long, lives through
    // the call and is of integers, for which any bytes are valid.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) };
    Ok(result == 0 && info.mask & INFO_EXIT != 0)
}

/// A chain of packet filters that the kernel asks about every packet that passes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardChain {
    /// The table it is in.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Whether packets that no rule decides about are dropped.
    pub drops: bool,
}

/// The forward chains of every table of nf_tables, those of `iptables-nft` among them. What the
/// older `iptables-legacy` has is not seen here.
///
/// # Errors
///
/// The kernel's; `EPERM` without `CAP_NET_ADMIN`.
///
/// # Source
///
/// `include/uapi/linux/netfilter/nf_tables.h`, `NFT_MSG_GETCHAIN`.
pub fn forward_chains(socket: &mut Socket) -> Result<Vec<ForwardChain>, NetlinkError> {
    const GET_CHAIN: u16 = 10 << 8 | 4; // the subsystem and NFT_MSG_GETCHAIN
    let request = Request::new(GET_CHAIN, flags::DUMP, &[0; 4]);
    let answers = socket.list("list chains of packet filters", request)?;
    Ok(answers.iter().filter_map(forward_chain).collect())
}

fn forward_chain(answer: &Answer) -> Option<ForwardChain> {
    const TABLE: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const HOOK_NUMBER: u16 = 1;
    const FORWARD: u32 = 2;
    let (_, attributes) = answer.split::<4>()?;
    let hook = Attributes::new(attributes.find(HOOK)?).find(HOOK_NUMBER)?;
    if u32::from_be_bytes(*hook.first_chunk()?) != FORWARD {
        return None;
    }
    let policy = attributes.find(POLICY).and_then(|it| it.first_chunk());
    Some(ForwardChain {
        table: attributes.find_text(TABLE)?.to_owned(),
        name: attributes.find_text(NAME)?.to_owned(),
        drops: policy.is_some_and(|policy| u32::from_be_bytes(*policy) == 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_drops_what_passes_through_is_seen() {
        let mut body = Vec::new();
        let mut text = |kind: u8, value: &[u8]| {
            body.extend([u8::try_from(value.len() + 4).unwrap(), 0, kind, 0]);
            body.extend(value);
            body.resize(body.len().next_multiple_of(4), 0);
        };
        text(1, b"filter\0");
        text(3, b"FORWARD\0");
        text(4, &[8, 0, 1, 0, 0, 0, 0, 2]);
        text(5, &[0; 4]);
        let answer = |body: &[u8]| Answer {
            kind: 0xa03,
            flags: 0,
            sequence: 1,
            body: [&[2, 0, 0, 0], body].concat(),
        };
        let chain = forward_chain(&answer(&body)).unwrap();
        assert_eq!((chain.table.as_str(), chain.name.as_str()), ("filter", "FORWARD"));
        assert!(chain.drops);
        assert_eq!(forward_chain(&answer(&body[..24])), None, "a chain without a hook");
    }

    #[test]
    fn sharing_descriptors_is_no_namespace() {
        let error = enter_new(UnshareFlags::FILES).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn the_information_is_as_long_as_the_kernel_says() {
        assert_eq!(size_of::<PidfdInfo>(), 64);
        assert_eq!(GET_INFO & 0xff, 11);
    }

    #[test]
    fn asking_for_clone3_makes_no_process() {
        let before = std::process::id();
        let first = has_clone3();
        assert_eq!(first, has_clone3());
        assert_eq!(before, std::process::id());
    }
}
