//! Making directories, and moving things.

use rustix::fs::{FileType as Kind, Mode, OFlags};
use warren_proto::{Code, Status};
use warren_sys::beneath;

use super::context::failed;

/// Mode of new directories.
const DIRECTORY_MODE: u32 = 0o755;

/// Makes a directory and what is missing above it, all of them the acting user's.
///
/// # Errors
///
/// `already_exists` for a directory that is there, `invalid_argument` for a file that is there or
/// above.
pub(crate) fn make_directory(path: &str) -> Result<(), Status> {
    if let Some(kind) = kind_of(path)? {
        let (code, what) = match kind.is_dir() {
            true => (Code::AlreadyExists, "directory already exists"),
            false => (Code::InvalidArgument, "path is a file"),
        };
        return Err(Status::new(code, format!("make directory '{path}': {what}")));
    }
    make_all(path)
}

/// Makes the directories above `path` that are missing.
///
/// # Errors
///
/// `invalid_argument` when one of them is a file, `permission_denied`.
pub(crate) fn make_parents(path: &str) -> Result<(), Status> {
    match path.rsplit_once('/') {
        None | Some(("", _)) => Ok(()),
        Some((parent, _)) => make_all(parent),
    }
}

fn make_all(path: &str) -> Result<(), Status> {
    // Most of the time nothing, or only the last one, is missing: look from the end.
    let mut missing = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        match kind_of(rest)? {
            Some(kind) if kind.is_dir() => break,
            Some(_) => {
                let message = format!("make directory '{path}': '{rest}' is a file");
                return Err(Status::new(Code::InvalidArgument, message));
            }
            None => missing.push(rest),
        }
        rest = rest.rsplit_once('/').map_or("", |it| it.0);
    }
    for path in missing.into_iter().rev() {
        let place = beneath::place(path).map_err(failed("make directory", path))?;
        match place.make_directory(Mode::from_raw_mode(DIRECTORY_MODE)) {
            // Somebody else was faster; whether it is a directory shows at the next level.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            result => result.map_err(failed("make directory", path))?,
        }
    }
    Ok(())
}

/// What a path leads to, if anything.
fn kind_of(path: &str) -> Result<Option<Kind>, Status> {
    match beneath::open(path, OFlags::PATH, Mode::empty()) {
        Ok(fd) => {
            let stat = rustix::fs::fstat(fd).map_err(|it| failed("stat", path)(it.into()))?;
            Ok(Some(Kind::from_raw_mode(stat.st_mode)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("stat", path)(error)),
    }
}

/// Moves what is at `source` to `target`, over what is there; missing directories above are made.
///
/// # Errors
///
/// `not_found` for a missing source; `failed_precondition` between file systems and over a
/// directory that is not empty.
pub(super) fn rename(source: &str, target: &str) -> Result<(), Status> {
    let from = beneath::place(source).map_err(failed("move", source))?;
    from.look().map_err(failed("move", source))?;
    make_parents(target)?;
    let to = beneath::place(target).map_err(failed("move to", target))?;
    from.rename(&to).map_err(failed("move to", target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn directories_are_made_with_their_parents_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        make_directory(&at("a/b/c")).unwrap();
        assert!(fs::metadata(at("a/b/c")).unwrap().is_dir());
        assert_eq!(make_directory(&at("a/b/c")).unwrap_err().code, Code::AlreadyExists);
        fs::write(at("file"), "").unwrap();
        assert_eq!(make_directory(&at("file")).unwrap_err().code, Code::InvalidArgument);
        assert_eq!(make_directory(&at("file/x")).unwrap_err().code, Code::InvalidArgument);
    }

    #[test]
    fn moving_makes_parents_and_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("one"), "1").unwrap();
        fs::write(at("two"), "2").unwrap();
        rename(&at("one"), &at("x/y/one")).unwrap();
        rename(&at("two"), &at("x/y/one")).unwrap();
        assert_eq!(fs::read_to_string(at("x/y/one")).unwrap(), "2");
        assert_eq!(rename(&at("two"), &at("z/three")).unwrap_err().code, Code::NotFound);
        assert!(!fs::exists(at("z")).unwrap(), "nothing is made for nothing");
    }
}
