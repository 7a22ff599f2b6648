//! Layers from outside: real files, real overlay mounts, and what hostile archives try.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod archive;
mod comparing;
mod copying;
mod hostile;
mod manifests;
mod overlay;
mod packing;
mod unpacking;

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use warren_layer::Marks;
use warren_layer::unpack::{Options, UnpackError, Unpacked, unpack};

/// Whether tests that need to be root of the host can run; it says so where they cannot.
#[expect(clippy::print_stdout, reason = "a skipped test says why")]
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("SKIPPED: only root may set overlayfs' marks");
    }
    is_root
}

fn options() -> Options {
    let ignore_owners = !rustix::process::geteuid().is_root();
    let marks = if ignore_owners { Marks::User } else { Marks::Trusted };
    Options { ignore_owners, marks, ..Options::default() }
}

fn unpack_to(archive: &[u8], directory: &Path) -> Result<Unpacked, UnpackError> {
    unpack(archive, directory, &options())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// One line for everything below a directory, in order.
fn listing(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let kind = metadata.file_type();
            let held = if kind.is_dir() {
                pending.push(path.clone());
                let directory = fs::File::open(&path).unwrap();
                let opaque = warren_layer::marks::is_opaque(directory, options().marks).unwrap();
                if opaque { "opaque".to_owned() } else { "directory".to_owned() }
            } else if kind.is_symlink() {
                format!("-> {}", path.read_link().unwrap().display())
            } else if kind.is_char_device() {
                format!("device {}", metadata.rdev())
            } else if kind.is_fifo() {
                "pipe".to_owned()
            } else {
                String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
            };
            let relative = path.strip_prefix(directory).unwrap().as_os_str().as_bytes().to_vec();
            found.push(format!(
                "{} {:o} {held}",
                std::ffi::OsString::from_vec(relative).display(),
                metadata.mode() & 0o7777
            ));
        }
    }
    found.sort();
    found
}
