//! Images to measure with, made from what this host has.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::json;
use warren_test_registry::{Image, Layer, Tree};

use crate::others::command;

/// What the images have to run.
const PROGRAMS: [&str; 12] =
    ["sh", "true", "cat", "cp", "dd", "head", "ls", "mkdir", "rm", "sleep", "split", "touch"];

/// Where the content of large layers is taken from: real files, compressible as such are.
const CONTENT: &str = "/usr";

/// Larger files are left out, so that layers are of many files.
const LARGEST: u64 = 8_000_000;

/// An image with a shell and little else.
pub(crate) fn small() -> Result<Image> {
    Ok(image(vec![Layer::gzip(&base()?)]))
}

/// The same with `layers` more of so many bytes each, before compression. Gives how many bytes
/// all of it has unpacked.
pub(crate) fn large(layers: usize, bytes: u64) -> Result<(Image, u64)> {
    let base = base()?;
    let mut total = base.len() as u64;
    let mut all = vec![Layer::gzip(&base)];
    let mut files = content()?.into_iter();
    for number in 0..layers {
        let (mut tree, mut filled) = (Tree::default(), 0);
        while filled < bytes {
            let (path, size) = files.next().context("this host's /usr is too small")?;
            let name = path.strip_prefix("/").context("an absolute path")?;
            tree = tree.copy(&path, &Path::new("opt").join(number.to_string()).join(name))?;
            filled += size;
        }
        let tar = tree.into_tar();
        total += tar.len() as u64;
        all.push(Layer::gzip(&tar));
    }
    Ok((image(all), total))
}

fn image(layers: Vec<Layer>) -> Image {
    let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    Image::new(layers, &json!({"Env": [path], "Cmd": ["/bin/sh"]}))
}

/// The programs with their libraries, and the directories that every root has.
fn base() -> Result<Vec<u8>> {
    let mut tree = Tree::default();
    for directory in ["bin/", "dev/", "etc/", "proc/", "root/", "sys/", "tmp/", "var/"] {
        tree = tree.directory(directory);
    }
    tree = tree.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n");
    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        let path = Path::new("/bin").join(program);
        let output = command("ldd").arg(&path).output().context("start ldd")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = text.split_whitespace().filter(|word| word.starts_with('/'));
        libraries.extend(words.map(PathBuf::from));
        tree = add(tree, &path)?;
    }
    for library in libraries {
        tree = add(tree, &library)?;
    }
    Ok(tree.into_tar())
}

/// Adds a file under its own name, also where a link leads to it.
fn add(tree: Tree, path: &Path) -> Result<Tree> {
    let name = path.strip_prefix("/").context("an absolute path")?;
    let file = path.canonicalize().with_context(|| format!("look up {}", path.display()))?;
    tree.copy(&file, name).with_context(|| format!("read {}", file.display()))
}

/// Files of this host with their sizes, in an order that is the same every time.
fn content() -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::from(CONTENT)];
    while let Some(directory) = waiting.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("read {}", directory.display()))?
            .collect::<std::io::Result<Vec<_>>>()?;
        let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let metadata = path.symlink_metadata()?;
            if metadata.is_dir() {
                waiting.push(path);
            } else if metadata.is_file() && metadata.len() < LARGEST {
                found.push((path, metadata.len()));
            }
        }
    }
    Ok(found)
}
