//! A file from anybody, and the layers in it.
//!
//! Nothing of it is believed: every part is bounded, and named by its digest, which is compared.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufReader, Read, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
    path::Path,
};

use serde::de::DeserializeOwned;
use warren_archive::{Event, Kind, Parser};
use warren_layer::{
    Digest,
    unpack::{Options, UnpackError, unpack},
};

use super::{
    TransferError,
    document::{BASE_DIGEST, BASE_NAME, Config, Descriptor, Index, Manifest, OWN_LAYERS},
};

/// Bytes of the largest document.
const DOCUMENT_BYTES: u64 = 4 << 20;
/// The most entries that an archive may have.
const MOST_ENTRIES: usize = 10_000;
/// The most layers of snapshots that are taken.
const MOST_LAYERS: usize = 128;

/// What came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// `host`, or the base image's reference.
    pub(crate) base_name: String,
    /// The base image's identity.
    pub(crate) base_digest: Option<String>,
    /// Environment of commands.
    pub(crate) env: BTreeMap<String, String>,
    /// Who commands run as; root where empty.
    pub(crate) user: String,
    /// Where commands start; `/` where empty.
    pub(crate) workdir: String,
}

/// Unpacks the layers of snapshots in an archive to `0`, `1` and so on in `place`, the lowest
/// first, and gives what is known about them and how many there are.
pub(crate) fn arrive(
    file: &File,
    place: &Path,
    options: &Options,
) -> Result<(Arrived, usize), TransferError> {
    let archive = Archive::open(file)?;
    let index: Index = archive.named("index.json")?;
    let manifest = match index.manifests.as_slice() {
        [manifest] => archive.document::<Manifest>(manifest)?,
        others => {
            let text = format!("it holds {} images, expected one", others.len());
            return Err(TransferError::unusable(text));
        }
    };
    let config: Config = archive.document(&manifest.config)?;
    let own = own_layers(&manifest, &config)?;
    let mut arrived = Arrived {
        base_name: manifest.annotations.get(BASE_NAME).cloned().unwrap_or_default(),
        base_digest: manifest.annotations.get(BASE_DIGEST).cloned(),
        user: config.config.user,
        workdir: config.config.working_dir,
        env: BTreeMap::new(),
    };
    let pairs = config.config.env.iter().filter_map(|it| it.split_once('='));
    arrived.env.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let first = manifest.layers.len() - own;
    let layers = manifest.layers.iter().zip(&config.rootfs.diff_ids).skip(first);
    for (number, (layer, diff_id)) in layers.enumerate() {
        archive.layer(layer, diff_id, &place.join(number.to_string()), options)?;
    }
    Ok((arrived, own))
}

/// How many of the topmost layers are to be unpacked.
fn own_layers(manifest: &Manifest, config: &Config) -> Result<usize, TransferError> {
    let Some(own) = manifest.annotations.get(OWN_LAYERS) else {
        return Err(TransferError::unusable(
            "it is an image and no snapshot of ours; `warren image import` takes images",
        ));
    };
    let most = manifest.layers.len().min(MOST_LAYERS);
    let own = own.parse().ok().filter(|own| (1..=most).contains(own));
    let own = own.ok_or_else(|| {
        TransferError::unusable(format!("{OWN_LAYERS} is wrong, expected 1 to {most}"))
    })?;
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        let text = "its configuration does not name as many layers as its manifest";
        return Err(TransferError::unusable(text));
    }
    Ok(own)
}

/// Where the files of an archive are.
struct Archive<'a> {
    file: &'a File,
    places: HashMap<String, (u64, u64)>,
}

