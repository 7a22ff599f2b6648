//! Watching one directory, or a tree.
//!
//! The kernel watches directories one by one. A recursive watch adds those that appear below it;
//! what was made in one of them before it was watched is looked up and told as created, once.

use std::collections::{HashMap, HashSet};

use rustix::fs::{Dir, FileType as Kind, Mode, OFlags};
use warren_proto::filesystem::{EventType, FilesystemEvent};
use warren_proto::{Code, Status};
use warren_sys::beneath;
use warren_sys::inotify::{Change, Event, Inotify};

use super::context::{Context, failed};
use super::entry::{self, Names};

/// Directories of one recursive watch.
const MOST_DIRECTORIES: usize = 8192;
/// Events taken at once.
const BATCH: usize = 1024;
/// File systems that change without this kernel knowing: NFS, SMB (two), AFS, Ceph, 9p, FUSE.
const NETWORK: [u64; 7] =
    [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x5346_414f, 0x00c3_6400, 0x0102_1997, 0x6573_5546];

/// How to watch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) recursive: bool,
    pub(super) include_entry: bool,
    pub(super) allow_network_mounts: bool,
    /// Tell that events were lost.
    pub(super) report_overflow: bool,
}

/// A watched directory. Its functions block, and belong on a thread with the user's rights.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: Inotify,
    root: String,
    options: Options,
    /// Paths relative to the root, empty or with a slash at the end, by the kernel's number.
    directories: HashMap<i32, String>,
    /// Told already, before the kernel's own event for it is read.
    told: HashSet<String>,
}

