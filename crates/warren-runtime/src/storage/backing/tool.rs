//! Running `mkfs`.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read as _, Seek as _},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    process::{WaitId, WaitIdOptions, waitid},
};
use warren_sys::spawn::{Program, Streams, spawn};

use super::{BackingError, Filesystem, Source, Wanted, failed};

/// Where `mkfs` is looked for.
const DIRECTORIES: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"];
/// How much of what it writes an error repeats, in bytes.
const SAID: usize = 400;

/// Makes a filesystem in a file or on a device. What is there is overwritten with `force` alone.
pub(super) fn make_filesystem(
    filesystem: Filesystem,
    target: &Path,
    force: bool,
) -> Result<(), BackingError> {
    let (name, package, usual) = match filesystem {
        // Nothing is discarded: that would give back to the host what was set aside.
        Filesystem::Btrfs => ("mkfs.btrfs", "btrfs-progs", ["-q", "-K", "-L", "warren"]),
        Filesystem::Xfs => ("mkfs.xfs", "xfsprogs", ["-q", "-K", "-L", "warren"]),
    };
    let program = find(name, &DIRECTORIES.map(PathBuf::from));
    let program =
        program.ok_or_else(|| BackingError::NoTool { program: name.to_owned(), package })?;
    let mut arguments: Vec<String> = usual.map(str::to_owned).to_vec();
    if filesystem == Filesystem::Xfs {
        arguments.extend(["-m".to_owned(), "reflink=1".to_owned()]);
    }
    if force {
        arguments.push("-f".to_owned());
    }
    arguments.push(target.to_string_lossy().into_owned());
    run(name, &program, &arguments)
}

/// Says of a device that is not overwritten that there is something on it.
pub(super) fn name_refusal(error: BackingError, wanted: &Wanted) -> BackingError {
    match (error, &wanted.source) {
        // Both programs look for filesystems and partitions, and name the option that helps.
        (BackingError::Tool { said, .. }, Source::Device(path))
            if !wanted.force && said.contains("-f ") =>
        {
            BackingError::Written { path: path.clone(), said }
        }
        (error, _) => error,
    }
}

fn find(name: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    directories.iter().map(|it| it.join(name)).find(|it| it.is_file())
}

/// Runs a program to its end. What it writes is told when it fails.
fn run(name: &str, program: &Path, arguments: &[String]) -> Result<(), BackingError> {
    let text = |nul| failed("name a program's arguments")(io::Error::from(nul));
    let path = CString::new(program.to_string_lossy().into_owned()).map_err(text)?;
    let all = std::iter::once(name.to_owned()).chain(arguments.iter().cloned());
    let all: Vec<CString> = all.map(CString::new).collect::<Result<_, _>>().map_err(text)?;
    let null = File::open("/dev/null").map_err(failed("open /dev/null"))?;
    let log = memfd_create("mkfs", MemfdFlags::CLOEXEC).map_err(failed("make a log"))?;
    let started = spawn(&Program {
        path: &path,
        arguments: &all,
        environment: &[],
        directory: c"/",
        identity: None,
        streams: Streams::Each([null.as_fd(), log.as_fd(), log.as_fd()]),
        open_files: None,
        mark: None,
    });
    let process = started.map_err(|error| failed("start mkfs")(error.source))?;
    let ended = loop {
        match waitid(WaitId::PidFd(process.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            other => break other.map_err(failed("wait for mkfs"))?,
        }
    };
    if ended.is_some_and(|it| it.exited() && it.exit_status() == Some(0)) {
        return Ok(());
    }
    Err(BackingError::Tool { program: name.to_owned(), said: last_words(log.into()) })
}

/// The end of what a program wrote, as one line.
fn last_words(mut log: File) -> String {
    let mut text = Vec::new();
    // What cannot be read is not told.
    drop(log.rewind().and_then(|()| (&log).take(1 << 16).read_to_end(&mut text)));
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    let line = lines.join("; ");
    let start =
        (0..=line.len()).rev().find(|at| line.len() - at >= SAID && line.is_char_boundary(*at));
    line.get(start.unwrap_or(0)..).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_quoted() {
        let arguments = ["-c", "echo one; echo two >&2; exit 3"].map(str::to_owned);
        let error = run("sh", Path::new("/bin/sh"), &arguments).unwrap_err();
        assert_eq!(error.to_string(), "sh failed: one; two");
        run("sh", Path::new("/bin/sh"), &["-c".to_owned(), "exit 0".to_owned()]).unwrap();
    }

    #[test]
    fn a_program_is_found_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let directories = [folder.path().join("none"), folder.path().to_owned()];
        assert_eq!(find("mkfs.btrfs", &directories), None);
        std::fs::write(folder.path().join("mkfs.btrfs"), "").unwrap();
        assert_eq!(find("mkfs.btrfs", &directories), Some(folder.path().join("mkfs.btrfs")));
    }
}
