//! Files that builds take in: the seam to what keeps them. Core streams; it never opens one.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::spec::Image;

/// Why a body broke off: whoever sends it knows.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A stream of bytes.
pub type Contents = BoxStream<'static, Result<Bytes, BodyError>>;

/// Where the trees of files are kept that builds copy from.
#[async_trait]
pub trait BuildFiles: Send + Sync + std::fmt::Debug + 'static {
    /// Takes a tar archive in, plain or compressed with gzip, and keeps what is in it as the tree
    /// `id`. One that is there already is replaced. On an error nothing of it is left.
    ///
    /// `id` has letters, digits, `-` and `_` alone.
    async fn take(&self, id: &str, archive: Contents, most_bytes: u64)
    -> Result<Taken, FilesError>;

    /// Whether there is such a tree; being asked for, it counts as used.
    async fn has(&self, id: &str) -> bool;

    /// What of a tree fits, and what it is: equal digests mean equal files, modes and names.
    async fn inspect(&self, id: &str, pick: &Pick) -> Result<Picked, FilesError>;

    /// What of a tree fits, as a tar archive to be unpacked at the destination.
    async fn pack(&self, id: &str, pick: &Pick, place: &Place) -> Result<Contents, FilesError>;

    /// The names that [`BuildFiles::pack`] gives the entries.
    async fn names(&self, id: &str, pick: &Pick) -> Result<Vec<String>, FilesError>;

    /// One file's bytes, for a path that [`Picked::archives`] named.
    async fn read(&self, id: &str, path: &str) -> Result<Contents, FilesError>;

    /// A tar archive of files that are in memory.
    async fn inline(&self, files: Vec<InlineFile>) -> Result<Contents, FilesError>;

    /// Removes a tree. One that is gone is no error.
    async fn remove(&self, id: &str) -> Result<(), FilesError>;

    /// Removes trees that nobody has asked for since so long.
    async fn prune(&self, older_than: std::time::Duration) -> Result<(), FilesError>;

    /// An image with nothing in it.
    fn empty(&self) -> Image;
}

/// A tree that was taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// Which files are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pick {
    /// Paths and patterns, relative to the tree. Of a directory, what is in it is meant.
    pub sources: Vec<String>,
    /// Patterns of what is left out after all, as in a `.dockerignore`.
    pub exclude: Vec<String>,
    /// Whether archives are to be found among the files.
    pub unpack: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picked {
    /// SHA-256 over names, kinds, modes and contents, as hexadecimal digits.
    pub digest: String,
    /// How many files, directories and links.
    pub entries: u64,
    /// The name of the one file that is all there is.
    pub single: Option<String>,
    /// Paths in the tree of tar archives that are to be unpacked; the rest does not hold them.
    pub archives: Vec<String>,
}

/// How picked files are to arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The name that the single file gets; its own where absent.
    pub name: Option<String>,
    /// The permission bits of all; their own where absent.
    pub mode: Option<u32>,
}

/// A file that is written out in a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineFile {
    /// Its name, without a slash.
    pub name: String,
    /// What it holds.
    pub content: Bytes,
    /// Its permission bits.
    pub mode: u32,
}

/// Why files could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// There is no such tree.
    #[error("the files {id} are not here: upload them again")]
    NotFound {
        /// Which.
        id: String,
    },
    /// A source names nothing.
    #[error("`{source_path}` is not among the files of the build, or is left out of them")]
    NoSource {
        /// As it was written.
        source_path: String,
    },
    /// The archive cannot be taken; the text says what was expected.
    #[error("{reason}")]
    Refused {
        /// What is wrong with it, for whoever sent it.
        reason: String,
    },
    /// The sender broke off.
    #[error("the upload broke off")]
    Broken(#[source] BodyError),
    /// The host failed.
    #[error("could not {operation}")]
    Host {
        /// What was to be done.
        operation: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
