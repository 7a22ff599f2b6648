//! Images: what root filesystems are made from, and the store that keeps them.
//!
//! A runtime that takes OCI images has an [`ImageStore`]. Core decides who may change it and which
//! images are in use; the store pulls, keeps and removes.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::mpsc;

use crate::clock::Timestamp;

mod digest;
mod facade;
mod reference;

pub use digest::{Digest, InvalidDigest};
pub(crate) use facade::parse;
pub use facade::{Images, Listed};
pub use reference::{DEFAULT_REGISTRY, InvalidReference, Reference, Version};

/// Where images are kept.
///
/// Dropping the future of a method stops the work; what was fetched of an image by then is no image
/// yet, and helps the next attempt.
#[async_trait]
pub trait ImageStore: Send + Sync + std::fmt::Debug + 'static {
    /// Every image that is here.
    fn list(&self) -> Vec<Arc<Image>>;

    /// The image that a reference names, if it is here. It stays for as long as it is held.
    fn find(&self, reference: &Reference) -> Option<Held>;

    /// The image of this identity, if it is here, or the only one whose digits begin like this.
    fn find_id(&self, id: &str) -> Option<Held>;

    /// Fetches an image from its registry, or finds that what is here is what the registry has.
    async fn pull(&self, wanted: &Pull, progress: &Progress) -> Result<Held, ImageError>;

    /// Takes a name away from an image, and the image where it was the last name and nobody uses
    /// it. Gives the images that went, and how many bytes came free.
    async fn untag(&self, reference: &Reference, in_use: &InUse) -> Result<Removed, ImageError>;

    /// Removes an image with all its names; one that is in use is refused.
    async fn remove(&self, id: Digest, in_use: &InUse) -> Result<Removed, ImageError>;

    /// Removes images that nobody uses.
    async fn prune(&self, which: Prune, in_use: &InUse) -> Result<Removed, ImageError>;

    /// Takes images out of an archive or another program. Those without a name in it get `name`.
    async fn import(
        &self,
        source: ImportSource,
        name: Option<&Reference>,
        progress: &Progress,
    ) -> Result<Vec<Held>, ImageError>;

    /// An image as a tar archive, piece by piece.
    async fn export(
        &self,
        image: &Held,
        name: Option<&Reference>,
        format: ExportFormat,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, ImageError>;

    /// Sends an image to a registry under a name there. Gives the digest of its manifest.
    async fn push(
        &self,
        image: &Held,
        target: &Reference,
        progress: &Progress,
    ) -> Result<Digest, ImageError>;

    /// Sends a snapshot that [`crate::runtime::Runtime::pack_snapshot`] has packed to a registry,
    /// under a name there. Gives the digest of its manifest.
    async fn push_packed(
        &self,
        archive: File,
        target: &Reference,
        progress: &Progress,
    ) -> Result<Digest, ImageError>;

    /// Fetches a snapshot that was sent so from its registry, with the image that it lies on where
    /// that is not here.
    async fn pull_packed(&self, wanted: &Pull, progress: &Progress) -> Result<Packed, ImageError>;

    /// Gives an image one more name; one that another image has goes over to it.
    async fn tag(&self, image: &Held, name: &Reference) -> Result<(), ImageError>;

    /// How many bytes all images take on the disk.
    fn bytes(&self) -> u64;
}

/// What is known about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration, and with that of its layers: what a sandbox is pinned to.
    pub id: Digest,
    /// Its names, in order.
    pub references: Vec<Reference>,
    /// Its layers, the lowest first.
    pub layers: Vec<ImageLayer>,
    /// What commands in it get to know.
    pub config: ImageConfig,
    /// When it was made, as the image says.
    pub created: Option<String>,
    /// Such as `linux/amd64`.
    pub platform: String,
    /// When it came here.
    pub pulled_at: Timestamp,
}

impl Image {
    /// What its layers take unpacked, shared ones included, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }
}

/// A layer of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLayer {
    /// The digest of the layer's tar archive, without compression.
    pub diff_id: Digest,
    /// What it takes unpacked, in bytes.
    pub bytes: u64,
}

/// What an image says about commands in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Their environment.
    pub env: BTreeMap<String, String>,
    /// Who they run as, root where absent: a name or a number, perhaps with `:` and a group.
    pub user: Option<String>,
    /// Where they start; `/` where absent.
    pub workdir: Option<String>,
    /// The program that the image is for.
    pub entrypoint: Vec<String>,
    /// Its arguments where nobody gives others, or the program where there is none.
    pub cmd: Vec<String>,
    /// Free text.
    pub labels: BTreeMap<String, String>,
    /// Ports it means to listen on, such as `80/tcp`.
    pub ports: Vec<String>,
}

impl ImageConfig {
    /// The command that the image starts with; empty where it names none.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }
}

/// An image that is not removed for as long as this lives.
#[derive(Clone, Debug)]
pub struct Held {
    /// The image.
    pub image: Arc<Image>,
    _lease: Arc<dyn Lease>,
}

/// What keeps an image: dropping it lets it go.
pub trait Lease: Send + Sync + std::fmt::Debug {}

impl Held {
    /// An image and what keeps it.
    #[must_use]
    pub fn new(image: Arc<Image>, lease: Arc<dyn Lease>) -> Self {
        Self { image, _lease: lease }
    }
}

/// A snapshot that has come from a registry.
pub struct Packed {
    /// What [`crate::runtime::Runtime::unpack_snapshot`] takes. What it reads is kept until it is
    /// dropped.
    pub archive: BoxStream<'static, std::io::Result<Bytes>>,
    /// The image below the snapshot's own layers; none where that is the host's own.
    pub base: Option<Held>,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packed").field("base", &self.base).finish_non_exhaustive()
    }
}

