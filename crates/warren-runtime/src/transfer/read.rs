//! A file from anybody, and the layers in it.
//!
//! Nothing of it is believed: every part is bounded, and named by its digest, which is compared.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt as _,
    path::Path,
};

use warren_layer::unpack::{Options, UnpackError, unpack};

use super::{
    TransferError,
    archive::{Archive, digest, parse},
    document::{BASE_DIGEST, BASE_NAME, Config, Descriptor, Manifest, OWN_LAYERS, Rootfs},
};

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
    let manifest: Manifest = parse("the manifest", &archive.blob(&archive.only()?)?)?;
    let config: Config = parse("the configuration", &archive.blob(&manifest.config)?)?;
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
        unpack_layer(&archive, (layer, diff_id), &place.join(number.to_string()), options)?;
    }
    Ok((arrived, own))
}

/// What is known about an image that a snapshot is packed as, before its layers are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct About {
    /// How many of the lowest layers are the base image's.
    pub(crate) below: usize,
    /// `host`, or the base image's reference.
    pub(crate) base_name: String,
    /// The base image's identity.
    pub(crate) base_digest: Option<String>,
    /// A configuration for the lowest layers alone.
    pub(crate) base_config: Vec<u8>,
}

/// Reads what an image's two documents say about the snapshot in it.
pub(crate) fn about(manifest: &[u8], config: &[u8]) -> Result<About, TransferError> {
    let mut manifest: Manifest = parse("the manifest", manifest)?;
    let config: Config = parse("the configuration", config)?;
    let own = own_layers(&manifest, &config)?;
    let below = manifest.layers.len() - own;
    let Rootfs { kind, mut diff_ids } = config.rootfs;
    diff_ids.truncate(below);
    let base = Config { rootfs: Rootfs { kind, diff_ids }, ..config };
    Ok(About {
        below,
        base_name: manifest.annotations.remove(BASE_NAME).unwrap_or_default(),
        base_digest: manifest.annotations.remove(BASE_DIGEST),
        base_config: serde_json::to_vec(&base).map_err(TransferError::host("write JSON"))?,
    })
}

/// How many of the topmost layers are to be unpacked.
fn own_layers(manifest: &Manifest, config: &Config) -> Result<usize, TransferError> {
    let Some(own) = manifest.annotations.get(OWN_LAYERS) else {
        return Err(TransferError::unusable(
            "it is an image and no snapshot of ours; `warren image import` and `warren image pull` \
             take images",
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

fn unpack_layer(
    archive: &Archive<'_>,
    (layer, diff_id): (&Descriptor, &str),
    place: &Path,
    options: &Options,
) -> Result<(), TransferError> {
    let (digest, diff_id) = (digest(&layer.digest)?, digest(diff_id)?);
    let name = format!("blobs/sha256/{}", digest.hex());
    let (at, size) = archive.place(&name)?;
    std::fs::create_dir(place).map_err(TransferError::host("make a directory"))?;
    let unpacked = unpack(Section { file: archive.file, at, left: size }, place, options);
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
