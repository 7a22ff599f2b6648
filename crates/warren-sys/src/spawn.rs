//! Starting a program: `clone`, a few system calls as the new process, `execve`.
//!
//! The child of [`spawn`] shares the caller's memory (`CLONE_VM`) on a stack of its own, and the
//! calling thread stands still until it has executed its program or ended (`CLONE_VFORK`).
//! Nothing is copied, so the cost does not grow with the caller. The price: **everything between
//! `clone` and `execve` is `child_main` and what it calls, and those make raw system calls on
//! memory prepared by the parent and nothing else**: no allocation, no lock, no C library function
//! with state, no panic.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// Bytes of the child's stack. Its deepest frame is a few hundred.
const STACK_BYTES: usize = 32 << 10;

/// Whom a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
}

/// What a program's standard streams are.
#[derive(Debug)]
pub enum Streams<'a> {
    /// Three descriptors, for 0, 1 and 2. Each must be 3 or higher.
    Each([BorrowedFd<'a>; 3]),
    /// One terminal for all three; it becomes the controlling terminal.
    Terminal(BorrowedFd<'a>),
}

/// A program to start. Every string is ready for the kernel; nothing is looked up.
#[derive(Debug)]
pub struct Program<'a> {
    /// Path of the executable.
    pub path: &'a CStr,
    /// All arguments, the program's own name first.
    pub arguments: &'a [CString],
    /// The whole environment, as `NAME=value`.
    pub environment: &'a [CString],
    /// Directory to start in, entered as the new user.
    pub directory: &'a CStr,
    /// Whom to run as; `None` keeps the ids of this process.
    pub identity: Option<&'a Identity>,
    /// Standard streams.
    pub streams: Streams<'a>,
    /// Limit of open files, soft and hard; `None` keeps this process's.
    pub open_files: Option<u64>,
    /// A number that descendants keep whatever they do with their environment and sessions, unless
    /// they mean to lose it: the soft limit of time between two sleeps of a real-time program, in
    /// microseconds, which nothing sets and [`mark_of`] reads. At least 2^52, so that it limits
    /// nothing.
    pub mark: Option<u64>,
}

/// What a new process was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Step {
    /// `clone`, in the parent.
    Clone = 1,
    /// Opening a session.
    Session,
    /// Putting the standard streams in place.
    Streams,
    /// Taking the controlling terminal.
    Terminal,
    /// Setting the limit of open files.
    Limit,
    /// Setting groups and ids.
    Identity,
    /// Entering the directory.
    Directory,
    /// Executing the program.
    Execute,
}

impl Step {
    const ALL: [Self; 8] = [
        Self::Clone,
        Self::Session,
        Self::Streams,
        Self::Terminal,
        Self::Limit,
        Self::Identity,
        Self::Directory,
        Self::Execute,
    ];
}

