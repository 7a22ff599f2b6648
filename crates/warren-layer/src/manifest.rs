//! What a layer holds, noted down: for checking it, comparing it, and not reading it again.

mod text;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{SeekFrom, Stat, fstat, readlinkat, seek};
use rustix::io::Errno;

use crate::attributes::{Attributes, Xattr};
use crate::copy::Copied;
use crate::digest::{Digest, Hasher};
use crate::node::{Kind, Moment, Stamp};
use crate::walk::{FileError, Found, Walk, open_root};

/// Bytes of a file that are read at once.
const BUFFER: usize = 256 << 10;

/// Why a manifest cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file system refused.
    #[error("could not {operation} the manifest: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// It is none, or damaged.
    #[error("the manifest is damaged in line {line}: expected {expected}")]
    Damaged {
        /// Counted from one.
        line: usize,
        /// What should have been there.
        expected: &'static str,
    },
}

/// What is known about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Bits of the mode.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Bytes of a file, with its holes; zero for others.
    pub size: u64,
    /// Seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
    /// Of a file's content.
    pub digest: Option<Digest>,
    /// Where a symbolic link leads.
    pub link: Option<Vec<u8>>,
    /// Extended attributes, in the order of their names.
    pub xattrs: Vec<Xattr>,
    /// The original's stamp, where the same stamp means the same file.
    pub source: Option<Stamp>,
}

/// Where stamps of originals come from.
#[derive(Clone, Copy, Debug)]
pub enum Sources<'a> {
    /// Nowhere: everything is read.
    None,
    /// The directory is a snapshot by the file system, with the original's inodes and times, from
    /// after it was written back at this moment.
    Own(Moment),
    /// It was copied by [`crate::copy::copy`].
    Copied(&'a Copied),
}

impl Sources<'_> {
    fn stamp(self, path: &[u8], stat: &Stat) -> Option<Stamp> {
        match self {
            Self::None => None,
            Self::Own(written_back) => {
                Some(Stamp::of(stat)).filter(|it| it.is_settled(written_back))
            }
            Self::Copied(copied) => copied.stamp(path),
        }
    }
}

/// Everything that a layer holds, by path; the empty one is the layer itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// By path.
    pub entries: BTreeMap<Vec<u8>, Entry>,
}

/// How a layer is not what its manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub path: Vec<u8>,
    /// What is wrong, in a few words.
    pub what: &'static str,
}

impl Manifest {
    /// Goes over a directory that nobody writes to, and reads every file but those whose stamp is
    /// the same as in `previous`.
    ///
    /// # Errors
    ///
    /// [`FileError`].
    pub fn build(
        directory: &Path,
        sources: Sources<'_>,
        previous: Option<&Self>,
    ) -> Result<Self, FileError> {
        let root = open_root(directory)?;
        let stat = fstat(&root).map_err(FileError::new("look at", b""))?;
        let attributes = Attributes::of(&root, &stat);
        let attributes = attributes.map_err(FileError::new("read attributes of", b""))?;
        let mut entries = BTreeMap::from([(Vec::new(), entry(Kind::Directory, attributes))]);
        let mut walk = Walk::new(root)?;
        // Files with several names are read once.
        let mut read: BTreeMap<u64, Digest> = BTreeMap::new();
        while let Some(found) = walk.next()? {
            let mut entry = describe(&found, walk.entered())?;
            if entry.kind == Kind::File {
                entry.source = sources.stamp(&found.path, &found.stat);
                let known = previous.and_then(|it| it.entries.get(&found.path));
                let known = known.filter(|it| it.source.is_some() && it.source == entry.source);
                let known = known.and_then(|it| it.digest);
                let inode = found.stat.st_ino;
                let known = known.or_else(|| read.get(&inode).copied());
                entry.digest = Some(match known {
                    Some(digest) => digest,
                    None => digest_of(&found)?,
                });
                if found.stat.st_nlink > 1 {
                    read.extend(entry.digest.map(|it| (inode, it)));
                }
            }
            entries.insert(found.path, entry);
        }
        Ok(Self { entries })
    }

    /// Compares a directory with the manifest, its content included.
    ///
    /// # Errors
    ///
    /// [`FileError`] when it cannot be read.
    pub fn verify(&self, directory: &Path) -> Result<Vec<Difference>, FileError> {
        let found = Self::build(directory, Sources::None, None)?;
        let mut differences = Vec::new();
        let mut differ = |path: &[u8], what| {
            differences.push(Difference { path: path.to_vec(), what });
        };
        for (path, noted) in &self.entries {
            match found.entries.get(path) {
                None => differ(path, "it is missing"),
                Some(found) => {
                    if let Some(what) = noted.difference(found) {
                        differ(path, what);
                    }
                }
            }
        }
        for path in found.entries.keys().filter(|it| !self.entries.contains_key(*it)) {
            differ(path, "it was not there");
        }
        Ok(differences)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries.values().map(|it| it.size).sum()
    }

