//! Private files: whole or not there, whenever the machine stops.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

/// What the name of a file ends with that is being written.
const PARTIAL: &str = ".partial";

/// Writes a file that its owner alone can read, in place of what has that name.
///
/// # Errors
///
/// Those of the filesystem; what was there before is there still.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(PARTIAL);
    let partial = Path::new(&partial);
    // One that a crash left may have other rights.
    remove(partial)?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(partial, path));
    if let Err(error) = written {
        drop(remove(partial));
        return Err(error);
    }
    File::open(directory)?.sync_all()
}

/// Reads a file; none where it is not there.
///
/// # Errors
///
/// Those of the filesystem.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file; one that is gone is no error.
///
/// # Errors
///
/// Those of the filesystem.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a directory, with those above it, that its owner alone can enter.
///
/// # Errors
///
/// Those of the filesystem.
pub fn directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_its_owners_and_replaced_whole() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("key");
        assert_eq!(read(&path).unwrap(), None);
        fs::write(base.path().join("key.partial"), "of a crash").unwrap();
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let names = fs::read_dir(base.path()).unwrap().count();
        assert_eq!(names, 1, "nothing half-made is left");
    }
}