/// A program that could not be started. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[error("start a program: {step:?}")]
pub struct SpawnError {
    /// What failed.
    pub step: Step,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// A started program.
#[derive(Debug)]
pub struct Spawned {
    /// Its process id in the caller's pid namespace. It is a session leader.
    pub pid: i32,
    /// A handle on it, for waiting and signalling, that no other process can come to mean.
    pub pidfd: OwnedFd,
}

/// Where the child leaves what failed: memory that both share.
#[derive(Default)]
struct Report {
    step: AtomicU32,
    errno: AtomicI32,
}

/// What the child reads: memory of the parent, which stands still.
struct Orders {
    path: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    directory: *const c_char,
    /// `uid`, `gid`, groups.
    identity: Option<(u32, u32, *const u32, usize)>,
    streams: [c_int; 3],
    terminal: bool,
    open_files: Option<u64>,
    /// Soft and hard limit, `struct rlimit64`.
    mark: Option<[u64; 2]>,
    ignored_signals: u64,
    report: *const Report,
}

/// Starts `program` in a session of its own, with default signal dispositions, no blocked signal
/// and no descriptor but its standard streams.
///
/// Blocks until the program is executing or has failed: as long as the file system needs to open
/// it. The caller reaps the child, by its pidfd.
///
/// # Errors
///
/// [`SpawnError`] with the step that failed; the failed child has been reaped.
///
/// # Source
///
/// `clone(2)`, `vfork(2)`, `execve(2)`.
pub fn spawn(program: &Program<'_>) -> Result<Spawned, SpawnError> {
    let arguments = pointers(program.arguments);
    let environment = pointers(program.environment);
    let (streams, terminal) = match &program.streams {
        Streams::Each(fds) => (fds.map(|fd| fd.as_raw_fd()), false),
        Streams::Terminal(fd) => ([fd.as_raw_fd(); 3], true),
    };
    let report = Report::default();
    let orders = Orders {
        path: program.path.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        directory: program.directory.as_ptr(),
        identity: program.identity.map(|it| (it.uid, it.gid, it.groups.as_ptr(), it.groups.len())),
        streams,
        terminal,
        open_files: program.open_files,
        mark: program.mark.map(|it| [it, mark_ceiling()]),
        ignored_signals: ignored_signals(),
        report: &raw const report,
    };
    let failed = |step, source| SpawnError { step, source };
    let spawned = clone_child(&orders).map_err(|source| failed(Step::Clone, source))?;
    let step = report.step.load(Ordering::Relaxed);
    let Some(step) = Step::ALL.into_iter().find(|it| *it as u32 == step) else {
        return Ok(spawned);
    };
    reap(&spawned.pidfd).map_err(|source| failed(step, source))?;
    Err(failed(step, io::Error::from_raw_os_error(report.errno.load(Ordering::Relaxed))))
}

/// The hard limit that a mark must leave as it is.
fn mark_ceiling() -> u64 {
    let limits = rustix::process::getrlimit(rustix::process::Resource::Rttime);
    limits.maximum.unwrap_or(u64::MAX)
}

/// The mark of a process, if it has a limit of that kind.
///
/// # Source
///
/// `proc_pid_limits(5)`, `RLIMIT_RTTIME` in `getrlimit(2)`.
pub fn mark_of(pid: i32) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|it| it.strip_prefix("Max realtime timeout"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The null-terminated array that `execve` wants.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|it| it.as_ptr()).chain([ptr::null()]).collect()
}

fn clone_child(orders: &Orders) -> io::Result<Spawned> {
    let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
    let top = stack.as_mut_ptr_range().end;
    let blocked = BlockedSignals::all()?;
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: `top` is the 16-byte aligned end of a live stack that nothing else uses, and it and
    // `orders` outlive the child's use of them because CLONE_VFORK keeps this thread here until
    // the child has left this memory; `pidfd` is the out-parameter that CLONE_PIDFD asks for.
    let pid = unsafe {
        libc::clone(
            child_main,
            top.cast::<c_void>(),
            flags,
            ptr::from_ref(orders).cast_mut().cast::<c_void>(),
            &raw mut pidfd,
        )
    };
    let result = if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) };
    drop(blocked);
    drop(stack);
    let pid = result?;
    // SAFETY: the call succeeded, so the kernel put a new descriptor there that nobody else owns.
    Ok(Spawned { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// Every signal blocked for this thread while it lives: a handler of this program must not run in
/// the child, on memory that is not its own.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    fn all() -> io::Result<Self> {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset initialises the whole set that the pointer leads to.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: initialised by the line above.
        let all = unsafe { all.assume_init() };
        let mut before = all;
        // SAFETY: `all` is only read and `before` is a set to write to.
        match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) } {
            0 => Ok(Self(before)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: `self.0` is the mask that the same call gave before; no old set is asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}

fn reap(pidfd: &OwnedFd) -> io::Result<()> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::AsFd as _;
    rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED))?;
    Ok(())
}

