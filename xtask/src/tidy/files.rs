//! The text files of the repository.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Directories that hold nothing written by hand.
const SKIPPED: [&str; 6] = [".git", "target", "corpus", "artifacts", "results", "node_modules"];

/// A file as the checks see it.
#[derive(Debug)]
pub(crate) struct TextFile {
    /// Where it is, seen from the root, with `/` between the parts.
    pub(crate) path: String,
    /// What it says.
    pub(crate) text: String,
}

/// Every text file below `root`, in the order of their paths.
pub(crate) fn text_files(root: &Path) -> Result<Vec<TextFile>> {
    let mut files = Vec::new();
    collect(root, root, &mut files)?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<TextFile>) -> Result<()> {
    let listing =
        fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    for entry in listing {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name();
        if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
            collect(root, &entry.path(), files)?;
        } else if kind.is_file() {
            files.extend(read(root, entry.path())?);
        }
    }
    Ok(())
}

/// The file, if it is text.
fn read(root: &Path, path: PathBuf) -> Result<Option<TextFile>> {
    let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let Ok(text) = String::from_utf8(bytes) else { return Ok(None) };
    let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
    Ok(Some(TextFile { path, text }))
}
