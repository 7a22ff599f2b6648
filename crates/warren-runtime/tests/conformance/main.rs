//! What every runtime must do, run against the namespace runtime on this host.

#![cfg(target_os = "linux")]

mod faults;
mod harness;
mod lifecycle;
