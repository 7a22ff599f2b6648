//! A hostile image layer: unpacking makes nothing outside of its directory, no devices but
//! whiteouts, and no marks but those of whiteouts; what was unpacked can be packed, and comes out
//! the same.

#![no_main]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use libfuzzer_sys::fuzz_target;
use tar::Header;
use warren_layer::{
    Manifest, Marks,
    manifest::Sources,
    pack, unpack,
    unpack::{Compression, Limits},
};

const BLOCK: usize = 512;

fuzz_target!(|input: (bool, &[u8])| {
    let (mend, bytes) = input;
    let mut bytes = bytes.to_vec();
    if mend {
        mend_headers(&mut bytes);
    }
    let inside = base().join("in");
    // Marks of the second kind can be set by anybody.
    let limits = Limits { bytes: 1 << 20, file_bytes: 1 << 20, entries: 100, ..Limits::default() };
    let options =
        unpack::Options { marks: Marks::User, limits, ignore_owners: true, ..Default::default() };
    empty(&inside);
    let done = unpack::unpack(bytes.as_slice(), &inside, &options);
    check_outside();
    check(&inside);
    if done.is_ok() {
        let first = contents(&inside);
        let packing = pack::Options {
            marks: Marks::User,
            compression: Compression::None,
            ..Default::default()
        };
        let mut packed = Vec::new();
        pack::pack(&inside, &mut packed, &packing).expect("what was unpacked is packed");
        empty(&inside);
        unpack::unpack(packed.as_slice(), &inside, &options).expect("it is unpacked again");
        assert_eq!(first, contents(&inside));
    }
});

/// Everything but what nobody asked for: times.
fn contents(
    directory: &Path,
) -> BTreeMap<Vec<u8>, (warren_layer::Kind, Option<warren_layer::Digest>, u32)> {
    let manifest = Manifest::build(directory, Sources::None, None).expect("it can be read");
    manifest.entries.into_iter().map(|(path, it)| (path, (it.kind, it.digest, it.mode))).collect()
}

/// Gives every header the sum that it should have: the fuzzer does not guess it.
fn mend_headers(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = bytes.get_mut(at..at + BLOCK) {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        if block.iter().any(|byte| *byte != 0) {
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        let size = header.entry_size().unwrap_or(0).min(1 << 20) as usize;
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
}

fn empty(directory: &Path) {
    // Without rights to its owner a directory cannot be emptied, unless root does it.
    drop(fs::remove_dir_all(directory));
    fs::create_dir_all(directory).expect("a directory");
}

fn check_outside() {
    let outside = base().join("out");
    assert_eq!(fs::read(outside.join("secret")).expect("it stays"), b"secret");
    assert_eq!(fs::read_dir(&outside).expect("it stays").count(), 1);
    assert_eq!(fs::read_dir(base()).expect("it stays").count(), 2);
}

/// Nothing but what layers may hold.
fn check(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let metadata = entry.metadata().expect("it is there");
        let kind = metadata.file_type();
        assert!(!kind.is_block_device() && !kind.is_socket(), "{entry:?}");
        assert!(!kind.is_char_device() || metadata.rdev() == 0, "{entry:?}");
        if kind.is_dir() {
            check(&entry.path());
        }
    }
}

/// A directory of this process, with one to unpack to and one to leave alone.
fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let base = std::env::temp_dir().join(format!("warren-fuzz-layer-{}", std::process::id()));
        drop(fs::remove_dir_all(&base));
        fs::create_dir_all(base.join("out")).expect("a directory");
        fs::write(base.join("out/secret"), "secret").expect("a file");
        fs::create_dir(base.join("in")).expect("a directory");
        extern "C" fn remove() {
            drop(BASE_PATH.get().map(fs::remove_dir_all));
        }
        drop(BASE_PATH.set(base.clone()));
        // The only way out of libFuzzer that does not crash.
        at_exit(remove);
        base
    })
}

static BASE_PATH: OnceLock<PathBuf> = OnceLock::new();

fn at_exit(function: extern "C" fn()) {
    unsafe extern "C" {
        safe fn atexit(function: extern "C" fn()) -> i32;
    }
    atexit(function);
}
