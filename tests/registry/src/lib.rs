//! A real registry on a loopback address, and images made by hand to put into it.
//!
//! For tests and measurements alone. [`Image`]s are built from [`Tree`]s, byte by byte, so that a
//! hostile or broken one is as easy to make as a good one. [`Registry`] runs the program
//! `docker-registry` and puts images where that program looks for them. A [`Proxy`] stands before
//! it and loses the connection when it is told to, an [`HttpProxy`] passes on what is asked of it.

mod http_proxy;
mod image;
mod layout;
mod proxy;
mod registry;
mod tree;

pub use http_proxy::HttpProxy;
pub use image::{Blob, Image, Layer, digest};
pub use layout::write_layout;
pub use proxy::Proxy;
pub use registry::{Registry, RegistryError};
pub use tree::Tree;
