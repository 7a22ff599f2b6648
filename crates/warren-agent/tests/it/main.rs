//! The agent from outside: the real program on two sockets, driven as its callers do.
//!
//! Works as root and as an ordinary user; as the latter everything runs as that user.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test asserts by unwrapping, in its helpers too"
)]

mod archive;
mod bad_input;
mod client;
mod contents;
mod control;
mod filesystem;
mod output;
mod process;
mod terminal;
mod tree;
mod watch;
