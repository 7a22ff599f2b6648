//! The server through its routes, on a fake runtime and a store in memory.

mod app;
mod bad_input;
mod events;
mod exec;
mod files;
mod sandboxes;
mod server;
mod socket;
