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
//! | [`unpack`] | an image layer becomes a layer |
//! | [`marks`] | how whiteouts and opaque directories are written and recognised |
//! | [`digest`] | SHA-256 |
//!
//! Everything here takes paths and descriptors; sandboxes, images and snapshots are other crates'.
//! All functions block; some start threads that end before they return.
#![cfg(target_os = "linux")]

pub mod digest;
pub mod marks;
mod remove;
pub mod unpack;

pub use digest::Digest;
pub use marks::Marks;
pub use unpack::unpack;
