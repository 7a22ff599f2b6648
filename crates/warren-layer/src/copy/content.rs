//! What is in files, from one to another.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{SeekFrom, Stat, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;

/// Bytes that are copied by one call.
const AT_ONCE: u64 = 64 << 20;
/// Bytes that are in memory at once, where the kernel does not copy.
const BUFFER: usize = 256 << 10;

/// Makes an empty file share the blocks of another; false where that cannot be.
pub(crate) fn clone(from: &OwnedFd, to: &OwnedFd) -> io::Result<bool> {
    match ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::INVAL | Errno::PERM) => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Copies a file of this `stat` to an empty one, without its holes; gives the bytes copied.
pub(crate) fn copy(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> io::Result<u64> {
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    let stored = u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
    if stored >= size {
        return range(from, to, 0, u64::MAX);
    }
    let (mut at, mut copied) = (0, 0);
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) if start < size => start,
            Ok(_) | Err(Errno::NXIO) => break, // a hole to the end
            Err(error) => return Err(error.into()),
        };
        let end = match seek(from, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(Errno::NXIO) => break, // it became shorter
            Err(error) => return Err(error.into()),
        };
        copied += range(from, to, start, end)?;
        at = end;
    }
    ftruncate(to, size)?;
    Ok(copied)
}

/// Copies bytes from `start` to `end`, or to the end of the file.
fn range(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> io::Result<u64> {
    let (mut from_at, mut to_at) = (start, start);
    while from_at < end {
        let want = usize::try_from((end - from_at).min(AT_ONCE)).unwrap_or(BUFFER);
        match copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), want) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return Ok(from_at - start + by_hand(from, to, from_at, end)?);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(from_at - start)
}

fn by_hand(from: impl AsFd, to: impl AsFd, start: u64, end: u64) -> io::Result<u64> {
    let from = File::from(from.as_fd().try_clone_to_owned()?);
    let to = File::from(to.as_fd().try_clone_to_owned()?);
    let mut buffer = vec![0; BUFFER];
    let mut at = start;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
        let count = match from.read_at(buffer.get_mut(..want).unwrap_or_default(), at) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        to.write_all_at(buffer.get(..count).unwrap_or_default(), at)?;
        at += count as u64;
    }
    Ok(at - start)
}
