//! Starting a process for a caller.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::Mutex;
use warren_proto::process::{PTY, StartRequest};
use warren_proto::{Code, Status};
use warren_sys::pty::{Terminal, open_terminal};
use warren_sys::spawn::{Program, SpawnError, Spawned, Step, Streams, spawn};

use super::input::Input;
use super::pump::Outputs;
use super::record::{Origin, Process};
use super::table::Starting;
use super::{pump, tree};
use crate::daemon::state::{Sandbox, random_id};
use crate::daemon::{Agent, watch};
use crate::filesystem::path;
use crate::users::{self, User};

/// Where programs are looked for, unless the environment says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Terminals that no size was given for.
const DEFAULT_SIZE: (u16, u16) = (80, 24);
/// Added to the badness of processes when memory runs out, so that the agent survives them.
const OUT_OF_MEMORY_SCORE: &str = "500";

/// The agent's ends of what a process reads and writes.
enum Ends {
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    Terminal(OwnedFd),
}

/// Starts what `request` asks for, as `user`, and begins to read its output.
///
/// # Errors
///
/// `unauthenticated` for an unknown user, `invalid_argument` for a bad request or directory,
/// `not_found` and `permission_denied` for the program itself.
pub(crate) async fn start(
    agent: &Arc<Agent>,
    user: Option<String>,
    request: StartRequest,
) -> Result<Arc<Process>, Status> {
    if request.process.is_unset() {
        return Err(Status::new(Code::InvalidArgument, "process is missing"));
    }
    let marker = marker_of(&request)?;
    let starting = Starting::new(agent);
    let (spawned, ends, request) = {
        let (sandbox, switches_users) = (agent.sandbox(), agent.switches_users);
        let marker = marker.clone();
        let work = move || {
            let user = users::resolve(user.as_deref(), sandbox.default_user.as_deref())?;
            let (spawned, ends) = launch(&request, &user, &sandbox, &marker, switches_users)?;
            Ok((spawned, ends, request))
        };
        agent.pool.start(work).await?
    };
    let (process, outputs) = record(spawned, ends, request, marker)?;
    agent.processes.add(Arc::clone(&process));
    drop(starting);
    agent.tasks.spawn(pump::run(Arc::clone(agent), Arc::clone(&process), outputs));
    Ok(process)
}

/// The native id where there is one; it must be usable as a value of the environment. Another one
/// is random, as several agents may share a pid namespace.
fn marker_of(request: &StartRequest) -> Result<String, Status> {
    match &request.exec_id {
        Some(id) if !id.is_empty() && !id.contains('\0') => Ok(id.clone()),
        _ => random_id("agent-").map_err(internal("name a process")),
    }
}

fn record(
    spawned: Spawned,
    ends: Ends,
    request: StartRequest,
    marker: String,
) -> Result<(Arc<Process>, Outputs), Status> {
    let watch = |fd: OwnedFd| watch(fd).map_err(internal("watch a descriptor"));
    let (input, outputs, terminal) = match ends {
        Ends::Pipes { stdin, stdout, stderr } => {
            let input = match stdin {
                Some(stdin) => Input::Pipe(Mutex::new(Some(watch(stdin)?))),
                None => Input::None,
            };
            (input, Outputs::Pipes { stdout: watch(stdout)?, stderr: watch(stderr)? }, None)
        }
        Ends::Terminal(controller) => {
            let terminal = Arc::new(watch(controller)?);
            let input = Input::Terminal(Mutex::new(Arc::clone(&terminal)));
            (input, Outputs::Terminal(Arc::clone(&terminal)), Some(terminal))
        }
    };
    let origin = Origin {
        tag: request.tag,
        exec_id: request.exec_id,
        marker,
        pid: spawned.pid,
        pidfd: spawned.pidfd,
        terminal,
        input,
        spools: request.spool,
    };
    let config = request.process.into_option().unwrap_or_default();
    Ok((Arc::new(Process::new(origin, config)), outputs))
}

