//! End-to-end tests: the real `warren`, a real server, real sandboxes.
//!
//! Every test has a `harness::Home`: a data directory and with it a server of its own, removed
//! when the test ends, however it ends. Tests are grouped by what a person would call them; the ones
//! below `security` play a hostile guest.
//!
//! `cargo xtask test e2e` builds the binary first and names it in `TEST_WARREN_BIN`; without that
//! the one beside the tests in the target directory is taken.

#![cfg(test)]

mod harness;

mod main_job;

mod mounts;

mod output;

mod restarts;

mod dialect;

mod files;

mod trees;

mod diff;

mod travel;

mod images;

mod pulled;

mod registries;

mod docker;

mod templates;

mod built;

mod lifecycle;

mod limits;

mod snapshots;

mod storage;

mod volumes;

mod mistakes;

mod crash;

mod killed;

mod faults;

mod leaks;

mod upgrade;

mod reboot;

mod remote;

mod e2b;

mod ports;

mod tls;

mod service;

mod quickstart;

mod side_by_side;

mod uninstall;

mod ordinary_user;

mod network;

mod credentials;

mod git;

mod security;

mod budget;
