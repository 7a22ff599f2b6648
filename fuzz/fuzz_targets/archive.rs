//! A hostile archive: unpacking makes nothing outside of its directory, and in it nothing but
//! files, directories and links without set-user-id bits; in pieces it gives the same as in one.

#![no_main]

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use libfuzzer_sys::fuzz_target;
use warren_archive::{Limits, Unpacked, Unpacker};

#[path = "../shared/scratch.rs"]
mod scratch;

use scratch::{base, check_outside, empty, mend_headers};

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (size, mend, bytes) = input;
    let mut bytes = bytes.to_vec();
    if mend {
        mend_headers(&mut bytes);
    }
    let whole = unpack(&bytes, bytes.len());
    let pieces = unpack(&bytes, usize::from(size) * 7 + 1);
    assert_eq!(whole, pieces);
});

/// What was unpacked, if all was well.
fn unpack(bytes: &[u8], piece: usize) -> Option<Unpacked> {
    let base = base("archive");
    let inside = base.join("in");
    empty(&inside);
    let directory = File::open(&inside).expect("the directory").into();
    let mut unpacker = Unpacker::new(directory, false, Limits { entries: 100, bytes: 1 << 20 });
    let pushed = bytes.chunks(piece.max(1)).try_for_each(|piece| unpacker.push(piece));
    let done = match pushed {
        Ok(()) => unpacker.finish().ok(),
        Err(_) => {
            drop(unpacker);
            None
        }
    };
    check(&inside);
    check_outside(base);
    done
}

/// Nothing but what archives may make.
fn check(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let metadata = entry.metadata().expect("it is there");
        let kind = metadata.file_type();
        assert!(kind.is_dir() || kind.is_file() || kind.is_symlink(), "{entry:?}");
        if !kind.is_symlink() {
            assert_eq!(metadata.permissions().mode() & 0o6000, 0, "{entry:?}");
        }
        if kind.is_dir() {
            check(&entry.path());
        }
    }
}
