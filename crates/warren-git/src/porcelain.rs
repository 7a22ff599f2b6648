//! What git writes for programs, taken apart.
//!
//! All of it comes out of a machine that may be hostile: nothing here panics, and what is not
//! understood is `None` or left out.

use crate::session::Logged;

/// A name of a commit, tree or other object: 40 or 64 hexadecimal digits.
pub(crate) fn object_id(text: &str) -> Option<&str> {
    let text = text.trim_end_matches(['\n', '\r']);
    let good = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    good.then_some(text)
}

/// Parts that end with NUL.
fn parts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `git ls-files --unmerged -z` lists: each path once.
pub(crate) fn unmerged(bytes: &[u8]) -> Vec<String> {
    let mut paths: Vec<String> = parts(bytes)
        .filter_map(|part| part.iter().position(|byte| *byte == b'\t').map(|at| (part, at)))
        .filter_map(|(part, at)| part.get(at + 1..))
        .map(text)
        .collect();
    paths.dedup();
    paths
}

/// The paths of `git status --porcelain=v2 -z`, without branch lines and old names.
pub(crate) fn status(bytes: &[u8]) -> Vec<String> {
    let mut paths = Vec::new();
    let mut entries = parts(bytes);
    while let Some(entry) = entries.next() {
        // How many fields stand before the path, for each kind of entry.
        let before = match entry.first() {
            Some(b'1') => 8,
            Some(b'2') => {
                entries.next();
                9
            }
            Some(b'u') => 10,
            Some(b'?') => 1,
            _ => continue,
        };
        paths.extend(entry.splitn(before + 1, |byte| *byte == b' ').nth(before).map(text));
    }
    paths
}

/// Paths that became repositories of their own, in `git diff --cached --raw -z`, and whether there
/// was any change at all.
pub(crate) fn staged(bytes: &[u8]) -> (bool, Vec<Vec<u8>>) {
    let mut found = Vec::new();
    let mut any = false;
    let mut entries = parts(bytes);
    while let Some(entry) = entries.next() {
        if entry.first() != Some(&b':') {
            continue;
        }
        any = true;
        let mut fields = entry.split(|byte| *byte == b' ');
        let (old, new) = (fields.next(), fields.next());
        let Some(path) = entries.next() else { break };
        if new == Some(b"160000") && old != Some(b":160000") {
            found.push(path.to_vec());
        }
    }
    (any, found)
}

/// The values of `git config -z --get-regexp`.
pub(crate) fn config_values(bytes: &[u8]) -> Vec<&[u8]> {
    parts(bytes)
        .filter_map(|part| part.iter().position(|byte| *byte == b'\n').map(|at| (part, at)))
        .filter_map(|(part, at)| part.get(at + 1..))
        .collect()
}

/// A remote's refs, as `git ls-remote` lists them: name and object.
pub(crate) fn remote_refs(bytes: &[u8]) -> Vec<(String, String)> {
    let listing = text(bytes);
    let lines = listing.lines().filter_map(|line| line.split_once('\t'));
    lines.filter_map(|(id, name)| Some((name.to_owned(), object_id(id)?.to_owned()))).collect()
}

/// The commits of a log whose fields stand between unit separators.
pub(crate) fn log(bytes: &[u8]) -> Vec<Logged> {
    let commit = |part: &[u8]| {
        let line = text(part);
        let mut fields = line.splitn(5, '\u{1f}').map(str::to_owned);
        Some(Logged {
            sha: object_id(&fields.next()?)?.to_owned(),
            author: fields.next()?,
            email: fields.next()?,
            time: fields.next()?.parse().ok()?,
            subject: fields.next()?,
        })
    };
    parts(bytes).filter_map(commit).collect()
}

/// What a push did to one ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is there now.
    Done,
    /// The remote has what this side has not.
    Moved,
    /// The remote does not want it; the reason in its words.
    Refused(String),
}

/// The fate of a ref in what `git push --porcelain` wrote to standard output.
pub(crate) fn pushed(stdout: &[u8], full_name: &str) -> Option<Pushed> {
    let listing = text(stdout);
    listing.lines().find_map(|line| {
        let mut fields = line.splitn(3, '\t');
        let (flag, names, summary) = (fields.next()?, fields.next()?, fields.next()?);
        if names.split_once(':').map(|(_, to)| to) != Some(full_name) {
            return None;
        }
        // The reason stands in parentheses after `[rejected]` or `[remote rejected]`.
        let reason = summary.split_once('(').map_or(summary, |(_, reason)| reason);
        let reason = reason.trim_end_matches(')');
        Some(match flag {
            " " | "*" | "=" | "+" => Pushed::Done,
            _ if is_moved(summary, reason) => Pushed::Moved,
            _ => Pushed::Refused(reason.to_owned()),
        })
    })
}

