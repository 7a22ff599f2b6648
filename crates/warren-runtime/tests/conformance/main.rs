//! What every runtime must do, run against the namespace runtime on this host.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking and says why it skips"
)]

mod faults;
mod harness;
mod lifecycle;
mod network;
mod snapshots;
mod storage;
