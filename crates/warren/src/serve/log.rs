//! What the server writes about itself. Never tokens, environments, command lines or contents.

use std::{
    fs::OpenOptions,
    io::{self, IsTerminal as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing_subscriber::{EnvFilter, fmt, fmt::MakeWriter};

use crate::config::Level;

/// Starts to write to standard error. With `file`, which standard error leads to then, that is kept
/// below `most_bytes`: a full one is put aside as `server.log.old`, over the one before.
pub(super) fn start(level: Level, file: Option<PathBuf>, most_bytes: u64) {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    // Only our own crates: those of others write what they are given.
    let names = ["warren", "warren_core", "warren_runtime", "warren_server"];
    let directives = names.map(|name| format!("{name}={level}")).join(",");
    // A line that finds no room is lost. Complaints about it would go the same way, and a task that
    // cannot complain panics.
    let log = fmt().with_env_filter(EnvFilter::new(directives)).log_internal_errors(false);
    match file {
        Some(file) => {
            log.with_ansi(false).with_writer(Rotating::new(file, most_bytes)).init();
        }
        None => {
            let ansi = io::stderr().is_terminal();
            log.with_ansi(ansi).with_target(false).with_writer(io::stderr).init();
        }
    }
}

/// Standard error, where that is a file that must not grow for ever.
#[derive(Clone, Debug)]
struct Rotating(Arc<File>);

#[derive(Debug)]
struct File {
    path: PathBuf,
    most_bytes: u64,
    length: AtomicU64,
    turning: Mutex<()>,
}

impl Rotating {
    fn new(path: PathBuf, most_bytes: u64) -> Self {
        let length = std::fs::metadata(&path).map_or(0, |file| file.len());
        let (length, turning) = (AtomicU64::new(length), Mutex::default());
        Self(Arc::new(File { path, most_bytes, length, turning }))
    }
}

impl<'a> MakeWriter<'a> for Rotating {
    type Writer = &'a File;

    fn make_writer(&'a self) -> Self::Writer {
        &self.0
    }
}

impl Write for &File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = io::stderr().write(bytes)?;
        let before = self.length.fetch_add(written as u64, Ordering::Relaxed);
        if before + written as u64 > self.most_bytes
            && let Ok(_alone) = self.turning.try_lock()
        {
            self.turn()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl File {
    /// Leads standard error to a new file.
    fn turn(&self) -> io::Result<()> {
        rustix::stdio::dup2_stderr(self.put_aside()?)?;
        self.length.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Puts the full file aside, for a new one.
    fn put_aside(&self) -> io::Result<std::fs::File> {
        std::fs::rename(&self.path, self.path.with_extension("log.old"))?;
        open(&self.path)
    }
}

fn open(path: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.log");
        std::fs::write(&path, "0123456789").unwrap();
        let log = Rotating::new(path.clone(), 16);
        assert_eq!(log.0.length.load(Ordering::Relaxed), 10);
        // Standard error is not the file here: only what is done with the files is looked at.
        log.0.put_aside().unwrap();
        let old = std::fs::read_to_string(directory.path().join("server.log.old")).unwrap();
        assert_eq!(old, "0123456789");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }
}
