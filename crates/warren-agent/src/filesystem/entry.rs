//! What is known of one path.

use rustix::fs::{FileType as Kind, Mode, OFlags, Stat};
use warren_proto::filesystem::{EntryInfo, FileType};
use warren_proto::{Status, Timestamp};
use warren_sys::beneath;

use super::context::failed;
use super::{metadata, path};
use crate::users;

/// Names for ids, read once for many entries.
#[derive(Debug)]
pub(crate) struct Names {
    users: String,
    groups: String,
}

impl Names {
    pub(crate) fn read() -> Self {
        Self { users: users::read("/etc/passwd"), groups: users::read("/etc/group") }
    }
}

/// Looks at an absolute path. A link is described, not followed; its type, mode and target are
/// those of what it leads to.
///
/// # Errors
///
/// `not_found`, `permission_denied`, and `failed_precondition` for a loop of links on the way.
pub(crate) fn look(path: &str, names: &Names) -> Result<EntryInfo, Status> {
    let stat = beneath::place(path).and_then(|it| it.look()).map_err(failed("stat", path))?;
    Ok(describe(path, &stat, names))
}

/// Describes what `stat` was taken of.
pub(crate) fn describe(path: &str, stat: &Stat, names: &Names) -> EntryInfo {
    let is_link = Kind::from_raw_mode(stat.st_mode).is_symlink();
    let target = if is_link { Some(Target::of(path)) } else { None };
    let (kind, mode) = match &target {
        None => (kind_of(stat.st_mode), stat.st_mode),
        Some(Target { stat: Some(stat), .. }) => (kind_of(stat.st_mode), stat.st_mode),
        Some(Target { stat: None, .. }) => (FileType::Symlink, 0),
    };
    EntryInfo {
        name: path::name(path).to_owned(),
        r#type: kind.into(),
        path: path.to_owned(),
        size: stat.st_size,
        mode: mode & 0o777,
        permissions: permissions(stat.st_mode),
        owner: users::name_of(&names.users, stat.st_uid),
        group: users::name_of(&names.groups, stat.st_gid),
        modified_time: Timestamp {
            seconds: stat.st_mtime,
            nanos: i32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            ..Timestamp::default()
        }
        .into(),
        symlink_target: target.map(|it| it.path),
        metadata: metadata::read(path).into_iter().collect(),
        is_symlink: None,
    }
}

/// Where a link leads in the end.
struct Target {
    path: String,
    stat: Option<Stat>,
}

impl Target {
    /// A link that leads nowhere is its own target.
    fn of(link: &str) -> Self {
        let open = beneath::open(link, OFlags::PATH, Mode::empty());
        let found = open.and_then(|fd| Ok((beneath::path_of(&fd)?, rustix::fs::fstat(&fd)?)));
        match found {
            Ok((path, stat)) => Self { path, stat: Some(stat) },
            Err(_) => Self { path: link.to_owned(), stat: None },
        }
    }
}

fn kind_of(mode: u32) -> FileType {
    match Kind::from_raw_mode(mode) {
        Kind::RegularFile => FileType::File,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        _ => FileType::Unspecified,
    }
}

/// A mode as Go writes it: `-rw-r--r--`, `dtrwxrwxrwx`, `Lrwxrwxrwx`, `urwxr-xr-x`.
pub(crate) fn permissions(mode: u32) -> String {
    let kind = match Kind::from_raw_mode(mode) {
        Kind::Directory => "d",
        Kind::Symlink => "L",
        Kind::BlockDevice => "D",
        Kind::Fifo => "p",
        Kind::Socket => "S",
        _ => "",
    };
    let flags = [(0o4000, "u"), (0o2000, "g")];
    let mut text = kind.to_owned();
    text.extend(flags.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, letter)| *letter));
    if Kind::from_raw_mode(mode) == Kind::CharacterDevice {
        text.insert(0, 'D');
        text.push('c');
    }
    if mode & 0o1000 != 0 {
        text.push('t');
    }
    if text.is_empty() {
        text.push('-');
    }
    for shift in (0..9).rev() {
        let letter = ['x', 'w', 'r'].into_iter().cycle().nth(shift).unwrap_or('-');
        text.push(if mode >> shift & 1 == 1 { letter } else { '-' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mode: u32, expected: &str) {
        assert_eq!(permissions(mode), expected, "{mode:o}");
    }

    #[test]
    fn permissions_are_written_as_go_does() {
        check(0o100_644, "-rw-r--r--");
        check(0o040_755, "drwxr-xr-x");
        check(0o120_777, "Lrwxrwxrwx");
        check(0o104_755, "urwxr-xr-x");
        check(0o041_777, "dtrwxrwxrwx");
        check(0o042_770, "dgrwxrwx---");
        check(0o020_620, "Dcrw--w----");
        check(0o060_660, "Drw-rw----");
        check(0o010_600, "prw-------");
        check(0o140_755, "Srwxr-xr-x");
        check(0o100_000, "----------");
    }
}
