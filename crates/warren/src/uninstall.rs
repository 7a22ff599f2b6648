//! The end of an installation: what there is of one server, and its removal.
//!
//! Where the server runs it removes its sandboxes itself and is then stopped; whatever is left
//! after that, or all of it where there was no server, is found and removed from outside
//! ([`warren_runtime::traces`]). Of the two directories only what Warren makes is removed, so that
//! a setting which names somebody's home costs nobody a home.

mod files;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use warren_api::{
    client::{Client, ClientError, UnixSocket},
    sandbox::{ListSandboxes, State},
};
use warren_runtime::{
    storage::backing,
    traces::{self, Place, Trace},
};

use crate::{
    background::{self, LocalServer, Record, lock_file, wait_for_lock},
    commands::{Setup, block_on},
    config::Config,
    dirs::Dirs,
    error::CliError,
    output::waiting,
};

/// How long a server may take to say that it is there.
const ANSWERING: Duration = Duration::from_secs(5);

/// How long a server may take to remove its sandboxes; after that they are removed from outside.
const REMOVING: Duration = Duration::from_secs(60);

/// How long a server may take to end.
const ENDING: Duration = Duration::from_secs(20);

/// What there is of a server.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Its process.
    server: Option<u32>,
    /// Its sandboxes' journal entries: their ids.
    sandboxes: Vec<String>,
    traces: Vec<Trace>,
    /// Files that some other command of ours has put elsewhere.
    units: Vec<PathBuf>,
    /// Where a storage pool is mounted.
    pool: Option<PathBuf>,
    /// The directories that are there.
    directories: Vec<PathBuf>,
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.server.is_none()
            && self.traces.is_empty()
            && self.units.is_empty()
            && self.pool.is_none()
            && self.directories.is_empty()
    }

    /// One line for each thing that has gone: all but a directory in which something was left.
    pub(crate) fn done(&self) -> Vec<String> {
        let left = self.directories.iter().filter(|path| path.exists());
        let left: Vec<_> = left.map(|path| directory_line(path)).collect();
        self.lines().into_iter().filter(|line| !left.contains(line)).collect()
    }

    /// One line for each thing that will go.
    pub(crate) fn lines(&self) -> Vec<String> {
        let server = self.server.iter().map(|pid| format!("the server, process {pid}"));
        let sandboxes = self.sandboxes.iter().map(|id| format!("sandbox {id} with its files"));
        let traces = self.traces.iter().map(ToString::to_string);
        let units = self.units.iter().map(|path| format!("systemd unit {}", path.display()));
        let pool = self.pool.iter().map(|path| format!("storage pool at {}", path.display()));
        let directories = self.directories.iter().map(|path| directory_line(path));
        server.chain(sandboxes).chain(traces).chain(units).chain(pool).chain(directories).collect()
    }
}

fn directory_line(path: &Path) -> String {
    format!("directory {}", path.display())
}

/// Looks at what there is; `units` go too. Nothing is changed.
pub(crate) fn plan(dirs: &Dirs, units: Vec<PathBuf>) -> Result<Plan, CliError> {
    // Before anything is looked for in it, and so that sandboxes in it are seen.
    if rustix::process::geteuid().is_root() && dirs.data.is_dir() {
        drop(backing::open(&dirs.data)); // one that is broken has nothing to show and goes too
    }
    let storage = backing::directory(&dirs.data);
    let traces = traces::find(&place(dirs, &storage));
    let traces = traces.map_err(CliError::local("look at this machine"))?;
    let directories = [&dirs.run, &dirs.data];
    Ok(Plan {
        server: server(dirs),
        sandboxes: ["sandboxes", "stopped"]
            .iter()
            .flat_map(|kind| files::names(&storage.join(kind)))
            .collect(),
        traces,
        units,
        pool: backing::mounted(&dirs.data),
        directories: directories.into_iter().filter(|it| it.exists()).cloned().collect(),
    })
}

fn place<'a>(dirs: &'a Dirs, storage: &'a Path) -> Place<'a> {
    Place { data_dir: storage, run_dir: &dirs.run, instance: &dirs.instance }
}

/// The process that holds the lock of a server's lifetime, also where the lock's name is gone.
fn server(dirs: &Dirs) -> Option<u32> {
    let (lock, recorded) = (dirs.lock(), Record::read(dirs).map(|record| record.pid));
    let deleted = PathBuf::from(format!("{} (deleted)", lock.display()));
    // A descriptor of the lock is what makes a process of that number the server.
    let has_lock = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.any(|target| target == lock || target == deleted)
    };
    recorded.filter(has_lock).or_else(|| servers().into_iter().find(has_lock))
}

/// Every process that serves, of any instance, but for this one.
fn servers() -> Vec<u32> {
    let serves = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"serve") && *pid != std::process::id()
    };
    let names = files::names(Path::new("/proc"));
    names.iter().filter_map(|name| name.parse().ok()).filter(serves).collect()
}

