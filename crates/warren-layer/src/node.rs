//! What a file is, and when it changed.

use rustix::fs::{FileType, Stat, major, minor};
use rustix::time::{ClockId, clock_gettime};

use crate::marks::is_whiteout;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A file with content.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Pipe,
    /// A socket: its name, for nobody can connect to it.
    Socket,
    /// A name that is removed from the layers below.
    Whiteout,
    /// A device.
    Device {
        /// Of blocks, not of characters.
        is_block: bool,
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
}

impl Kind {
    /// Of what the kernel says about it.
    #[must_use]
    pub fn of(stat: &Stat) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Pipe,
            FileType::Socket => Self::Socket,
            _ if is_whiteout(stat) => Self::Whiteout,
            FileType::CharacterDevice | FileType::BlockDevice => Self::Device {
                is_block: kind == FileType::BlockDevice,
                major: major(stat.st_rdev),
                minor: minor(stat.st_rdev),
            },
            _ => Self::File,
        }
    }

    /// A word for people and for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Pipe => "pipe",
            Self::Socket => "socket",
            Self::Whiteout => "whiteout",
            Self::Device { .. } => "device",
        }
    }
}

/// A moment of the clock that files' times are taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// Since 1970.
    pub seconds: i64,
    /// Of the second.
    pub nanoseconds: u32,
}

impl Moment {
    /// How far files' times may lag behind: a tick of the slowest kernels, twice.
    const TICK_NANOSECONDS: u32 = 20_000_000;

    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::RealtimeCoarse);
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
        Self { seconds: time.tv_sec, nanoseconds }
    }

    /// A little earlier: what changed before that was certainly over then.
    #[must_use]
    pub fn with_margin(self) -> Self {
        match self.nanoseconds.checked_sub(Self::TICK_NANOSECONDS) {
            Some(nanoseconds) => Self { nanoseconds, ..self },
            None => Self {
                seconds: self.seconds - 1,
                nanoseconds: self.nanoseconds + (1_000_000_000 - Self::TICK_NANOSECONDS),
            },
        }
    }
}

/// What changes whenever a file does: the same stamp, the same file.
///
/// Two exceptions, both seen by [`Stamp::is_settled`]: what changes twice within a tick of the
/// clock, and what is written through a mapping whose page was dirty already, which changes no time
/// until the page was written back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The inode.
    pub inode: u64,
    /// When it, or anything about it, changed last.
    pub changed: Moment,
    /// Bytes.
    pub size: u64,
}

impl Stamp {
    /// Of what the kernel says about it.
    #[must_use]
    pub fn of(stat: &Stat) -> Self {
        let nanoseconds = u32::try_from(stat.st_ctime_nsec).unwrap_or_default();
        Self {
            inode: stat.st_ino,
            changed: Moment { seconds: stat.st_ctime, nanoseconds },
            size: u64::try_from(stat.st_size).unwrap_or_default(),
        }
    }

    /// Whether another change will certainly give another stamp, where `written_back` is from
    /// before the file system was last written back.
    #[must_use]
    pub fn is_settled(&self, written_back: Moment) -> bool {
        self.changed < written_back.with_margin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_borrows_from_the_seconds() {
        let moment = |seconds, nanoseconds| Moment { seconds, nanoseconds };
        assert_eq!(moment(5, 30_000_000).with_margin(), moment(5, 10_000_000));
        assert_eq!(moment(5, 10_000_000).with_margin(), moment(4, 990_000_000));
        assert!(Moment::now() > moment(1_000_000_000, 0));
    }
}
