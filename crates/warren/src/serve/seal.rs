//! The key that secrets are sealed with: a file in the data directory that nobody else may read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use warren_core::secrets::SealKey;

/// The name of the file: 64 hexadecimal digits and a newline.
pub(crate) const FILE: &str = "secrets.key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("could not read {FILE}")]
    Read(#[source] io::Error),
    #[error("could not make {FILE}")]
    Make(#[source] io::Error),
    #[error("{FILE} holds no key: expected 64 hexadecimal digits")]
    Malformed,
    #[error("{FILE} can be read by others (mode {mode:o}): expected 600")]
    Open { mode: u32 },
}

/// Reads the key of a data directory, or makes it: it is on the disk when this returns.
pub(super) fn key(data: &Path) -> Result<SealKey, KeyError> {
    let path = data.join(FILE);
    match File::open(&path) {
        Ok(file) => read(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = SealKey::generate();
            make(data, &path, &key).map_err(KeyError::Make)?;
            Ok(key)
        }
        Err(error) => Err(KeyError::Read(error)),
    }
}

fn read(file: File) -> Result<SealKey, KeyError> {
    let mode = file.metadata().map_err(KeyError::Read)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open { mode });
    }
    let mut text = String::new();
    file.take(100).read_to_string(&mut text).map_err(KeyError::Read)?;
    parse(text.trim_end()).ok_or(KeyError::Malformed)
}

fn parse(text: &str) -> Option<SealKey> {
    let digits: Vec<u8> =
        text.chars().map(|it| it.to_digit(16)?.try_into().ok()).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high * 16 + low).collect();
    Some(SealKey::new(bytes.try_into().ok()?))
}

/// Writes the key under another name first, so that there is never half a key under its own.
fn make(data: &Path, path: &Path, key: &SealKey) -> io::Result<()> {
    let new = data.join(format!("{FILE}.new"));
    // Of a server that was killed here.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let digits: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{digits}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(data)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join("secrets.key.new"), "half").unwrap();
        let made = key(data.path()).unwrap();
        assert_eq!(key(data.path()).unwrap().expose(), made.expose());
        let path = data.path().join(FILE);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(key(data.path()), Err(KeyError::Open { mode: 0o640 })));
    }

    #[test]
    fn what_is_no_key_is_not_replaced() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(FILE);
        for bad in ["", "zz", &"0".repeat(63), &"0".repeat(66)] {
            fs::write(&path, bad).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(key(data.path()), Err(KeyError::Malformed)), "{bad}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
    }
}