/// Removes all of it; gives sentences about what could not be.
pub(crate) fn carry_out(
    setup: &Setup<'_>,
    config: &Config,
    dirs: &Dirs,
    plan: &Plan,
) -> Result<Vec<String>, CliError> {
    files::refuse_mounts(&[&dirs.data, &dirs.run], plan.pool.as_deref())?;
    if plan.server.is_some() || must_start_a_server(plan) {
        block_on(empty_and_stop(setup, dirs))?;
    }
    end_server(dirs)?;
    let locks = if dirs.run.is_dir() { Some(locks(dirs)?) } else { None };
    let mut left = files::remove_each(&plan.units);
    left.extend(sweep(dirs)?);
    left.extend(take_down(dirs));
    for (directory, known) in [(&dirs.run, files::RUN), (&dirs.data, files::DATA)] {
        left.extend(files::remove(directory, known));
    }
    files::remove_empty_parents(config, dirs);
    drop(locks);
    Ok(left)
}

/// An ordinary user's sandboxes have files of ids that only their server's namespaces have, so
/// without a server there must be one again.
fn must_start_a_server(plan: &Plan) -> bool {
    !rustix::process::geteuid().is_root() && !plan.sandboxes.is_empty()
}

/// Has the server remove every sandbox, and end. What it could not do is done afterwards from
/// outside, as far as that goes, so a failure is said and is not the end.
async fn empty_and_stop(setup: &Setup<'_>, dirs: &Dirs) {
    let client = if server(dirs).is_none() {
        let arguments = setup.overrides.to_arguments();
        let server = LocalServer::new(dirs.clone(), setup.environment, arguments, setup.output);
        Client::new(Arc::new(server))
    } else {
        Client::new(UnixSocket(dirs.socket()))
    };
    let work = async {
        within(ANSWERING, client.health()).await?;
        within(REMOVING, remove_sandboxes(&client)).await?;
        within(ENDING, background::stop(dirs)).await
    };
    if let Err(error) = waiting(setup.output, "removing the sandboxes", work).await {
        let words = crate::output::chain(&error).join(": ");
        setup.output.warn(&format!("the server was no help, and is ended: {words}"));
    }
}

/// Waits for so long at most.
async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(patience, work).await.unwrap_or_else(|_elapsed| {
        Err(ClientError::Connect { source: io::ErrorKind::TimedOut.into() })
    })
}

async fn remove_sandboxes(client: &Client) -> Result<(), ClientError> {
    let states =
        [State::Creating, State::Running, State::Paused, State::Stopping, State::Stopped].to_vec();
    let mut filter = ListSandboxes { states, ..ListSandboxes::default() };
    let mut sandboxes = Vec::new();
    loop {
        let page = client.list_sandboxes(&filter).await?;
        sandboxes.extend(page.sandboxes);
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            break;
        }
    }
    for sandbox in sandboxes {
        client.ensure_deleted(&sandbox.id).await?;
    }
    Ok(())
}

/// Ends a server that did not end by itself.
fn end_server(dirs: &Dirs) -> Result<(), CliError> {
    let Some(pid) = server(dirs).and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) else {
        return Ok(());
    };
    let kill = || {
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        // What the descriptor holds now is certain to be what is looked at again.
        if server(dirs).and_then(|it| i32::try_from(it).ok()) != Some(pid.as_raw_nonzero().get()) {
            return Ok(());
        }
        pidfd_send_signal(&process, Signal::KILL)?;
        let patience = Timespec::try_from(ENDING).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience))? {
            0 => Err(io::Error::from(io::ErrorKind::TimedOut)),
            _ => Ok(()),
        }
    };
    match kill() {
        Err(error) if error.raw_os_error() != Some(Errno::SRCH.raw_os_error()) => {
            Err(CliError::local("end the server")(error))
        }
        _ => Ok(()),
    }
}

/// Takes the locks of a run directory: while they are held no server can start in it.
pub(crate) fn locks(dirs: &Dirs) -> Result<[fs::File; 2], CliError> {
    let take = |path: PathBuf| -> io::Result<fs::File> {
        let lock = wait_for_lock(lock_file(&path)?, ENDING)?;
        lock.ok_or_else(|| io::ErrorKind::TimedOut.into())
    };
    let both = take(dirs.gate()).and_then(|gate| Ok([gate, take(dirs.lock())?]));
    both.map_err(CliError::local("lock the run directory"))
}

/// Unmounts the storage pool, so that its file can be removed with the others; a device keeps what
/// is on it. Gives sentences about what is left.
fn take_down(dirs: &Dirs) -> Option<String> {
    let error = backing::unmount(&dirs.data).err()?;
    let words = crate::output::chain(&error).join(": ");
    Some(format!("the storage pool stays mounted: {words}"))
}

/// Removes what is found on the machine, and looks again.
fn sweep(dirs: &Dirs) -> Result<Vec<String>, CliError> {
    let storage = backing::directory(&dirs.data);
    let look =
        || traces::find(&place(dirs, &storage)).map_err(CliError::local("look at this machine"));
    let errors = traces::remove(&look()?);
    let mut left: Vec<String> =
        errors.iter().map(|error| crate::output::chain(error).join(": ")).collect();
    if left.is_empty() {
        left.extend(look()?.iter().map(|trace| format!("it is back or still there: {trace}")));
    }
    Ok(left)
}
