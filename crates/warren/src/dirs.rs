//! Where one server's things are: the data directory, and the run directory that goes with it.
//!
//! The run directory is apart from the data directory because a socket's path may have 107 bytes
//! at most, and a data directory may be anywhere. Its name is derived from the data directory's,
//! so each data directory has a server of its own.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use crate::config::{Config, Environment};

/// A socket's path may have 107 bytes, and ours are up to 27 bytes below the run directory.
const LONGEST_RUN: usize = 80;

/// The directories of one server. Both exist, are ours and are closed to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dirs {
    /// Sandboxes, images, the database, the log.
    pub(crate) data: PathBuf,
    /// Sockets and locks.
    pub(crate) run: PathBuf,
    /// Eight hexadecimal digits that stand for the data directory.
    pub(crate) instance: String,
}

impl Dirs {
    /// Finds the directories and makes those that are missing.
    ///
    /// # Errors
    ///
    /// [`DirsError`] when one cannot be made, or is somebody else's.
    pub(crate) fn open(config: &Config, environment: &Environment) -> Result<Self, DirsError> {
        let uid = rustix::process::geteuid().as_raw();
        let data = match &config.data_dir {
            Some(data) => data.clone(),
            None => usual_data(environment, uid)?,
        };
        make_private(&data, uid)?;
        let data = fs::canonicalize(&data)
            .map_err(|source| DirsError::Make { path: data.clone(), source })?;
        let instance = short_hash(&data);
        let run = match &config.run_dir {
            Some(run) => run.clone(),
            None => base_run(environment, uid)?.join(&instance),
        };
        if run.as_os_str().len() > LONGEST_RUN {
            return Err(DirsError::TooLong { path: run });
        }
        make_private(&run, uid)?;
        Ok(Self { data, run, instance })
    }

    /// Finds the directories without making any; they may be missing.
    ///
    /// # Errors
    ///
    /// [`DirsError`] when there is no telling where they would be.
    pub(crate) fn locate(config: &Config, environment: &Environment) -> Result<Self, DirsError> {
        let uid = rustix::process::geteuid().as_raw();
        let data = match &config.data_dir {
            Some(data) => data.clone(),
            None => usual_data(environment, uid)?,
        };
        let data = resolved(&data);
        let instance = short_hash(&data);
        let run = match &config.run_dir {
            Some(run) => run.clone(),
            None => usual_base(environment, uid).join(&instance),
        };
        Ok(Self { data, run, instance })
    }

    /// Directories of tests: both are `base`.
    #[cfg(test)]
    pub(crate) fn of_test(base: &Path) -> Self {
        Self { data: base.to_owned(), run: base.to_owned(), instance: short_hash(base) }
    }

    /// Where the API listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.run.join("api.sock")
    }

    /// Locked by a server for all its life; holds what [`crate::background::Record`] says.
    pub(crate) fn lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    /// Locked while a server is being started, or is deciding to end.
    pub(crate) fn gate(&self) -> PathBuf {
        self.run.join("gate")
    }

    /// What the background server writes.
    pub(crate) fn log(&self) -> PathBuf {
        self.data.join("server.log")
    }
}

fn usual_data(environment: &Environment, uid: u32) -> Result<PathBuf, DirsError> {
    if uid == 0 {
        return Ok(PathBuf::from("/var/lib/warren"));
    }
    let base = match environment.get("XDG_DATA_HOME").filter(|it| it.starts_with('/')) {
        Some(base) => PathBuf::from(base),
        None => Path::new(environment.get("HOME").ok_or(DirsError::NoHome)?).join(".local/share"),
    };
    Ok(base.join("warren"))
}

/// A path without links, also where its last parts are not there.
fn resolved(path: &Path) -> PathBuf {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(found), ..) => found,
        (Err(_missing), Some(parent), Some(name)) => resolved(parent).join(name),
        (Err(_missing), ..) => path.to_owned(),
    }
}