/// The blocking part: looks things up and starts the program.
fn launch(
    request: &StartRequest,
    user: &User,
    sandbox: &Sandbox,
    marker: &str,
    switches_users: bool,
) -> Result<(Spawned, Ends), Status> {
    let config = &request.process;
    let directory = match config.cwd.as_deref() {
        None | Some("") => path::default_directory(user, sandbox),
        Some(directory) => path::resolve(directory, user, sandbox)?,
    };
    let environment = environment(request, user, sandbox, marker);
    let found =
        find(&config.cmd, environment.get("PATH").map_or(PATH, String::as_str), &directory)?;
    let arguments: Vec<CString> = std::iter::once(&config.cmd)
        .chain(&config.args)
        .map(|it| text(it))
        .collect::<Result<_, _>>()?;
    let environment: Vec<CString> =
        environment.iter().map(|(k, v)| text(&format!("{k}={v}"))).collect::<Result<_, _>>()?;
    let (ends, child) = open_ends(request)?;
    let streams = match &child {
        Child::Pipes(fds) => Streams::Each([fds[0].as_fd(), fds[1].as_fd(), fds[2].as_fd()]),
        Child::Terminal(fd) => Streams::Terminal(fd.as_fd()),
    };
    let spawned = spawn(&Program {
        path: &text(&found)?,
        arguments: &arguments,
        environment: &environment,
        directory: &text(&directory)?,
        identity: switches_users.then_some(&user.identity),
        streams,
        open_files: None,
        mark: Some(tree::mark(marker)),
    })
    .map_err(|error| refusal(&error, &config.cmd, &directory))?;
    // Not allowed where the agent is not the owner of its children's scores: no reason to fail.
    drop(std::fs::write(format!("/proc/{}/oom_score_adj", spawned.pid), OUT_OF_MEMORY_SCORE));
    Ok((spawned, ends))
}

/// What the child gets.
enum Child {
    Pipes([OwnedFd; 3]),
    Terminal(OwnedFd),
}

fn open_ends(request: &StartRequest) -> Result<(Ends, Child), Status> {
    if let Some(pty) = request.pty.as_option() {
        let (columns, rows) = size_of(pty).unwrap_or(DEFAULT_SIZE);
        let Terminal { controller, user } =
            open_terminal(columns, rows).map_err(internal("open a terminal"))?;
        return Ok((Ends::Terminal(controller), Child::Terminal(user)));
    }
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|it| internal("open a pipe")(it.into()));
    let (stdout, child_stdout) = pipe()?;
    let (stderr, child_stderr) = pipe()?;
    let (stdin, child_stdin) = if request.stdin.unwrap_or(true) {
        let (reader, writer) = pipe()?;
        (Some(writer), reader)
    } else {
        (None, File::open("/dev/null").map_err(internal("open /dev/null"))?.into())
    };
    for fd in [Some(&stdout), Some(&stderr), stdin.as_ref()].into_iter().flatten() {
        rustix::io::ioctl_fionbio(fd, true).map_err(|it| internal("set up a pipe")(it.into()))?;
    }
    Ok((
        Ends::Pipes { stdin, stdout, stderr },
        Child::Pipes([child_stdin, child_stdout, child_stderr]),
    ))
}

/// Columns and rows, where both were given.
pub(crate) fn size_of(pty: &PTY) -> Option<(u16, u16)> {
    let size = pty.size.as_option()?;
    let cells = |count: u32| u16::try_from(count).ok().filter(|it| *it > 0);
    Some((cells(size.cols)?, cells(size.rows)?))
}

/// The last value wins: the agent's own, the user's, the sandbox's, the request's.
fn environment(
    request: &StartRequest,
    user: &User,
    sandbox: &Sandbox,
    marker: &str,
) -> BTreeMap<String, String> {
    let fixed = [
        ("PATH", PATH),
        ("LANG", "C.UTF-8"),
        ("HOME", &user.home),
        ("USER", &user.name),
        ("LOGNAME", &user.name),
    ];
    let mut environment: BTreeMap<String, String> =
        fixed.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    if request.pty.is_set() {
        environment.insert("TERM".to_owned(), "xterm-256color".to_owned());
    }
    let asked = request.process.envs.iter();
    for (name, value) in sandbox.environment.iter().chain(asked) {
        if !name.is_empty() && !name.contains('=') {
            environment.insert(name.clone(), value.clone());
        }
    }
    // Programs that were written for E2B ask for it where they run in its dialect.
    if let (true, Some(id)) = (environment.contains_key("E2B_SANDBOX"), &sandbox.id) {
        environment.insert("E2B_SANDBOX_ID".to_owned(), id.clone());
    }
    environment.insert(tree::MARKER.to_owned(), marker.to_owned());
    environment
}