/// What is to be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// The image's name.
    pub reference: Reference,
    /// Whether this machine's user asks: their credentials are used for nobody else.
    pub with_credentials: bool,
}

/// Which images are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prune {
    /// Those without a name.
    Unnamed,
    /// All that no sandbox uses.
    Unused,
    /// Those that have not been used for the longest time, until the store is within its limit.
    OverLimit,
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that mean nothing any more.
    pub references: Vec<Reference>,
    /// Images that are gone.
    pub images: Vec<Digest>,
    /// How many bytes came free.
    pub bytes: u64,
}

/// Where images are imported from.
pub enum ImportSource {
    /// A directory of this machine in OCI's layout, or a tar archive: in the same layout, or what
    /// `docker save` writes.
    Path(PathBuf),
    /// An archive, as it arrives.
    Stream(BoxStream<'static, std::io::Result<Bytes>>),
    /// The image of this name in the Docker of this machine.
    Docker(String),
    /// The image of this name in the containerd of this machine.
    Containerd(String),
}

impl std::fmt::Debug for ImportSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Stream(_) => f.write_str("Stream"),
            Self::Docker(name) => f.debug_tuple("Docker").field(name).finish(),
            Self::Containerd(name) => f.debug_tuple("Containerd").field(name).finish(),
        }
    }
}

/// How an image is written as an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExportFormat {
    /// OCI's layout, which Podman, Skopeo and newer Dockers read.
    #[default]
    Oci,
    /// With what `docker load` of any version wants beside it.
    Docker,
}

/// Tells which images are in use: asked while the store stands still, so that no image that a
/// create has just found is removed under it.
pub type InUse = Arc<dyn Fn() -> HashSet<Digest> + Send + Sync>;

/// Where it is told how far a transfer has come. What nobody reads in time is left out, but for
/// the numbers of bytes, of which a later one replaces an earlier.
#[derive(Clone, Debug, Default)]
pub struct Progress(Option<mpsc::Sender<Step>>);

impl Progress {
    /// Tells it to a channel.
    #[must_use]
    pub fn to(sender: mpsc::Sender<Step>) -> Self {
        Self(Some(sender))
    }

    /// Tells one step.
    pub fn tell(&self, step: Step) {
        if let Some(sender) = &self.0 {
            // Whoever does not keep up misses steps, and nobody waits for them.
            sender.try_send(step).ok();
        }
    }
}

/// How far a transfer has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is known what is to be transferred.
    Resolved {
        /// The image.
        id: Digest,
        /// Its layers as they are transferred, each with its size in bytes.
        layers: Vec<(Digest, u64)>,
    },
    /// A layer is there already.
    Present(Digest),
    /// Bytes of a layer have been transferred.
    Transferred {
        /// Which.
        layer: Digest,
        /// So far.
        bytes: u64,
        /// Of so many.
        of: u64,
    },
    /// A layer is being unpacked.
    Unpacking(Digest),
    /// A layer is done.
    Done(Digest),
    /// Something a person should know: a device node that was left out, a second attempt.
    Note(String),
}

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is not here.
    #[error("there is no image {name} here")]
    NotFound {
        /// The name asked for.
        name: String,
    },
    /// Its registry does not have it, or does not show it to us.
    #[error("the registry {registry} has no {name} for us: {reason}")]
    NotInRegistry {
        /// Which.
        registry: String,
        /// The image.
        name: String,
        /// What the registry says.
        reason: String,
    },
    /// Its registry cannot be reached.
    #[error(
        "could not reach the registry {registry}: {reason}; the image `host` needs no registry, \
         and `warren image import` takes images from files"
    )]
    Unreachable {
        /// Which.
        registry: String,
        /// Why.
        reason: String,
    },
    /// Its registry is there, and did not do it.
    #[error(
        "the registry {registry} does not send what it should: {reason}; another attempt may do better"
    )]
    Failing {
        /// Which.
        registry: String,
        /// What it does.
        reason: String,
    },
    /// The registry answered with something that no registry should, or sent something else than
    /// what it promised.
    #[error("{what} cannot be used: {reason}")]
    Unusable {
        /// What.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Callers from afar may not make this server talk to that registry.
    #[error(
        "callers with a key may not pull from the registry {registry}; the setting \
         `registries_for_keys` lists those they may"
    )]
    RegistryNotAllowed {
        /// Which.
        registry: String,
    },
    /// The image is larger than this server takes.
    #[error("{what}: at most {most} are taken here")]
    TooLarge {
        /// Of what there is too much.
        what: String,
        /// How much is allowed.
        most: u64,
    },
    /// The image is larger than the operator of this server allows.
    #[error("{what}: at most {most} are taken here, as the setting `{setting}` says")]
    AboveSetting {
        /// Of what there is too much.
        what: String,
        /// How much is allowed.
        most: u64,
        /// Which setting allows it.
        setting: &'static str,
    },
    /// A sandbox, a snapshot or a template is made from it.
    #[error("image {name} is in use")]
    InUse {
        /// Which.
        name: String,
    },
    /// The disk is full.
    #[error("the disk is full; `warren image prune` removes what nobody uses")]
    DiskFull,
    /// Something on the host failed.
    #[error("could not {operation}")]
    Host {
        /// The step.
        operation: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ImageError {
    /// Names the step that an error of the system came from; for `map_err`.
    pub fn host(operation: &'static str) -> impl Fn(std::io::Error) -> Self + Copy {
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Host { operation, source },
        }
    }

    /// Something that came from outside and is not as it should be.
    pub fn unusable(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Unusable { what: what.into(), reason: reason.to_string() }
    }
}
