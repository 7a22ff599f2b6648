//! `GET /glob`: paths by a pattern.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use hyper::{Request, Response, StatusCode};
use rustix::fs::{Dir, FileType as Kind, Mode, OFlags};
use serde_json::json;
use warren_proto::{Code, Status};
use warren_sys::beneath;

use super::query::Query;
use super::{PROC_MAGIC, user};
use crate::daemon::Agent;
use crate::filesystem::context::{Context, failed, on_thread};
use crate::http::arriving::Arriving;
use crate::http::reply::{self, Body, Refusal};

/// Bytes of a pattern.
const PATTERN_BYTES: usize = 1024;
/// Alternatives (`{a,b}`) of a pattern: the work grows with their product.
const BRACES: usize = 4;
/// Paths of one answer, and bytes of them.
const MOST: (usize, usize) = (10_000, 4 << 20);
/// Entries looked at for one answer.
const LOOKED_AT: usize = 1_000_000;

/// Finds paths below a directory.
pub(super) async fn answer(
    agent: &Arc<Agent>,
    request: &Request<Arriving>,
) -> Result<Response<Body>, Refusal> {
    let query = Query::parse(request.uri().query());
    let user = user(request, &query)?;
    let root = query.get("path").unwrap_or_default().to_owned();
    let pattern = checked(query.get("pattern").unwrap_or_default())?;
    let found = on_thread(agent, user, move |context| find(context, &root, &pattern)).await?;
    let found = json!({"paths": found.paths, "truncated": found.truncated});
    Ok(reply::json(StatusCode::OK, &found))
}

/// The pattern without what means nothing in it.
pub(super) fn checked(pattern: &str) -> Result<String, Status> {
    let bad = |what: String| Err(Status::new(Code::InvalidArgument, what));
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
    if pattern.is_empty() || pattern.len() > PATTERN_BYTES {
        return bad(format!("a pattern has 1 to {PATTERN_BYTES} bytes"));
    }
    if pattern.starts_with('/') || pattern.split('/').any(|it| matches!(it, "." | ".." | "")) {
        return bad("a pattern is relative to the path, without `.`, `..` and `//`".to_owned());
    }
    if pattern.starts_with('!') {
        return bad("a pattern does not begin with `!`; `\\!` means the character".to_owned());
    }
    if pattern.matches('{').count() > BRACES {
        return bad(format!("a pattern has at most {BRACES} alternatives in braces"));
    }
    match fast_glob::validate(pattern) {
        Ok(()) => Ok(pattern.to_owned()),
        Err(error) => bad(format!("the pattern cannot be read: {error}")),
    }
}

/// Absolute paths, in order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    paths: Vec<String>,
    /// There are more.
    truncated: bool,
}

/// Walks the tree, each directory in order of its names. Links are not followed; what cannot be
/// read, or is no UTF-8, is not found.
fn find(context: &Context, root: &str, pattern: &str) -> Result<Found, Status> {
    let root = context.path(root)?;
    let prefix = root.trim_end_matches('/').to_owned();
    // What has no `**` and no alternatives reaches exactly as deep as it has parts.
    let deepest = match pattern.contains("**") || pattern.contains('{') {
        true => usize::MAX,
        false => pattern.matches('/').count(),
    };
    let mut found = Found::default();
    let (mut bytes, mut looked_at) = (0, 0);
    let mut pending = vec![(String::new(), true)];
    while let Some((path, is_directory)) = pending.pop() {
        if !path.is_empty() && fast_glob::glob_match(pattern, &path) {
            let path = format!("{prefix}/{path}");
            bytes += path.len();
            if found.paths.len() == MOST.0 || bytes > MOST.1 {
                found.truncated = true;
                return Ok(found);
            }
            found.paths.push(path);
        }
        let depth = if path.is_empty() { 0 } else { path.matches('/').count() + 1 };
        if !is_directory || depth > deepest {
            continue;
        }
        let read = read(&format!("{prefix}/{path}"), path.is_empty());
        let children = if path.is_empty() { read? } else { read.unwrap_or_default() };
        looked_at += children.len();
        if looked_at > LOOKED_AT {
            found.truncated = true;
            return Ok(found);
        }
        let below = if path.is_empty() { String::new() } else { format!("{path}/") };
        let child = |(name, is_directory)| (format!("{below}{name}"), is_directory);
        pending.extend(children.into_iter().rev().map(child));
    }
    Ok(found)
}