/// The file of a command: itself where it has a slash, else the first in `path` that may be run.
fn find(command: &str, path: &str, directory: &str) -> Result<String, Status> {
    text(command)?;
    if command.is_empty() {
        return Err(Status::new(Code::InvalidArgument, "the command is empty"));
    }
    if command.contains('/') {
        return Ok(command.to_owned());
    }
    let runs = |file: &String| {
        std::fs::metadata(file).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    let candidates = path.split(':').map(|folder| match folder {
        "" => format!("{directory}/{command}"),
        folder if folder.starts_with('/') => format!("{folder}/{command}"),
        folder => format!("{directory}/{folder}/{command}"),
    });
    candidates.into_iter().find(runs).ok_or_else(|| missing(command))
}

fn missing(command: &str) -> Status {
    Status::new(Code::NotFound, format!("{command}: command not found"))
}

fn refusal(error: &SpawnError, command: &str, directory: &str) -> Status {
    let SpawnError { step, source } = error;
    match (step, source.kind()) {
        (Step::Directory, kind) => {
            let why = match kind {
                io::ErrorKind::NotFound => "no such directory".to_owned(),
                _ => source.to_string(),
            };
            Status::new(Code::InvalidArgument, format!("cwd '{directory}': {why}"))
        }
        (Step::Execute, io::ErrorKind::NotFound) => missing(command),
        (Step::Execute, io::ErrorKind::PermissionDenied) => {
            Status::new(Code::PermissionDenied, format!("{command}: permission denied"))
        }
        (Step::Execute, _) => Status::new(Code::InvalidArgument, format!("{command}: {source}")),
        (Step::Clone, io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory) => {
            Status::new(Code::ResourceExhausted, format!("start a process: {source}"))
        }
        _ => Status::new(Code::Internal, format!("{error}: {source}")),
    }
}

fn text(text: &str) -> Result<CString, Status> {
    CString::new(text).map_err(|_nul| {
        Status::new(Code::InvalidArgument, "a zero byte in a command, path or variable")
    })
}

fn internal(operation: &'static str) -> impl FnOnce(io::Error) -> Status {
    move |error| match error.kind() {
        _ if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            Status::new(Code::ResourceExhausted, format!("{operation}: {error}"))
        }
        _ => Status::new(Code::Internal, format!("{operation}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_proto::process::ProcessConfig;
    use warren_sys::spawn::Identity;

    fn user() -> User {
        let identity = Identity { uid: 1000, gid: 1000, groups: vec![] };
        User { name: "user".to_owned(), identity, home: "/home/user".to_owned() }
    }

    #[test]
    fn the_last_value_of_a_variable_wins() {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
        };
        let sandbox = Sandbox {
            environment: pairs(&[("A", "sandbox"), ("B", "sandbox"), ("HOME", "/h"), ("", "x")])
                .into_iter()
                .collect(),
            ..Sandbox::default()
        };
        let envs = pairs(&[("B", "request"), ("X=Y", "bad"), (tree::MARKER, "forged")]);
        let config = ProcessConfig { envs: envs.into_iter().collect(), ..ProcessConfig::default() };
        let request = StartRequest { process: config.into(), ..StartRequest::default() };
        let environment = environment(&request, &user(), &sandbox, "m");
        let expected = [
            ("A", "sandbox"),
            ("B", "request"),
            ("HOME", "/h"),
            ("LANG", "C.UTF-8"),
            ("LOGNAME", "user"),
            ("PATH", PATH),
            ("USER", "user"),
            (tree::MARKER, "m"),
        ];
        assert_eq!(environment.into_iter().collect::<Vec<_>>(), pairs(&expected));
    }

    #[test]
    fn programs_of_e2b_are_told_where_they_run() {
        let request = StartRequest { process: ProcessConfig::default().into(), ..<_>::default() };
        let id = |marked: bool| {
            let pair = marked.then(|| ("E2B_SANDBOX".to_owned(), "true".to_owned()));
            let environment = pair.into_iter().collect();
            let sandbox =
                Sandbox { environment, id: Some("sb-1".to_owned()), ..Sandbox::default() };
            super::environment(&request, &user(), &sandbox, "m").remove("E2B_SANDBOX_ID")
        };
        assert_eq!((id(true).as_deref(), id(false)), (Some("sb-1"), None));
    }

    #[test]
    fn commands_are_found_in_path() {
        assert_eq!(find("sh", "/no/such:/bin", "/").unwrap(), "/bin/sh");
        assert_eq!(find("./sh", "/bin", "/").unwrap(), "./sh");
        assert_eq!(find("sh", "bin:", "/").unwrap(), "//bin/sh");
        assert_eq!(find("no-such-program", PATH, "/").unwrap_err().code, Code::NotFound);
        assert_eq!(find("", PATH, "/").unwrap_err().code, Code::InvalidArgument);
    }
}
