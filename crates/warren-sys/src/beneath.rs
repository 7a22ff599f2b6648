//! Files by path, looked up beneath the root and nowhere else.
//!
//! Look-ups do not follow the magic links of `/proc` (`/proc/PID/fd/N`, `root`, `cwd`): they lead
//! past every rule of paths, into what other processes, or the caller itself, have open. Opening
//! never waits for the other end of a pipe and never takes a controlling terminal.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// Look-ups that lost a race against a rename are tried this often.
const TRIES: usize = 32;

/// Opens an absolute path beneath the root.
///
/// `flags` are completed with close-on-exec, no-block and no-controlling-terminal; a final link is
/// followed unless they have `NOFOLLOW`.
///
/// # Errors
///
/// The kernel's error; `ELOOP` also for a magic link on the way.
///
/// # Source
///
/// `openat2(2)`, `RESOLVE_IN_ROOT`.
pub fn open(path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let root =
        rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut flags = flags | OFlags::CLOEXEC;
    if !flags.contains(OFlags::PATH) {
        flags |= OFlags::NONBLOCK | OFlags::NOCTTY;
    }
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match rustix::fs::openat2(&root, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(fd) => return Ok(fd),
        }
    }
    Err(Errno::AGAIN.into())
}

/// A place in a directory: where something is, or can be made.
#[derive(Debug)]
pub struct Place<'a> {
    /// The directory.
    pub directory: OwnedFd,
    /// The name in it; `.` for the root itself.
    pub name: &'a str,
}

/// Opens the directory of an absolute, clean path.
///
/// # Errors
///
/// As [`open`].
pub fn place(path: &str) -> io::Result<Place<'_>> {
    let (parent, name) = match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => ("/", "."),
    };
    let directory = open(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    Ok(Place { directory, name })
}

impl Place<'_> {
    /// What is there; a link is not followed.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn look(&self) -> io::Result<Stat> {
        look_in(&self.directory, self.name)
    }

    /// Makes a directory.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn make_directory(&self, mode: Mode) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.directory, self.name, mode)?)
    }

    /// Moves what is here to `target`, over what is there.
    ///
    /// # Errors
    ///
    /// The kernel's error; `EXDEV` between file systems.
    pub fn rename(&self, target: &Place<'_>) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.directory, self.name, &target.directory, target.name)?)
    }

    /// Removes what is here: an empty directory, or anything else.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn remove(&self, is_directory: bool) -> io::Result<()> {
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        Ok(rustix::fs::unlinkat(&self.directory, self.name, flags)?)
    }
}

/// What has a name in a directory; a link is not followed.
///
/// # Errors
///
/// The kernel's error.
pub fn look_in(directory: impl AsFd, name: &str) -> io::Result<Stat> {
    Ok(rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The absolute path of an open file or directory, links resolved. Needs `/proc`.
///
/// # Errors
///
/// When `/proc` is not there, or the path is no UTF-8.
pub fn path_of(fd: impl AsFd) -> io::Result<String> {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let path = rustix::fs::readlinkat(CWD, link, Vec::new())?;
    path.into_string().map_err(|_text| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("warren-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn path(&self, name: &str) -> String {
            self.0.join(name).to_str().unwrap().to_owned()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn links_are_followed_and_magic_links_are_not() {
        let folder = Folder::new("links");
        std::fs::write(folder.path("file"), "x").unwrap();
        symlink("file", folder.path("link")).unwrap();
        symlink("loop", folder.path("loop")).unwrap();
        let read = |path: &str| open(path, OFlags::RDONLY, Mode::empty());
        let file = read(&folder.path("link")).unwrap();
        assert_eq!(path_of(file).unwrap(), folder.path("file"));
        for path in [folder.path("loop"), "/proc/self/fd/0".to_owned(), "/proc/self/cwd".to_owned()]
        {
            assert_eq!(read(&path).unwrap_err().raw_os_error(), Some(libc::ELOOP), "{path}");
        }
        let missing = read(&folder.path("no")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_pipe_without_another_end_does_not_block() {
        let folder = Folder::new("pipes");
        rustix::fs::mknodat(CWD, folder.path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        open(&folder.path("pipe"), OFlags::RDONLY, Mode::empty()).unwrap();
        let error = open(&folder.path("pipe"), OFlags::WRONLY, Mode::empty()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
    }

    #[test]
    fn a_place_is_a_directory_and_a_name() {
        let folder = Folder::new("places");
        let (one, two) = (folder.path("one"), folder.path("two"));
        let place_one = place(&one).unwrap();
        place_one.make_directory(0o755.into()).unwrap();
        place_one.rename(&place(&two).unwrap()).unwrap();
        assert_eq!(place_one.look().unwrap_err().kind(), io::ErrorKind::NotFound);
        let place_two = place(&two).unwrap();
        assert!(rustix::fs::FileType::from_raw_mode(place_two.look().unwrap().st_mode).is_dir());
        place_two.remove(true).unwrap();
        assert_eq!(place("/").unwrap().name, ".");
        assert_eq!(place("/x").unwrap().name, "x");
    }
}
