//! The server through its routes, on a fake runtime and a store in memory.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test asserts by unwrapping, in its helpers too"
)]

mod access;
mod app;
mod bad_input;
mod credentials;
mod e2b;
mod edge;
mod events;
mod exec;
mod files;
mod images;
mod logs;
mod openapi;
mod routes;
mod sandboxes;
mod secrets;
mod server;
mod snapshots;
mod socket;
mod tcp;
mod watching;
