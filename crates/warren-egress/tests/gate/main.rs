//! The gate between real clients and servers on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test asserts by unwrapping, in its helpers too"
)]

mod connections;
mod credentials;
mod origin;
mod passing;
mod proxies;
mod requests;
mod world;
