//! The public interface of core, on a fake runtime.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test asserts by unwrapping, in its helpers too"
)]

mod access;
mod credentials;
mod domains;
mod driver;
mod events;
mod health;
mod images;
mod memory;
mod network;
mod pool;
mod rest;
mod restart;
mod secrets;
mod snapshots;
mod store;
mod templates;
mod upgrade;
mod volumes;
mod world;
