//! Making, finding and removing guests on this host.
//!
//! Runtimes act and do not decide: what a sandbox is, whose it is and how long it lives is the
//! business of `warren-core`, whose [`Runtime`](warren_core::runtime::Runtime) trait they
//! implement. Read [`namespace`] first; the other modules are what it is made of.

mod builds;
mod error;
mod image;
mod journal;
pub mod namespace;
pub mod net;
mod rescues;
pub mod rootless;
mod snapshots;
pub mod storage;
pub mod traces;
mod transfer;

/// Settings of the image store.
pub mod images {
    pub use crate::image::{Proxy, Settings};
}
mod volumes;
