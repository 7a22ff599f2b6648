//! Removing trees whose names come from elsewhere.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, unlinkat};
use rustix::io::Errno;

use crate::marks::open_directory;

/// Removes what is called `name` in a directory, with all it holds; links are not followed.
///
/// It goes no deeper into the stack, however deep the tree is, but holds a descriptor per level.
pub(crate) fn remove(directory: impl AsFd, name: &[u8]) -> io::Result<()> {
    match unlinkat(&directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        result => return Ok(result?),
    }
    // Directories that are being emptied, with their names in the one before.
    let mut open: Vec<(OwnedFd, Vec<u8>)> =
        vec![(open_directory(&directory, name)?, name.to_vec())];
    while let Some((last, _)) = open.last() {
        match empty(last)? {
            Some(deeper) => open.push(deeper),
            None => {
                let Some((_, name)) = open.pop() else { break };
                match open.last() {
                    Some((parent, _)) => unlinkat(parent, name, AtFlags::REMOVEDIR)?,
                    None => unlinkat(&directory, name, AtFlags::REMOVEDIR)?,
                }
            }
        }
    }
    Ok(())
}

/// Removes files from a directory, until there is a directory in it: that one, opened.
fn empty(directory: &OwnedFd) -> io::Result<Option<(OwnedFd, Vec<u8>)>> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        match unlinkat(directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                return Ok(Some((open_directory(directory, name)?, name.to_vec())));
            }
            result => result?,
        }
    }
    Ok(None)
}
