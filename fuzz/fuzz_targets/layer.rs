//! A hostile image layer: unpacking makes nothing outside of its directory, no devices but
//! whiteouts, and no marks but those of whiteouts; what was unpacked can be packed, and comes out
//! the same.

#![no_main]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use libfuzzer_sys::fuzz_target;
use warren_layer::{
    Manifest, Marks,
    manifest::Sources,
    pack, unpack,
    unpack::{Compression, Limits},
};

#[path = "../shared/scratch.rs"]
mod scratch;

use scratch::{base, check_outside, empty, mend_headers};

fuzz_target!(|input: (bool, &[u8])| {
    let (mend, bytes) = input;
    let mut bytes = bytes.to_vec();
    if mend {
        mend_headers(&mut bytes);
    }
    let inside = base("layer").join("in");
    // Marks of the second kind can be set by anybody.
    let limits = Limits { bytes: 1 << 20, file_bytes: 1 << 20, entries: 100, ..Limits::default() };
    let options =
        unpack::Options { marks: Marks::User, limits, ignore_owners: true, ..Default::default() };
    empty(&inside);
    let done = unpack::unpack(bytes.as_slice(), &inside, &options);
    check_outside(base("layer"));
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