/// The child. See the head of this file for what it may do.
extern "C" fn child_main(orders: *mut c_void) -> c_int {
    // SAFETY: `clone_child` passes a live `Orders` and stands still while this runs.
    let orders = unsafe { &*orders.cast::<Orders>() };
    let (step, errno) = become_program(orders);
    // SAFETY: the report lives in the parent's frame, which stands still; atomics need no `mut`.
    let report = unsafe { &*orders.report };
    report.errno.store(errno, Ordering::Relaxed);
    report.step.store(step as u32, Ordering::Relaxed);
    // SAFETY: ends this process alone; `exit_group` cannot return.
    unsafe { libc::syscall(libc::SYS_exit_group, 127) };
    127
}

/// Returns only on failure.
fn become_program(orders: &Orders) -> (Step, i32) {
    if let Err(errno) = call(libc::SYS_setsid, [0; 5]) {
        return (Step::Session, errno);
    }
    for (target, source) in (0..).zip(orders.streams) {
        if let Err(errno) = call(libc::SYS_dup3, [i64::from(source), target, 0, 0, 0]) {
            return (Step::Streams, errno);
        }
    }
    if orders.terminal
        && let Err(errno) = call(libc::SYS_ioctl, [0, libc::TIOCSCTTY as i64, 0, 0, 0])
    {
        return (Step::Terminal, errno);
    }
    if let Some(limit) = orders.open_files
        && let Err(errno) = set_limit(libc::RLIMIT_NOFILE, &[limit, limit])
    {
        return (Step::Limit, errno);
    }
    if let Some(mark) = &orders.mark {
        // Where the hard limit forbids it there is no mark, which is no reason not to start.
        let _unmarked = set_limit(libc::RLIMIT_RTTIME, mark);
    }
    if let Err(errno) = set_identity(orders) {
        return (Step::Identity, errno);
    }
    if let Err(errno) = call(libc::SYS_chdir, [orders.directory as i64, 0, 0, 0, 0]) {
        return (Step::Directory, errno);
    }
    reset_signals(orders.ignored_signals);
    // Descriptors are close-on-exec already; this closes what a library may have left open. A
    // kernel without the call keeps them, which is no reason not to start.
    let _unsupported = call(libc::SYS_close_range, [3, i64::from(u32::MAX), 0, 0, 0]);
    let (path, arguments) = (orders.path as i64, orders.arguments as i64);
    match call(libc::SYS_execve, [path, arguments, orders.environment as i64, 0, 0]) {
        Err(errno) => (Step::Execute, errno),
        Ok(_) => (Step::Execute, 0),
    }
}

fn set_limit(resource: libc::__rlimit_resource_t, limits: &[u64; 2]) -> Result<(), i32> {
    call(libc::SYS_prlimit64, [0, i64::from(resource), limits.as_ptr() as i64, 0, 0]).map(drop)
}

fn set_identity(orders: &Orders) -> Result<(), i32> {
    let Some((uid, gid, groups, count)) = orders.identity else { return Ok(()) };
    let (uid, gid) = (i64::from(uid), i64::from(gid));
    call(libc::SYS_setgroups, [count as i64, groups as i64, 0, 0, 0])?;
    call(libc::SYS_setresgid, [gid, gid, gid, 0, 0])?;
    call(libc::SYS_setresuid, [uid, uid, uid, 0, 0])?;
    Ok(())
}

/// `execve` puts handlers back to the default but keeps ignored signals ignored and the mask as it
/// is.
fn reset_signals(ignored: u64) {
    for signal in (1..=64).filter(|it| ignored >> (it - 1) & 1 == 1) {
        let default = DEFAULT.as_ptr() as i64;
        let _refused = call(libc::SYS_rt_sigaction, [signal, default, 0, SET_BYTES, 0]);
    }
    let none = 0_u64;
    let how = i64::from(libc::SIG_SETMASK);
    let _impossible =
        call(libc::SYS_rt_sigprocmask, [how, &raw const none as i64, 0, SET_BYTES, 0]);
}

