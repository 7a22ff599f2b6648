//! Root filesystems from tar archives, unpacked once.
//!
//! The archive is hostile input, and is unpacked as a layer of an image is: compressed or not, with
//! nothing made outside, no devices, and no more than the operator allows.

use std::{
    fs::{self, File},
    io::{self, BufReader},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use warren_core::runtime::RuntimeError;
use warren_layer::unpack::UnpackError;

use super::{make_once, rules::Rules};

/// Finds or makes the directory that the archive at `path` unpacks to.
pub(super) fn open(images: &Path, path: &Path, rules: Rules) -> Result<PathBuf, RuntimeError> {
    let unusable = |reason: String| RuntimeError::Image { reason };
    if !path.is_absolute() {
        return Err(unusable(format!("{} is relative, expected an absolute path", path.display())));
    }
    let metadata = path
        .metadata()
        .map_err(|error| unusable(format!("cannot open {}: {error}", path.display())))?;
    if !metadata.is_file() {
        return Err(unusable(format!("{} is not a file, expected a tar archive", path.display())));
    }
    // Another file, or the same one changed, is another image.
    let name = format!(
        "tar-{:x}-{:x}-{:x}-{:x}",
        metadata.dev(),
        metadata.ino(),
        metadata.mtime().unsigned_abs() * 1_000_000_000 + metadata.mtime_nsec().unsigned_abs(),
        metadata.size()
    );
    make_once(images, &name, |place| unpack(path, place, rules)).map_err(|error| {
        match error.kind() {
            io::ErrorKind::StorageFull => RuntimeError::host("unpack the archive")(error),
            _ => unusable(format!("cannot unpack {}: {error}", path.display())),
        }
    })
}

fn unpack(path: &Path, place: &Path, rules: Rules) -> io::Result<()> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let options = rules.options(rules.all(), Vec::new());
    warren_layer::unpack(file, place, &options).map_err(|error| match error {
        error if error.is_full() => io::ErrorKind::StorageFull.into(),
        error @ UnpackError::TooMuch { .. } => invalid(rules.unpack_error(error).to_string()),
        error => invalid(error.to_string()),
    })?;
    match fs::read_dir(place)?.next() {
        Some(_) => Ok(()),
        None => Err(invalid("it is empty, expected a root filesystem".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::settings::Settings, *};

    fn open(images: &Path, path: &Path) -> Result<PathBuf, RuntimeError> {
        let settings = Settings { most_image_bytes: Some(1 << 20), ..Settings::default() };
        let ignore_owners = !rustix::process::geteuid().is_root();
        super::open(images, path, Rules { ignore_owners, ..Rules::new(&settings) })
    }

    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = tar::Header::new_gnu();
            // Set by hand, for the builder refuses what these tests are about.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn an_archive_is_unpacked_once() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("root.tar");
        fs::write(&path, archive(&[("usr/bin/tool", "x"), ("etc/passwd", "y")])).unwrap();
        let images = data.path().join("images");
        fs::create_dir(&images).unwrap();
        let place = open(&images, &path).unwrap();
        assert_eq!(fs::read_to_string(place.join("usr/bin/tool")).unwrap(), "x");
        assert_eq!(open(&images, &path).unwrap(), place);
        assert_eq!(fs::read_dir(&images).unwrap().count(), 1);
    }

    #[test]
    fn entries_cannot_leave_the_root() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("root.tar");
        fs::write(&path, archive(&[("../evil", "x"), ("good", "y")])).unwrap();
        let images = data.path().join("images");
        fs::create_dir(&images).unwrap();
        let error = open(&images, &path).unwrap_err().to_string();
        assert!(error.contains("../evil"), "{error}");
        assert_eq!(fs::read_dir(&images).unwrap().count(), 0);
        assert!(!data.path().join("evil").exists());
    }

    #[test]
    fn what_is_no_archive_is_refused_and_leaves_nothing() {
        let data = tempfile::tempdir().unwrap();
        let check = |content: &[u8], expected: &str| {
            let path = data.path().join("root.tar");
            fs::write(&path, content).unwrap();
            let images = data.path().join("images");
            fs::create_dir_all(&images).unwrap();
            let error = open(&images, &path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(fs::read_dir(&images).unwrap().count(), 0);
        };
        check(&[0x1f, 0x8b, 8, 0], "cannot unpack");
        check(&archive(&[("large", &"x".repeat(2 << 20))]), "the setting `image_size`");
        check(&[7; 2048], "cannot unpack");
        check(&archive(&[]), "it is empty");
    }
}
