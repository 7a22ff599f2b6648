//! Which build this is.

use std::{fs::File, os::unix::fs::FileExt as _};

/// The version with the build after a `+`, such as `0.1.0+1f3a5b7c9d`, where the build is known.
pub(crate) fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match build_id() {
        Some(build) => format!("{version}+{build}"),
        None => version.to_owned(),
    }
}

/// The first ten digits of the build id that the linker has put into this program.
fn build_id() -> Option<String> {
    let mut head = [0; 4096];
    let read = File::open("/proc/self/exe").ok()?.read_at(&mut head, 0).ok()?;
    let id = note(head.get(..read)?)?;
    Some(id.iter().take(5).map(|byte| format!("{byte:02x}")).collect())
}

/// Finds the note of type `NT_GNU_BUILD_ID` by its head: the sizes of name and value, the type,
/// the name. Linkers put the notes into the first page, beside the program headers. Only little-endian machines are supported.
fn note(head: &[u8]) -> Option<&[u8]> {
    const LENGTH: u8 = 20;
    let start = [4, 0, 0, 0, LENGTH, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0];
    let at = head.windows(start.len()).position(|window| window == start)?;
    head.get(at + start.len()..)?.get(..usize::from(LENGTH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_found_among_other_bytes() {
        let mut head = vec![7; 100];
        head.extend([4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0]);
        head.extend(1..=20);
        assert_eq!(note(&head).unwrap()[..3], [1, 2, 3]);
        assert_eq!(note(&head[..110]), None);
    }
}
