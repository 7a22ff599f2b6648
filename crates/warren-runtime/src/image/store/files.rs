//! The files of the store.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};
use warren_core::images::{Digest, Reference};

use super::state::{Entry, State};
use crate::image::document::{Blob, WrittenBlob};

/// The largest of our own small files, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// Where everything is.
#[derive(Debug)]
pub(in crate::image) struct Files {
    root: PathBuf,
    /// Numbers for names in `tmp`.
    next: AtomicU64,
}

/// An image: what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image) struct Record {
    /// The digest of its configuration.
    pub(in crate::image) id: Digest,
    pub(in crate::image) manifest: Digest,
    /// Milliseconds since 1970.
    pub(in crate::image) pulled_at: u64,
    /// The lowest first.
    pub(in crate::image) layers: Vec<RecordedLayer>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image) struct RecordedLayer {
    /// Which of `layers/` it is.
    pub(in crate::image) key: Digest,
    /// As it came.
    pub(in crate::image) blob: Blob,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image) struct NameFile {
    pub(in crate::image) reference: Reference,
    pub(in crate::image) image: Digest,
    /// By which its registry knows it: of a manifest, or of an index.
    pub(in crate::image) digest: Digest,
}

/// What is known about an unpacked layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::image) struct About {
    pub(in crate::image) diff_id: Digest,
    /// Of the archive without compression.
    pub(in crate::image) bytes: u64,
    /// Of the archive.
    pub(in crate::image) entries: u64,
    /// Nothing below it is to be seen.
    pub(in crate::image) hides_all_below: bool,
}

#[derive(Serialize, Deserialize)]
struct RecordRow {
    manifest: String,
    pulled_at: u64,
    layers: Vec<LayerRow>,
}

#[derive(Serialize, Deserialize)]
struct LayerRow {
    key: String,
    blob: WrittenBlob,
}

#[derive(Serialize, Deserialize)]
struct NameRow {
    reference: String,
    image: String,
    digest: String,
}

#[derive(Serialize, Deserialize)]
struct AboutRow {
    diff_id: String,
    bytes: u64,
    // Layers of older servers do without.
    #[serde(default)]
    entries: u64,
    hides_all_below: bool,
}

