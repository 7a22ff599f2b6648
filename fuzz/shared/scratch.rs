//! What targets share that unpack archives: a directory of this process, with one to unpack to and
//! one to leave alone, and archives that get past their sums.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use tar::Header;

const BLOCK: usize = 512;

/// Made when it is first asked for, and removed when the process ends.
pub fn base(target: &str) -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let name = format!("warren-fuzz-{target}-{}", std::process::id());
        let base = std::env::temp_dir().join(name);
        drop(fs::remove_dir_all(&base));
        fs::create_dir_all(base.join("out")).expect("a directory");
        fs::write(base.join("out/secret"), "secret").expect("a file");
        fs::create_dir(base.join("in")).expect("a directory");
        drop(BASE_PATH.set(base.clone()));
        // The only way out of libFuzzer that does not crash.
        at_exit(remove);
        base
    })
}

/// Fails where anything but the directory to unpack to has changed.
pub fn check_outside(base: &Path) {
    let outside = base.join("out");
    assert_eq!(fs::read(outside.join("secret")).expect("it stays"), b"secret");
    assert_eq!(fs::read_dir(&outside).expect("it stays").count(), 1);
    assert_eq!(fs::read_dir(base).expect("it stays").count(), 2);
}

/// Gives every header of an archive the sum that it should have: the fuzzer does not guess it.
pub fn mend_headers(bytes: &mut [u8]) {
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

/// Makes the directory anew, with nothing in it.
pub fn empty(directory: &Path) {
    // Without rights to its owner a directory cannot be emptied, unless root does it.
    drop(fs::remove_dir_all(directory));
    fs::create_dir_all(directory).expect("a directory");
}

extern "C" fn remove() {
    drop(BASE_PATH.get().map(fs::remove_dir_all));
}

static BASE_PATH: OnceLock<PathBuf> = OnceLock::new();

fn at_exit(function: extern "C" fn()) {
    unsafe extern "C" {
        safe fn atexit(function: extern "C" fn()) -> i32;
    }
    atexit(function);
}
