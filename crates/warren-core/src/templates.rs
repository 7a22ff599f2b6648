//! Templates: what sandboxes are made from, by name, and the builds that make them.
//!
//! A template has versions; a tag names one of them. A version is an image (a stack of layers on a
//! base), what commands in it get to know, and what is started in a new sandbox before anybody has
//! it. A build makes a version: each step that changes files runs in a sandbox of its own, on the
//! layers of the steps before it, and its files become the next layer. What a step made is found
//! again by what it was made from.
//!
//! In reading order: [`model`] says what a template is, [`request`] what somebody asks to be built,
//! `table` holds everything in memory, `facade` is what the edges call, `builder` builds,
//! `start` starts and waits, `resolve` finds what a name means.

mod builder;
mod facade;
pub mod files;
mod log;
pub mod model;
pub mod request;
mod resolve;
mod start;
mod table;
mod warm;

pub use facade::{BuildFollower, Templates};
pub use log::{BuildLogEntry, Level};
pub(crate) use resolve::base;
pub(crate) use start::start;
pub(crate) use table::{CachedStep, Table, restore};