impl Watch {
    /// Watches the directory at an absolute path, which may be a link.
    ///
    /// # Errors
    ///
    /// `not_found`; `invalid_argument` for what is no directory, and for a network mount unless
    /// allowed; `resource_exhausted` when the kernel allows no more.
    pub(super) fn new(root: &str, options: Options) -> Result<Self, Status> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = beneath::open(root, flags, Mode::empty()).map_err(failed("watch", root))?;
        let kind = rustix::fs::fstatfs(&directory).map(|it| it.f_type.cast_unsigned());
        if !options.allow_network_mounts && kind.is_ok_and(|it| NETWORK.contains(&it)) {
            let message = format!("watch '{root}': changes on network mounts are not all seen");
            return Err(Status::new(Code::InvalidArgument, message));
        }
        let mut watch = Self {
            inotify: Inotify::new().map_err(failed("watch", root))?,
            root: root.trim_end_matches('/').to_owned(),
            options,
            directories: HashMap::new(),
            told: HashSet::new(),
        };
        let number = watch.inotify.watch(&directory).map_err(failed("watch", root))?;
        watch.directories.insert(number, String::new());
        if options.recursive {
            watch.add_below(String::new(), &mut Vec::new());
            watch.told.clear();
        }
        Ok(watch)
    }

    /// A descriptor that is readable when something has happened.
    ///
    /// # Errors
    ///
    /// `resource_exhausted` when there are no descriptors left.
    pub(super) fn descriptor(&self) -> Result<std::os::fd::OwnedFd, Status> {
        self.inotify.try_clone_fd().map_err(failed("watch", &self.root))
    }

    /// Takes what has happened, in order.
    pub(super) fn take(&mut self, context: &Context) -> Vec<FilesystemEvent> {
        let seen = self.inotify.take(BATCH).unwrap_or_default();
        if seen.is_empty() {
            self.told.clear();
        }
        let mut changes = Vec::new();
        for event in seen {
            self.note(event, &mut changes);
        }
        let names = if self.options.include_entry { Some(Names::read()) } else { None };
        let describe = |(name, kind): (String, EventType)| {
            if kind == EventType::Overflow {
                return FilesystemEvent { r#type: kind.into(), ..FilesystemEvent::default() };
            }
            let path = format!("{}/{name}", self.root);
            let look = || entry::look(&path, names.as_ref()?).ok();
            let found = context.act(|| Ok(look())).ok().flatten();
            FilesystemEvent { name, r#type: kind.into(), entry: found.into() }
        };
        changes.into_iter().map(describe).collect()
    }

    fn note(&mut self, event: Event, changes: &mut Vec<(String, EventType)>) {
        if event.change == Change::Gone {
            self.directories.remove(&event.watch);
            return;
        }
        let kind = match event.change {
            Change::Created | Change::MovedHere => EventType::Create,
            Change::Written => EventType::Write,
            Change::Removed => EventType::Remove,
            Change::MovedAway => EventType::Rename,
            Change::Attributes => EventType::Chmod,
            Change::Overflow if self.options.report_overflow => {
                return changes.push((String::new(), EventType::Overflow));
            }
            Change::Gone | Change::Overflow => return,
        };
        let Some(directory) = self.directories.get(&event.watch) else { return };
        if event.name.is_empty() {
            return; // the directory itself, which has no name in it
        }
        let name = format!("{directory}{}", event.name);
        if kind == EventType::Create && self.told.remove(&name) {
            return;
        }
        changes.push((name.clone(), kind));
        if !self.options.recursive || !event.is_directory {
            return;
        }
        match kind {
            EventType::Create => self.add_below(format!("{name}/"), changes),
            EventType::Rename => self.forget(&format!("{name}/")),
            _ => {}
        }
    }

    /// Watches a new directory and all below it, and tells what is in them already.
    fn add_below(&mut self, directory: String, changes: &mut Vec<(String, EventType)>) {
        let mut pending = vec![directory];
        while let Some(directory) = pending.pop() {
            if self.directories.len() >= MOST_DIRECTORIES {
                if self.options.report_overflow {
                    changes.push((String::new(), EventType::Overflow));
                }
                return;
            }
            for (name, is_directory) in self.add(&directory).unwrap_or_default() {
                let name = format!("{directory}{name}");
                if is_directory {
                    pending.push(format!("{name}/"));
                }
                self.told.insert(name.clone());
                changes.push((name, EventType::Create));
            }
        }
    }

    /// Watches one directory below the root, then reads it: what comes in between is told twice by
    /// the kernel and by this, and once to the caller.
    fn add(&mut self, directory: &str) -> Option<Vec<(String, bool)>> {
        let path = format!("{}/{directory}", self.root);
        let mut flags = OFlags::RDONLY | OFlags::DIRECTORY;
        if !directory.is_empty() {
            flags |= OFlags::NOFOLLOW;
        }
        let path = if directory.is_empty() { &*path } else { path.trim_end_matches('/') };
        let fd = beneath::open(path, flags, Mode::empty()).ok()?;
        let number = self.inotify.watch(&fd).ok()?;
        self.directories.insert(number, directory.to_owned());
        let mut found = Vec::new();
        for item in Dir::read_from(&fd).ok()? {
            let item = item.ok()?;
            let Ok(name) = item.file_name().to_str() else { continue };
            if matches!(name, "." | "..") {
                continue;
            }
            let is_directory = match item.file_type() {
                Kind::Unknown => beneath::look_in(&fd, name)
                    .is_ok_and(|it| Kind::from_raw_mode(it.st_mode).is_dir()),
                kind => kind.is_dir(),
            };
            found.push((name.to_owned(), is_directory));
        }
        found.sort_unstable();
        Some(found)
    }

    /// A directory that was moved away has another path now, or none.
    fn forget(&mut self, directory: &str) {
        self.directories.retain(|_, it| !it.starts_with(directory));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::state::Sandbox;
    use std::fs;

    fn context() -> Context {
        Context::new(Some("root"), Sandbox::default().into(), false).unwrap()
    }

    fn options(recursive: bool) -> Options {
        Options {
            recursive,
            include_entry: false,
            allow_network_mounts: true,
            report_overflow: true,
        }
    }

    fn take(watch: &mut Watch) -> Vec<(String, &'static str)> {
        let name = |it: &FilesystemEvent| match it.r#type.as_known() {
            Some(EventType::Create) => "create",
            Some(EventType::Write) => "write",
            Some(EventType::Remove) => "remove",
            Some(EventType::Rename) => "rename",
            Some(EventType::Chmod) => "chmod",
            _ => "?",
        };
        watch.take(&context()).iter().map(|it| (it.name.clone(), name(it))).collect()
    }

    #[test]
    fn direct_children_only_unless_recursive() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        fs::create_dir(folder.path().join("old")).unwrap();
        let mut watch = Watch::new(root, options(false)).unwrap();
        fs::write(folder.path().join("old/f"), "x").unwrap();
        fs::write(folder.path().join("g"), "x").unwrap();
        assert_eq!(take(&mut watch), [("g".to_owned(), "create"), ("g".to_owned(), "write")]);
    }

    #[test]
    fn new_directories_are_watched_and_what_is_in_them_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        fs::create_dir(folder.path().join("old")).unwrap();
        let mut watch = Watch::new(root, options(true)).unwrap();
        assert_eq!(take(&mut watch), []);
        fs::create_dir_all(folder.path().join("old/a/b")).unwrap();
        fs::write(folder.path().join("old/a/b/f"), "").unwrap();
        let expected = ["old/a", "old/a/b", "old/a/b/f"].map(|it| (it.to_owned(), "create"));
        assert_eq!(take(&mut watch), expected);
        fs::write(folder.path().join("old/a/b/f"), "x").unwrap();
        assert!(take(&mut watch).contains(&("old/a/b/f".to_owned(), "write")));
    }

    #[test]
    fn a_moved_directory_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        fs::create_dir_all(inside.join("d")).unwrap();
        fs::create_dir(&outside).unwrap();
        let mut watch = Watch::new(inside.to_str().unwrap(), options(true)).unwrap();
        fs::rename(inside.join("d"), outside.join("d")).unwrap();
        assert_eq!(take(&mut watch), [("d".to_owned(), "rename")]);
        fs::write(outside.join("d/f"), "x").unwrap();
        assert_eq!(take(&mut watch), []);
    }

    #[test]
    fn what_cannot_be_watched_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        fs::write(&file, "").unwrap();
        let code = |path: &str| Watch::new(path, options(false)).unwrap_err().code;
        assert_eq!(code(file.to_str().unwrap()), Code::InvalidArgument);
        assert_eq!(code("/no/such"), Code::NotFound);
    }
}
