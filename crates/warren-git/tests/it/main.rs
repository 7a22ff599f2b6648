//! Sessions with the real git, against a real HTTP server that wants a password.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test asserts by unwrapping, in its helpers too"
)]

#[path = "../../examples/custom_machine/directory.rs"]
mod directory;

mod access;
mod clones;
mod concurrent;
mod lifecycle;
mod pushes;
mod remote;
mod repositories;
mod safety;
mod stops;
mod work;
mod world;