/// The names in a directory, in order, and whether each is a directory itself.
fn read(path: &str, is_root: bool) -> Result<Vec<(String, bool)>, Status> {
    let mut flags = OFlags::RDONLY | OFlags::DIRECTORY;
    if !is_root {
        flags |= OFlags::NOFOLLOW;
    }
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let path = if path.is_empty() { "/" } else { path };
    let directory = beneath::open(path, flags, Mode::empty()).map_err(failed("search", path))?;
    let kind = rustix::fs::fstatfs(directory.as_fd()).map(|it| it.f_type.cast_unsigned());
    if kind == Ok(PROC_MAGIC) {
        return Ok(Vec::new()); // it never ends, and holds no files
    }
    let fail = |error: rustix::io::Errno| failed("search", path)(error.into());
    let mut names = Vec::new();
    for item in Dir::read_from(&directory).map_err(fail)? {
        let item = item.map_err(fail)?;
        let Ok(name) = item.file_name().to_str() else { continue };
        if matches!(name, "." | "..") {
            continue;
        }
        let is_directory = match item.file_type() {
            Kind::Unknown => beneath::look_in(&directory, name)
                .is_ok_and(|it| Kind::from_raw_mode(it.st_mode).is_dir()),
            kind => kind.is_dir(),
        };
        names.push((name.to_owned(), is_directory));
        if names.len() > LOOKED_AT {
            break;
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::state::Sandbox;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn context() -> Context {
        Context::new(Some("root"), Sandbox::default().into(), false).unwrap()
    }

    #[test]
    fn paths_are_found_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        fs::create_dir_all(folder.path().join("src/deep")).unwrap();
        for name in ["a.rs", "b.txt", "src/c.rs", "src/deep/d.rs", ".hidden.rs"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        symlink(".", folder.path().join("src/loop")).unwrap();
        let check = |pattern: &str, expected: &[&str]| {
            let found = find(&context(), root, &checked(pattern).unwrap()).unwrap();
            let paths: Vec<_> = found.paths.iter().map(|it| &it[root.len() + 1..]).collect();
            assert_eq!((&*paths, found.truncated), (expected, false), "{pattern}");
        };
        check("*.rs", &[".hidden.rs", "a.rs"]);
        check("**/*.rs", &[".hidden.rs", "a.rs", "src/c.rs", "src/deep/d.rs"]);
        check("src/*", &["src/c.rs", "src/deep", "src/loop"]);
        check("./{a,b}.*", &["a.rs", "b.txt"]);
        check("src/**", &["src/c.rs", "src/deep", "src/deep/d.rs", "src/loop"]);
        check("*/[cx].rs", &["src/c.rs"]);
        check("none", &[]);
    }

    #[test]
    fn patterns_are_checked() {
        for bad in ["", "/a", "a//b", "../a", "a/..", "[a", "{a", "!a", "a\\", "{a}{a}{a}{a}{a}"] {
            assert_eq!(checked(bad).unwrap_err().code, Code::InvalidArgument, "{bad}");
        }
        assert!(checked(&"x".repeat(2000)).is_err());
    }

    #[test]
    fn what_cannot_be_searched_says_why() {
        let code = |path: &str| find(&context(), path, "*").unwrap_err().code;
        assert_eq!(code("/no/such"), Code::NotFound);
        assert_eq!(code("/etc/passwd"), Code::InvalidArgument);
        assert_eq!(find(&context(), "/proc", "*").unwrap(), Found::default());
        let many = find(&context(), "/", "etc").unwrap();
        assert_eq!(many.paths, ["/etc"]);
    }
}
