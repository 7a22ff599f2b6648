//! Programs that are asked for something: a few words, a clean environment, a time, and the end of
//! what they write when they fail.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read as _, Seek as _},
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};
use warren_sys::spawn::{Program, Spawned, Streams, spawn};

/// How much of what it writes an error repeats, in bytes.
const SAID: usize = 400;

/// A program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("could not start {}", program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with another status than 0.
    #[error("{} failed: {said}", program.display())]
    Failed {
        /// Which.
        program: PathBuf,
        /// The end of what it wrote.
        said: String,
    },
    /// It took too long and was killed, with all that it had started.
    #[error("{} took longer than {} s", program.display(), within.as_secs())]
    Late {
        /// Which.
        program: PathBuf,
        /// How long it had.
        within: Duration,
    },
}

/// Finds a program in these directories.
#[must_use]
pub fn find(name: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    directories.iter().map(|it| it.join(name)).find(|it| it.is_file())
}

/// Runs a program to its end, in `/`, with this environment (`NAME=value`) and no other. Blocks.
///
/// # Errors
///
/// [`RunError`]; nothing that it started runs on when it took too long.
pub fn run(
    program: &Path,
    arguments: &[&str],
    environment: &[String],
    within: Duration,
) -> Result<(), RunError> {
    let failed = |source| RunError::Start { program: program.to_owned(), source };
    let (process, log) = start(program, arguments, environment).map_err(failed)?;
    match wait(&process, within).map_err(failed)? {
        Some(true) => Ok(()),
        Some(false) => Err(RunError::Failed { program: program.to_owned(), said: last_words(log) }),
        None => {
            // It leads a session, so its group is all that it has started and not sent away.
            if let Some(group) = Pid::from_raw(process.pid) {
                kill_process_group(group, Signal::KILL).ok();
            }
            waitid(WaitId::PidFd(process.pidfd.as_fd()), WaitIdOptions::EXITED).ok();
            Err(RunError::Late { program: program.to_owned(), within })
        }
    }
}

fn start(
    program: &Path,
    arguments: &[&str],
    environment: &[String],
) -> io::Result<(Spawned, File)> {
    let path = CString::new(program.as_os_str().as_bytes())?;
    let mut all = vec![path.clone()];
    for argument in arguments {
        all.push(CString::new(*argument)?);
    }
    let environment: Vec<_> =
        environment.iter().map(|it| CString::new(it.as_str())).collect::<Result<_, _>>()?;
    let null = File::open("/dev/null")?;
    let log = memfd_create("said", MemfdFlags::CLOEXEC)?;
    let process = spawn(&Program {
        path: &path,
        arguments: &all,
        environment: &environment,
        directory: c"/",
        identity: None,
        streams: Streams::Each([null.as_fd(), log.as_fd(), log.as_fd()]),
        open_files: None,
        mark: None,
    })
    .map_err(|error| error.source)?;
    Ok((process, log.into()))
}

/// Whether it ended well; none where it did not end in time.
fn wait(process: &Spawned, within: Duration) -> io::Result<Option<bool>> {
    let until = Instant::now() + within;
    loop {
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now()))
            .map_err(io::Error::other)?;
        let mut ended = [PollFd::new(&process.pidfd, PollFlags::IN)];
        match poll(&mut ended, Some(&left)) {
            Err(Errno::INTR) => continue,
            Ok(0) => return Ok(None),
            other => drop(other?),
        }
        let status = waitid(WaitId::PidFd(process.pidfd.as_fd()), WaitIdOptions::EXITED)?;
        return Ok(Some(status.is_some_and(|it| it.exited() && it.exit_status() == Some(0))));
    }
}

/// The end of what a program wrote, as one line without anything that a terminal would obey.
fn last_words(mut log: File) -> String {
    let mut text = Vec::new();
    // What cannot be read is not told.
    drop(log.rewind().and_then(|()| (&log).take(1 << 16).read_to_end(&mut text)));
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    let line: String = lines.join("; ").chars().filter(|it| !it.is_control()).collect();
    let start =
        (0..=line.len()).rev().find(|at| line.len() - at >= SAID && line.is_char_boundary(*at));
    line.get(start.unwrap_or(0)..).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: &str = "/bin/sh";

    fn shell(script: &str, environment: &[&str], within: Duration) -> Result<(), RunError> {
        let environment: Vec<_> = environment.iter().map(ToString::to_string).collect();
        run(Path::new(SHELL), &["-c", script], &environment, within)
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let long = Duration::from_secs(60);
        let error = shell("echo one; printf '\\033[1mtwo\\n' >&2; exit 3", &[], long).unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh failed: one; [1mtwo");
        shell("exit 0", &[], long).unwrap();
        let error = run(Path::new("/nowhere"), &[], &[], long).unwrap_err();
        assert_eq!(error.to_string(), "could not start /nowhere");
    }

    #[test]
    fn the_environment_is_what_is_given_and_nothing_else() {
        let long = Duration::from_secs(60);
        let script = "test \"$NAME\" = value && test -z \"$HOME\" && test -z \"$USER\"";
        shell(script, &["NAME=value"], long).unwrap();
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_its_children() {
        let base = tempfile::tempdir().unwrap();
        let late = base.path().join("late");
        let script = format!("(sleep 600; touch {}) & wait", late.display());
        let error = shell(&script, &["PATH=/usr/bin:/bin"], Duration::from_millis(200));
        assert!(matches!(error.unwrap_err(), RunError::Late { .. }));
        assert!(!late.exists());
    }
}
