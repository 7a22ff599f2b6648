//! The real program: its words and exit statuses, against a server with a fake runtime.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failing test says where, and shared helpers are no tests to clippy"
)]

mod transfer;
mod world;

mod access;

mod arguments;

mod background;

mod ca;

mod commands;

mod configuration;

mod mistakes;

mod remote;

mod run;

mod sandboxes;

mod terminal;

mod uninstall;
