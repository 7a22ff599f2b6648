//! Files that images are found among: those of a directory, or of an archive that was unpacked.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use flate2::bufread::MultiGzDecoder;
use warren_core::images::{Digest, ImageError};
use warren_layer::digest::Hasher;

use super::unusable;
use crate::image::document::{Blob, MOST_MANIFEST};

/// The most files of one archive.
const MOST_FILES: usize = 100_000;

/// Where the files are.
#[derive(Clone, Debug)]
pub(super) struct Shelf(Arc<Files>);

#[derive(Debug)]
enum Files {
    /// A directory in OCI's layout, which stays as it is.
    Directory(PathBuf),
    /// Our own copies of an archive's files, which go with this.
    Unpacked {
        directory: PathBuf,
        by_path: HashMap<String, Filed>,
        by_digest: HashMap<Digest, PathBuf>,
    },
}

/// A file of an archive.
#[derive(Clone, Debug)]
struct Filed {
    place: PathBuf,
    digest: Digest,
    size: u64,
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Self::Unpacked { directory, .. } = self
            && let Err(error) = warren_sys::tree::remove(directory)
        {
            tracing::warn!(path = %directory.display(), %error, "not removed");
        }
    }
}

impl Shelf {
    /// The files of a directory.
    pub(super) fn of_directory(path: PathBuf) -> Self {
        Self(Arc::new(Files::Directory(path)))
    }

    /// The files of an archive, at most `most` bytes, put into a new directory. Blocks.
    pub(super) fn of_archive(
        source: impl Read,
        directory: PathBuf,
        most: u64,
    ) -> Result<Self, ImageError> {
        fs::create_dir(&directory).map_err(ImageError::host("unpack an archive"))?;
        let mut files = Files::Unpacked {
            directory: directory.clone(),
            by_path: HashMap::new(),
            by_digest: HashMap::new(),
        };
        let Files::Unpacked { by_path, by_digest, .. } = &mut files else { unreachable!() };
        let mut source = BufReader::with_capacity(256 << 10, source);
        let zipped = io::BufRead::fill_buf(&mut source)
            .map_err(|error| unusable(&error.to_string()))?
            .starts_with(&[0x1f, 0x8b]);
        let source: Box<dyn Read + '_> =
            if zipped { Box::new(MultiGzDecoder::new(source)) } else { Box::new(source) };
        unpack(source, &directory, most, by_path)?;
        by_digest.extend(by_path.values().map(|it| (it.digest, it.place.clone())));
        Ok(Self(Arc::new(files)))
    }

    /// A small file by its name; none where there is none.
    pub(super) fn file(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, ImageError> {
        let place = match &*self.0 {
            Files::Directory(directory) => directory.join(name),
            Files::Unpacked { by_path, .. } => match by_path.get(name) {
                Some(filed) => filed.place.clone(),
                None => return Ok(None),
            },
        };
        match File::open(&place) {
            Ok(file) => read(file, most).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable(&format!("cannot open {name}: {error}"))),
        }
    }

    /// A small blob, whose digest is checked.
    pub(super) fn small(&self, blob: &Blob, most: usize) -> Result<Vec<u8>, ImageError> {
        let bytes = read(self.open(blob.digest)?, most)?;
        match Digest::of(&bytes) == blob.digest {
            true => Ok(bytes),
            false => Err(unusable(&format!("a file is not {} as its name says", blob.digest))),
        }
    }

    /// The file that an archive of `docker save` has under this name, as a blob.
    pub(super) fn blob_at(&self, name: &str, kind: &str) -> Result<Blob, ImageError> {
        let filed = match &*self.0 {
            Files::Unpacked { by_path, .. } => by_path.get(name),
            Files::Directory(_) => None,
        };
        let filed = filed.ok_or_else(|| unusable(&format!("it has no {name}, which it lists")))?;
        Ok(Blob { digest: filed.digest, size: filed.size, media_type: kind.to_owned() })
    }

    /// Has a blob in the file at `to`, checked and on the disk. Blocks.
    pub(super) fn take(&self, blob: &Blob, to: &Path) -> Result<(), ImageError> {
        let failed = ImageError::host("copy a layer");
        let mut source = self.open(blob.digest)?.take(blob.size.saturating_add(1));
        let mut target = File::create(to).map_err(failed)?;
        let (digest, size) = copy(&mut source, &mut target)?;
        if digest != blob.digest || size != blob.size {
            return Err(unusable(&format!("a file is not {} as its name says", blob.digest)));
        }
        target.sync_data().map_err(failed)
    }