    /// Writes it to a file, whole or not at all, and synced.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), ManifestError> {
        let fail = |operation| move |source| ManifestError::Io { operation, source };
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let text = text::write(self);
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        if let Err(error) = written {
            drop(fs::remove_file(&temporary));
            return Err(fail("write")(error));
        }
        fs::rename(&temporary, path).map_err(fail("rename"))?;
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
        let directory = File::open(directory.unwrap_or(Path::new(".")));
        directory.and_then(|it| it.sync_all()).map_err(fail("sync the directory of"))
    }

    /// Reads one that [`write`](Self::write) wrote.
    ///
    /// # Errors
    ///
    /// [`ManifestError`]; also when a byte of it is not what was written.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let text =
            fs::read(path).map_err(|source| ManifestError::Io { operation: "read", source })?;
        text::read(&text)
    }
}

impl Entry {
    /// What differs, but for where it came from.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let pairs = [
            (self.kind == other.kind, "it is something else"),
            (self.link == other.link, "the link leads elsewhere"),
            (self.size == other.size, "its size differs"),
            (self.digest == other.digest, "its content differs"),
            (self.mode == other.mode, "its mode differs"),
            (self.owner == other.owner, "its owner differs"),
            (self.modified == other.modified, "its time differs"),
            (self.xattrs == other.xattrs, "its extended attributes differ"),
        ];
        pairs.into_iter().find(|it| !it.0).map(|it| it.1)
    }
}

fn entry(kind: Kind, attributes: Attributes) -> Entry {
    let Attributes { mode, owner, modified, xattrs } = attributes;
    Entry { kind, mode, owner, size: 0, modified, digest: None, link: None, xattrs, source: None }
}

/// All that is known without reading a file's content. `opened` is the directory, if it is one.
pub(crate) fn describe(found: &Found, opened: Option<&OwnedFd>) -> Result<Entry, FileError> {
    let kind = Kind::of(&found.stat);
    let fail = |operation| FileError::new(operation, &found.path);
    let attributes = match opened {
        Some(directory) if kind == Kind::Directory => Attributes::of(directory, &found.stat),
        _ => Attributes::at(&*found.directory, &found.name, &found.stat),
    };
    let mut entry = entry(kind, attributes.map_err(fail("read attributes of"))?);
    match kind {
        Kind::File => entry.size = u64::try_from(found.stat.st_size).unwrap_or_default(),
        Kind::Symlink => {
            let link = readlinkat(&*found.directory, found.name.as_slice(), Vec::new());
            entry.link = Some(link.map_err(fail("read the link"))?.into_bytes());
        }
        _ => {}
    }
    Ok(entry)
}

/// The digest of a file's content.
///
/// Of a file with holes it is that of its size and of where there is what: a hole of a terabyte
/// costs whoever makes it nothing, and must not cost more to whoever notes it.
pub(crate) fn digest_of(found: &Found) -> Result<Digest, FileError> {
    let fail = |operation| FileError::new(operation, &found.path);
    let file = found.open().map_err(fail("open"))?;
    let size = u64::try_from(found.stat.st_size).unwrap_or_default();
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; BUFFER];
    // None where it is empty, or the file system knows of no holes.
    let first_hole = seek(&file, SeekFrom::Hole(0)).unwrap_or(u64::MAX);
    if first_hole >= size {
        seek(&file, SeekFrom::Start(0)).map_err(fail("read"))?;
        digest_range(&file, u64::MAX, &mut buffer, &mut hasher).map_err(fail("read"))?;
        return Ok(hasher.finish());
    }
    hasher.update(&size.to_le_bytes());
    let mut place = 0;
    loop {
        let data = match seek(&file, SeekFrom::Data(place)) {
            Err(Errno::NXIO) => return Ok(hasher.finish()),
            found => found.map_err(fail("read"))?,
        };
        let end = seek(&file, SeekFrom::Hole(data)).map_err(fail("read"))?;
        seek(&file, SeekFrom::Start(data)).map_err(fail("read"))?;
        hasher.update(&data.to_le_bytes());
        hasher.update(&(end - data).to_le_bytes());
        digest_range(&file, end - data, &mut buffer, &mut hasher).map_err(fail("read"))?;
        place = end;
    }
}

/// Adds the next `left` bytes of a file to a digest, or all up to its end.
fn digest_range(
    file: impl AsFd,
    mut left: u64,
    buffer: &mut [u8],
    hasher: &mut Hasher,
) -> Result<(), Errno> {
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let piece = buffer.get_mut(..most).unwrap_or_default();
        let count = match rustix::io::read(&file, &mut *piece) {
            Err(Errno::INTR) => continue,
            count => count?,
        };
        if count == 0 {
            return Ok(());
        }
        hasher.update(piece.get(..count).unwrap_or_default());
        left -= u64::try_from(count).unwrap_or_default();
    }
    Ok(())
}
