//! Archives from outside: whole ones, and what hostile ones try.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod hostile;
mod round_trip;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use warren_archive::{Limits, Packer, UnpackError, Unpacked, Unpacker};

/// The archive of a directory.
fn pack(directory: &Path) -> Vec<u8> {
    pack_in(directory, 64 << 10)
}

/// As [`pack`], asked for so many bytes at a time.
fn pack_in(directory: &Path, want: usize) -> Vec<u8> {
    let mut packer = Packer::directory(File::open(directory).unwrap().into());
    let mut archive = Vec::new();
    while packer.read(&mut archive, want).unwrap() {}
    archive
}

fn unpack(archive: &[u8], directory: &Path) -> Result<Unpacked, UnpackError> {
    unpack_in(archive, directory, 64 << 10)
}

/// As [`unpack`], given so many bytes at a time.
fn unpack_in(archive: &[u8], directory: &Path, want: usize) -> Result<Unpacked, UnpackError> {
    let target = File::open(directory).unwrap().into();
    let mut unpacker = Unpacker::new(target, true, Limits { entries: 1000, ..Limits::default() });
    for piece in archive.chunks(want) {
        unpacker.push(piece)?;
    }
    unpacker.finish()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Everything below a directory: path, mode and what it holds, in order.
fn listing(directory: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    use std::os::unix::ffi::OsStringExt as _;
    use std::os::unix::fs::MetadataExt as _;
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(path) = pending.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let held = match metadata.file_type() {
                kind if kind.is_dir() => {
                    pending.push(path.clone());
                    Vec::new()
                }
                kind if kind.is_symlink() => path.read_link().unwrap().into_os_string().into_vec(),
                _ => std::fs::read(&path).unwrap(),
            };
            let relative = path.strip_prefix(directory).unwrap().to_owned();
            found.push((relative, metadata.mode(), held));
        }
    }
    found.sort();
    found
}
