//! Keys of a server: files in the data directory that nobody else may read.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustix::rand::GetRandomFlags;
use warren_tls::keep;

/// What secrets are sealed with.
pub(crate) const SECRETS: &str = "secrets.key";

/// What links to ports are signed with.
pub(super) const EDGE: &str = "edge.key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("could not read {file}")]
    Read { file: &'static str, source: io::Error },
    #[error("could not make {file}")]
    Make { file: &'static str, source: io::Error },
    #[error("{file} holds no key: expected 64 hexadecimal digits")]
    Malformed { file: &'static str },
    #[error("{file} can be read by others (mode {mode:o}): expected 600")]
    Open { file: &'static str, mode: u32 },
}

/// The 32 bytes of a key, made where there are none yet: 64 hexadecimal digits and a newline.
///
/// They are on the disk when this returns.
pub(super) fn key(data: &Path, file: &'static str) -> Result<[u8; 32], KeyError> {
    let path = data.join(file);
    match File::open(&path) {
        Ok(opened) => bytes(&opened, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(&path).map_err(|source| KeyError::Make { file, source })
        }
        Err(source) => Err(KeyError::Read { file, source }),
    }
}

fn make(path: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    let filled = rustix::rand::getrandom(&mut key, GetRandomFlags::empty())?;
    if filled < key.len() {
        return Err(io::Error::other("the kernel gave too few random bytes"));
    }
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    keep::write(path, format!("{digits}\n").as_bytes())?;
    Ok(key)
}

fn bytes(opened: &File, file: &'static str) -> Result<[u8; 32], KeyError> {
    let failed = |source| KeyError::Read { file, source };
    let mode = opened.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open { file, mode });
    }
    let mut text = Vec::new();
    opened.take(100).read_to_end(&mut text).map_err(failed)?;
    parse(text.trim_ascii_end()).ok_or(KeyError::Malformed { file })
}

fn parse(digits: &[u8]) -> Option<[u8; 32]> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let digit = |it: u8| char::from(it).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? * 16 + digit(*low)?));
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const FILE: &str = "test.key";

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join("test.key.partial"), "half").unwrap();
        let made = key(data.path(), FILE).unwrap();
        assert_eq!(key(data.path(), FILE).unwrap(), made);
        assert_ne!(made, [0; 32]);
        let path = data.path().join(FILE);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(key(data.path(), FILE), Err(KeyError::Open { mode: 0o640, .. })));
    }

    #[test]
    fn what_is_no_key_is_not_replaced() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(FILE);
        for bad in ["", "zz", "nonsense", &"0".repeat(63), &"0".repeat(66)] {
            fs::write(&path, bad).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(key(data.path(), FILE), Err(KeyError::Malformed { .. })), "{bad}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
    }
}