impl<'a> Archive<'a> {
    fn open(file: &'a File) -> Result<Self, TransferError> {
        let mut places = HashMap::new();
        let broken =
            |error: warren_archive::UnpackError| TransferError::unusable(error.to_string());
        let fail = TransferError::host::<io::Error>;
        let mut input = BufReader::with_capacity(64 << 10, file);
        input.seek(SeekFrom::Start(0)).map_err(fail("read the archive"))?;
        let mut parser = Parser::new();
        let mut at = 0_u64;
        let mut block = [0; 512];
        loop {
            match read_block(&mut input, &mut block).map_err(fail("read the archive"))? {
                true => at += 512,
                false if parser.is_between_entries() && !places.is_empty() => break,
                false => return Err(broken(warren_archive::UnpackError::Truncated)),
            }
            let mut bytes = &block[..];
            while let Some(event) = parser.next(&mut bytes).map_err(broken)? {
                let Event::Entry(entry) = event else { continue };
                if places.len() == MOST_ENTRIES {
                    let text = format!("it has more than {MOST_ENTRIES} entries");
                    return Err(TransferError::unusable(text));
                }
                if entry.kind == Kind::File {
                    let name = String::from_utf8_lossy(&entry.name).into_owned();
                    let name = name.strip_prefix("./").map(str::to_owned).unwrap_or(name);
                    places.insert(name, (at, entry.size));
                    // Blobs are large: what is in between is not read.
                    parser = Parser::new();
                    let size = entry.size.next_multiple_of(512);
                    let skip = i64::try_from(size).map_err(TransferError::host("read"))?;
                    input.seek_relative(skip).map_err(fail("read the archive"))?;
                    at += size;
                }
            }
            if parser.is_at_end() {
                break;
            }
        }
        Ok(Self { file, places })
    }

    fn named<T: DeserializeOwned>(&self, name: &str) -> Result<T, TransferError> {
        let bytes = self.bytes(name)?;
        parse(name, &bytes)
    }

