//! Programs of this host that are asked for something: they get a few words, and what they write is
//! read up to a limit.

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io::{self, Read, Write},
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
};
use warren_sys::spawn::{self, Spawned, Streams};

/// The longest answer that is read, in bytes.
const MOST_ANSWER: usize = 64 << 10;

/// A program and its environment.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    environment: Vec<CString>,
}

/// A program that runs. Dropped before its end, it is killed.
#[derive(Debug)]
pub(super) struct Running {
    process: Option<Spawned>,
    output: File,
}

impl Program {
    /// Finds a program along the `PATH` of this environment (`NAME=value`).
    pub(super) fn find(name: &str, environment: &[String]) -> Option<Self> {
        let path = environment.iter().find_map(|it| it.strip_prefix("PATH="));
        let directories = path.unwrap_or("/usr/local/bin:/usr/bin:/bin").split(':');
        let mut places = directories.filter(|it| it.starts_with('/')).map(Path::new);
        let path = places.find_map(|it| Some(it.join(name)).filter(|it| it.is_file()))?;
        let environment = environment.iter().filter_map(|it| CString::new(it.as_str()).ok());
        Some(Self { path, environment: environment.collect() })
    }

    /// Starts it. What it complains of nobody reads.
    pub(super) fn start(&self, words: &[&str], input: &[u8]) -> io::Result<Running> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::other);
        let path = text(self.path.as_os_str())?;
        let mut arguments = vec![path.clone()];
        for word in words {
            arguments.push(text(OsStr::new(word))?);
        }
        let (stdin, mut feed) = pipe()?;
        let (output, stdout) = pipe()?;
        let stderr = File::options().write(true).open("/dev/null")?;
        // Less than a pipe holds, so that nobody need be there to read it.
        feed.write_all(input.get(..input.len().min(4096)).unwrap_or_default())?;
        drop(feed);
        let process = spawn::spawn(&spawn::Program {
            path: &path,
            arguments: &arguments,
            environment: &self.environment,
            directory: c"/",
            identity: None,
            streams: Streams::Each([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]),
            open_files: None,
            mark: None,
        })
        .map_err(|error| io::Error::new(error.source.kind(), error))?;
        Ok(Running { process: Some(process), output })
    }

    /// Runs it and gives what it writes.
    pub(super) fn answer(
        &self,
        words: &[&str],
        input: &[u8],
        within: Duration,
    ) -> io::Result<Vec<u8>> {
        let mut running = self.start(words, input)?;
        let until = Instant::now() + within;
        let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut ready = [PollFd::new(&running.output, PollFlags::IN)];
            if poll(&mut ready, Some(&left))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let length = running.output.read(&mut piece)?;
            answer.extend_from_slice(piece.get(..length).unwrap_or_default());
            if answer.len() > MOST_ANSWER {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            if length == 0 {
                running.finish()?;
                return Ok(answer);
            }
        }
    }
}

impl Running {
    /// Waits for its end, which should be near: it has closed its output.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let Some(process) = self.process.take() else { return Ok(()) };
        let ended = waitid(WaitId::PidFd(process.pidfd.as_fd()), WaitIdOptions::EXITED)?;
        match ended.and_then(|it| it.exit_status()) {
            Some(0) => Ok(()),
            Some(status) => Err(io::Error::other(format!("it ended with status {status}"))),
            None => Err(io::Error::other("it was killed")),
        }
    }
}

impl Read for Running {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output.read(buffer)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else { return };
        // One that has ended by itself still has to be waited for.
        pidfd_send_signal(&process.pidfd, Signal::KILL).ok();
        waitid(WaitId::PidFd(process.pidfd.as_fd()), WaitIdOptions::EXITED).ok();
    }
}

fn pipe() -> io::Result<(File, File)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((read.into(), write.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell() -> Program {
        Program::find("sh", &["PATH=/usr/bin:/bin".to_owned()]).unwrap()
    }

    #[test]
    fn a_program_reads_and_answers() {
        let answer =
            shell().answer(&["-c", "read it; echo got $it"], b"this\n", Duration::from_secs(60));
        assert_eq!(answer.unwrap(), b"got this\n");
        let failed = shell().answer(&["-c", "exit 3"], b"", Duration::from_secs(60)).unwrap_err();
        assert!(failed.to_string().contains("status 3"), "{failed}");
        assert!(Program::find("no-such-program", &[]).is_none());
    }

    #[test]
    fn one_that_does_not_end_is_ended() {
        let started = Instant::now();
        let error =
            shell().answer(&["-c", "exec sleep 600"], b"", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(60));
        let endless =
            shell().answer(&["-c", "exec yes"], b"", Duration::from_secs(60)).unwrap_err();
        assert_eq!(endless.kind(), io::ErrorKind::FileTooLarge);
    }
}
