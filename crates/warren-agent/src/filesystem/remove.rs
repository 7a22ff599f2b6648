//! Removing a tree.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType as Kind, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use warren_proto::{Code, Status};
use warren_sys::beneath;

use super::context::failed;

/// Directories open at once, one per level. A deeper tree is nobody's by accident.
const DEEPEST: usize = 200;

/// Removes what is at an absolute path and everything below it. Links are removed, not followed;
/// nothing there is not an error.
///
/// # Errors
///
/// `permission_denied`; `failed_precondition` for a tree of more than 200 levels or one that grows
/// while it is removed; `invalid_argument` for the root.
pub(crate) fn remove(path: &str) -> Result<(), Status> {
    if path == "/" {
        return Err(Status::new(Code::InvalidArgument, "the root cannot be removed"));
    }
    match remove_tree(path) {
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::OVERFLOW) => {
            let message = format!("remove '{path}': more than {DEEPEST} levels");
            Err(Status::new(Code::FailedPrecondition, message))
        }
        result => result.map_err(|it| failed("remove", path)(it.into())),
    }
}

/// A directory on the way down.
struct Level {
    fd: OwnedFd,
    entries: Dir,
    name: std::ffi::CString,
}

fn remove_tree(path: &str) -> Result<(), Errno> {
    let place = beneath::place(path).map_err(errno)?;
    let stat = place.look().map_err(errno)?;
    if !Kind::from_raw_mode(stat.st_mode).is_dir() {
        return place.remove(false).map_err(errno);
    }
    let name = std::ffi::CString::new(place.name).map_err(|_nul| Errno::INVAL)?;
    let mut levels = vec![descend(&place.directory, name)?];
    while let Some(level) = levels.last_mut() {
        match level.entries.next().transpose()? {
            Some(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
            Some(entry) => {
                let name = entry.file_name().to_owned();
                if let Some(deeper) = remove_entry(level, name)? {
                    if levels.len() == DEEPEST {
                        return Err(Errno::OVERFLOW);
                    }
                    levels.push(deeper);
                }
            }
            None => {
                let Some(Level { name, .. }) = levels.pop() else { break };
                let parent = levels.last().map_or(&place.directory, |it| &it.fd);
                unlinkat(parent, &name, AtFlags::REMOVEDIR)?;
            }
        }
    }
    Ok(())
}

/// Removes a name, or gives the directory that it is.
fn remove_entry(level: &Level, name: std::ffi::CString) -> Result<Option<Level>, Errno> {
    match unlinkat(&level.fd, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(None),
        Err(Errno::ISDIR | Errno::PERM) => descend(&level.fd, name).map(Some),
        Err(error) => Err(error),
    }
}

fn descend(parent: &OwnedFd, name: std::ffi::CString) -> Result<Level, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(parent, &name, flags, Mode::empty())?;
    let entries = Dir::read_from(&fd)?;
    Ok(Level { fd, entries, name })
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_tree_goes_and_what_its_links_lead_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::create_dir_all(at("tree/a/b/c")).unwrap();
        fs::create_dir(at("other")).unwrap();
        for file in ["tree/f", "tree/a/f", "tree/a/b/c/f", "other/kept"] {
            fs::write(at(file), "").unwrap();
        }
        symlink(at("other"), at("tree/a/link")).unwrap();
        remove(&at("tree")).unwrap();
        assert!(!fs::exists(at("tree")).unwrap());
        assert!(fs::exists(at("other/kept")).unwrap());
        remove(&at("tree")).unwrap();
        remove(&at("other/kept")).unwrap();
        assert_eq!(remove("/").unwrap_err().code, Code::InvalidArgument);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_refused_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d/".repeat(DEEPEST + 1));
        fs::create_dir_all(&deep).unwrap();
        let path = folder.path().join("d").to_str().unwrap().to_owned();
        assert_eq!(remove(&path).unwrap_err().code, Code::FailedPrecondition);
    }
}
