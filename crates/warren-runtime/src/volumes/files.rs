//! Files of a volume, for who has no sandbox. Whatever hostile guests have put there, and are
//! putting there right now: everything is looked up by the kernel beneath the volume's root, and
//! nothing is opened before it is known to be a file or a directory.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, chmodat, chownat, fchmod, fchown,
        fstat, linkat, mkdirat, openat, openat2, readlinkat, renameat, statat, unlinkat,
    },
    io::Errno,
    process::{Gid, Uid},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use warren_core::{
    clock::Timestamp,
    sandboxes::{FileInfo, FileKind, Range},
    volumes::{Contents, Ownership, VolumeEntry},
};
use warren_sys::tree;

use super::USER;

/// How many entries one listing has at most.
const MOST_ENTRIES: usize = 10_000;
/// How much is read and written at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;
/// How often an upload looks whether there is room, in bytes.
const LOOK_BYTES: u64 = 16 << 20;
/// The longest path that is taken, in bytes.
const PATH_BYTES: usize = 4096;

/// A path as it is looked up: relative, `.` for the root.
pub(super) fn clean(path: &str) -> io::Result<String> {
    if path.len() > PATH_BYTES {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    let parts: Vec<&str> = path.split('/').filter(|it| !it.is_empty() && *it != ".").collect();
    if parts.contains(&"..") {
        return Err(io::ErrorKind::CrossesDevices.into());
    }
    if path.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

/// Too many links are one more way that leads nowhere.
pub(super) fn named(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) if code == Errno::LOOP.raw_os_error() => io::ErrorKind::CrossesDevices.into(),
        _ => error,
    }
}

