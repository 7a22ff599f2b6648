//! The network of sandboxes on a real kernel, in network namespaces that each test makes.
//!
//! Needs root and nf_tables; where they are missing each test says so and counts as passed.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "helpers of tests, which the configuration's exceptions for tests do not see"
)]

mod again;
mod attach;
mod gate;
mod lab;
mod policy;
mod resolver;
mod rules;
mod six;
mod uplink;