fn base_run(environment: &Environment, uid: u32) -> Result<PathBuf, DirsError> {
    let base = usual_base(environment, uid);
    if base.starts_with("/tmp") {
        make_private(&base, uid)?; // anybody could make it there
    }
    Ok(base)
}

fn usual_base(environment: &Environment, uid: u32) -> PathBuf {
    if uid == 0 {
        return PathBuf::from("/run/warren");
    }
    let session = environment.get("XDG_RUNTIME_DIR").map(Path::new);
    // After `su` the variable may still name somebody else's.
    match session.filter(|it| check_private(it, uid).is_ok()) {
        Some(session) => session.join("warren"),
        None => PathBuf::from(format!("/tmp/warren-{uid}")),
    }
}

/// Eight hexadecimal digits that stand for a path: FNV-1a of 32 bits.
fn short_hash(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = path.as_os_str().as_bytes();
    let hash = bytes
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

/// Makes a directory that only its owner may enter, or checks that it is one.
fn make_private(path: &Path, uid: u32) -> Result<(), DirsError> {
    match check_private(path, uid) {
        Err(DirsError::Make { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            make.map_err(|source| DirsError::Make { path: path.to_owned(), source })?;
            check_private(path, uid)
        }
        result => result,
    }
}

fn check_private(path: &Path, uid: u32) -> Result<(), DirsError> {
    let found = fs::symlink_metadata(path)
        .map_err(|source| DirsError::Make { path: path.to_owned(), source })?;
    let target = if found.is_symlink() { fs::metadata(path) } else { Ok(found) };
    let found = target.map_err(|source| DirsError::Make { path: path.to_owned(), source })?;
    let problem = if !found.is_dir() {
        "it is not a directory"
    } else if found.uid() != uid {
        "it belongs to somebody else"
    } else if found.mode() & 0o022 != 0 {
        "others may write to it"
    } else {
        return Ok(());
    };
    Err(DirsError::Unsafe { path: path.to_owned(), problem })
}

/// Why there is no place to work in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirsError {
    /// There is neither a home nor a setting.
    #[error("there is no place for data: neither HOME nor the setting data_dir is set")]
    NoHome,
    /// The system refused.
    #[error("could not make the directory {}", path.display())]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Sockets would not fit.
    #[error("the directory {} cannot hold sockets: its path is longer than {LONGEST_RUN} bytes", path.display())]
    TooLong { path: PathBuf },
    /// Somebody else could put things there.
    #[error("the directory {} cannot be used: {problem}", path.display())]
    Unsafe { path: PathBuf, problem: &'static str },
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn a_new_directory_is_closed_to_others() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/b");
        make_private(&path, uid()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        make_private(&path, uid()).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = make_private(base.path(), uid()).unwrap_err();
        assert!(error.to_string().contains("others may write"), "{error}");
        let error = make_private(base.path(), uid() + 1).unwrap_err();
        assert!(error.to_string().contains("somebody else"), "{error}");
    }

    #[test]
    fn a_file_in_the_way_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("file");
        fs::write(&path, "").unwrap();
        let error = make_private(&path, uid()).unwrap_err();
        assert!(error.to_string().contains("not a directory"), "{error}");
    }

    #[test]
    fn a_directory_that_is_gone_is_found_under_the_name_it_had() {
        let base = tempfile::tempdir().unwrap();
        let (real, link) = (base.path().join("real"), base.path().join("link"));
        fs::create_dir_all(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let expected = fs::canonicalize(&real).unwrap().join("a/b");
        assert_eq!(resolved(&link.join("a/b")), expected);
        assert!(!expected.exists(), "nothing is made");
    }

    #[test]
    fn each_data_directory_has_its_own_short_name() {
        assert_eq!(short_hash(Path::new("/var/lib/warren")).len(), 8);
        assert_ne!(short_hash(Path::new("/a")), short_hash(Path::new("/b")));
    }
}