/// `struct kernel_sigaction`: handler, flags, restorer, mask. All zero is the default.
const DEFAULT: [u64; 4] = [0; 4];
/// Bytes of the kernel's set of signals.
const SET_BYTES: i64 = 8;

/// Bit n-1 for each signal n that this process ignores. Asked once, at the first start: a program
/// decides on what it ignores when it begins (as the standard library does with SIGPIPE).
fn ignored_signals() -> u64 {
    static IGNORED: OnceLock<u64> = OnceLock::new();
    *IGNORED.get_or_init(|| {
        let ignores = |signal: &i64| {
            let mut action = DEFAULT;
            let out = action.as_mut_ptr() as i64;
            let read = call(libc::SYS_rt_sigaction, [*signal, 0, out, SET_BYTES, 0]);
            read.is_ok() && action[0] == libc::SIG_IGN as u64
        };
        (1..=64).filter(ignores).fold(0, |set, signal| set | 1 << (signal - 1))
    })
}

/// One system call, on the child's behalf.
fn call(number: i64, [a, b, c, d, e]: [i64; 5]) -> Result<i64, i32> {
    // SAFETY: every caller above passes the arguments that the man page of its call asks for, with
    // pointers into memory that the parent keeps alive; the wrapper touches nothing but `errno`,
    // which belongs to the thread that stands still.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    if result >= 0 {
        return Ok(result);
    }
    // SAFETY: always gives the address of this thread's own errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: a valid, aligned address, by the line above.
    Err(unsafe { *errno })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::AsFd as _;

    fn strings(items: &[&str]) -> Vec<CString> {
        items.iter().map(|it| CString::new(*it).unwrap()).collect()
    }

    fn run(path: &str, arguments: &[&str], directory: &str) -> Result<String, SpawnError> {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let spawned = spawn(&Program {
            path: &CString::new(path).unwrap(),
            arguments: &strings(arguments),
            environment: &strings(&["MARK=yes"]),
            directory: &CString::new(directory).unwrap(),
            identity: None,
            streams: Streams::Each([null.as_fd(), writer.as_fd(), writer.as_fd()]),
            open_files: Some(64),
            mark: Some(MARK),
        });
        drop(writer);
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        reap(&spawned?.pidfd).unwrap();
        Ok(text)
    }

    #[test]
    fn a_program_runs_in_its_directory_with_its_environment_and_limits() {
        let script = "pwd; echo $MARK; ulimit -n; ls /proc/self/fd | wc -l; echo $$; ps -o sid= $$";
        let text = run("/bin/sh", &["sh", "-c", script], "/usr").unwrap();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(&lines[..3], ["/usr", "yes", "64"], "{text}");
        assert_eq!(lines[3], "4", "three streams and the listing's own: {text}");
        if lines.len() == 6 {
            assert_eq!(lines[4], lines[5], "a session of its own");
        }
    }

    const MARK: u64 = 1 << 52 | 4711;

    #[test]
    fn a_mark_stays_with_descendants() {
        let text =
            run("/bin/sh", &["sh", "-c", "env -i setsid cat /proc/self/limits"], "/").unwrap();
        let line = text.lines().find(|it| it.starts_with("Max realtime timeout")).unwrap();
        assert!(line.contains(&MARK.to_string()), "{line}");
        assert_eq!(mark_of(i32::MAX), None);
    }

    #[test]
    fn ignored_and_blocked_signals_are_not_inherited() {
        let text = run("/bin/grep", &["grep", "Sig[BI]", "/proc/self/status"], "/").unwrap();
        let zero = "0000000000000000";
        assert_eq!(text, format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\n"));
    }

    #[test]
    fn the_failing_step_is_named() {
        let error = run("/no/such/program", &["x"], "/").unwrap_err();
        assert_eq!((error.step, error.source.kind()), (Step::Execute, io::ErrorKind::NotFound));
        let error = run("/bin/sh", &["x"], "/no/such/directory").unwrap_err();
        assert_eq!((error.step, error.source.kind()), (Step::Directory, io::ErrorKind::NotFound));
    }
}
