//! Values that uploads keep with a file, as extended attributes `user.e2b.<key>`.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, llistxattr};
use warren_proto::{Code, Status};

/// What every name begins with.
const PREFIX: &str = "user.e2b.";
/// Bytes of a key.
const LONGEST_KEY: usize = 246;
/// Bytes of all keys and values of one file.
const MOST_BYTES: usize = 4096;
/// Bytes of the list of names that is read; more is not ours.
const LIST_BYTES: usize = 16 << 10;

/// The values of a file by its path; nothing where the file system keeps none. A final link is not
/// followed, as links have no such values.
pub(crate) fn read(path: &str) -> BTreeMap<String, String> {
    // Nearly every file has none: one call tells.
    let mut list = Vec::new();
    if !matches!(list_names(path, &mut list), Ok(length) if length > 0) {
        return BTreeMap::new();
    }
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOFOLLOW;
    match warren_sys::beneath::open(path, flags, rustix::fs::Mode::empty()) {
        Ok(fd) => read_open(fd),
        Err(_) => BTreeMap::new(),
    }
}

fn list_names(path: &str, list: &mut Vec<u8>) -> rustix::io::Result<usize> {
    list.resize(LIST_BYTES, 0);
    llistxattr(path, list.as_mut_slice())
}

/// The values of an open file.
pub(crate) fn read_open(file: impl AsFd) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for name in names(&file) {
        let mut value = vec![0; MOST_BYTES];
        let length = fgetxattr(&file, format!("{PREFIX}{name}"), value.as_mut_slice());
        if let Ok(length) = length {
            value.truncate(length);
            values.insert(name, String::from_utf8_lossy(&value).into_owned());
        }
    }
    values
}

fn names(file: impl AsFd) -> Vec<String> {
    let mut list = vec![0; LIST_BYTES];
    let Ok(length) = flistxattr(file, list.as_mut_slice()) else { return Vec::new() };
    list.truncate(length);
    let names = list.split(|it| *it == 0).filter_map(|it| std::str::from_utf8(it).ok());
    names.filter_map(|it| it.strip_prefix(PREFIX)).map(str::to_owned).collect()
}

/// Makes `values` all that a file has.
///
/// # Errors
///
/// `failed_precondition` where the file system keeps none, and some are given.
pub(crate) fn replace(file: impl AsFd, values: &BTreeMap<String, String>) -> Result<(), Status> {
    for name in names(&file) {
        if !values.contains_key(&name) {
            // One that cannot be removed is still listed, for the caller to see.
            let _kept = fremovexattr(&file, format!("{PREFIX}{name}"));
        }
    }
    for (name, value) in values {
        fsetxattr(&file, format!("{PREFIX}{name}"), value.as_bytes(), XattrFlags::empty())
            .map_err(|error| {
                let message = format!("keep metadata '{name}': {error}");
                Status::new(Code::FailedPrecondition, message)
            })?;
    }
    Ok(())
}

/// Whether `values` may be kept.
///
/// # Errors
///
/// `invalid_argument` for keys or values that are too long or not printable ASCII.
pub(crate) fn check(values: &BTreeMap<String, String>) -> Result<(), Status> {
    let bad = |message: String| Err(Status::new(Code::InvalidArgument, message));
    let printable = |text: &str| text.bytes().all(|it| (0x20..0x7f).contains(&it));
    for (name, value) in values {
        if name.is_empty() || name.len() > LONGEST_KEY {
            return bad(format!("metadata key of {} bytes: 1 to {LONGEST_KEY}", name.len()));
        }
        if !printable(name) || !printable(value) {
            return bad(format!("metadata '{name}' is not printable ASCII"));
        }
    }
    let total: usize = values.iter().map(|(name, value)| name.len() + value.len()).sum();
    if total > MOST_BYTES {
        bad(format!("metadata of {total} bytes: at most {MOST_BYTES}"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn limits_are_checked() {
        assert_eq!(check(&values(&[("a", "b c")])), Ok(()));
        let long = "x".repeat(LONGEST_KEY + 1);
        for bad in [("", "x"), (&*long, "x"), ("a", "ä"), ("a", "x\n"), ("a", &"x".repeat(4096))] {
            assert_eq!(check(&values(&[bad])).unwrap_err().code, Code::InvalidArgument);
        }
    }

    #[test]
    fn values_replace_each_other() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        if replace(file.as_file(), &values(&[("a", "1"), ("b", "2")])).is_err() {
            return assert_eq!(read(path), values(&[]), "a file system without attributes");
        }
        assert_eq!(read(path), values(&[("a", "1"), ("b", "2")]));
        replace(file.as_file(), &values(&[("b", "3")])).unwrap();
        assert_eq!(read(path), values(&[("b", "3")]));
        replace(file.as_file(), &values(&[])).unwrap();
        assert_eq!(read(path), values(&[]));
    }
}
