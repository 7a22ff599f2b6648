//! What the namespace runtime is told when it is opened.

use std::path::PathBuf;

use warren_core::spec::Limits;

use crate::{
    net::NetConfig,
    storage::{Driver, backing::Backing},
};

/// Settings of a [`super::NamespaceRuntime`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The storage directory, where sandboxes, images and blanks live. Must be mode 0700, or be
    /// in a directory that is: files in it may carry set-id bits that a guest made.
    pub data_dir: PathBuf,
    /// Where sockets live; short, and empty after a reboot.
    pub run_dir: PathBuf,
    /// A name that is unique among the servers of this host, 8 hex digits.
    pub instance: String,
    /// The guest agent's static binary.
    pub agent: &'static [u8],
    /// How many blanks wait for the next creates.
    pub blanks: usize,
    /// The limits that blanks are made with, so that a create with the same need not set them.
    pub limits: Limits,
    /// How much memory all guests together use at most, in bytes; nine tenths of the machine's
    /// where absent.
    pub all_memory_bytes: Option<u64>,
    /// How the writable part of a root filesystem is stored.
    pub storage: Driver,
    /// The pool that the storage directory is in, if it is in one; it grows when it is nearly
    /// full.
    pub backing: Option<Backing>,
    /// No sandbox is made while less than this is free in the storage directory, in bytes; a tenth
    /// of the filesystem where that is less.
    pub disk_reserve_bytes: u64,
    /// Where images come from and how many are kept.
    pub images: crate::images::Settings,
    /// Addresses and names.
    pub network: Network,
    /// Hand layers to overlayfs by path also where the kernel takes descriptors (Linux 6.13 and
    /// later). Older kernels get paths without being asked.
    pub layers_by_path: bool,
}

/// The memory of this machine in bytes.
#[must_use]
pub fn machine_memory() -> u64 {
    let machine = rustix::system::sysinfo();
    machine.totalram.saturating_mul(u64::from(machine.mem_unit).max(1))
}

/// How guests reach the outside.
#[derive(Clone, Debug)]
pub enum Network {
    /// No guest does, and why.
    Off(String),
    /// By routed veth pairs and NAT. `instance` and `index` are filled in by the runtime.
    On(NetConfig),
}
