//! What a sandbox is to be: the part of a request that a runtime needs to make a guest.

use std::{path::PathBuf, sync::Arc};

use crate::{
    egress::Egress,
    id::{SnapshotId, VolumeId},
};

/// What is told to whoever asks for a limit of disk space where the storage has none.
pub(crate) const NO_DISK_LIMITS: &str =
    "the storage of this server has no limits; `warren setup storage` makes one that has";

/// Everything a [`crate::runtime::Runtime`] needs to make one guest.
///
/// Environment, default user and secrets are not here: they reach the guest agent later, over its
/// control socket, so that no process but the guest itself ever holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What the root filesystem is made from.
    pub image: Image,
    /// What the guest may use.
    pub limits: Limits,
    /// How much the guest's root may do.
    pub profile: Profile,
    /// What the guest may reach.
    pub network: Network,
    /// The name the guest sees as its own; the sandbox id where absent.
    pub hostname: Option<String>,
    /// Directories of the host that the guest sees.
    pub mounts: Vec<HostDirectory>,
    /// Volumes that the guest sees.
    pub volumes: Vec<VolumeMount>,
}

/// A volume inside a guest, with the ids of the inside on its files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VolumeMount {
    /// Which.
    pub volume: VolumeId,
    /// Where it is in the guest: an absolute path, made where it is missing.
    pub target: String,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

/// A directory of the host inside a guest. Files in it belong to the guest's user there and to the
/// directory's owner outside, whoever of the two wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDirectory {
    /// Where it is on the host: an absolute path without `..`.
    pub source: PathBuf,
    /// Where it is in the guest: an absolute path, made where it is missing.
    pub target: String,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// Why it may be had.
    pub grant: Grant,
}

/// Why a sandbox may have a directory of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It belongs to the caller, whom the kernel vouches for.
    Owner,
    /// It is this directory, or beneath it, which the operator gives to everybody.
    Beneath(PathBuf),
}

/// What a root filesystem is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Image {
    /// The host's own `/usr`, read-only, under a clean root.
    Host,
    /// A directory that holds a root filesystem; it is never written to.
    Directory(PathBuf),
    /// A tar archive of a root filesystem, unpacked once.
    Archive(PathBuf),
    /// An image of the image store.
    Oci(OciImage),
    /// What a sandbox was at some moment.
    Snapshot(Stack),
}

/// An image of the image store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OciImage {
    /// What the caller named: `python:3.12`, `registry.example/team/tool@sha256:...`.
    pub reference: String,
    /// What that was when the sandbox was made: the digest of the image's configuration,
    /// `sha256:` and 64 hex digits. A runtime takes nothing without it.
    pub id: Option<String>,
}

/// Saved files, layer over layer, on an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// The saved layers, the topmost first: the snapshot itself, then what it was made on.
    pub layers: Vec<SnapshotId>,
    /// What lies below them: never a snapshot.
    pub base: Box<Image>,
}

impl Stack {
    /// How many saved layers there may be over each other. More make look-ups slow, and the kernel
    /// mounts 500 at most.
    pub const MOST_LAYERS: usize = 64;
}

impl Image {
    /// The image that `layer` makes on top of this one.
    #[must_use]
    pub fn under(&self, layer: SnapshotId) -> Stack {
        match self {
            Self::Snapshot(Stack { layers, base }) => {
                let layers = [layer].into_iter().chain(layers.iter().copied()).collect();
                Stack { layers, base: base.clone() }
            }
            base => Stack { layers: vec![layer], base: Box::new(base.clone()) },
        }
    }

    /// The saved layers that this image needs, the topmost first.
    #[must_use]
    pub fn layers(&self) -> &[SnapshotId] {
        match self {
            Self::Snapshot(stack) => &stack.layers,
            _ => &[],
        }
    }

    /// What is below everything that was saved.
    #[must_use]
    pub fn base(&self) -> &Self {
        match self {
            Self::Snapshot(stack) => &stack.base,
            other => other,
        }
    }
}

/// What a guest may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes, page cache of the guest included.
    pub memory_bytes: u64,
    /// Processor time in thousandths of one core: 1500 is one core and a half.
    pub cpu_millis: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Open files of one process.
    pub open_files: u32,
    /// What the guest may write to its own root filesystem, in bytes; none for no limit.
    pub disk_bytes: Option<u64>,
}

/// How much the guest's root may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `sudo` works: bounded capabilities inside the user namespace.
    #[default]
    Default,
    /// No capability, no new privileges, never root.
    Strict,
}

/// What the guest may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Network {
    /// The internet; never the host, private ranges, metadata addresses or other sandboxes.
    #[default]
    Open,
    /// Its own loopback alone.
    None,
    /// Of the internet what these rules allow.
    Rules(Arc<Egress>),
}
