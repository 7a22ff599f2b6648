//! What differs between the files of two sandboxes, snapshots or images.

use std::collections::BTreeSet;

use tokio::sync::{mpsc, oneshot};

use crate::{
    error::SandboxError, id::SandboxId, runtime::RuntimeError, snapshots::Hold, spec::Image,
};

/// Files that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// Those of an image, or of a snapshot.
    Image(Image),
    /// Those of a sandbox as they are now, running or not.
    Sandbox {
        /// Which.
        id: SandboxId,
        /// What it was made from.
        image: Image,
    },
}

impl Files {
    /// What is below the files of the sandbox, or the image itself.
    #[must_use]
    pub fn image(&self) -> &Image {
        match self {
            Self::Image(image) | Self::Sandbox { image, .. } => image,
        }
    }
}

/// How files are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Bytes of the largest file whose lines are compared; none are with `None`.
    pub patch_bytes: Option<u64>,
    /// Whether files are compared that say which sandbox it is, and where: its name, addresses.
    pub with_identity: bool,
}

/// A path at which files differ. At least one side is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Absolute; what is no UTF-8 in it is replaced.
    pub path: String,
    /// In what the two sides differ, if both are there.
    pub aspects: BTreeSet<Aspect>,
    /// What was there.
    pub before: Option<Side>,
    /// What is there.
    pub after: Option<Side>,
    /// The lines that differ, of a file, where they were asked for.
    pub patch: Option<Patch>,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// `file`, `directory`, `symlink`, `pipe`, `socket` or `device`.
    pub kind: &'static str,
    /// Bytes of a file, zero for others.
    pub size: u64,
    /// Bits of the mode.
    pub mode: u32,
    /// The user who owns it, as a number.
    pub user: u32,
    /// The group that owns it, as a number.
    pub group: u32,
    /// Where a symbolic link leads.
    pub link: Option<String>,
}

/// In what two sides differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// What it is.
    Kind,
    /// A file's bytes.
    Content,
    /// Where a symbolic link leads.
    Link,
    /// Bits of the mode.
    Mode,
    /// User or group.
    Owner,
    /// Extended attributes.
    Attributes,
}

/// How a file's content differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// A unified diff, of two texts.
    Text(String),
    /// One of the two is no text.
    Binary,
    /// One of the two is larger than what is compared.
    TooLarge,
}

/// Differences, as they are found: in the order of paths.
#[derive(Debug)]
pub struct Changes {
    found: mpsc::Receiver<Change>,
    outcome: oneshot::Receiver<Result<(), RuntimeError>>,
    /// Saved files stay until all were compared.
    _holds: [Hold; 2],
}

impl Changes {
    pub(crate) fn new(
        found: mpsc::Receiver<Change>,
        outcome: oneshot::Receiver<Result<(), RuntimeError>>,
        holds: [Hold; 2],
    ) -> Self {
        Self { found, outcome, _holds: holds }
    }

    /// The next one; `None` when there are no more. Not to be called again then.
    ///
    /// # Errors
    ///
    /// [`SandboxError`] when the files cannot be compared to the end.
    pub async fn next(&mut self) -> Result<Option<Change>, SandboxError> {
        if let Some(change) = self.found.recv().await {
            return Ok(Some(change));
        }
        match (&mut self.outcome).await {
            Ok(Ok(())) => Ok(None),
            Ok(Err(error)) => Err(SandboxError::runtime("compare the files")(error)),
            Err(_stopped) => Err(SandboxError::ShuttingDown),
        }
    }
}
