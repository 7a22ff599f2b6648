//! Saved files on their way to somewhere else, and back: OCI images in one file.
//!
//! ```text
//! oci-layout, index.json             which image it is
//! manifest.json                      the same for older programs
//! blobs/sha256/<manifest, config>    what it is made of, and how commands in it run
//! blobs/sha256/<layers>              the lowest first: of the base image, then those of snapshots
//! ```
//!
//! Everything that runs containers can load such a file. What only Warren knows is in annotations
//! of the manifest: how many of the topmost layers are snapshots', and what lies below them. The
//! host's own image does not travel; what is saved on it is packed alone.
//!
//! | file | what |
//! |---|---|
//! | `write` | packing layers into one file |
//! | `read` | a file from anybody, and the layers in it |
//! | `archive` | where the files of such an archive are |
//! | `document` | the JSON of both |

mod archive;
mod document;
mod read;
mod write;

pub(crate) use archive::contents;
pub(crate) use read::{About, about, arrive};
pub(crate) use write::{Departing, depart};

/// What may be wrong with a file from elsewhere, or with writing one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// It is not what was expected: the caller's mistake.
    #[error("{0}")]
    Unusable(String),
    /// This host failed.
    #[error("could not {operation}")]
    Host {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl TransferError {
    fn host<E>(operation: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Host { operation, source: source.into() }
    }

    fn unusable(text: impl Into<String>) -> Self {
        Self::Unusable(text.into())
    }
}