    fn document<T: DeserializeOwned>(&self, what: &Descriptor) -> Result<T, TransferError> {
        let digest = digest(&what.digest)?;
        let name = format!("blobs/sha256/{}", digest.hex());
        let bytes = self.bytes(&name)?;
        if Digest::of(&bytes) != digest {
            return Err(TransferError::unusable(format!("{name} is damaged: not of that digest")));
        }
        parse(&name, &bytes)
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, TransferError> {
        let (at, size) = self.place(name)?;
        if size > DOCUMENT_BYTES {
            let text = format!("{name} has more than {DOCUMENT_BYTES} bytes");
            return Err(TransferError::unusable(text));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        let read = self.file.read_exact_at(&mut bytes, at);
        read.map_err(|_short| TransferError::unusable(format!("{name} ends too early")))?;
        Ok(bytes)
    }

    fn place(&self, name: &str) -> Result<(u64, u64), TransferError> {
        let place = self.places.get(name).copied();
        place.ok_or_else(|| {
            TransferError::unusable(format!("there is no {name} in it, expected an OCI archive"))
        })
    }

    fn layer(
        &self,
        layer: &Descriptor,
        diff_id: &str,
        place: &Path,
        options: &Options,
    ) -> Result<(), TransferError> {
        let (digest, diff_id) = (digest(&layer.digest)?, digest(diff_id)?);
        let name = format!("blobs/sha256/{}", digest.hex());
        let (at, size) = self.place(&name)?;
        std::fs::create_dir(place).map_err(TransferError::host("make a directory"))?;
        let unpacked = unpack(Section { file: self.file, at, left: size }, place, options);
        let unpacked = unpacked.map_err(|error| match error {
            error if error.is_full() => TransferError::host("unpack a layer")(error),
            UnpackError::Thread(_) | UnpackError::Directory(_) => {
                TransferError::host("unpack a layer")(error)
            }
            error => TransferError::unusable(format!("{name} cannot be unpacked: {error}")),
        })?;
        if unpacked.digest != digest || unpacked.diff_id != diff_id {
            return Err(TransferError::unusable(format!("{name} is damaged: not of that digest")));
        }
        Ok(())
    }
}

/// Whether there was a whole block.
fn read_block(input: &mut impl Read, block: &mut [u8; 512]) -> io::Result<bool> {
    match input.read_exact(block) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, TransferError> {
    serde_json::from_slice(bytes).map_err(|error| {
        TransferError::unusable(format!("{name} is not what images have there: {error}"))
    })
}

fn digest(text: &str) -> Result<Digest, TransferError> {
    text.parse()
        .map_err(|error: warren_layer::digest::NoDigest| TransferError::unusable(error.to_string()))
}

/// A part of a file.
struct Section<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(buffer.get_mut(..most).unwrap_or_default(), self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{
        super::{Departing, depart},
        *,
    };

    fn departing(layers: Vec<std::path::PathBuf>, own: usize) -> Departing {
        Departing {
            layers,
            own,
            base_name: "host".to_owned(),
            base_digest: None,
            name: "saved".to_owned(),
            env: BTreeMap::from([("A".to_owned(), "b=c".to_owned())]),
            user: "user".to_owned(),
            workdir: "/home/user".to_owned(),
            marks: marks(),
        }
    }

    fn marks() -> warren_layer::Marks {
        match rustix::process::geteuid().is_root() {
            true => warren_layer::Marks::Trusted,
            false => warren_layer::Marks::User,
        }
    }

    fn options() -> Options {
        let ignore_owners = !rustix::process::geteuid().is_root();
        Options { marks: marks(), ignore_owners, ..Options::default() }
    }

    /// An archive of three layers, of which two are snapshots'.
    fn archive(place: &Path) -> File {
        for (name, text) in [("base", "0"), ("one", "1"), ("two", "2")] {
            fs::create_dir_all(place.join(name).join("etc")).unwrap();
            fs::write(place.join(name).join("etc/name"), text).unwrap();
            fs::write(place.join(name).join("etc/hostname"), "secret").unwrap();
        }
        let layers = ["base", "one", "two"].map(|it| place.join(it)).to_vec();
        depart(&departing(layers, 2), place).unwrap()
    }

    #[test]
    fn what_departs_arrives() {
        let place = tempfile::tempdir().unwrap();
        let file = archive(place.path());
        let to = place.path().join("to");
        fs::create_dir(&to).unwrap();
        let (arrived, own) = arrive(&file, &to, &options()).unwrap();
        assert_eq!((own, arrived.base_name.as_str(), arrived.base_digest), (2, "host", None));
        assert_eq!(arrived.env, BTreeMap::from([("A".to_owned(), "b=c".to_owned())]));
        assert_eq!((arrived.user.as_str(), arrived.workdir.as_str()), ("user", "/home/user"));
        assert_eq!(fs::read_to_string(to.join("0/etc/name")).unwrap(), "1");
        assert_eq!(fs::read_to_string(to.join("1/etc/name")).unwrap(), "2");
        assert!(!to.join("0/etc/hostname").exists() && !to.join("2").exists());
    }

    #[test]
    fn damage_is_seen_wherever_it_is() {
        let place = tempfile::tempdir().unwrap();
        let mut file = archive(place.path());
        let mut whole = Vec::new();
        file.read_to_end(&mut whole).unwrap();
        let try_it = |bytes: &[u8]| {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("file");
            fs::write(&path, bytes).unwrap();
            fs::create_dir(place.path().join("to")).unwrap();
            arrive(&File::open(path).unwrap(), &place.path().join("to"), &options())
        };
        try_it(&whole).unwrap();
        // The last block of content may lack what fills it up.
        for length in (0..whole.len() - 1536).step_by(101) {
            assert!(try_it(&whole[..length]).is_err(), "{length}");
        }
        let error = try_it(b"no archive").unwrap_err().to_string();
        assert!(error.contains("ends too early"), "{error}");
        let text = String::from_utf8_lossy(&whole).into_owned();
        let at = text.find("\"Env\"");
        assert!(at.is_some(), "the configuration is in it as it is");
        // A byte of each kilobyte: what still arrives, arrives as it was.
        for at in (0..whole.len()).step_by(1021) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            if let Ok((arrived, own)) = try_it(&damaged) {
                assert_eq!((arrived.user.as_str(), own), ("user", 2), "{at}");
            }
        }
    }

    #[test]
    fn what_is_no_snapshot_is_named() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("layer")).unwrap();
        fs::create_dir(place.path().join("to")).unwrap();
        for (own, words) in [(0, "expected 1 to 1"), (2, "expected 1 to 1")] {
            let departing = departing(vec![place.path().join("layer")], own);
            let file = depart(&departing, place.path()).unwrap();
            let error = arrive(&file, &place.path().join("to"), &options()).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
