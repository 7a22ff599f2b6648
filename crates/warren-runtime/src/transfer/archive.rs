//! Where the files of an archive are: read once, from its beginning to its end.
//!
//! Nothing of it is believed: every part is bounded, and named by its digest, which is compared.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
};

use serde::de::DeserializeOwned;
use warren_archive::{Event, Kind, Parser};
use warren_layer::Digest;

use super::{
    TransferError,
    document::{Descriptor, Index},
};

/// Bytes of the largest document.
const DOCUMENT_BYTES: u64 = 4 << 20;
/// The most entries that an archive may have.
const MOST_ENTRIES: usize = 10_000;

/// What an archive with one image holds.
#[derive(Debug)]
pub(crate) struct Contents {
    /// The image's manifest, as it is.
    pub(crate) manifest: Vec<u8>,
    places: HashMap<String, (u64, u64)>,
}

impl Contents {
    /// Where the blob with these digits begins, and its size in bytes.
    pub(crate) fn place_of(&self, digits: &str) -> Option<(u64, u64)> {
        self.places.get(&format!("blobs/sha256/{digits}")).copied()
    }
}

/// Reads what an archive with one image holds. Blocks.
pub(crate) fn contents(file: &File) -> Result<Contents, TransferError> {
    let archive = Archive::open(file)?;
    let manifest = archive.blob(&archive.only()?)?;
    Ok(Contents { manifest, places: archive.places })
}

/// Where the files of an archive are.
pub(super) struct Archive<'a> {
    pub(super) file: &'a File,
    places: HashMap<String, (u64, u64)>,
}

impl<'a> Archive<'a> {
    pub(super) fn open(file: &'a File) -> Result<Self, TransferError> {
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

    /// The one image of the archive.
    pub(super) fn only(&self) -> Result<Descriptor, TransferError> {
        let mut index: Index = self.named("index.json")?;
        match (index.manifests.pop(), index.manifests.len()) {
            (Some(only), 0) => Ok(only),
            (last, others) => {
                let count = others + usize::from(last.is_some());
                let text = format!("it holds {count} images, expected one");
                Err(TransferError::unusable(text))
            }
        }
    }

    /// A document whose digest is checked.
    pub(super) fn blob(&self, what: &Descriptor) -> Result<Vec<u8>, TransferError> {
        let digest = digest(&what.digest)?;
        let name = format!("blobs/sha256/{}", digest.hex());
        let bytes = self.bytes(&name)?;
        match Digest::of(&bytes) == digest {
            true => Ok(bytes),
            false => Err(TransferError::unusable(format!("{name} is damaged: not of that digest"))),
        }
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

    pub(super) fn place(&self, name: &str) -> Result<(u64, u64), TransferError> {
        let place = self.places.get(name).copied();
        place.ok_or_else(|| {
            TransferError::unusable(format!("there is no {name} in it, expected an OCI archive"))
        })
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

pub(super) fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, TransferError> {
    serde_json::from_slice(bytes).map_err(|error| {
        TransferError::unusable(format!("{name} is not what images have there: {error}"))
    })
}

pub(super) fn digest(text: &str) -> Result<Digest, TransferError> {
    text.parse()
        .map_err(|error: warren_layer::digest::NoDigest| TransferError::unusable(error.to_string()))
}
