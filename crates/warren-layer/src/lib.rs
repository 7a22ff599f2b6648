//! Layers of overlay file systems, as files and nothing else.
//!
//! A *layer* is a directory as overlayfs takes it for a lower one: what is in it hides what is
//! below, a character device 0:0 removes a name, and a directory with an opaque mark hides
//! everything of the same directory below. An *image layer* is the same as a tar archive, with
//! files named `.wh.NAME` and `.wh..wh..opq` instead (OCI image specification, "Image Layer
//! Filesystem Changeset").
//!
//! | module | what |
//! |---|---|
//! | [`mod@unpack`] | an image layer becomes a layer |
//! | [`mod@pack`] | a layer becomes an image layer |
//! | [`copy`] | a layer that is in use is copied, and the copy made exact |
//! | [`manifest`] | what a layer holds, with checksums |
//! | [`diff`] | what differs between two stacks of layers |
//! | [`merge`] | several layers become one |
//! | [`marks`] | how whiteouts and opaque directories are written and recognised |
//! | [`node`] | what a file is, and how it is told from its earlier self |
//! | [`digest`] | SHA-256 |
//!
//! Everything here takes paths and descriptors; sandboxes, images and snapshots are other crates'.
//! All functions block; some start threads that end before they return.
#![cfg(target_os = "linux")]

mod attributes;
pub mod copy;
pub mod diff;
pub mod digest;
pub mod manifest;
pub mod marks;
pub mod merge;
pub mod node;
pub mod pack;
mod remove;
mod stack;
pub mod unpack;
mod walk;

pub use attributes::Xattr;
pub use digest::Digest;
pub use manifest::Manifest;
pub use marks::Marks;
pub use node::{Kind, Moment, Stamp};
pub use pack::pack;
pub use unpack::unpack;
pub use walk::FileError;
