//! Root filesystems from tar archives, unpacked once.
//!
//! The archive is hostile input: entries must stay below the root whatever links they make first
//! (the `tar` crate refuses such paths), device nodes are left out, and the unpacked size is
//! bounded.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use warren_core::runtime::RuntimeError;

use super::make_once;

/// The most that an archive may unpack to, in bytes.
const MAX_BYTES: u64 = 32 << 30;
/// The most entries that it may have.
const MAX_ENTRIES: u64 = 4_000_000;

/// Finds or makes the directory that the archive at `path` unpacks to.
pub(super) fn open(images: &Path, path: &Path) -> Result<PathBuf, RuntimeError> {
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
    make_once(images, &name, |place| unpack(path, place)).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => RuntimeError::host("unpack the archive")(error),
        _ => unusable(format!("cannot unpack {}: {error}", path.display())),
    })
}

fn unpack(path: &Path, place: &Path) -> io::Result<()> {
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut magic = [0; 2];
    let length = file.read(&mut magic)?;
    if magic.get(..length) == Some(&[0x1f, 0x8b]) {
        return Err(invalid("it is compressed with gzip, expected a plain tar archive"));
    }
    file.seek_relative(-i64::try_from(length).unwrap_or_default())?;
    let mut archive = tar::Archive::new(file);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(rustix::process::geteuid().is_root());
    archive.set_unpack_xattrs(false);
    archive.set_overwrite(true);
    let (mut bytes, mut entries) = (0_u64, 0_u64);
    // Directories go last: one without write permission would stop what follows into it.
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        entries += 1;
        bytes = bytes.saturating_add(entry.size());
        if bytes > MAX_BYTES || entries > MAX_ENTRIES {
            return Err(invalid("it unpacks to more than 32 GiB or 4,000,000 files"));
        }
        let kind = entry.header().entry_type();
        if kind.is_character_special() || kind.is_block_special() || kind.is_fifo() {
            continue;
        }
        if kind.is_dir() {
            directories.push(entry);
        } else {
            entry.unpack_in(place)?;
        }
    }
    directories.sort_by(|a, b| b.path_bytes().cmp(&a.path_bytes()));
    for mut directory in directories {
        directory.unpack_in(place)?;
    }
    if fs::read_dir(place)?.next().is_none() {
        return Err(invalid("it is empty, expected a root filesystem"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let place = open(&images, &path).unwrap();
        assert!(place.join("good").exists());
        assert!(!images.join("evil").exists() && !data.path().join("evil").exists());
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
        check(&[0x1f, 0x8b, 8, 0], "expected a plain tar archive");
        check(&[7; 2048], "cannot unpack");
        check(&archive(&[]), "it is empty");
    }
}
