//! A hostile archive: unpacking makes nothing outside of its directory, and in it nothing but
//! files, directories and links without set-user-id bits; in pieces it gives the same as in one.

#![no_main]

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use libfuzzer_sys::fuzz_target;
use tar::Header;
use warren_archive::{Limits, Unpacked, Unpacker};

const BLOCK: usize = 512;

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

/// What was unpacked, if all was well.
fn unpack(bytes: &[u8], piece: usize) -> Option<Unpacked> {
    let base = base();
    let (inside, outside) = (base.join("in"), base.join("out"));
    // Without rights to its owner a directory cannot be emptied, unless root does it.
    drop(fs::remove_dir_all(&inside));
    fs::create_dir_all(&inside).expect("a directory");
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
    assert_eq!(fs::read(outside.join("secret")).expect("it stays"), b"secret");
    assert_eq!(fs::read_dir(&outside).expect("it stays").count(), 1);
    assert_eq!(fs::read_dir(base).expect("it stays").count(), 2);
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

/// A directory of this process, with one to unpack to and one to leave alone.
fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let base = std::env::temp_dir().join(format!("warren-fuzz-archive-{}", std::process::id()));
        drop(fs::remove_dir_all(&base));
        fs::create_dir_all(base.join("out")).expect("a directory");
        fs::write(base.join("out/secret"), "secret").expect("a file");
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
