//! Which files of a tree are meant, and what they are.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};
use warren_core::templates::files::{FilesError, Pick, Picked};
use warren_dockerfile::{
    glob::Pattern,
    ignore::{Ignore, clean},
};

use super::host;

/// One file of a tree.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Where it is, relative to the tree.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    /// Permission bits.
    pub(super) mode: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Link,
}

/// What is meant.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// By the names they get at the destination; directories come before what is in them.
    pub(super) files: BTreeMap<String, Found>,
    /// The name of the one file that is all there is.
    pub(super) single: Option<String>,
    /// Archives that are to be unpacked: paths in the tree.
    pub(super) archives: Vec<String>,
}

/// Finds what is meant.
pub(super) fn select(tree: &Path, pick: &Pick) -> Result<Selection, FilesError> {
    let mut all = BTreeMap::new();
    walk(tree, "", &mut all)?;
    let exclude = Ignore::from_patterns(pick.exclude.iter().map(String::as_str));
    let exclude = exclude.map_err(|error| FilesError::Refused { reason: error.reason })?;
    let mut selection = Selection::default();
    let mut direct = 0;
    for source in &pick.sources {
        let wanted = clean(source);
        let pattern = match Pattern::is_pattern(&wanted) {
            true => Some(
                Pattern::new(&wanted)
                    .map_err(|error| FilesError::Refused { reason: error.to_string() })?,
            ),
            false => None,
        };
        let fits = |path: &str| match &pattern {
            Some(pattern) => pattern.matches(path),
            None => path == wanted,
        };
        let mut any = wanted == ".";
        if any {
            below(&all, "", &exclude, &mut selection.files);
        }
        for (path, found) in all.iter().filter(|(path, _)| fits(path)) {
            any = true;
            if found.kind == Kind::Directory {
                below(&all, path, &exclude, &mut selection.files);
                continue;
            }
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            if exclude.excludes(&name) || exclude.excludes(path) {
                continue;
            }
            direct += 1;
            if pick.unpack && found.kind == Kind::File && is_archive(&tree.join(&found.path)) {
                selection.archives.push(path.clone());
                continue;
            }
            selection.files.insert(name, found.clone());
        }
        if !any {
            return Err(FilesError::NoSource { source_path: source.clone() });
        }
    }
    if direct == 1 && selection.files.len() == 1 && pick.sources.len() == 1 {
        selection.single = selection.files.keys().next().cloned();
    }
    Ok(selection)
}

/// Adds what is in a directory.
fn below(
    all: &BTreeMap<String, Found>,
    directory: &str,
    exclude: &Ignore,
    into: &mut BTreeMap<String, Found>,
) {
    let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
    for (path, found) in all.range(prefix.clone()..) {
        let Some(name) = path.strip_prefix(&prefix) else { break };
        if !exclude.excludes(name) && !exclude.excludes(path) {
            into.insert(name.to_owned(), found.clone());
        }
    }
}

/// Everything below a directory, by its path. Links are not followed.
fn walk(tree: &Path, below: &str, into: &mut BTreeMap<String, Found>) -> Result<(), FilesError> {
    let read = || -> io::Result<Vec<(String, Found)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(tree.join(below))? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| {
                let text = format!("{} is no UTF-8", name.to_string_lossy());
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?;
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            let meta = entry.metadata()?;
            let kind = match meta.file_type() {
                kind if kind.is_dir() => Kind::Directory,
                kind if kind.is_symlink() => Kind::Link,
                _ => Kind::File,
            };
            let mode = meta.permissions().mode() & 0o777;
            found.push((path.clone(), Found { path: path.into(), kind, mode }));
        }
        Ok(found)
    };
    for (path, found) in read().map_err(host("read files"))? {
        let inside = found.kind == Kind::Directory;
        into.insert(path.clone(), found);
        if inside {
            walk(tree, &path, into)?;
        }
    }
    Ok(())
}

/// What is meant, with a digest over all of it.
pub(super) fn inspect(tree: &Path, pick: &Pick) -> Result<Picked, FilesError> {
    let selection = select(tree, pick)?;
    let mut digest = Sha256::new();
    for (name, found) in &selection.files {
        add(&mut digest, tree, name, found).map_err(host("read files"))?;
    }
    for path in &selection.archives {
        let found = Found { path: path.into(), kind: Kind::File, mode: 0 };
        add(&mut digest, tree, path, &found).map_err(host("read files"))?;
    }
    Ok(Picked {
        digest: digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        entries: selection.files.len() as u64,
        single: selection.single,
        archives: selection.archives,
    })
}

/// Adds a file to a digest: each field with its length before it.
fn add(digest: &mut Sha256, tree: &Path, name: &str, found: &Found) -> io::Result<()> {
    let path = tree.join(&found.path);
    let mut field = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    field(name.as_bytes());
    match found.kind {
        Kind::Directory => field(format!("directory {:o}", found.mode).as_bytes()),
        Kind::Link => {
            field(b"link");
            field(fs::read_link(path)?.as_os_str().as_encoded_bytes());
        }
        Kind::File => {
            let mut file = fs::File::open(path)?;
            field(format!("file {:o} {}", found.mode, file.metadata()?.len()).as_bytes());
            let mut piece = vec![0; 64 << 10];
            loop {
                let read = file.read(&mut piece)?;
                if read == 0 {
                    break;
                }
                digest.update(piece.get(..read).unwrap_or_default());
            }
        }
    }
    Ok(())
}

/// Whether a file is a tar archive, plain or compressed with gzip.
fn is_archive(path: &Path) -> bool {
    let start = |limit: u64| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let is_tar = |bytes: &[u8]| bytes.get(257..262) == Some(b"ustar");
    let Ok(bytes) = start(512) else { return false };
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return is_tar(&bytes);
    }
    let Ok(file) = fs::File::open(path) else { return false };
    let mut plain = Vec::new();
    let read = MultiGzDecoder::new(file).take(512).read_to_end(&mut plain);
    read.is_ok() && is_tar(&plain)
}