    fn open(&self, digest: Digest) -> Result<File, ImageError> {
        let place = match &*self.0 {
            Files::Directory(directory) => Some(directory.join("blobs/sha256").join(digest.hex())),
            Files::Unpacked { by_digest, .. } => by_digest.get(&digest).cloned(),
        };
        let place = place.ok_or_else(|| unusable(&format!("it has no {digest}")))?;
        File::open(place).map_err(|error| unusable(&format!("cannot open {digest}: {error}")))
    }
}

fn unpack(
    source: impl Read,
    directory: &Path,
    most: u64,
    files: &mut HashMap<String, Filed>,
) -> Result<(), ImageError> {
    let odd = |error: io::Error| unusable(&format!("it is no tar archive: {error}"));
    let failed = ImageError::host("unpack an archive");
    let mut archive = tar::Archive::new(source);
    let (mut bytes, mut links) = (0_u64, Vec::new());
    for entry in archive.entries().map_err(odd)? {
        let mut entry = entry.map_err(odd)?;
        let path = plain(&entry.path().map_err(odd)?);
        let Some(path) = path else { return Err(unusable("a file of it has `..` in its name")) };
        bytes = bytes.saturating_add(entry.size());
        if bytes > most || files.len() + links.len() >= MOST_FILES {
            let what = format!("an archive with more than {MOST_FILES} files, or more bytes");
            return Err(ImageError::TooLarge { what, most });
        }
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let place = directory.join(files.len().to_string());
                let mut file = File::create_new(&place).map_err(failed)?;
                let (digest, size) = copy(&mut entry, &mut file)?;
                files.insert(path, Filed { place, digest, size });
            }
            // Old archives have a layer that two images share once, and links to it.
            tar::EntryType::Symlink | tar::EntryType::Link => {
                let hard = entry.header().entry_type() == tar::EntryType::Link;
                let target = entry.link_name().map_err(odd)?.unwrap_or_default().into_owned();
                let from = if hard {
                    Path::new("")
                } else {
                    Path::new(&path).parent().unwrap_or(Path::new(""))
                };
                links.extend(resolved(from, &target).map(|target| (path.clone(), target)));
            }
            _ => {}
        }
    }
    for (path, target) in links {
        if let Some(filed) = files.get(&target).cloned() {
            files.insert(path, filed);
        }
    }
    Ok(())
}

/// A path without `.`; none with `..`.
fn plain(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?.to_owned()),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// What a link in directory `from` leads to, by its name alone.
fn resolved(from: &Path, target: &Path) -> Option<String> {
    let mut parts: Vec<_> = from.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    for part in target.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            _ => {}
        }
    }
    Some(parts.join("/"))
}

fn copy(source: &mut impl Read, target: &mut File) -> Result<(Digest, u64), ImageError> {
    let (mut hasher, mut size) = (Hasher::default(), 0);
    let mut piece = vec![0; 256 << 10];
    loop {
        let count = source.read(&mut piece).map_err(|error| unusable(&error.to_string()))?;
        let read = piece.get(..count).unwrap_or_default();
        if read.is_empty() {
            return Ok((Digest::from_bytes(*hasher.finish().as_bytes()), size));
        }
        hasher.update(read);
        size += count as u64;
        target.write_all(read).map_err(ImageError::host("copy a layer"))?;
    }
}

fn read(file: File, most: usize) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let taken = file.take(most as u64 + 1).read_to_end(&mut bytes);
    taken.map_err(|error| unusable(&error.to_string()))?;
    match bytes.len() > most.min(MOST_MANIFEST) {
        true => Err(ImageError::TooLarge { what: "a document".to_owned(), most: most as u64 }),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_nowhere_outside() {
        let link = |from: &str, to: &str| resolved(Path::new(from), Path::new(to));
        assert_eq!(link("a", "../b/layer.tar").as_deref(), Some("b/layer.tar"));
        assert_eq!(link("a", "../../etc/shadow"), None);
        assert_eq!(link("", "/etc/shadow").as_deref(), Some("etc/shadow"));
        assert_eq!(plain(Path::new("./a/b")).as_deref(), Some("a/b"));
        assert_eq!(plain(Path::new("a/../b")), None);
    }
}
