//! From a sandbox.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use warren_api::client::FileStream;
use warren_archive::{Limits, Unpacker};

use super::Copied;
use crate::error::{CliError, Kind};

/// A place on this machine that something of a sandbox will have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target(PathBuf);

impl Target {
    /// Where `name` goes when it is copied to `path`: into it where it is a directory, else it is
    /// the place itself. Without a name what is in a directory is meant.
    ///
    /// # Errors
    ///
    /// When the path ends with a slash and is no directory.
    pub(crate) fn of(path: &Path, name: Option<&str>) -> Result<Self, CliError> {
        let is_directory = path.is_dir();
        let wants_one = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        match name {
            Some(name) if is_directory => Ok(Self(path.join(name))),
            _ if wants_one && !is_directory => {
                Err(wrong(path, "is no directory, as its last slash says"))
            }
            _ => Ok(Self(path.to_owned())),
        }
    }
}

/// Writes a file as it comes in; `mode` is what the sandbox says.
///
/// # Errors
///
/// When the place is a link, or something else than a file, or cannot be written.
pub(crate) async fn receive_file(
    mut stream: FileStream,
    target: &Target,
    mode: u32,
) -> Result<Copied, CliError> {
    let path = &target.0;
    match path.symlink_metadata() {
        Ok(there) if there.is_symlink() => {
            return Err(wrong(path, "is a link, which is not written through"));
        }
        Ok(there) if !there.is_file() => return Err(wrong(path, "is something else than a file")),
        _ => {}
    }
    let mut pending = Pending::new(path)?;
    let mut bytes = 0;
    while let Some(piece) = stream.chunk().await? {
        pending.file.write_all(&piece).map_err(failed(path))?;
        bytes += piece.len() as u64;
    }
    pending.finish(path, mode)?;
    Ok(Copied { entries: 1, bytes, skipped: 0 })
}

/// Unpacks a tree as it comes in.
///
/// # Errors
///
/// When the place is a link or a file, when it cannot be written, and when the archive is broken
/// or tries what archives may not.
pub(crate) async fn receive_tree(
    mut stream: FileStream,
    target: &Target,
) -> Result<Copied, CliError> {
    let path = &target.0;
    let made = Made::ensure(path)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let flags = flags.bits().cast_signed();
    // The last slash of a path would lead through a link.
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(without_slash(path));
    let directory = opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::NOTDIR.raw_os_error() => {
            wrong(path, "is a link or a file, expected a directory")
        }
        Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => {
            wrong(path, "is a link, which is not followed")
        }
        _ => failed(path)(error),
    })?;
    let mut unpacker = Unpacker::new(directory.into(), made.is_new, Limits::default());
    let refused = |error| CliError::new(Kind::Local, error);
    while let Some(piece) = stream.chunk().await? {
        unpacker.push(&piece).map_err(refused)?;
    }
    let done = unpacker.finish().map_err(refused)?;
    made.keep();
    Ok(Copied { entries: done.entries, bytes: done.bytes, skipped: done.skipped })
}

/// A file under a name of ours, beside its place; removed unless it gets there.
#[derive(Debug)]
struct Pending {
    path: PathBuf,
    file: File,
}

impl Pending {
    fn new(place: &Path) -> Result<Self, CliError> {
        for number in 0.. {
            let name = format!(".warren-{}-{number}", std::process::id());
            let path = place.with_file_name(name);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            match file {
                Ok(file) => return Ok(Self { path, file }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(place)(error)),
            }
        }
        unreachable!("there are more numbers than files")
    }

    fn finish(self, place: &Path, mode: u32) -> Result<(), CliError> {
        let permissions = Permissions::from_mode(mode & 0o777);
        self.file.set_permissions(permissions).map_err(failed(place))?;
        fs::rename(&self.path, place).map_err(failed(place))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Mostly it has another name by now.
        fs::remove_file(&self.path).ok();
    }
}

/// A directory; one that was made for this is removed, with what is in it, unless it is kept.
#[derive(Debug)]
struct Made {
    path: PathBuf,
    is_new: bool,
}

impl Made {
    fn ensure(path: &Path) -> Result<Self, CliError> {
        let is_new = match fs::create_dir(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(failed(path)(error)),
        };
        Ok(Self { path: path.to_owned(), is_new })
    }

    fn keep(mut self) {
        self.is_new = false;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.is_new {
            // What is left is seen in the directory, and why it failed is said by another.
            warren_sys::tree::remove(&self.path).ok();
        }
    }
}

fn without_slash(path: &Path) -> PathBuf {
    path.components().collect()
}

fn wrong(path: &Path, what: &str) -> CliError {
    CliError::new(Kind::Local, format!("{} {what}", path.display()))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CliError {
    let path = path.display().to_string();
    move |error| CliError::new(Kind::Local, format!("could not write {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_takes_what_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let target = |name: &str, of| Target::of(&folder.path().join(name), of);
        let at = |name: &str| Target(folder.path().join(name));
        fs::create_dir(folder.path().join("d")).unwrap();
        assert_eq!(target("d", Some("f")).unwrap(), at("d/f"));
        assert_eq!(target("d/", Some("f")).unwrap(), at("d/f"));
        assert_eq!(target("d", None).unwrap(), at("d"));
        assert_eq!(target("new", Some("f")).unwrap(), at("new"));
        assert!(target("new/", Some("f")).is_err());
    }

    #[test]
    fn half_a_file_and_half_a_tree_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let left = || fs::read_dir(folder.path()).unwrap().count();
        drop(Pending::new(&folder.path().join("f")).unwrap());
        let made = Made::ensure(&folder.path().join("d")).unwrap();
        fs::write(folder.path().join("d/f"), "").unwrap();
        drop(made);
        assert_eq!(left(), 0);
        Pending::new(&folder.path().join("f"))
            .unwrap()
            .finish(&folder.path().join("f"), 0o4755)
            .unwrap();
        let mode = fs::metadata(folder.path().join("f")).unwrap().permissions().mode();
        assert_eq!((mode & 0o7777, left()), (0o755, 1));
    }
}
