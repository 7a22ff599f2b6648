//! What goes wrong with layers that are unpacked.

use std::io;

/// Why a layer was not unpacked, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The source could not be read to its end. Another try may do better.
    #[error("could not read the layer: {0}")]
    Read(#[source] io::Error),
    /// A compression that image layers do not have.
    #[error("the layer is compressed with {0}, expected gzip, zstd or none")]
    Compression(&'static str),
    /// The compressed form is damaged.
    #[error("the layer is broken: could not decompress it: {0}")]
    Compressed(#[source] io::Error),
    /// More than is allowed.
    #[error("the layer has more than {most} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        most: u64,
    },
    /// An entry that is not unpacked, or an archive that is none; or the file system refused.
    #[error(transparent)]
    Archive(#[from] warren_archive::UnpackError),
    /// The directory to unpack to cannot be used.
    #[error("could not open the layer's directory: {0}")]
    Directory(#[source] io::Error),
    /// There was no thread to be had.
    #[error("could not start a thread: {0}")]
    Thread(#[source] io::Error),
}

impl UnpackError {
    /// Whether this host has no room left, rather than the layer being at fault.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        match self {
            Self::Archive(warren_archive::UnpackError::Io { source, .. })
            | Self::Read(source)
            | Self::Directory(source) => full.contains(&source.kind()),
            _ => false,
        }
    }

    pub(super) fn io<E: Into<io::Error>>(
        operation: &'static str,
        name: &[u8],
    ) -> impl FnOnce(E) -> Self {
        let wrap = warren_archive::UnpackError::io(operation, name);
        move |source| Self::Archive(wrap(source))
    }

    pub(super) fn refused(name: &[u8], reason: &'static str) -> Self {
        Self::Archive(warren_archive::UnpackError::refused(name, reason))
    }

    pub(super) fn too_much(what: &'static str, most: u64) -> Self {
        Self::TooMuch { what, most }
    }
}
