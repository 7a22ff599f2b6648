//! What happens in directories, as reads.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

/// Bytes read at once: some hundred events.
const BUFFER_BYTES: usize = 16 << 10;

/// What happened to a name in a directory, or to the directory itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was made here.
    Created,
    /// It was moved here.
    MovedHere,
    /// Its content changed.
    Written,
    /// It was removed.
    Removed,
    /// It was moved away.
    MovedAway,
    /// Its mode, owner or times changed.
    Attributes,
    /// The directory is not watched any more: it is gone.
    Gone,
    /// More happened than the kernel keeps: some of it is lost.
    Overflow,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which watch, as [`Inotify::watch`] gave it; -1 with [`Change::Overflow`].
    pub watch: i32,
    /// What happened.
    pub change: Change,
    /// Whether it happened to a directory.
    pub is_directory: bool,
    /// The name in the directory; empty: the directory itself. Bytes that are no UTF-8 are
    /// replaced.
    pub name: String,
}

/// A queue of events of several directories. Reading does not block.
#[derive(Debug)]
pub struct Inotify(OwnedFd);

impl Inotify {
    /// A queue without directories.
    ///
    /// # Errors
    ///
    /// `EMFILE` when this user has too many.
    ///
    /// # Source
    ///
    /// `inotify(7)`.
    pub fn new() -> io::Result<Self> {
        Ok(Self(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?))
    }

    /// Adds an open directory (`O_PATH` is enough). The same directory gives the same number.
    ///
    /// # Errors
    ///
    /// `EACCES` when the thread's user may not read it, `ENOSPC` when this user has too many
    /// watches.
    pub fn watch(&self, directory: impl AsFd) -> io::Result<i32> {
        let path = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MODIFY
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::ATTRIB
            | WatchFlags::EXCL_UNLINK
            | WatchFlags::ONLYDIR;
        Ok(inotify::add_watch(&self.0, path, flags)?)
    }

    /// Takes at most `limit` events, and some more that came with them, of those that are there.
    ///
    /// # Errors
    ///
    /// The kernel's error; none is expected.
    pub fn take(&self, limit: usize) -> io::Result<Vec<Event>> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut events = Vec::new();
        while events.len() < limit {
            match reader.next() {
                Ok(event) => events.extend(convert(&event)),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(events)
    }

    /// A second descriptor of the queue, to wait on.
    ///
    /// # Errors
    ///
    /// `EMFILE`.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn convert(event: &inotify::Event<'_>) -> Option<Event> {
    use inotify::ReadFlags as F;
    let changes = [
        (F::CREATE, Change::Created),
        (F::MOVED_TO, Change::MovedHere),
        (F::MODIFY, Change::Written),
        (F::DELETE, Change::Removed),
        (F::MOVED_FROM, Change::MovedAway),
        (F::ATTRIB, Change::Attributes),
        (F::IGNORED, Change::Gone),
        (F::QUEUE_OVERFLOW, Change::Overflow),
    ];
    let flags = event.events();
    let change = changes.into_iter().find(|(flag, _)| flags.contains(*flag))?.1;
    let name = event.file_name().map(|it| it.to_string_lossy().into_owned());
    Some(Event {
        watch: event.wd(),
        change,
        is_directory: flags.contains(F::ISDIR),
        name: name.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn a_file_that_is_made_written_and_removed_is_seen() {
        let folder = std::env::temp_dir().join(format!("warren-inotify-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let inotify = Inotify::new().unwrap();
        let watch = inotify.watch(File::open(&folder).unwrap()).unwrap();
        fs::write(folder.join("a"), "x").unwrap();
        fs::rename(folder.join("a"), folder.join("b")).unwrap();
        fs::remove_file(folder.join("b")).unwrap();
        fs::create_dir(folder.join("c")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let seen = inotify.take(100).unwrap();
        let changes: Vec<_> = seen.iter().map(|it| (it.change, it.name.as_str())).collect();
        let expected = [
            (Change::Created, "a"),
            (Change::Written, "a"),
            (Change::MovedAway, "a"),
            (Change::MovedHere, "b"),
            (Change::Removed, "b"),
            (Change::Created, "c"),
            (Change::Removed, "c"),
            (Change::Gone, ""),
        ];
        assert_eq!(changes, expected);
        assert!(seen.iter().all(|it| it.watch == watch));
        assert_eq!(inotify.take(100).unwrap(), []);
    }
}
