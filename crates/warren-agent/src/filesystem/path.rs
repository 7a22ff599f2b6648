//! Paths as callers write them.

use std::path::Path;

use warren_proto::{Code, Status};

use crate::daemon::state::Sandbox;
use crate::users::User;

/// The longest path, bytes: the kernel's own limit.
const LONGEST: usize = 4096;

/// An absolute path without `.`, `..` and doubled slashes.
///
/// An absolute path stays; a relative one and `~` start at the user's home; an empty one is the
/// sandbox's default directory. `..` is taken off by name, as the SDKs' reference does.
///
/// # Errors
///
/// `invalid_argument` for a path that no file can have.
pub(crate) fn resolve(path: &str, user: &User, sandbox: &Sandbox) -> Result<String, Status> {
    if path.len() > LONGEST || path.contains('\0') {
        return Err(Status::new(Code::InvalidArgument, "path is too long or has a zero byte"));
    }
    Ok(match path {
        "" => match &sandbox.default_directory {
            Some(directory) => clean(&join(&user.home, directory)),
            None => clean(&user.home),
        },
        path => clean(&join(&user.home, path)),
    })
}

/// Where a process starts that names no directory: the default, or what is left of it.
pub(crate) fn default_directory(user: &User, sandbox: &Sandbox) -> String {
    let wanted = resolve("", user, sandbox).unwrap_or_default();
    let choices = [wanted, clean(&user.home)];
    choices.into_iter().find(|it| Path::new(it).is_dir()).unwrap_or_else(|| "/".to_owned())
}

fn join(home: &str, path: &str) -> String {
    match path {
        "~" => home.to_owned(),
        _ if path.starts_with('/') => path.to_owned(),
        _ => format!("{home}/{}", path.strip_prefix("~/").unwrap_or(path)),
    }
}

fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The last part of a path; of the root: `/`.
pub(crate) fn name(path: &str) -> &str {
    path.rsplit('/').next().filter(|it| !it.is_empty()).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_sys::spawn::Identity;

    #[track_caller]
    fn check(path: &str, expected: &str) {
        let identity = Identity { uid: 1, gid: 1, groups: vec![] };
        let user = User { name: "u".to_owned(), identity, home: "/home/u".to_owned() };
        let sandbox = Sandbox { default_directory: Some("/work".to_owned()), ..Sandbox::default() };
        assert_eq!(resolve(path, &user, &sandbox).unwrap(), expected, "{path:?}");
    }

    #[test]
    fn paths_become_absolute_and_clean() {
        check("", "/work");
        check("/", "/");
        check("/a/b", "/a/b");
        check("a/b", "/home/u/a/b");
        check("~", "/home/u");
        check("~/a", "/home/u/a");
        check("~a", "/home/u/~a");
        check(".", "/home/u");
        check("./a//b/", "/home/u/a/b");
        check("../../../etc", "/etc");
        check("/a/../../b/.", "/b");
        check("dir/ä ö.txt", "/home/u/dir/ä ö.txt");
    }

    #[test]
    fn what_no_file_can_be_called_is_refused() {
        let identity = Identity { uid: 1, gid: 1, groups: vec![] };
        let user = User { name: "u".to_owned(), identity, home: "/".to_owned() };
        for path in ["a\0b", &"x".repeat(5000)] {
            let status = resolve(path, &user, &Sandbox::default()).unwrap_err();
            assert_eq!(status.code, Code::InvalidArgument);
        }
    }

    #[test]
    fn the_last_part_is_the_name() {
        assert_eq!((name("/a/b"), name("/a"), name("/")), ("b", "a", "/"));
    }
}
