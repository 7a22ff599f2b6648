//! Listing a directory.

use std::ffi::CString;

use rustix::fs::{Dir, FileType as Kind, Mode, OFlags};
use warren_proto::filesystem::EntryInfo;
use warren_proto::{Code, Status};
use warren_sys::beneath;

use super::context::failed;
use super::entry::{self, Names};

/// Entries of one listing at most: an answer is built in memory.
const MOST: usize = 50_000;

/// What is in the directory at an absolute path, `depth` levels deep.
///
/// Depth first, each directory in order of its names. The path itself may be a link to a
/// directory; links below it are described, not followed. Entries keep the path's own prefix.
///
/// # Errors
///
/// `not_found`; `invalid_argument` for what is no directory; `failed_precondition` for a loop of
/// links; `resource_exhausted` for too many entries.
pub(super) fn list(path: &str, depth: u32, names: &Names) -> Result<Vec<EntryInfo>, Status> {
    let mut entries = Vec::new();
    // Directories still to be read, the next one last: no recursion, for trees can be deep.
    let mut pending = vec![Step::Read { path: path.to_owned(), levels: depth.max(1), top: true }];
    while let Some(step) = pending.pop() {
        match step {
            Step::Entry(entry) => entries.push(*entry),
            Step::Read { path, levels, top } => {
                let read = read(&path, names);
                // A directory that is gone or closed to the user is an entry without content.
                let children = if top { read? } else { read.unwrap_or_default() };
                if entries.len() + pending.len() + children.len() > MOST {
                    let message = format!("list '{path}': more than {MOST} entries");
                    return Err(Status::new(Code::ResourceExhausted, message));
                }
                push(&mut pending, children, levels - 1);
            }
        }
    }
    Ok(entries)
}

enum Step {
    Entry(Box<EntryInfo>),
    Read { path: String, levels: u32, top: bool },
}

/// Puts a directory's entries on the stack, each before what is in it.
fn push(pending: &mut Vec<Step>, children: Vec<(EntryInfo, bool)>, levels: u32) {
    for (entry, is_directory) in children.into_iter().rev() {
        if is_directory && levels > 0 {
            pending.push(Step::Read { path: entry.path.clone(), levels, top: false });
        }
        pending.push(Step::Entry(Box::new(entry)));
    }
}

/// One directory's entries in order, and whether each is a directory itself (not a link to one).
fn read(path: &str, names: &Names) -> Result<Vec<(EntryInfo, bool)>, Status> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let directory = beneath::open(path, flags, Mode::empty()).map_err(failed("list", path))?;
    let fail = |error: rustix::io::Errno| failed("list", path)(error.into());
    let mut found: Vec<CString> = Vec::new();
    for item in Dir::read_from(&directory).map_err(fail)? {
        let name = item.map_err(fail)?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            found.push(name);
        }
        if found.len() > MOST {
            let message = format!("list '{path}': more than {MOST} entries");
            return Err(Status::new(Code::ResourceExhausted, message));
        }
    }
    found.sort_unstable();
    let prefix = path.trim_end_matches('/');
    let describe = |name: CString| {
        let name = name.to_str().ok()?; // the protocol's strings are UTF-8
        let stat = beneath::look_in(&directory, name).ok()?; // gone since it was read
        let entry = entry::describe(&format!("{prefix}/{name}"), &stat, names);
        Some((entry, Kind::from_raw_mode(stat.st_mode).is_dir()))
    };
    Ok(found.into_iter().filter_map(describe).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn paths(path: &str, depth: u32) -> Vec<String> {
        let entries = list(path, depth, &Names::read()).unwrap();
        entries.into_iter().map(|it| it.path.trim_start_matches(path).to_owned()).collect()
    }

    #[test]
    fn a_tree_is_listed_depth_first_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/c/d")).unwrap();
        for file in ["a", "b/z", "b/c/x", "b/c/d/y", "e"] {
            fs::write(root.join(file), "").unwrap();
        }
        symlink("b", root.join("l")).unwrap();
        let root = root.to_str().unwrap();
        assert_eq!(paths(root, 0), ["/a", "/b", "/e", "/l"]);
        assert_eq!(paths(root, 2), ["/a", "/b", "/b/c", "/b/z", "/e", "/l"]);
        let all = ["/a", "/b", "/b/c", "/b/c/d", "/b/c/d/y", "/b/c/x", "/b/z", "/e", "/l"];
        assert_eq!(paths(root, u32::MAX), all);
        assert_eq!(paths(&format!("{root}/l"), 1), ["/c", "/z"], "the path itself is followed");
    }

    #[test]
    fn what_cannot_be_listed_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("file"), "").unwrap();
        symlink("loop", at("loop")).unwrap();
        for (name, code) in [
            ("file", Code::InvalidArgument),
            ("none", Code::NotFound),
            ("loop", Code::FailedPrecondition),
        ] {
            assert_eq!(list(&at(name), 1, &Names::read()).unwrap_err().code, code, "{name}");
        }
    }
}
