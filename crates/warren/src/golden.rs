//! Pages and snapshots that tests compare, and write anew where `UPDATE` is set.

use std::{fs, path::Path};

/// Compares `text` with the file, or writes it there where the variable `UPDATE` is set.
#[expect(clippy::disallowed_methods, reason = "a switch of the tests, not of the program")]
pub(crate) fn check(file: impl AsRef<Path>, text: &str) {
    let file = file.as_ref();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(file, text).unwrap();
    }
    let kept = fs::read_to_string(file).unwrap_or_default();
    assert!(kept == text, "{} is out of date: run the test with UPDATE=1", file.display());
}