fn odd<E: ToString>(error: E) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl Files {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        for name in ["blobs/sha256", "layers", "records", "names", "partial", "tmp"] {
            crate::storage::make_place(&root.join(name))?;
        }
        Ok(Self { root: root.to_owned(), next: AtomicU64::new(0) })
    }

    pub(in crate::image) fn blob(&self, digest: Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub(super) fn layer(&self, key: Digest) -> PathBuf {
        self.root.join("layers").join(key.hex())
    }

    /// The directory that an unpacked layer is mounted from.
    pub(in crate::image) fn tree(&self, key: Digest) -> PathBuf {
        self.layer(key).join("tree")
    }

    fn record(&self, id: Digest) -> PathBuf {
        self.root.join("records").join(format!("{}.json", id.hex()))
    }

    fn name(&self, reference: &Reference) -> PathBuf {
        let name = Digest::of(reference.to_string().as_bytes()).hex();
        self.root.join("names").join(format!("{name}.json"))
    }

    /// Where a blob comes in.
    pub(in crate::image) fn partial(&self, digest: Digest) -> PathBuf {
        self.root.join("partial").join(digest.hex())
    }

    /// A name for something half-made, which nothing else has.
    pub(in crate::image) fn tmp(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.root.join("tmp").join(format!("{}-{number}", std::process::id()))
    }

    /// Moves what is on the disk already to its place, and has that there.
    pub(super) fn adopt(&self, from: &Path, place: &Path) -> io::Result<()> {
        match fs::rename(from, place) {
            // Somebody else made the same: it is as good.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            other => other?,
        }
        place.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }

    /// Writes a file: all of it or none.
    pub(super) fn write(&self, place: &Path, bytes: &[u8]) -> io::Result<()> {
        let half = self.tmp();
        let write = || {
            let mut file = File::create_new(&half)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            self.adopt(&half, place)
        };
        write().inspect_err(|_first| {
            fs::remove_file(&half).ok();
        })
    }

    /// Writes what is known about a layer beside it, in a directory that is half-made.
    pub(in crate::image) fn write_about(&self, half: &Path, about: &About) -> io::Result<()> {
        let row = AboutRow {
            diff_id: about.diff_id.to_string(),
            bytes: about.bytes,
            entries: about.entries,
            hides_all_below: about.hides_all_below,
        };
        fs::write(half.join("about.json"), serde_json::to_vec(&row)?)
    }

    pub(super) fn write_record(&self, record: &Record) -> io::Result<()> {
        let layers = record.layers.iter();
        let row = RecordRow {
            manifest: record.manifest.to_string(),
            pulled_at: record.pulled_at,
            layers: layers
                .map(|it| LayerRow { key: it.key.to_string(), blob: it.blob.written() })
                .collect(),
        };
        self.write(&self.record(record.id), &serde_json::to_vec(&row)?)
    }

    pub(super) fn write_name(&self, name: &NameFile) -> io::Result<()> {
        let row = NameRow {
            reference: name.reference.to_string(),
            image: name.image.to_string(),
            digest: name.digest.to_string(),
        };
        self.write(&self.name(&name.reference), &serde_json::to_vec(&row)?)
    }

    pub(super) fn remove_record(&self, id: Digest) -> io::Result<()> {
        gone(fs::remove_file(self.record(id)))
    }

    pub(super) fn remove_name(&self, reference: &Reference) -> io::Result<()> {
        gone(fs::remove_file(self.name(reference)))
    }

    pub(super) fn remove_blob(&self, digest: Digest) -> io::Result<()> {
        gone(fs::remove_file(self.blob(digest)))
    }

    /// Takes a layer out of its place; the result is still to be removed.
    pub(super) fn take_layer(&self, key: Digest) -> io::Result<PathBuf> {
        let left = self.tmp();
        gone(fs::rename(self.layer(key), &left))?;
        Ok(left)
    }

    /// Removes what was taken out of its place. What cannot be removed goes at the next start.
    pub(super) fn discard(&self, left: &[PathBuf]) {
        for path in left {
            if let Err(error) = gone(remove_all(path)) {
                tracing::warn!(path = %path.display(), %error, "not removed");
            }
        }
    }

    /// Removes what an earlier server left half-made: what this one has not made.
    pub(super) fn empty_tmp(&self) {
        let ours = format!("{}-", std::process::id());
        let theirs = names(&self.root.join("tmp")).into_iter().filter(|it| !it.starts_with(&ours));
        self.discard(&theirs.map(|it| self.root.join("tmp").join(it)).collect::<Vec<_>>());
    }

    /// Removes blobs that have not come to their end, but for those somebody is waiting for.
    pub(super) fn drop_partial(&self, wanted: impl Fn(Digest) -> bool) {
        for name in names(&self.root.join("partial")) {
            if !Digest::from_hex(&name).is_some_and(&wanted) {
                fs::remove_file(self.root.join("partial").join(name)).ok();
            }
        }
    }

    /// Reads what is here. A record whose parts are not all here is as good as none.
    pub(super) fn load(&self, state: &mut State) -> io::Result<()> {
        self.drop_partial(|_| false);
        for name in names(&self.root.join("blobs/sha256")) {
            if let Some(digest) = Digest::from_hex(&name) {
                state.blobs.insert(digest, fs::metadata(self.blob(digest))?.len());
            }
        }
        for name in names(&self.root.join("layers")) {
            let about = Digest::from_hex(&name).map(|key| (key, self.load_about(key)));
            match about {
                Some((key, Ok(about))) => drop(state.layers.insert(key, about)),
                _ => self.discard(&[self.root.join("layers").join(name)]),
            }
        }
        for name in names(&self.root.join("records")) {
            let id = name.strip_suffix(".json").and_then(Digest::from_hex);
            match id.map(|id| (id, self.load_entry(id, state))) {
                Some((id, Ok(entry))) => drop(state.images.insert(id, entry)),
                Some((id, Err(error))) => {
                    tracing::warn!(%id, %error, "an image is not whole, and is removed");
                    self.remove_record(id)?;
                }
                None => self.discard(&[self.root.join("records").join(name)]),
            }
        }
        for name in names(&self.root.join("names")) {
            let path = self.root.join("names").join(name);
            match load_name(&path) {
                Ok(name) if state.images.contains_key(&name.image) => {
                    let id = name.image;
                    state.names.insert(name.reference.clone(), name);
                    state.renew_names(id);
                }
                _ => self.discard(&[path]),
            }
        }
        Ok(())
    }

    fn load_about(&self, key: Digest) -> io::Result<About> {
        let row: AboutRow = read(&self.layer(key).join("about.json"))?;
        let diff_id = row.diff_id.parse().map_err(odd)?;
        let AboutRow { bytes, entries, hides_all_below, .. } = row;
        Ok(About { diff_id, bytes, entries, hides_all_below })
    }

    fn load_entry(&self, id: Digest, state: &State) -> io::Result<Entry> {
        let path = self.record(id);
        let row: RecordRow = read(&path)?;
        let layer = |row: LayerRow| {
            let blob = Blob::try_from(row.blob).map_err(odd)?;
            Ok(RecordedLayer { key: row.key.parse().map_err(odd)?, blob })
        };
        let record = Record {
            id,
            manifest: row.manifest.parse().map_err(odd)?,
            pulled_at: row.pulled_at,
            layers: row.layers.into_iter().map(layer).collect::<io::Result<_>>()?,
        };
        let config = fs::read(self.blob(id))?;
        Entry::new(self, &state.layers, record, &config).map_err(odd)
    }
}

fn load_name(path: &Path) -> io::Result<NameFile> {
    let row: NameRow = read(path)?;
    Ok(NameFile {
        reference: row.reference.parse().map_err(odd)?,
        image: row.image.parse().map_err(odd)?,
        digest: row.digest.parse().map_err(odd)?,
    })
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<T> {
    use std::io::Read as _;
    let mut text = String::new();
    File::open(path)?.take(MOST_BYTES).read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(odd)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|it| it.file_name().into_string().ok()).collect()
}

fn remove_all(path: &Path) -> io::Result<()> {
    warren_sys::tree::remove(path)
}

/// What is gone already was to be removed.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