/// `cannot lock ref` and its like are what the loser of two pushes at the same moment is told.
fn is_moved(summary: &str, reason: &str) -> bool {
    let here = ["fetch first", "non-fast-forward", "stale info"];
    let there = ["cannot lock ref", "failed to update ref", "incorrect old value provided"];
    (summary.starts_with("[rejected]") && here.contains(&reason))
        || (summary.starts_with("[remote rejected]")
            && there.iter().any(|it| reason.starts_with(it)))
}

/// How something with the remote failed, as far as git's words tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteFault {
    /// It wants another credential, or none helps.
    Denied,
    /// There is no such repository, for whoever asked.
    NotFound,
    /// It does not answer.
    Unreachable,
    /// Something else.
    Other,
}

/// Reads git's words, which are English: every command runs with `LC_ALL=C`.
pub(crate) fn fault(stderr: &str) -> RemoteFault {
    let says = |words: &[&str]| words.iter().any(|word| stderr.contains(word));
    let denied = ["Authentication failed", "could not read Username", "could not read Password"];
    if says(&denied) || says(&["error: 401", "error: 403"]) {
        return RemoteFault::Denied;
    }
    if says(&["' not found", "does not appear to be a git repository", "error: 404"]) {
        return RemoteFault::NotFound;
    }
    let silent = ["unable to access", "Could not resolve host", "Failed to connect"];
    if says(&silent) || says(&["the remote end hung up", "RPC failed", "early EOF"]) {
        return RemoteFault::Unreachable;
    }
    RemoteFault::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_a_status_are_paths_with_any_character() {
        let entries = b"# branch.oid abc\0\
            1 .M N... 100644 100644 100644 aa bb with space\0\
            2 R. N... 100644 100644 100644 aa bb R100 new\nname\0old name\0\
            u UU N... 100644 100644 100644 100644 aa bb cc both\0\
            ? dir/\0! ignored\0";
        assert_eq!(status(entries), ["with space", "new\nname", "both", "dir/"]);
        assert_eq!(status(b"1 broken\x002 \0"), Vec::<String>::new());
    }

    #[test]
    fn a_path_in_conflict_is_named_once() {
        let entries =
            b"100644 aa 1\ta b\x00100644 bb 2\ta b\x00100644 cc 3\ta b\x00100644 dd 2\tc\0";
        assert_eq!(unmerged(entries), ["a b", "c"]);
    }

    #[test]
    fn repositories_that_appear_are_found() {
        let entries = b":000000 160000 0000 abcd A\0inner\0:160000 160000 a b M\0known\0\
            :100644 100644 a b M\0file\0";
        assert_eq!(staged(entries), (true, vec![b"inner".to_vec()]));
        assert_eq!(staged(b""), (false, vec![]));
    }

    #[test]
    fn the_fate_of_a_push_is_in_its_line() {
        let line =
            |text: &str| pushed(format!("To url\n{text}\nDone\n").as_bytes(), "refs/heads/a");
        assert_eq!(line("=\tabc:refs/heads/a\t[up to date]"), Some(Pushed::Done));
        assert_eq!(line("*\tabc:refs/heads/a\t[new branch]"), Some(Pushed::Done));
        assert_eq!(line("!\tabc:refs/heads/a\t[rejected] (fetch first)"), Some(Pushed::Moved));
        assert_eq!(line("!\tabc:refs/heads/a\t[rejected] (stale info)"), Some(Pushed::Moved));
        let refused = Pushed::Refused("pre-receive hook declined".to_owned());
        let text = "!\tabc:refs/heads/a\t[remote rejected] (pre-receive hook declined)";
        assert_eq!(line(text), Some(refused));
        assert_eq!(line("=\tabc:refs/heads/ab\t[up to date]"), None);
        assert_eq!(line("nonsense"), None);
    }

    #[test]
    fn an_object_is_named_by_hexadecimal_digits() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(object_id(&format!("{id}\n")), Some(id));
        assert_eq!(object_id("--upload-pack"), None);
        assert_eq!(remote_refs(format!("{id}\trefs/heads/a\nref: x\tHEAD\n").as_bytes()).len(), 1);
    }
}
