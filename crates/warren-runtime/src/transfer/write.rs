//! Packing layers into one file.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{self, Seek as _, SeekFrom, Write},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};
use tar::Header;
use warren_layer::{
    Digest, Marks,
    pack::{self, pack},
    unpack::Compression,
};

use super::{
    TransferError,
    document::{
        BASE_DIGEST, BASE_NAME, CONFIG, Config, Descriptor, DockerManifest, INDEX, Index, LAYER,
        LAYOUT, MANIFEST, Manifest, OWN_LAYERS, REF_NAME, Rootfs, Settings, architecture,
    },
};

const BLOCK: u64 = 512;

/// What is to be packed.
#[derive(Clone, Debug)]
pub(crate) struct Departing {
    /// Directories, the lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// How many of the last are snapshots'.
    pub(crate) own: usize,
    /// `host`, or the base image's reference.
    pub(crate) base_name: String,
    /// What the base image's identity was.
    pub(crate) base_digest: Option<String>,
    /// Under which name the file gives the image, as tools have it.
    pub(crate) name: String,
    /// Environment of commands.
    pub(crate) env: BTreeMap<String, String>,
    /// Who commands run as.
    pub(crate) user: String,
    /// Where commands start.
    pub(crate) workdir: String,
    /// How opaque directories are marked.
    pub(crate) marks: Marks,
}

/// Packs into a nameless file of `directory`, which is at its start then.
pub(crate) fn depart(departing: &Departing, directory: &Path) -> Result<File, TransferError> {
    let fail = TransferError::host::<io::Error>;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(directory, flags, Mode::from_raw_mode(0o600));
    let mut archive = Archive { file: file.map_err(|it| fail("make a file")(it.into()))?.into() };
    archive.entry("oci-layout", LAYOUT.as_bytes()).map_err(fail("write the archive"))?;
    let (layers, diff_ids) = archive.layers(departing)?;
    let env = departing.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let config = Config {
        architecture: architecture().to_owned(),
        os: "linux".to_owned(),
        config: Settings {
            env,
            user: departing.user.clone(),
            working_dir: departing.workdir.clone(),
        },
        rootfs: Rootfs { kind: "layers".to_owned(), diff_ids },
    };
    let mut annotations = BTreeMap::from([
        (OWN_LAYERS.to_owned(), departing.own.to_string()),
        (BASE_NAME.to_owned(), departing.base_name.clone()),
    ]);
    annotations.extend(departing.base_digest.clone().map(|it| (BASE_DIGEST.to_owned(), it)));
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST.to_owned(),
        config: archive.document(&config, CONFIG)?,
        layers,
        annotations,
    };
    // Docker with its own image store reads this and not the index.
    let loadable = DockerManifest {
        config: blob_of(&manifest.config),
        repo_tags: tag(&departing.name).into_iter().collect(),
        layers: manifest.layers.iter().map(blob_of).collect(),
    };
    let loadable = serde_json::to_vec(&[loadable]).map_err(TransferError::host("write JSON"))?;
    archive.entry("manifest.json", &loadable).map_err(fail("write the archive"))?;
    let mut manifest = archive.document(&manifest, MANIFEST)?;
    manifest.annotations.insert(REF_NAME.to_owned(), departing.name.clone());
    let media_type = INDEX.to_owned();
    let index = Index { schema_version: 2, media_type, manifests: vec![manifest] };
    let index = serde_json::to_vec(&index).map_err(TransferError::host("write JSON"))?;
    archive.entry("index.json", &index).map_err(fail("write the archive"))?;
    archive.finish().map_err(fail("write the archive"))
}

struct Archive {
    file: File,
}

impl Archive {
    /// Packs layers; gives what a manifest says of them, and their digests without compression.
    fn layers(
        &mut self,
        departing: &Departing,
    ) -> Result<(Vec<Descriptor>, Vec<String>), TransferError> {
        let fail = TransferError::host::<io::Error>;
        let (mut descriptors, mut diff_ids) = (Vec::new(), Vec::new());
        let mut known = HashSet::new();
        for layer in &departing.layers {
            let options = pack::Options {
                marks: departing.marks,
                compression: Compression::Gzip,
                ..pack::Options::default()
            };
            let options = options.without_identity();
            // The digest is in the name, which stands before the content.
            let start = self.file.stream_position().map_err(fail("write the archive"))?;
            self.file.write_all(&[0; BLOCK as usize]).map_err(fail("write the archive"))?;
            let packed = pack(layer, io::BufWriter::with_capacity(1 << 20, &self.file), &options);
            let packed = packed.map_err(TransferError::host("pack a layer"))?;
            let digest = packed.digest;
            if known.insert(digest) {
                let header = header(&blob(&digest), packed.compressed_bytes);
                self.file
                    .write_all_at(header.as_bytes(), start)
                    .map_err(fail("write the archive"))?;
                self.pad(packed.compressed_bytes).map_err(fail("write the archive"))?;
            } else {
                let back = self.file.seek(SeekFrom::Start(start));
                back.and_then(|at| self.file.set_len(at)).map_err(fail("write the archive"))?;
            }
            descriptors.push(Descriptor {
                media_type: LAYER.to_owned(),
                digest: digest.to_string(),
                size: packed.compressed_bytes,
                annotations: BTreeMap::new(),
            });
            diff_ids.push(packed.diff_id.to_string());
        }
        Ok((descriptors, diff_ids))
    }

    fn document(
        &mut self,
        value: &impl serde::Serialize,
        media_type: &str,
    ) -> Result<Descriptor, TransferError> {
        let text = serde_json::to_vec(value).map_err(TransferError::host("write JSON"))?;
        let digest = Digest::of(&text);
        self.entry(&blob(&digest), &text).map_err(TransferError::host("write the archive"))?;
        Ok(Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.to_string(),
            size: text.len() as u64,
            annotations: BTreeMap::new(),
        })
    }

    fn entry(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.file.write_all(header(name, content.len() as u64).as_bytes())?;
        self.file.write_all(content)?;
        self.pad(content.len() as u64)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let missing = size.next_multiple_of(BLOCK) - size;
        self.file.write_all([0; BLOCK as usize].get(..missing as usize).unwrap_or_default())
    }

    fn finish(mut self) -> io::Result<File> {
        self.file.write_all(&[0; 2 * BLOCK as usize])?;
        self.file.seek(SeekFrom::Start(0))?;
        Ok(self.file)
    }
}

/// What a snapshot is called as an image, where its name can be one.
fn tag(name: &str) -> Option<String> {
    let is_plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    (name.bytes().all(is_plain) && !name.ends_with('-')).then(|| format!("{name}:latest"))
}

fn blob_of(descriptor: &Descriptor) -> String {
    let digest = &descriptor.digest;
    format!("blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap_or(digest))
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn header(name: &str, size: u64) -> Header {
    let mut header = Header::new_ustar();
    // Shorter than a hundred bytes: a fixed beginning and a digest.
    header.as_old_mut().name.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}
