//! What every runtime must do, run against the namespace runtime on this host.

#![cfg(target_os = "linux")]

mod harness;
mod lifecycle;
