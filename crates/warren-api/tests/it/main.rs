//! The client against a server whose every byte the test decides.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failing test says where, and shared helpers are no tests to clippy"
)]

mod remote;

mod repeat;

mod script;

mod streams;