/// Finds what is at a path without opening it.
fn find(root: &File, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    loop {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            // Something was renamed on the way.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

fn find_directory(root: &File, path: &str) -> io::Result<OwnedFd> {
    find(root, path, OFlags::DIRECTORY)
}

/// The directory that a path's last part is in, and that part.
fn parent<'a>(root: &File, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
    if path == "." {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
    Ok((find_directory(root, above)?, name))
}

/// What is at a path; a link at its end is not followed.
pub(super) fn stat(root: &File, path: &str) -> io::Result<VolumeEntry> {
    let found = find(root, path, OFlags::NOFOLLOW)?;
    let stat = fstat(&found)?;
    let target = link_target(&stat, || readlinkat(&found, "", Vec::new()));
    Ok(describe(path, &stat, target))
}

/// What is in a directory.
pub(super) fn entries(root: &File, path: &str, depth: u32) -> io::Result<Vec<VolumeEntry>> {
    let mut found = Vec::new();
    let base = if path == "." { String::new() } else { format!("{path}/") };
    walk(&find_directory(root, path)?, &base, depth, &mut found)?;
    found.sort_unstable_by(|one: &VolumeEntry, other| one.info.path.cmp(&other.info.path));
    Ok(found)
}

fn walk(
    directory: &OwnedFd,
    base: &str,
    depth: u32,
    found: &mut Vec<VolumeEntry>,
) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat(directory, ".", flags, Mode::empty())?;
    for entry in Dir::read_from(&opened)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue, // gone meanwhile
            other => other?,
        };
        if found.len() == MOST_ENTRIES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let path = format!("{base}{}", name.to_string_lossy());
        let target = link_target(&stat, || readlinkat(directory, name, Vec::new()));
        found.push(describe(&path, &stat, target));
        if depth > 1 && is(&stat, FileType::Directory) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(directory, name, flags, Mode::empty()) {
                Ok(below) => walk(&below, &format!("{path}/"), depth - 1, found)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {} // something else meanwhile
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

fn link_target(
    stat: &Stat,
    read: impl FnOnce() -> rustix::io::Result<std::ffi::CString>,
) -> Option<String> {
    let target = is(stat, FileType::Symlink).then(read)?.ok()?;
    Some(target.to_string_lossy().into_owned())
}

fn describe(path: &str, stat: &Stat, symlink_target: Option<String>) -> VolumeEntry {
    let path = path.trim_start_matches('.');
    let info = FileInfo {
        name: path.rsplit('/').next().unwrap_or_default().to_owned(),
        path: format!("/{path}"),
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            _ => FileKind::Other,
        },
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        mode: stat.st_mode & 0o7777,
        owner: owner(stat.st_uid),
        group: owner(stat.st_gid),
        modified_at: Some(moment(stat.st_mtime, stat.st_mtime_nsec)),
        symlink_target,
    };
    VolumeEntry {
        info,
        uid: stat.st_uid,
        gid: stat.st_gid,
        accessed_at: moment(stat.st_atime, stat.st_atime_nsec),
        changed_at: moment(stat.st_ctime, stat.st_ctime_nsec),
    }
}

fn moment(seconds: i64, nanoseconds: u64) -> Timestamp {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    Timestamp::from_millis(seconds.saturating_mul(1000) + nanoseconds / 1_000_000)
}

/// Changes whose something is, and what its permissions are; a link at the end is not followed.
pub(super) fn change(root: &File, path: &str, owned: Ownership) -> io::Result<VolumeEntry> {
    let found = find(root, path, OFlags::NOFOLLOW)?;
    if owned.uid.is_some() || owned.gid.is_some() {
        let (uid, gid) = (owned.uid.map(Uid::from_raw), owned.gid.map(Gid::from_raw));
        chownat(&found, "", uid, gid, AtFlags::EMPTY_PATH)?;
    }
    if let Some(mode) = owned.mode {
        if is(&fstat(&found)?, FileType::Symlink) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // By what the descriptor holds: the path may lead elsewhere by now.
        let place = by_descriptor(&found);
        chmodat(rustix::fs::CWD, place, Mode::from(mode & 0o7777), AtFlags::empty())?;
    }
    stat(root, path)
}

/// The names that every image of this product has; for others the number.
fn owner(id: u32) -> String {
    match id {
        0 => "root".to_owned(),
        USER => "user".to_owned(),
        id => id.to_string(),
    }
}

/// Makes a directory and those above it; what is made belongs to the user inside.
pub(super) fn make_directories(root: &File, path: &str) -> io::Result<()> {
    if path == "." {
        return Ok(());
    }
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let upto = path.get(..end).unwrap_or(path);
        let (above, name) = parent(root, upto)?;
        match mkdirat(&above, name, Mode::from(0o755)) {
            Ok(()) => {
                let made = find(root, upto, OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
                let flags = AtFlags::EMPTY_PATH;
                let given = rustix::fs::chownat(&made, "", Some(user()), Some(group()), flags);
                allow_one_id(given)?;
            }
            Err(Errno::EXIST) => {
                find_directory(root, upto)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn user() -> Uid {
    Uid::from_raw(USER)
}

fn group() -> Gid {
    Gid::from_raw(USER)
}

/// Where there is one id alone, everything is its own.
fn allow_one_id(given: rustix::io::Result<()>) -> io::Result<()> {
    match given {
        Err(Errno::INVAL) => Ok(()),
        other => Ok(other?),
    }
}

/// Removes what is at a path; a link is removed and not followed.
pub(super) fn remove(root: &File, path: &str) -> io::Result<()> {
    let (above, name) = parent(root, path)?;
    let stat = statat(&above, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if is(&stat, FileType::Directory) {
        return tree::remove_at(&above, OsStr::new(name));
    }
    Ok(unlinkat(&above, name, AtFlags::empty())?)
}

/// A path to what a descriptor holds.
fn by_descriptor(fd: &impl AsFd) -> std::path::PathBuf {
    Path::new("/proc/self/fd").join(fd.as_fd().as_raw_fd().to_string())
}

/// Opens a regular file to be read.
pub(super) fn read(root: &File, path: &str, range: Option<Range>) -> io::Result<Contents> {
    let found = find(root, path, OFlags::empty())?;
    let stat = fstat(&found)?;
    if is(&stat, FileType::Directory) {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !is(&stat, FileType::RegularFile) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut file = File::open(by_descriptor(&found))?;
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    let (first, end) = match range {
        None => (0, size),
        Some(Range::From(first, last)) => {
            (first.min(size), last.map_or(size, |last| last.saturating_add(1)).min(size))
        }
        Some(Range::Last(count)) => (size.saturating_sub(count), size),
    };
    io::Seek::seek(&mut file, io::SeekFrom::Start(first))?;
    let length = end.saturating_sub(first);
    let mut file = tokio::fs::File::from_std(file);
    file.set_max_buf_size(PIECE_BYTES);
    let part = range.map(|_| (first, size));
    Ok(Contents { bytes: Box::new(file.take(length)), length, part })
}

/// A file that is being written and has no name yet.
#[derive(Debug)]
pub(super) struct New {
    file: tokio::fs::File,
    above: OwnedFd,
    name: String,
}

/// Begins a file. In the place of another it gets, unless told, that one's owner and its mode.
pub(super) fn begin(root: &File, path: &str, owned: Ownership) -> io::Result<New> {
    if let Some((above, _)) = path.rsplit_once('/') {
        make_directories(root, above)?;
    }
    let (above, name) = parent(root, path)?;
    let before = match statat(&above, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if is(&stat, FileType::Directory) => {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(stat) if is(&stat, FileType::RegularFile) => Some(stat),
        // A link is replaced and not written through.
        Ok(_) | Err(Errno::NOENT) => None,
        Err(error) => return Err(error.into()),
    };
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(&above, ".", flags, Mode::from(0o600))?;
    let owner = before.map_or((USER, USER), |it| (it.st_uid, it.st_gid));
    let uid = Uid::from_raw(owned.uid.unwrap_or(owner.0));
    let gid = Gid::from_raw(owned.gid.unwrap_or(owner.1));
    allow_one_id(fchown(&file, Some(uid), Some(gid)))?;
    // Of a mode that is taken over, only what does not give rights away.
    let mode = owned.mode.unwrap_or_else(|| before.map_or(0o644, |it| it.st_mode & 0o777));
    fchmod(&file, Mode::from(mode & 0o7777))?;
    let mut file = tokio::fs::File::from_std(File::from(file));
    file.set_max_buf_size(PIECE_BYTES);
    Ok(New { file, above, name: name.to_owned() })
}

impl New {
    /// Writes all that comes, asking now and then whether there is room.
    pub(super) async fn fill(
        mut self,
        mut contents: Box<dyn AsyncRead + Send + Unpin>,
        check: impl Fn() -> io::Result<()>,
    ) -> io::Result<(Self, u64)> {
        let mut buffer = vec![0; PIECE_BYTES];
        let (mut size, mut looked) = (0_u64, None);
        loop {
            let read = contents.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            if looked.is_none_or(|at| size - at >= LOOK_BYTES) {
                check()?;
                looked = Some(size);
            }
            self.file.write_all(buffer.get(..read).unwrap_or_default()).await?;
            size += read as u64;
        }
        self.file.flush().await?;
        self.file.sync_data().await?;
        self.file.rewind().await?;
        Ok((self, size))
    }

    /// Gives the file its name, in place of what has it.
    pub(super) fn finish(self) -> io::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let beside = format!(".warren-{}-{number}", std::process::id());
        let unnamed = by_descriptor(&self.file);
        // A guest may have made that name: then it is its own, and not used.
        linkat(rustix::fs::CWD, unnamed, &self.above, &beside, AtFlags::SYMLINK_FOLLOW)?;
        let renamed = renameat(&self.above, &beside, &self.above, &self.name);
        if renamed.is_err() {
            // The first error is the one to tell.
            unlinkat(&self.above, &beside, AtFlags::empty()).ok();
        }
        Ok(renamed?)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, symlink},
    };

    use super::*;

    fn place() -> (tempfile::TempDir, File) {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("volume")).unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let root = File::open(outside.path().join("volume")).unwrap();
        (outside, root)
    }

    async fn write(root: &File, path: &str, text: &'static str) -> io::Result<()> {
        let new = begin(root, &clean(path)?, Ownership::default())?;
        let (new, size) = new.fill(Box::new(text.as_bytes()), || Ok(())).await?;
        assert_eq!(size, text.len() as u64);
        new.finish()
    }

    async fn text(root: &File, path: &str, range: Option<Range>) -> io::Result<String> {
        let mut contents = read(root, &clean(path)?, range)?;
        let mut text = String::new();
        contents.bytes.read_to_string(&mut text).await?;
        assert_eq!(text.len() as u64, contents.length);
        Ok(text)
    }

    #[tokio::test]
    async fn files_are_written_whole_read_in_parts_listed_and_removed() {
        let (outside, root) = place();
        write(&root, "/a/b/file", "hello").await.unwrap();
        write(&root, "a/b/file", "hello again").await.unwrap();
        assert_eq!(text(&root, "/a/b/file", None).await.unwrap(), "hello again");
        assert_eq!(text(&root, "a/b/file", Some(Range::From(6, None))).await.unwrap(), "again");
        assert_eq!(text(&root, "a/b/file", Some(Range::Last(5))).await.unwrap(), "again");
        assert_eq!(text(&root, "a/b/file", Some(Range::From(0, Some(4)))).await.unwrap(), "hello");
        let listed = entries(&root, ".", 3).unwrap();
        let paths: Vec<_> = listed.iter().map(|it| it.info.path.as_str()).collect();
        assert_eq!(paths, ["/a", "/a/b", "/a/b/file"]);
        assert_eq!(entries(&root, ".", 1).unwrap().len(), 1);
        assert_eq!(stat(&root, ".").unwrap().info.path, "/");
        let file = stat(&root, "a/b/file").unwrap().info;
        assert_eq!((file.name.as_str(), file.size, file.mode), ("file", 11, 0o644));
        if rustix::process::geteuid().is_root() {
            assert_eq!(file.owner, "user");
            let made = fs::metadata(outside.path().join("volume/a")).unwrap();
            assert_eq!((made.uid(), made.gid()), (USER, USER));
        }
        remove(&root, "a").unwrap();
        assert_eq!(entries(&root, ".", 3).unwrap(), []);
    }

    #[tokio::test]
    async fn owners_and_modes_are_changed_and_links_are_not_followed() {
        let (outside, root) = place();
        let owned = Ownership { mode: Some(0o600), uid: Some(7), gid: Some(8) };
        write(&root, "file", "x").await.unwrap();
        symlink("../secret", outside.path().join("volume/link")).unwrap();
        let before = fs::metadata(outside.path().join("secret")).unwrap();
        let error = change(&root, "link", Ownership::mode(Some(0o777))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(change(&root, "none", owned).unwrap_err().kind(), io::ErrorKind::NotFound);
        let after = fs::metadata(outside.path().join("secret")).unwrap();
        assert_eq!(after.mode(), before.mode());
        assert_eq!(change(&root, "file", Ownership::mode(Some(0o640))).unwrap().info.mode, 0o640);
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let changed = change(&root, "file", owned).unwrap();
        assert_eq!((changed.info.mode, changed.uid, changed.gid), (0o600, 7, 8));
        let of_link = change(&root, "link", Ownership { mode: None, ..owned }).unwrap();
        assert_eq!((of_link.uid, of_link.info.kind), (7, FileKind::Symlink));
        let after = fs::metadata(outside.path().join("secret")).unwrap();
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
        // One that is written anew is whose it was, unless it is said.
        write(&root, "file", "y").await.unwrap();
        assert_eq!(stat(&root, "file").unwrap().uid, 7);
        let new = begin(&root, "file", Ownership { uid: Some(9), ..Ownership::default() }).unwrap();
        let (new, _) = new.fill(Box::new(&b"z"[..]), || Ok(())).await.unwrap();
        new.finish().unwrap();
        let found = stat(&root, "file").unwrap();
        assert_eq!((found.uid, found.gid, found.info.mode), (9, 8, 0o600));
    }

    #[tokio::test]
    async fn nothing_leads_out_of_a_volume() {
        let (outside, root) = place();
        let inside = |name: &str| outside.path().join("volume").join(name);
        symlink("../secret", inside("relative")).unwrap();
        symlink(outside.path().join("secret"), inside("absolute")).unwrap();
        symlink("..", inside("up")).unwrap();
        symlink("/proc/self/root", inside("magic")).unwrap();
        symlink("loop", inside("loop")).unwrap();
        for path in ["relative", "absolute", "up/secret", "magic/etc/passwd", "loop", "../secret"] {
            let error = text(&root, path, None).await.map_err(named).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::CrossesDevices, "{path}: {error}");
        }
        for path in ["up/new", "magic/tmp/new", "up/a/b/new"] {
            let error = write(&root, path, "x").await.map_err(named).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::CrossesDevices, "{path}: {error}");
            assert!(remove(&root, path).is_err());
            assert!(make_directories(&root, path).is_err());
        }
        // A link at the end is the thing itself: replaced, removed, never followed.
        write(&root, "absolute", "mine").await.unwrap();
        assert_eq!(text(&root, "absolute", None).await.unwrap(), "mine");
        assert_eq!(
            stat(&root, "relative").unwrap().info.symlink_target.as_deref(),
            Some("../secret")
        );
        remove(&root, "relative").unwrap();
        remove(&root, "up").unwrap();
        assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "secret");
    }

    #[tokio::test]
    async fn what_is_no_file_is_not_opened() {
        let (outside, root) = place();
        let fifo = outside.path().join("volume/fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from(0o666), 0).unwrap();
        let error = text(&root, "fifo", None).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        make_directories(&root, "d").unwrap();
        let error = text(&root, "d", None).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = write(&root, "d", "x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = text(&root, "none", None).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(remove(&root, ".").is_err());
        assert!(clean(&"x/".repeat(3000)).is_err());
    }

    #[tokio::test]
    async fn an_upload_that_fails_leaves_what_was_there() {
        let (outside, root) = place();
        write(&root, "file", "before").await.unwrap();
        let new = begin(&root, "file", Ownership::default()).unwrap();
        let full = || Err(io::ErrorKind::StorageFull.into());
        let error = new.fill(Box::new(&b"after"[..]), full).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(text(&root, "file", None).await.unwrap(), "before");
        assert_eq!(fs::read_dir(outside.path().join("volume")).unwrap().count(), 1);
    }
}
