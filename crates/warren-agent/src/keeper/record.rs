//! Exit records: how a guest ended, for a server that was not there.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::fs::{AtFlags, Mode, OFlags};
use warren_proto::keeper::{Event, Message};

/// Writes the record of a guest as a file named by its slot, whole or not at all.
///
/// The content is the [`Event::Exited`] message itself.
pub(super) fn write(directory: BorrowedFd<'_>, event: &Event) -> io::Result<()> {
    let Event::Exited { slot, .. } = event else { return Ok(()) };
    let (name, temporary) = (slot.to_string(), format!("{slot}.new"));
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
    let file: OwnedFd = rustix::fs::openat(directory, &temporary, flags, Mode::from(0o600))?;
    let bytes = event.encode();
    if rustix::io::write(&file, &bytes)? != bytes.len() {
        rustix::fs::unlinkat(directory, &temporary, AtFlags::empty())?;
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(rustix::fs::renameat(directory, &temporary, directory, &name)?)
}
