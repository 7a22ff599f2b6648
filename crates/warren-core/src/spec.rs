//! What a sandbox is to be: the part of a request that a runtime needs to make a guest.

use std::path::PathBuf;

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
    /// An OCI reference. The seam for the image store; no runtime takes it yet.
    Oci(String),
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Network {
    /// The internet; never the host, private ranges, metadata addresses or other sandboxes.
    #[default]
    Open,
    /// Its own loopback alone.
    None,
}
